"""An executor with one fault each; ``test_executor_contract.py`` runs this file and says what must fail.

Each fault is put around the executor of this machine: what goes in is changed, or what comes out.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import threading
from typing import Any, ClassVar

import attrs
import numpy as np

from ttd_core.sandbox.base import CompileJob, JobResult, Limits, ProgramJob, PythonJob
from ttd_core.sandbox.local import LocalExecutor
from ttd_core.testing.executors import ExecutorContract
from ttd_core.types import Status


class Faulty:
    """Passes jobs on to a sound executor."""

    def __init__(self) -> None:
        self.inner = LocalExecutor(2)
        self.pool = concurrent.futures.ThreadPoolExecutor(64)

    level = property(lambda self: self.inner.level)
    workers = property(lambda self: self.inner.workers)

    def change_job(self, job: Any) -> Any:
        return job

    def change_result(self, result: JobResult) -> JobResult:
        return result

    def submit(self, job: Any, on_output: Any = None) -> Any:
        return self.inner.submit(self.change_job(job), on_output)

    def run(self, job: Any) -> JobResult:
        return self.change_result(self.inner.run(self.change_job(job)))

    def close(self) -> None:
        self.inner.close()
        self.pool.shutdown()


class Contract(ExecutorContract):
    streams_output = True
    fault: ClassVar[type[Faulty]] = Faulty

    @classmethod
    def open_executor(cls) -> Any:
        return cls.fault()


def before(job: Any, text: str) -> Any:
    """A Python job whose source begins with a line more."""
    return attrs.evolve(job, source=text + job.source) if isinstance(job, PythonJob) else job


# -- what goes in, what comes out --------------------------------------------------------------------------


class JsonOnly(Faulty):
    def change_result(self, result: JobResult) -> JobResult:
        def plain(value: Any) -> Any:
            if isinstance(value, np.ndarray):
                return value.tolist()
            return [plain(item) for item in value] if isinstance(value, list) else value

        return attrs.evolve(result, value=plain(result.value))


class TestReturnsNoArrays(Contract):
    fault = JsonOnly


class Nested(Faulty):
    def change_result(self, result: JobResult) -> JobResult:
        value = result.value
        return attrs.evolve(result, value=np.array(value) if isinstance(value, list) else value)


class TestReturnsArraysForLists(Contract):
    fault = Nested


class Bare(Faulty):
    def change_job(self, job: Any) -> Any:
        return attrs.evolve(job, helpers="", inject={}) if isinstance(job, PythonJob) else job


class TestInjectsNothing(Contract):
    fault = Bare


class ReadOnly(Faulty):
    def change_job(self, job: Any) -> Any:
        return attrs.evolve(job, source=job.source.replace("x += 1", "x.flags.writeable = False; x += 1"))


class TestGivesReadOnlyArrays(Contract):
    fault = ReadOnly


class Shallow(Faulty):
    def change_result(self, result: JobResult) -> JobResult:
        depth, value = 0, result.value
        while isinstance(value, list) and value:
            depth, value = depth + 1, value[0]
        return result if depth < 8 else attrs.evolve(result, status=Status.INVALID, message="too deep")


class TestReturnsNothingDeep(Contract):
    fault = Shallow


class Lenient(Faulty):
    def change_result(self, result: JobResult) -> JobResult:
        return attrs.evolve(result, status=Status.OK) if result.status is Status.INVALID else result


class TestAcceptsWhatIsNoData(Contract):
    fault = Lenient


class Wordy(Faulty):
    def change_result(self, result: JobResult) -> JobResult:
        return attrs.evolve(result, message=f"Traceback:\n{result.message}")


class TestSaysMoreThanALine(Contract):
    fault = Wordy


class Frames(Faulty):
    def change_result(self, result: JobResult) -> JobResult:
        return attrs.evolve(result, output=f"python_job.py, line 1\n{result.output}")


class TestShowsItsOwnFrames(Contract):
    fault = Frames


class Poor(Faulty):
    def change_job(self, job: Any) -> Any:
        return before(job, "import sys; sys.modules['scipy.optimize'] = None\n")


class TestHasNoLibraries(Contract):
    fault = Poor


class Seeded(Faulty):
    def change_job(self, job: Any) -> Any:
        return attrs.evolve(job, helpers="import random, numpy; random.seed(0); numpy.random.seed(0)")


class TestSeedsEveryJobAlike(Contract):
    fault = Seeded


# -- limits ------------------------------------------------------------------------------------------------


class Unbounded(Faulty):
    def change_job(self, job: Any) -> Any:
        size = 1 << 29
        limits = Limits(
            wall_s=3.0, cpu_s=9.0, processes=500, output=size, output_kept=size, result=size, scratch=size
        )
        return attrs.evolve(job, limits=limits)


class TestKeepsNoLimit(Contract):
    fault = Unbounded


class Crowded(Faulty):
    def change_job(self, job: Any) -> Any:
        if job.limits.processes == 16:
            return attrs.evolve(job, limits=attrs.evolve(job.limits, processes=500, memory=1 << 32))
        return job


class TestCountsNoThreads(Contract):
    fault = Crowded


class Generous(Faulty):
    def change_job(self, job: Any) -> Any:
        return attrs.evolve(job, limits=attrs.evolve(job.limits, scratch=1 << 20))


class TestGivesEveryJobAFolder(Contract):
    fault = Generous


class Wide(Faulty):
    def change_job(self, job: Any) -> Any:
        return attrs.evolve(job, limits=attrs.evolve(job.limits, cpus=2))


class TestGivesEveryJobTwoProcessors(Contract):
    fault = Wide


class Silent(Faulty):
    def change_result(self, result: JobResult) -> JobResult:
        return attrs.evolve(result, output="")


class TestForgetsWhatWasPrinted(Contract):
    fault = Silent


class Uncounted(Faulty):
    def change_result(self, result: JobResult) -> JobResult:
        return attrs.evolve(result, cpu_s=0.0, peak_memory=0)


class TestReportsNoUsage(Contract):
    fault = Uncounted


# -- programs ----------------------------------------------------------------------------------------------


class Salted(Faulty):
    salt = itertools.count()

    def change_job(self, job: Any) -> Any:
        if isinstance(job, CompileJob):
            return attrs.evolve(job, source=f"{job.source}\n// {next(self.salt)}")
        return job


class TestCompilesEachTime(Contract):
    fault = Salted


class Shifted(Faulty):
    def change_job(self, job: Any) -> Any:
        return attrs.evolve(job, source=f"\n{job.source}") if isinstance(job, CompileJob) else job


class TestNamesAnotherLine(Contract):
    fault = Shifted


class Mending(Faulty):
    def change_job(self, job: Any) -> Any:
        if not isinstance(job, CompileJob):
            return job
        return attrs.evolve(job, source=job.source.encode(errors="replace").decode())


class TestCompilesHalfCharacters(Contract):
    fault = Mending


class Hospitable(Faulty):
    def change_job(self, job: Any) -> Any:
        if not isinstance(job, CompileJob):
            return job
        lines = [line for line in job.source.splitlines() if "/dev/" not in line]
        return attrs.evolve(job, source="\n".join(lines))


class TestLetsACompilerReadDevices(Contract):
    fault = Hospitable


class Mute(Faulty):
    def change_job(self, job: Any) -> Any:
        return attrs.evolve(job, arguments=()) if isinstance(job, ProgramJob) else job


class TestPassesNoArguments(Contract):
    fault = Mute


class Cramped(Faulty):
    def change_job(self, job: Any) -> Any:
        if isinstance(job, ProgramJob):
            return attrs.evolve(job, limits=attrs.evolve(job.limits, memory=1 << 24))
        return job


class TestGivesProgramsLittleStack(Contract):
    fault = Cramped


class Blaming(Faulty):
    def change_result(self, result: JobResult) -> JobResult:
        ours = result.status is Status.INFRASTRUCTURE
        return attrs.evolve(result, status=Status.CRASH) if ours else result


class TestBlamesTheCandidate(Contract):
    fault = Blaming


# -- many at once ------------------------------------------------------------------------------------------


class Mixed(Faulty):
    def __init__(self) -> None:
        super().__init__()
        self.lock, self.last = threading.Lock(), JobResult(Status.OK)

    def change_result(self, result: JobResult) -> JobResult:
        with self.lock:
            self.last, result = result, self.last
        return result


class TestMixesAnswersUp(Contract):
    fault = Mixed


class Unqueued(Faulty):
    def submit(self, job: Any, on_output: Any = None) -> Any:
        return self.pool.submit(self.inner.run, job)


class TestTakesAnyNumberOfJobs(Contract):
    fault = Unqueued


class Kept(concurrent.futures.Future):  # type: ignore[type-arg]
    def cancel(self) -> bool:
        return False


class Stubborn(Faulty):
    def submit(self, job: Any, on_output: Any = None) -> Any:
        return Kept()


class TestCancelsNothing(Contract):
    fault = Stubborn


class Shared(Faulty):
    def submit(self, job: Any, on_output: Any = None) -> Any:
        def ran() -> JobResult:
            result = self.inner.run(job)
            return attrs.evolve(result, value=[[0], *result.value[1:]])

        return self.pool.submit(ran)


class TestSharesTimedCores(Contract):
    fault = Shared


class Late(Faulty):
    def submit(self, job: Any, on_output: Any = None) -> Any:
        return self.inner.submit(job)


class TestStreamsNothing(Contract):
    fault = Late
