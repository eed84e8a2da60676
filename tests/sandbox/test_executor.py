"""What every executor does with every job; the same tests for each of them."""

from __future__ import annotations

import concurrent.futures
import threading
import time

import numpy as np
import pytest

from ttd_core.sandbox.base import (
    GIB,
    MIB,
    Artifact,
    CompileJob,
    Executor,
    JobResult,
    Level,
    Limits,
    ProgramJob,
    PythonJob,
)
from ttd_core.types import Status


def run(
    executor: Executor, source: str, *, entry: str = "run", limits: Limits | None = None, **fields
) -> JobResult:
    return executor.run(PythonJob(source, entry, limits=limits or Limits(wall_s=10.0), **fields))


# -- values ----------------------------------------------------------------------------------------------


def test_json_and_arrays_come_back_as_they_were(executor: Executor) -> None:
    value = [np.arange(6.0).reshape(2, 3), {"a": [1, 2.5, None, True, "é"], "b": np.array([True, False])}, -7]
    result = run(executor, "def run(value): return value", args=[value])
    assert result.ok, result.message
    array, mapping, number = result.value
    np.testing.assert_array_equal(array, value[0])
    assert array.dtype == np.float64
    assert mapping["a"] == [1, 2.5, None, True, "é"]
    assert mapping["b"].dtype == bool
    assert number == -7
    assert not array.flags.writeable


def test_a_tuple_comes_back_as_a_list_and_a_scalar_as_a_number(executor: Executor) -> None:
    source = "import numpy as np\ndef run(): return np.ones(3), np.float64(0.5), np.int32(4), np.bool_(True)"
    result = run(executor, source)
    assert result.ok, result.message
    assert [type(item) for item in result.value] == [np.ndarray, float, int, bool]


def test_injected_names_and_helpers_are_there_before_the_program(executor: Executor) -> None:
    result = run(
        executor,
        "doubled = helper(height)\ndef run(*, scale): return doubled * scale, height",
        inject={"height": np.array([1.0, 2.0])},
        helpers="def helper(x): return 2 * x + len(height)",
        kwargs={"scale": 10},
    )
    assert result.ok, result.message
    np.testing.assert_array_equal(result.value[0], [40.0, 60.0])
    np.testing.assert_array_equal(result.value[1], [1.0, 2.0])


def test_arrays_given_to_a_job_are_writable_copies(executor: Executor) -> None:
    given = np.zeros(4)
    result = run(executor, "def run(x):\n    x += 1\n    return x", args=[given])
    assert result.ok, result.message
    np.testing.assert_array_equal(result.value, np.ones(4))
    np.testing.assert_array_equal(given, np.zeros(4))


def test_many_arrays_go_in_and_come_back_as_lists(executor: Executor) -> None:
    points = [np.array([float(i), 1.0]) for i in range(26)]
    result = run(executor, "def run(points): return [p + 1 for p in points]", args=[points])
    assert result.ok, result.message
    assert result.value == [[i + 1.0, 2.0] for i in range(26)]


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("float('nan')", "nan"),
        ("[1.0, float('inf')]", "inf"),
        ("np.array([[0.0, 1.0], [np.nan, 2.0]])", "[1, 0]"),
        ("np.ma.masked_array([1.0, 2.0], [0, 1])", "MaskedArray"),
        ("np.matrix([1.0])", "matrix"),
        ("np.array([1, 'a'], dtype=object)", "dtype object"),
        ("np.array([1j])", "dtype complex128"),
        ("1j", "complex"),
        ("{1: 2}", "key"),
        ("{'$array': 0}", "key"),
        ("{1, 2}", "set"),
        ("open", "builtin_function_or_method"),
        ("b'bytes'", "bytes"),
        ("np.zeros((1,) * 9)", "dimensions"),
    ],
)
def test_a_value_that_is_no_data_is_invalid_and_says_where(
    executor: Executor, expression: str, told: str
) -> None:
    result = run(executor, f"import numpy as np\ndef run(): return {expression}")
    assert result.status is Status.INVALID
    assert result.value is None
    assert told in result.message
    assert "\n" not in result.message


