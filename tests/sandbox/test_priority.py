"""Candidates give way to the run's own process: their priority, by every mechanism that the kernel has."""

from __future__ import annotations

import os
import pathlib
import subprocess
import threading

import pytest

from ttd_core.sandbox import cgroup, priority
from ttd_core.sandbox.base import CompileJob, Limits, ProgramJob, PythonJob
from ttd_core.sandbox.cgroup import ControlGroups
from ttd_core.sandbox.local import LocalExecutor
from ttd_core.sandbox.priority import LOWERED, lower_session
from ttd_core.sandbox.probe import probe

SESSIONS = pathlib.Path("/proc/sys/kernel/sched_autogroup_enabled")
ASKED = PythonJob("import os\ndef run(): return os.getpriority(os.PRIO_PROCESS, 0)", "run")
WAITS = PythonJob(
    "import os, time\ndef run():\n    print(os.getpriority(os.PRIO_PROCESS, 0))\n    time.sleep(0.3)", "run"
)


def session_of(pid: int | str) -> str:
    """The scheduling group of a process's session and its nice value; empty once it is gone."""
    try:
        return pathlib.Path(f"/proc/{pid}/autogroup").read_text().strip()
    except OSError:
        return ""


def below(root: int) -> set[int]:
    """A process and all that it has started, as they are now."""
    parents = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(") ")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def test_jobs_have_lower_priority_and_timed_ones_have_not() -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    timed = PythonJob(ASKED.source, "run", limits=Limits(exclusive_core=True))
    for method in probe().methods:
        with LocalExecutor(1, exactly=method, lower_priority=True, preload=()) as executor:
            assert executor.run(ASKED).value == min(19, own + LOWERED), method.description
    with LocalExecutor(1, lower_priority=True, preload=()) as executor:
        assert executor.run(ASKED).value == min(19, own + LOWERED)
        assert executor.run(timed).value == own
        assert executor.run(ASKED).value == min(19, own + LOWERED), "not the timed job's server"
    with LocalExecutor(1, preload=()) as executor:
        assert executor.run(ASKED).value == own


def test_compilers_and_programs_have_it_too() -> None:
    source = (
        "#include <cstdio>\n#include <sys/resource.h>\n"
        'int main() { std::printf("%d", getpriority(PRIO_PROCESS, 0)); }'
    )
    own = os.getpriority(os.PRIO_PROCESS, 0)
    with LocalExecutor(1, lower_priority=True, preload=()) as executor:
        compiled = executor.run(CompileJob(source))
        assert compiled.artifact is not None, compiled.message
        assert executor.run(ProgramJob(compiled.artifact)).stdout == str(min(19, own + LOWERED)).encode()
        timed = ProgramJob(compiled.artifact, limits=Limits(exclusive_core=True))
        assert executor.run(timed).stdout == str(own).encode()


@pytest.mark.skipif(
    not SESSIONS.exists() or SESSIONS.read_text().strip() != "1", reason="no weights of sessions"
)
def test_a_job_is_in_its_servers_session_whose_weight_is_lowered() -> None:
    before, own = below(os.getpid()), session_of("self")
    with LocalExecutor(1, lower_priority=True, preload=()) as executor:
        started = threading.Event()
        future = executor.submit(WAITS, lambda _: started.set())
        assert started.wait(30)
        sessions = {session_of(pid) for pid in below(os.getpid()) - before} - {""}
        assert future.result().ok, future.result().message
    assert len(sessions) == 1, sessions
    assert sessions.pop().endswith(f"nice {LOWERED}")
    # Empty where nothing has begun a session since the machine or its container started.
    assert session_of("self") == own


def test_a_session_that_cannot_be_lowered_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["true"], start_new_session=True) as process:
        process.wait()
    lower_session(process.pid, LOWERED)

    tries = []

    def refuse(path: pathlib.Path, text: str) -> None:
        tries.append(path)
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(pathlib.Path, "read_text", lambda _path: "1\n")
    monkeypatch.setattr(pathlib.Path, "write_text", refuse)
    monkeypatch.setattr(priority, "_LONGEST_S", 0.03)
    lower_session(1234, LOWERED)
    assert len(tries) > 1, "others set theirs: tried again for a while"
    monkeypatch.setattr(pathlib.Path, "read_text", lambda _path: "0\n")
    tries.clear()
    lower_session(1234, LOWERED)
    assert tries == []


def test_a_control_group_has_the_weight(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    for name, wanted in (("with", True), ("without", False)):
        folder = tmp_path / name
        folder.mkdir()
        if wanted:
            (folder / "cpu.weight.nice").write_text("0")
        monkeypatch.setattr(cgroup, "_make", lambda files, _name, _needed, folder=folder: folder)
        ControlGroups.make(LOWERED)
    assert (tmp_path / "with" / "cpu.weight.nice").read_text() == str(LOWERED)
    assert not (tmp_path / "without" / "cpu.weight.nice").exists(), "the controller is not on there"
