"""What every executor keeps, as a pytest class: subclass it, say how an executor is opened, done.

::

    from ttd_core.testing.executors import ExecutorContract

    class TestMine(ExecutorContract):
        @classmethod
        def open_executor(cls):
            return MyExecutor(workers=2)
"""

from __future__ import annotations

import concurrent.futures
import threading
import time
from typing import ClassVar

import pytest

from ttd_core.sandbox.base import Executor, Limits, PythonJob
from ttd_core.testing.executor_jobs import PythonJobChecks
from ttd_core.testing.executor_limits import LimitChecks
from ttd_core.testing.executor_programs import ProgramChecks

__all__ = ["ExecutorContract"]


class ExecutorContract(PythonJobChecks, LimitChecks, ProgramChecks):
    """What an executor does with every job, at any level but ``refused``.

    :cvar streams_output: whether ``submit`` takes a listener as its second argument, which gets what a job
        prints as it comes; both executors of ours do.
    """

    streams_output: ClassVar[bool] = False

    _executor: ClassVar[Executor]

    @classmethod
    def open_executor(cls) -> Executor:
        """A new executor with two workers, for the subclass to say."""
        raise NotImplementedError(f"{cls.__name__} must define open_executor")

    @classmethod
    def setup_class(cls) -> None:
        """Open one executor for all tests."""
        cls._executor = cls.open_executor()

    @classmethod
    def teardown_class(cls) -> None:
        """Close it."""
        cls._executor.close()

    @pytest.fixture
    def executor(self) -> Executor:
        """The executor of the class."""
        return self._executor

    def test_jobs_from_many_threads_each_get_their_own_answer(self, executor: Executor) -> None:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            jobs = [PythonJob(f"def run(): return {number}", "run") for number in range(60)]
            values = [result.value for result in pool.map(executor.run, jobs)]
        assert values == list(range(60))

    def test_submit_blocks_when_twice_as_many_jobs_wait_as_there_are_workers(
        self, executor: Executor
    ) -> None:
        job = PythonJob("import time\ndef run(): time.sleep(0.6)", "run")
        submitted: list[float] = []
        futures = []
        started = time.monotonic()
        for _ in range(3 * executor.workers + 1):
            futures.append(executor.submit(job))
            submitted.append(time.monotonic() - started)
        assert submitted[3 * executor.workers - 1] < 0.5, "running and waiting jobs are taken at once"
        assert submitted[-1] > 0.5, "the next one waits for room"
        assert all(future.result().ok for future in futures)

    def test_cancelling_ends_a_running_job_and_drops_a_waiting_one(self, executor: Executor) -> None:
        sleep = PythonJob("import time\ndef run(): time.sleep(60)", "run", limits=Limits(wall_s=100.0))
        running = [executor.submit(sleep) for _ in range(executor.workers)]
        waiting = executor.submit(sleep)
        time.sleep(0.5)
        for future in [*running, waiting]:
            assert future.cancel()
        started = time.monotonic()
        done, pending = concurrent.futures.wait([*running, waiting], timeout=10)
        assert not pending
        assert all(future.cancelled() for future in done)
        assert executor.run(PythonJob("def run(): return 1", "run")).value == 1
        assert time.monotonic() - started < 5.0

    def test_a_timed_job_shares_its_core_with_no_other(self, executor: Executor) -> None:
        source = (
            "import os, time\n"
            "def run():\n    started = time.time()\n    time.sleep(0.4)\n"
            "    return sorted(os.sched_getaffinity(0)), started, time.time()"
        )
        limits = Limits(wall_s=10.0, exclusive_core=True)
        futures = [executor.submit(PythonJob(source, "run", limits=limits)) for _ in range(4)]
        ran = [future.result() for future in futures]
        assert all(result.ok for result in ran), [result.message for result in ran]
        for index, first in enumerate(ran):
            for second in ran[index + 1 :]:
                (cores_a, start_a, end_a), (cores_b, start_b, end_b) = first.value, second.value
                if max(start_a, start_b) < min(end_a, end_b):
                    assert not set(cores_a) & set(cores_b)

    def test_output_is_streamed_while_the_job_runs(self, executor: Executor) -> None:
        pieces: list[bytes] = []
        seen = threading.Event()

        def listen(piece: bytes) -> None:
            pieces.append(piece)
            seen.set()

        if not self.streams_output:
            pytest.skip("its output is not streamed")
        source = (
            "import time\n"
            "def run():\n"
            "    print('first')\n"
            "    time.sleep(1.0)\n"
            "    print('second')\n"
            "    return 1"
        )
        future = executor.submit(PythonJob(source, "run"), listen)  # type: ignore[call-arg]
        assert seen.wait(5.0)
        assert not future.done()
        assert future.result().ok
        assert b"".join(pieces) == b"first\nsecond\n"
