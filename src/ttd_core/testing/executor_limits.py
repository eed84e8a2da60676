"""What every executor keeps a job within: time, memory, threads, output, files. A part of its contract."""

from __future__ import annotations

import time

from ttd_core.sandbox.base import MIB, Executor, Level, Limits
from ttd_core.testing.executor_jobs import run_python
from ttd_core.types import Status


class LimitChecks:
    """Every limit ends a job that exceeds it, and what a job used is reported."""

    def test_wall_time_ends_a_sleeper(self, executor: Executor) -> None:
        started = time.monotonic()
        result = run_python(executor, "import time\ndef run(): time.sleep(60)", limits=Limits(wall_s=0.5))
        assert result.status is Status.TIMEOUT
        assert "0.5 s of wall time" in result.message
        assert result.wall_s < 1.0
        assert time.monotonic() - started < 5.0

    def test_processor_time_ends_a_busy_loop(self, executor: Executor) -> None:
        result = run_python(
            executor, "def run():\n    while True: pass", limits=Limits(wall_s=30.0, cpu_s=0.4)
        )
        assert result.status is Status.TIMEOUT
        assert "0.4 s of processor time" in result.message
        assert result.cpu_s < 1.5

    def test_what_was_printed_before_a_timeout_is_kept(self, executor: Executor) -> None:
        result = run_python(
            executor, "def run():\n    print('progress')\n    while True: pass", limits=Limits(wall_s=0.5)
        )
        assert result.status is Status.TIMEOUT
        assert result.output == "progress\n"

    def test_memory_is_bounded_at_once_and_by_growth(self, executor: Executor) -> None:
        limits = Limits(wall_s=20.0, memory=256 * MIB)
        at_once = run_python(executor, "def run(): return len(bytearray(4 << 30))", limits=limits)
        growing = run_python(
            executor,
            "def run():\n    held = []\n    while True: held.append(b'x' * (1 << 20))",
            limits=limits,
        )
        assert at_once.status is Status.MEMORY
        assert growing.status is Status.MEMORY
        assert growing.peak_memory < 400 * MIB

    def test_threads_are_allowed_and_bounded(self, executor: Executor) -> None:
        source = (
            "import threading, time\n"
            "def run(count):\n"
            "    threads = [threading.Thread(target=time.sleep, args=(1,), daemon=True)\n"
            "               for _ in range(count)]\n"
            "    for thread in threads: thread.start()\n"
            "    time.sleep(0.3)\n"
            "    return threading.active_count()"
        )
        few = run_python(executor, source, args=[8])
        assert few.ok, few.message
        assert few.value == 9
        assert not run_python(executor, source, args=[200], limits=Limits(wall_s=10.0, processes=16)).ok

    def test_output_is_counted_cut_to_its_tail_and_bounded(self, executor: Executor) -> None:
        source = "def run(lines):\n    for number in range(lines): print(f'{number:07d}')\n    return lines"
        limits = Limits(wall_s=20.0, output=MIB, output_kept=80)
        kept = run_python(executor, source, args=[1000], limits=limits)
        assert kept.ok, kept.message
        assert kept.output == "".join(f"{number:07d}\n" for number in range(990, 1000))
        assert kept.output_bytes == 8000
        assert run_python(executor, source, args=[1_000_000], limits=limits).status is Status.OUTPUT_LIMIT

    def test_a_result_beyond_its_cap_is_an_output_limit(self, executor: Executor) -> None:
        source = "import numpy as np\ndef run(count): return np.zeros(count)"
        limits = Limits(wall_s=10.0, result=MIB)
        assert run_python(executor, source, args=[100_000], limits=limits).ok
        result = run_python(executor, source, args=[200_000], limits=limits)
        assert result.status is Status.OUTPUT_LIMIT
        assert "1600" in result.message

    def test_scratch_is_writable_sized_and_empty_for_each_job(self, executor: Executor) -> None:
        source = (
            "import os, tempfile\n"
            "def run(size):\n"
            "    before = os.listdir('.')\n"
            "    with tempfile.NamedTemporaryFile(delete=False) as file:\n"
            "        file.write(b'x' * size)\n"
            "    return before, os.path.getsize(file.name)"
        )
        limits = Limits(wall_s=10.0, scratch=4 * MIB)
        for _ in range(3):
            result = run_python(executor, source, args=[MIB], limits=limits)
            assert result.ok, result.message
            assert result.value == [[], MIB]
        assert not run_python(executor, source, args=[8 * MIB], limits=limits).ok

    def test_without_scratch_nothing_can_be_written(self, executor: Executor) -> None:
        result = run_python(executor, "import tempfile\ndef run(): tempfile.mkstemp()")
        assert not result.ok

    def test_blas_uses_as_many_threads_as_the_job_has_processors(self, executor: Executor) -> None:
        source = (
            "import os, numpy as np, threading\n"
            "def run():\n"
            "    a = np.ones((600, 600))\n"
            "    for _ in range(3): a @ a\n"
            "    return len(os.sched_getaffinity(0)), os.environ['OMP_NUM_THREADS']"
        )
        one = run_python(executor, source)
        assert one.value == [1, "1"], one.message

    def test_usage_is_reported(self, executor: Executor) -> None:
        result = run_python(
            executor,
            "def run():\n    held = b'x' * (50 << 20)\n    for _ in range(2_000_000): pass\n    return 1",
        )
        assert result.ok, result.message
        assert 50 * MIB < result.peak_memory < 400 * MIB
        assert 0.005 < result.cpu_s <= result.wall_s + 0.1
        assert result.level is executor.level
        assert result.level.rank >= Level.STANDARD.rank