# -- errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "status", "message"),
    [
        ("def run(:\n", Status.SYNTAX_ERROR, "SyntaxError: invalid syntax (line 1)"),
        (
            "x = 1\n  y = 2\ndef run(): pass",
            Status.SYNTAX_ERROR,
            "IndentationError: unexpected indent (line 2)",
        ),
        ("x = '\0'\ndef run(): pass", Status.SYNTAX_ERROR, "null bytes"),
        ("def run():\n    return 1 / 0", Status.CRASH, "ZeroDivisionError: division by zero (line 2)"),
        (
            "def f(x):\n    return x[0]\ndef run():\n    return f([])",
            Status.CRASH,
            "list index out of range (line 2)",
        ),
        ("def other(): pass", Status.CRASH, "defines no function named run"),
        ("def run(a): pass", Status.CRASH, "TypeError: run() missing 1 required positional argument"),
        ("def run(): return eval('1 +')", Status.CRASH, "SyntaxError: invalid syntax (line 1)"),
        (
            "import sys\ndef run(): sys.exit(3)",
            Status.CRASH,
            "SystemExit: the program called exit(3) (line 2)",
        ),
        ("import os\ndef run(): os._exit(0)", Status.CRASH, "the program exited without returning (code 0)"),
        ("import nosuch\ndef run(): pass", Status.CRASH, "No module named 'nosuch' (line 1)"),
        ("def run(): return run()", Status.CRASH, "RecursionError"),
        ("import os\ndef run(): os.fork()", Status.FORBIDDEN, "PermissionError"),
        ("import socket\ndef run(): socket.socket()", Status.FORBIDDEN, "PermissionError"),
        ("import ctypes\ndef run(): ctypes.string_at(0)", Status.CRASH, "killed by SIGSEGV"),
        ("class E(Exception):\n  def __str__(self): raise E\ndef run(): raise E", Status.CRASH, "E (line 3)"),
    ],
)
def test_a_failed_program_is_told_in_one_line(
    executor: Executor, source: str, status: Status, message: str
) -> None:
    result = run(executor, source)
    assert result.status is status, result.message
    assert message in result.message
    assert "\n" not in result.message
    assert result.retries == 0


def test_the_output_of_a_failed_program_shows_its_own_frames_only(executor: Executor) -> None:
    result = run(executor, "def run():\n    print('before')\n    raise ValueError('no')")
    assert result.output.startswith("before\n")
    assert 'File "<candidate>", line 3, in run' in result.output
    assert "raise ValueError('no')" in result.output
    assert "python_job" not in result.output


# -- limits ----------------------------------------------------------------------------------------------


def test_wall_time_ends_a_sleeper(executor: Executor) -> None:
    started = time.monotonic()
    result = run(executor, "import time\ndef run(): time.sleep(60)", limits=Limits(wall_s=0.5))
    assert result.status is Status.TIMEOUT
    assert "0.5 s of wall time" in result.message
    assert result.wall_s < 1.0
    assert time.monotonic() - started < 5.0


def test_processor_time_ends_a_busy_loop(executor: Executor) -> None:
    result = run(executor, "def run():\n    while True: pass", limits=Limits(wall_s=30.0, cpu_s=0.4))
    assert result.status is Status.TIMEOUT
    assert "0.4 s of processor time" in result.message
    assert result.cpu_s < 1.5


def test_what_was_printed_before_a_timeout_is_kept(executor: Executor) -> None:
    result = run(
        executor, "def run():\n    print('progress')\n    while True: pass", limits=Limits(wall_s=0.5)
    )
    assert result.status is Status.TIMEOUT
    assert result.output == "progress\n"


def test_memory_is_bounded_at_once_and_by_growth(executor: Executor) -> None:
    limits = Limits(wall_s=20.0, memory=256 * MIB)
    at_once = run(executor, "def run(): return len(bytearray(4 << 30))", limits=limits)
    growing = run(
        executor,
        "def run():\n    held = []\n    while True: held.append(b'x' * (1 << 20))",
        limits=limits,
    )
    assert at_once.status is Status.MEMORY
    assert growing.status is Status.MEMORY
    assert growing.peak_memory < 400 * MIB


def test_threads_are_allowed_and_bounded(executor: Executor) -> None:
    source = (
        "import threading, time\n"
        "def run(count):\n"
        "    threads = [threading.Thread(target=time.sleep, args=(1,), daemon=True) for _ in range(count)]\n"
        "    for thread in threads: thread.start()\n"
        "    time.sleep(0.3)\n"
        "    return threading.active_count()"
    )
    few = run(executor, source, args=[8])
    assert few.ok, few.message
    assert few.value == 9
    assert not run(executor, source, args=[200], limits=Limits(wall_s=10.0, processes=16)).ok


