"""What every executor does with Python jobs: values, errors, libraries. A part of the executor contract."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ttd_core.sandbox.base import Executor, JobResult, Limits, PythonJob
from ttd_core.types import Status


def run_python(
    executor: Executor, source: str, *, entry: str = "run", limits: Limits | None = None, **fields: Any
) -> JobResult:
    """Run a candidate's source, for at most ten seconds unless ``limits`` say otherwise.

    :param fields: further ones of the :class:`~ttd_core.sandbox.base.PythonJob`.
    """
    return executor.run(PythonJob(source, entry, limits=limits or Limits(wall_s=10.0), **fields))


class PythonJobChecks:
    """What goes into a Python job, what comes out, and what is said of one that fails."""

    def test_json_and_arrays_come_back_as_they_were(self, executor: Executor) -> None:
        value = [
            np.arange(6.0).reshape(2, 3),
            {"a": [1, 2.5, None, True, "é"], "b": np.array([True, False])},
            -7,
        ]
        result = run_python(executor, "def run(value): return value", args=[value])
        assert result.ok, result.message
        array, mapping, number = result.value
        np.testing.assert_array_equal(array, value[0])
        assert array.dtype == np.float64
        assert mapping["a"] == [1, 2.5, None, True, "é"]
        assert mapping["b"].dtype == bool
        assert number == -7
        assert not array.flags.writeable

    def test_a_tuple_comes_back_as_a_list_and_a_scalar_as_a_number(self, executor: Executor) -> None:
        source = (
            "import numpy as np\ndef run(): return np.ones(3), np.float64(0.5), np.int32(4), np.bool_(True)"
        )
        result = run_python(executor, source)
        assert result.ok, result.message
        assert [type(item) for item in result.value] == [np.ndarray, float, int, bool]

    def test_injected_names_and_helpers_are_there_before_the_program(self, executor: Executor) -> None:
        result = run_python(
            executor,
            "doubled = helper(height)\ndef run(*, scale): return doubled * scale, height",
            inject={"height": np.array([1.0, 2.0])},
            helpers="def helper(x): return 2 * x + len(height)",
            kwargs={"scale": 10},
        )
        assert result.ok, result.message
        np.testing.assert_array_equal(result.value[0], [40.0, 60.0])
        np.testing.assert_array_equal(result.value[1], [1.0, 2.0])

    def test_arrays_given_to_a_job_are_writable_copies(self, executor: Executor) -> None:
        array = np.zeros(4)
        result = run_python(executor, "def run(x):\n    x += 1\n    return x", args=[array])
        assert result.ok, result.message
        np.testing.assert_array_equal(result.value, np.ones(4))
        np.testing.assert_array_equal(array, np.zeros(4))

    def test_many_arrays_go_in_and_come_back_as_lists(self, executor: Executor) -> None:
        points = [np.array([float(i), 1.0]) for i in range(26)]
        result = run_python(executor, "def run(points): return [p + 1 for p in points]", args=[points])
        assert result.ok, result.message
        assert result.value == [[i + 1.0, 2.0] for i in range(26)]

    @pytest.mark.parametrize(
        ("expression", "words"),
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
        self, executor: Executor, expression: str, words: str
    ) -> None:
        result = run_python(executor, f"import numpy as np\ndef run(): return {expression}")
        assert result.status is Status.INVALID
        assert result.value is None
        assert words in result.message
        assert "\n" not in result.message

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
            (
                "import os\ndef run(): os._exit(0)",
                Status.CRASH,
                "the program exited without returning (code 0)",
            ),
            ("import nosuch\ndef run(): pass", Status.CRASH, "No module named 'nosuch' (line 1)"),
            ("def run(): return run()", Status.CRASH, "RecursionError"),
            ("import os\ndef run(): os.fork()", Status.FORBIDDEN, "PermissionError"),
            ("import socket\ndef run(): socket.socket()", Status.FORBIDDEN, "PermissionError"),
            ("import ctypes\ndef run(): ctypes.string_at(0)", Status.CRASH, "killed by SIGSEGV"),
            (
                "class E(Exception):\n  def __str__(self): raise E\ndef run(): raise E",
                Status.CRASH,
                "E (line 3)",
            ),
        ],
    )
    def test_a_failed_program_is_told_in_one_line(
        self, executor: Executor, source: str, status: Status, message: str
    ) -> None:
        result = run_python(executor, source)
        assert result.status is status, result.message
        assert message in result.message
        assert "\n" not in result.message
        assert result.retries == 0

    def test_the_output_of_a_failed_program_shows_its_own_frames_only(self, executor: Executor) -> None:
        result = run_python(executor, "def run():\n    print('before')\n    raise ValueError('no')")
        assert result.output.startswith("before\n")
        assert 'File "<candidate>", line 3, in run' in result.output
        assert "raise ValueError('no')" in result.output
        assert "python_job" not in result.output

    def test_libraries_not_preloaded_can_still_be_imported(self, executor: Executor) -> None:
        result = run_python(
            executor,
            "import scipy.optimize as so\ndef run(): return so.brentq(lambda x: x * x - 2, 0, 2)",
            limits=Limits(wall_s=30.0),
        )
        assert result.ok, result.message
        assert result.value == pytest.approx(2**0.5)

    def test_dataclasses_and_random_numbers_work_as_in_a_program_of_its_own(self, executor: Executor) -> None:
        source = (
            "from __future__ import annotations\n"
            "import dataclasses, random\n"
            "import numpy as np\n"
            "@dataclasses.dataclass\n"
            "class Point:\n"
            "    x: float = 0.0\n"
            "def run(): return Point(random.random()).x, np.random.rand()"
        )
        first, second = run_python(executor, source), run_python(executor, source)
        assert first.ok, first.message
        # forks of one server must not all draw the same numbers
        assert first.value[0] != second.value[0]
        assert first.value[1] != second.value[1]

    def test_what_one_job_returns_another_can_be_given(self, executor: Executor) -> None:
        nested = "def propose(levels):\n    v = 1\n    for _ in range(levels):\n        v = [v]\n    return v"
        identity = "def propose(value):\n    return value"
        deepest = executor.run(PythonJob(nested, "propose", args=(32,)))
        assert deepest.ok, deepest.message
        again = executor.run(PythonJob(identity, "propose", args=(deepest.value,)))
        assert again.ok, again.message
        assert again.value == deepest.value
        refused = executor.run(PythonJob(nested, "propose", args=(33,)))
        assert refused.status is Status.INVALID
        assert "nested deeper than 32 levels" in refused.message
