"""The judge as a process of its own, and one candidate on a device at a time."""

from __future__ import annotations

import threading
import time

import pytest

from ttd_core.config.settings import fill
from ttd_core.types import Action, State, Status
from ttd_kernels import problem
from ttd_kernels.harness import gpus, judge_process
from ttd_kernels.harness.candidate import Candidate
from ttd_kernels.harness.gpus import DevicePool
from ttd_kernels.harness.judge_client import JudgePool, evaluate_apart
from ttd_kernels.rmsnorm import RmsNorm


@pytest.fixture
def judges(monkeypatch):
    """Judges of their own process for problems on the CPU, which are judged in this one else."""
    pool = JudgePool()
    monkeypatch.setattr(problem.launch, "evaluate_here", pool.evaluate)
    yield pool
    pool.close()


def _judged(source: str, execute):
    rmsnorm = RmsNorm(fill(RmsNorm.options_type, {"devices": "cpu", "timeout_s": 100.0}))
    return rmsnorm.transition(State(), Action(source), execute)


def test_a_judge_in_another_process_judges_one_after_the_other(judges, executor) -> None:
    good = _judged(RmsNorm().starting_program(), executor.run)
    assert good.message.startswith("correct at 2 of 2"), good.message
    (kept,) = judges._kept.values()
    started_s = good.metrics["seconds"]["start"]["judge"]
    assert started_s > 0.1, "its process had to be started"
    bad = _judged("def custom_kernel(data):\n    return data[0], data[0], data[1]\n", executor.run)
    assert bad.status is Status.INVALID
    assert "T=16 D=128: output 1 is wrong" in bad.message
    seconds = bad.metrics["seconds"]
    assert seconds["start"]["judge"] < started_s / 2, "the same process"
    assert set(seconds["start"]) == {"judge", "memory", "candidate", "load"}
    assert set(seconds["tests"]) == {"inputs", "first calls", "reference", "comparison"}
    crashed = _judged("def custom_kernel(data):\n    raise ValueError('no')\n", executor.run)
    assert crashed.status is Status.CRASH
    assert "ValueError: no (line 2)" in crashed.message
    assert list(judges._kept.values()) == [kept]


def test_a_judge_that_dies_is_no_fault_of_the_candidate(judges, executor) -> None:
    def execute(job):
        assert "cpu" not in judges._kept, "it is at work"
        _kill_children()
        return executor.run(job)

    verdict = _judged(RmsNorm().starting_program(), execute)
    assert verdict.status is Status.INFRASTRUCTURE
    assert "judge's process ended" in verdict.message
    assert judges._kept == {}
    again = _judged(RmsNorm().starting_program(), executor.run)
    assert again.message.startswith("correct at 2 of 2"), again.message


def _kill_children() -> None:
    """End the judges that this process has started, and nothing else."""
    import os
    import pathlib
    import signal

    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(") ")[2].split()[1])
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == os.getpid() and judge_process.__name__.encode() in command:
            os.kill(int(entry.name), signal.SIGKILL)


def test_a_problem_of_no_module_is_judged_here(executor) -> None:
    class Local(RmsNorm):
        """Defined where no other process can import it."""

    Local.__module__ = "nowhere_to_be_found"
    local = Local(fill(Local.options_type, {"devices": "cpu"}))
    candidate = Candidate(local.starting_program(), "", gpus.CPU, local.options.limits())
    outcome = evaluate_apart(local, local.plan(gpus.CPU), candidate, executor.run)
    assert outcome.result is not None


def test_devices_are_lent_to_one_at_a_time() -> None:
    pool, held, most = DevicePool(["cpu", "cpu"]), [], []

    def work() -> None:
        with pool.lend() as device:
            held.append(device)
            most.append(len(held))
            time.sleep(0.02)
            held.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 8
    assert max(most) == 2