def test_output_is_counted_cut_to_its_tail_and_bounded(executor: Executor) -> None:
    source = "def run(lines):\n    for number in range(lines): print(f'{number:07d}')\n    return lines"
    limits = Limits(wall_s=20.0, output=MIB, output_kept=80)
    kept = run(executor, source, args=[1000], limits=limits)
    assert kept.ok, kept.message
    assert kept.output == "".join(f"{number:07d}\n" for number in range(990, 1000))
    assert kept.output_bytes == 8000
    assert run(executor, source, args=[1_000_000], limits=limits).status is Status.OUTPUT_LIMIT


def test_a_result_beyond_its_cap_is_an_output_limit(executor: Executor) -> None:
    source = "import numpy as np\ndef run(count): return np.zeros(count)"
    limits = Limits(wall_s=10.0, result=MIB)
    assert run(executor, source, args=[100_000], limits=limits).ok
    result = run(executor, source, args=[200_000], limits=limits)
    assert result.status is Status.OUTPUT_LIMIT
    assert "1600" in result.message


def test_scratch_is_writable_sized_and_empty_for_each_job(executor: Executor) -> None:
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
        result = run(executor, source, args=[MIB], limits=limits)
        assert result.ok, result.message
        assert result.value == [[], MIB]
    assert not run(executor, source, args=[8 * MIB], limits=limits).ok


def test_without_scratch_nothing_can_be_written(executor: Executor) -> None:
    result = run(executor, "import tempfile\ndef run(): tempfile.mkstemp()")
    assert not result.ok


def test_blas_uses_as_many_threads_as_the_job_has_processors(executor: Executor) -> None:
    source = (
        "import os, numpy as np, threading\n"
        "def run():\n"
        "    a = np.ones((600, 600))\n"
        "    for _ in range(3): a @ a\n"
        "    return len(os.sched_getaffinity(0)), os.environ['OMP_NUM_THREADS']"
    )
    one = run(executor, source)
    assert one.value == [1, "1"], one.message


def test_usage_is_reported(executor: Executor) -> None:
    result = run(
        executor,
        "def run():\n    held = b'x' * (50 << 20)\n    for _ in range(2_000_000): pass\n    return 1",
    )
    assert result.ok, result.message
    assert 50 * MIB < result.peak_memory < 400 * MIB
    assert 0.005 < result.cpu_s <= result.wall_s + 0.1
    assert result.level is executor.level
    assert result.level.rank >= Level.STANDARD.rank


# -- libraries -------------------------------------------------------------------------------------------


def test_libraries_not_preloaded_can_still_be_imported(executor: Executor) -> None:
    result = run(
        executor,
        "import scipy.optimize as so\ndef run(): return so.brentq(lambda x: x * x - 2, 0, 2)",
        limits=Limits(wall_s=30.0),
    )
    assert result.ok, result.message
    assert result.value == pytest.approx(2**0.5)


def test_dataclasses_and_random_numbers_work_as_in_a_program_of_its_own(executor: Executor) -> None:
    source = (
        "from __future__ import annotations\n"
        "import dataclasses, random\n"
        "import numpy as np\n"
        "@dataclasses.dataclass\n"
        "class Point:\n"
        "    x: float = 0.0\n"
        "def run(): return Point(random.random()).x, np.random.rand()"
    )
    first, second = run(executor, source), run(executor, source)
    assert first.ok, first.message
    # forks of one server must not all draw the same numbers
    assert first.value[0] != second.value[0]
    assert first.value[1] != second.value[1]


# -- programs --------------------------------------------------------------------------------------------

DOUBLE = "#include <iostream>\nint main() { long n; while (std::cin >> n) std::cout << 2 * n << '\\n'; }"


def compiled(executor: Executor, source: str) -> Artifact:
    result = executor.run(CompileJob(source))
    assert result.ok, result.message
    assert result.artifact is not None
    return result.artifact


def test_a_program_is_compiled_once_and_run_on_each_input(executor: Executor) -> None:
    artifact = compiled(executor, DOUBLE)
    for number in (1, 21, 4_000_000_000):
        result = executor.run(ProgramJob(artifact, f"{number}\n".encode(), limits=Limits(wall_s=5.0)))
        assert result.ok, result.message
        assert result.stdout == f"{2 * number}\n".encode()
    started = time.monotonic()
    assert compiled(executor, DOUBLE) == artifact
    assert time.monotonic() - started < 0.1


