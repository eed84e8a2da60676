"""Show that an attack works where there is no sandbox, by the same oracle.

A control that signals its evaluator stands in a Landlock signal scope with one of its own, so that even
``kill(-1)`` ends nothing else.
"""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from typing import IO

from attacks.model import Attack
from attacks.world import World
from ttd_core.sandbox.base import JobResult, Level
from ttd_core.types import Status

_HARNESS = """
import json, os, signal, sys
sys.path.insert(0, {source!r})
from ttd_core.sandbox.inside import kernel, landlock
if {dangerous}:
    if landlock.abi() < 6:
        sys.exit("no signal scope to try this in")
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    landlock.enforce(landlock.ruleset([], filesystem=False, network=False))
child = os.fork()
if child == 0:
    os.setpgid(0, 0) if {own_group} else None
    namespace = {{}}
    exec({attack!r}, namespace)
    value = namespace["run"](json.loads({facts!r}))
    sys.stdout.write("RETURNED" + json.dumps(value))
    sys.stdout.flush()
    os._exit(0)
os.waitpid(child, 0)
"""

_SOURCE = str(pathlib.Path(__file__).resolve().parents[3] / "src")


def _result(
    ok: bool, value: object = None, stdout: bytes = b"", wall_s: float = 0.0, peak: int = 0
) -> JobResult:
    status = Status.OK if ok else Status.CRASH
    return JobResult(status, value=value, stdout=stdout, wall_s=wall_s, peak_memory=peak, level=Level.REFUSED)


def _python(attack: Attack, world: World) -> str:
    """Run the source in a plain process; where it kills its evaluator, that is the evidence."""
    facts = {**world.facts(), **attack.options, **attack.control_options}
    dangerous = attack.control in {"harness", "scoped"}
    source = _HARNESS.format(
        source=_SOURCE,
        attack=attack.source,
        facts=json.dumps(facts),
        dangerous=dangerous,
        # a daemon must survive its group, as a plain evaluator's killpg would not reach it
        own_group=not dangerous,
    )
    started = time.monotonic()
    # files, not pipes: daemons that hold them open must not keep anybody waiting
    with tempfile.TemporaryFile() as out:
        run = subprocess.run(
            [sys.executable, "-c", source],
            stdout=out,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "ATTACK_SECRET": world.secret},
            cwd=world.drop,
            start_new_session=True,
            check=False,
            timeout=60,
        )
        printed = _text(out)
    wall = time.monotonic() - started
    if dangerous:
        return "the evaluator was killed" if run.returncode == -signal.SIGKILL else ""
    _, found, text = printed.partition("RETURNED")
    value = json.loads(text) if found else None
    return attack.oracle(world, _result(bool(found), value, wall_s=wall))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _build(attack: Attack, world: World, folder: str) -> tuple[str, subprocess.CompletedProcess[bytes]]:
    source = pathlib.Path(folder) / "main.cpp"
    source.write_text(attack.source_for(world.facts()))
    program = str(pathlib.Path(folder) / "program")
    command = [*attack.command, "-o", program, str(source)]
    started = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        out, err = started.communicate(timeout=3)
    except subprocess.TimeoutExpired:
        # g++ is only the driver: the compiler proper is its child and would go on for hours
        os.killpg(started.pid, signal.SIGKILL)
        started.communicate()
        raise
    return program, subprocess.CompletedProcess(command, started.returncode, out, err)


def _native(attack: Attack, world: World) -> str:
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        try:
            program, built = _build(attack, world, folder)
        except subprocess.TimeoutExpired:
            return attack.oracle(world, _result(False, wall_s=time.monotonic() - started))
        if attack.control == "compile":
            told = built.stderr.decode(errors="replace")
            ok = built.returncode == 0
            return attack.oracle(world, attrs_output(_result(ok, wall_s=time.monotonic() - started), told))
        assert built.returncode == 0, built.stderr.decode()
        run = subprocess.run([program], capture_output=True, check=False, timeout=30)
        return attack.oracle(world, _result(run.returncode == 0, stdout=run.stdout))


def attrs_output(result: JobResult, output: str) -> JobResult:
    """The result with what was printed."""
    return JobResult(result.status, output=output, wall_s=result.wall_s, level=result.level)


def succeeds(attack: Attack, world: World) -> str:
    """Evidence that the attack works unsandboxed; empty if the control failed."""
    world.repair()
    try:
        if callable(attack.control):
            return attack.control(world)
        return _python(attack, world) if attack.language == "python" else _native(attack, world)
    finally:
        world.kill_survivors()
        world.repair()