def test_arguments_and_standard_error_of_a_program(executor: Executor) -> None:
    source = '#include <cstdio>\nint main(int n, char** v) { fprintf(stderr, "%d %s", n, v[1]); return 3; }'
    result = executor.run(ProgramJob(compiled(executor, source), arguments=("word",)))
    assert result.status is Status.CRASH
    assert result.message == "exited with code 3"
    assert result.output == "2 word"


def test_source_that_does_not_compile_names_the_line(executor: Executor) -> None:
    result = executor.run(CompileJob("int main() {\n    return missing;\n}"))
    assert result.status is Status.SYNTAX_ERROR
    assert "missing" in result.message
    assert result.message.endswith("(line 2)")
    assert result.artifact is None


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ("abort();", Status.CRASH, "SIGABRT"),
        ("*(volatile int*)8 = 1;", Status.CRASH, "SIGSEGV"),
        ("for (;;) {}", Status.TIMEOUT, "wall time"),
        ("std::vector<char> v(900u << 20, 1);", Status.MEMORY, "memory"),
        ('for (;;) puts("line");', Status.OUTPUT_LIMIT, "standard output"),
    ],
)
def test_how_a_program_can_end(executor: Executor, body: str, status: Status, told: str) -> None:
    source = f"#include <cstdio>\n#include <cstdlib>\n#include <vector>\nint main() {{ {body} }}"
    limits = Limits(wall_s=1.0, memory=256 * MIB, result=MIB)
    result = executor.run(ProgramJob(compiled(executor, source), limits=limits))
    assert result.status is status, result.message
    assert told in result.message


def test_a_program_recurses_deeply(executor: Executor) -> None:
    source = (
        "#include <cstdio>\n"
        "int depth(int n) {\n"
        "    volatile char held[64]; held[0] = n;\n"
        "    return n ? depth(n - 1) + held[0] * 0 + 1 : 0;\n"
        "}\n"
        'int main() { printf("%d", depth(1000000)); }'
    )
    result = executor.run(ProgramJob(compiled(executor, source), limits=Limits(wall_s=10.0, memory=GIB)))
    assert result.ok, result.message
    assert result.stdout == b"1000000"


def test_a_program_that_is_not_held_is_our_failure(executor: Executor) -> None:
    result = executor.run(ProgramJob(Artifact("0" * 64)))
    assert result.status is Status.INFRASTRUCTURE
    assert "compile it again" in result.message


# -- many at once ----------------------------------------------------------------------------------------


def test_jobs_from_many_threads_each_get_their_own_answer(executor: Executor) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        jobs = [PythonJob(f"def run(): return {number}", "run") for number in range(60)]
        values = [result.value for result in pool.map(executor.run, jobs)]
    assert values == list(range(60))


def test_submit_blocks_when_twice_as_many_jobs_wait_as_there_are_workers(executor: Executor) -> None:
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


def test_cancelling_ends_a_running_job_and_drops_a_waiting_one(executor: Executor) -> None:
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


def test_a_timed_job_shares_its_core_with_no_other(executor: Executor) -> None:
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


def test_output_is_streamed_while_the_job_runs(executor: Executor) -> None:
    pieces: list[bytes] = []
    seen = threading.Event()

    def listen(piece: bytes) -> None:
        pieces.append(piece)
        seen.set()

    source = (
        "import time\ndef run():\n    print('first')\n    time.sleep(1.0)\n    print('second')\n    return 1"
    )
    future = executor.submit(PythonJob(source, "run"), listen)  # type: ignore[call-arg]
    assert seen.wait(5.0)
    assert not future.done()
    assert future.result().ok
    assert b"".join(pieces) == b"first\nsecond\n"


def test_what_one_job_returns_another_can_be_given(executor: Executor) -> None:
    nested = "def propose(levels):\n    v = 1\n    for _ in range(levels):\n        v = [v]\n    return v"
    deepest = executor.run(PythonJob(nested, "propose", args=(32,)))
    assert deepest.ok, deepest.message
    again = executor.run(PythonJob("def propose(value):\n    return value", "propose", args=(deepest.value,)))
    assert again.ok, again.message
    assert again.value == deepest.value
    refused = executor.run(PythonJob(nested, "propose", args=(33,)))
    assert refused.status is Status.INVALID
    assert "nested deeper than 32 levels" in refused.message
