"""Split evaluations: the same score as together, a forged one stopped, and what cannot be split said."""

from __future__ import annotations

import ast
import json
import pathlib
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.adopting.conftest import EVALUATOR, PROGRAM, Evaluate, MakeTask, problem_of

from ttd_core.adopting.evaluation import program_text
from ttd_core.adopting.splitting import _stand_in, _surface
from ttd_core.errors import UsageError
from ttd_core.sandbox.base import MIB, JobResult, PythonJob
from ttd_core.types import Action, State, Status, Verdict

_COMMANDS: dict[str, Any] = {}
exec(compile(program_text("commands.py"), "commands.py", "exec"), _COMMANDS)
complaint, trace_complaint = _COMMANDS["complaint"], _COMMANDS["trace_complaint"]
NAMES = {"candidate_program.py"}
PLACE = "/scratch/job/program/candidate_program.py"
#: Each pretends to a score of 1000 beside the evaluator; their own is 3.
FORGERIES = {
    "the evaluator's module": """
        import sys
        module = sys.modules.get("evaluation_module")
        if module is not None:
            module.sum = lambda values: 1000.0

        def solve(n):
            return [0.5 * i for i in range(n)]
    """,
    "a value that lies": """
        class Large(float):
            def __radd__(self, other):
                return 1000.0

        def solve(n):
            return [0.5 * i for i in range(n)] if __name__ != "program" else [Large(1000.0)] * n
    """,
    "the answer": """
        import glob, json, os
        for place in [os.path.join(os.getcwd(), "..", "ttd", "answer.json")]:
            with open(place, "w") as file:
                json.dump({"metrics": {"combined_score": 1000.0}, "artifacts": {}}, file)

        def solve(n):
            os._exit(0)
    """,
}
SHINKA_FORGERY = """
    import json, os, sys
    if "--results_dir" in sys.argv:
        folder = sys.argv[sys.argv.index("--results_dir") + 1]
        os.makedirs(folder, exist_ok=True)
        json.dump({"combined_score": 1000.0}, open(os.path.join(folder, "metrics.json"), "w"))
        json.dump({"correct": True}, open(os.path.join(folder, "correct.json"), "w"))
        os._exit(0)

    def solve(n):
        return [0.5 * i for i in range(n)]
"""


@pytest.mark.parametrize(
    "forgery", ["the evaluator's module", pytest.param("the answer", marks=pytest.mark.slow)]
)
def test_a_forged_score_counts_together_and_is_stopped_apart(
    make_task: MakeTask, evaluate: Evaluate, forgery: str
) -> None:
    folder = make_task()
    together = evaluate(folder, FORGERIES[forgery])
    assert together.reward is not None, together.message
    assert together.reward.score == 1000.0, "as docs/adopt.md says: the evaluator's word"
    apart = evaluate(folder, FORGERIES[forgery], split=True)
    assert apart.reward is None or apart.reward.score == 3.0


def test_a_value_that_acts_does_not_reach_the_evaluator(make_task: MakeTask, evaluate: Evaluate) -> None:
    apart = evaluate(make_task(), FORGERIES["a value that lies"], split=True)
    assert apart.status is Status.INVALID
    assert apart.message == "what solve returned holds a value of type program.Large, which is no data"


@pytest.mark.slow
def test_shinka_s_files_are_forged_together_and_not_apart(make_task: MakeTask, evaluate: Evaluate) -> None:
    from tests.adopting.test_problem import SHINKA

    folder = make_task({"initial.py": PROGRAM, "evaluate.py": SHINKA}, whole=True)
    together = evaluate(folder, SHINKA_FORGERY)
    assert together.reward is not None
    assert together.reward.score == 1000.0
    apart = evaluate(folder, SHINKA_FORGERY, split=True)
    assert apart.reward is not None, apart.message
    assert apart.reward.score == 3.0


@pytest.mark.slow
def test_several_calls_with_arrays_and_errors_are_as_together(
    make_task: MakeTask, evaluate: Evaluate
) -> None:
    program = """
        import numpy as np
        SIZE = 2

        def solve(n, *, scale=1.0):
            if n < 0:
                raise ValueError("below nothing")
            return np.arange(n) * scale, {"n": (n, None), 2: float("inf")}
    """
    evaluator = EVALUATOR.replace(
        "values = load(path).solve(4)\n",
        """program = load(path)
        total = 0.0
        for n in (0, program.SIZE):
            values, told = program.solve(n, scale=np.float64(2.0))
            assert isinstance(values, np.ndarray) and told["n"] == (n, None) and told[2] == float("inf")
            total += values.sum()
        try:
            program.solve(-1)
        except ValueError as error:
            assert str(error) == "below nothing"
        values = [total]
""",
    ).replace("import importlib.util", "import importlib.util\n    import numpy as np")
    folder = make_task({"initial_program.py": program, "evaluator.py": evaluator})
    together, apart = evaluate(folder), evaluate(folder, split=True)
    assert together.reward is not None, together.message + together.output
    assert apart.reward is not None, apart.message + apart.output
    assert together.reward.score == apart.reward.score == 2.0


@pytest.mark.slow
def test_a_program_s_seconds_pass_for_its_evaluator(make_task: MakeTask, evaluate: Evaluate) -> None:
    evaluator = EVALUATOR.replace("values =", "began = time.time()\n        values =")
    evaluator = evaluator.replace("len(values)}", "time.time() - began}")
    folder = make_task(
        {"evaluator.py": evaluator.replace("import importlib.util", "import importlib.util, time")}
    )
    slow = "import time\ndef solve(n):\n    time.sleep(0.3)\n    return [1.0]\n"
    verdict = evaluate(folder, slow, split=True)
    assert verdict.state is not None, verdict.message
    assert 0.3 <= verdict.state.data["metrics"]["count"] < 15


def test_what_many_calls_return_is_bounded_together(make_task: MakeTask) -> None:
    """The evaluator's job would take no more, and the error ended the run."""
    problem = problem_of(make_task(), split=True)
    asked = {"name": "solve", "arguments": "[[4],{}]"}

    def execute(job: PythonJob) -> JobResult:
        if job.args[0]["call"] == "calls":
            return JobResult(Status.OK, value={"returned": json.dumps("x" * (MIB - 10))})
        calls = [{**asked, "identity": f"{number}.0"} for number in range(20)]
        return JobResult(Status.OK, value={"asked": calls, "used": []})

    verdict = problem.transition(State(), Action(problem.adopted.program, "python"), execute)
    assert isinstance(verdict, Verdict)
    assert verdict.status is Status.INVALID
    assert verdict.message == "what the program's functions returned takes more than 8 MiB in all"


def test_the_clocks_of_the_module_time_move_each_by_its_own_seconds() -> None:
    program = program_text("stand_in.py") + textwrap.dedent("""
        import json
        read = {"wall": [time.time, time.monotonic, time.perf_counter], "cpu": [time.process_time]}
        read["cpu"] += [time.thread_time, lambda: time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID)]
        read["wall"] += [lambda: time.clock_gettime(time.CLOCK_MONOTONIC), lambda: time.time_ns() / 1e9]
        before = {kind: [clock() for clock in clocks] for kind, clocks in read.items()}
        _clock.advance(1000.0, 300.0)
        after = {kind: [clock() for clock in clocks] for kind, clocks in read.items()}
        print(json.dumps([before, after]))
    """)
    command = [sys.executable, "-c", program.replace("import ttd_values", "")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    before, after = json.loads(ran.stdout)
    for kind, seconds in (("wall", 1000.0), ("cpu", 300.0)):
        for first, second in zip(before[kind], after[kind], strict=True):
            assert seconds <= second - first < seconds + 10


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("values = [float(len(open(path).read()))]", "split: the evaluator reads the program's text"),
        (
            "import shutil; values = [float(len(open(shutil.copy(path, 'copy.py')).read()))]",
            "split: the evaluator reads the program's text",
        ),
        (
            "import os; values = [float(os.system('wc -l <' + path))]",
            "split: the evaluator reads the program's text with wc",
        ),
        (
            "import subprocess, sys; values = [float(len(subprocess.check_output([sys.executable, path])))]",
            "split: the evaluator runs the program's file as a script",
        ),
        (
            "values = load(path).solve(lambda: 4)",
            "split: the evaluator calls solve with a value of type function, which is no data",
        ),
        (
            "values = [load(path).solve(i)[0] for i in range(1, 4)]",
            "split: the evaluator calls the program more than 2 times",
        ),
        (
            "import os; values = load(path).solve(os.urandom(8))",
            "does not make the same calls each time",
        ),
    ],
)
def test_what_cannot_be_split_says_why(
    make_task: MakeTask, evaluate: Evaluate, body: str, reason: str
) -> None:
    folder = make_task({"evaluator.py": EVALUATOR.replace("values = load(path).solve(4)", body)})
    verdict = evaluate(folder, "def solve(n):\n    return [1.0]\n", split=True, calls=2)
    assert verdict.status is Status.INVALID
    assert reason in verdict.message


READERS = {
    "wc -l < $1": "with <",
    'wc -l < "${1}" >&2': "with <",
    'P="$1"; cat "$P" | wc -l': "with cat",
    "count() { grep -c def $1; }\ncount $1": "with grep",
    'lines=$(<"$1")': "with <",
    "python3 -u $1": "as a script",
}


@pytest.mark.parametrize("line", READERS)
def test_a_shell_script_that_reads_the_program_or_runs_it_is_refused(line: str) -> None:
    """Bash itself tells of its commands; only what they are is looked at, not what they would find."""
    script = f"main() {{\n{line}\n}}\ntest -f $1 && echo $(basename $1)\nmain $1\n"
    command = ["bash", "-xc", script, "evaluate.sh", "/nowhere/candidate_program.py"]
    trace = subprocess.run(command, capture_output=True, text=True).stderr
    lines = "\n".join(each for each in trace.splitlines() if each.startswith("+"))
    assert READERS[line] in trace_complaint(lines, script, NAMES)
    assert trace_complaint(lines.replace("candidate_program", "x"), script.replace("<", ""), NAMES) == ""


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["wc", "-l", PLACE], "with wc"),
        (["sh", "-c", f"grep -c def {PLACE} | head"], "with grep"),
        (["sh", "-c", f"wc -l <{PLACE}"], "with wc"),
        (["sh", "-c", f"sort '{PLACE}"], "with a shell"),
        (["timeout", "60", "python3", PLACE], "as a script"),
        ([PLACE], "as a script"),
        (["python3", "-u", "runner.py", PLACE], ""),
        (["env", "A=1", "python3.12", "-c", "pass", PLACE], ""),
        (["sh", "-c", f"cd /tmp && X={PLACE} timeout 60 python runner.py --program {PLACE} > out.txt"], ""),
        (["wc", "-l", "another.py"], ""),
    ],
)
def test_a_command_is_refused_unless_python_loads_the_program(words: list[str], reason: str) -> None:
    said = complaint(words, NAMES)
    assert reason in said
    assert bool(said) == bool(reason)


def test_a_shell_script_that_counts_lines_cannot_be_split(make_task: MakeTask, evaluate: Evaluate) -> None:
    from tests.adopting.test_problem import PRINTS, SHELL

    files = {"initial_program.py": PROGRAM, "evaluator/evaluate.sh": SHELL, "evaluator/score.py": PRINTS}
    verdict = evaluate(make_task(files, whole=True, name="plain"), split=True)
    assert verdict.reward is not None, verdict.message + verdict.output
    assert verdict.reward.score == 3.0
    files["evaluator/evaluate.sh"] = SHELL.replace("python /", "test $(wc -l < $1) -gt 3\n    python /")
    verdict = evaluate(make_task(files, whole=True), split=True)
    assert verdict.status is Status.INVALID
    assert "split: the evaluator reads the program's text with <" in verdict.message


def test_a_task_that_never_could_be_split_is_refused_when_its_problem_is_made(make_task: MakeTask) -> None:
    other = make_task(
        {"initial_program.cpp": "int main() {}\n", "evaluator.py": EVALUATOR}, whole=True, name="c"
    )
    with pytest.raises(UsageError, match=r"split is not possible: its programs are c\+\+"):
        problem_of(other, split=True)
    flat = make_task({"initial_program.py": "VALUE = 3\n"}, name="flat")
    with pytest.raises(
        UsageError, match="split is not possible: its program defines no function at top level"
    ):
        problem_of(flat, split=True)


def test_beside_the_evaluator_stands_nothing_of_a_program_that_acts() -> None:
    program = """
        import os
        LIMIT, STEP = 1e999, -2.5
        BOUND = 1e999
        NAMES: list = ["a"]
        PAIR = ("x", {"y": [None, b"z"]})
        PLACE = os.environ
        class Solver: pass
        def solve(n): os._exit(0)
        async def later(): ...
        """
    text = _stand_in(textwrap.dedent(program))
    kinds = {type(node).__name__ for node in ast.parse(text).body}
    assert kinds == {"Import", "Assign", "FunctionDef"}
    assert "os" not in text.replace("class", "")
    assert "BOUND = 1e309" in text
    assert "PAIR = ('x', {'y': [None, b'z']})" in text
    assert _stand_in("not python (") == "import ttd_stand_in as _ttd\n"


@pytest.mark.parametrize(
    ("program", "constants"),
    [
        ("N = 5\nN = N * 3\nM: int = 4\n", {"M": "4"}),
        ("N = 5\nif True:\n    N += 1\nfor M in range(3): pass\n", {}),
        ("TABLE = {}\nTABLE[1] = 2\nEMPTY = {}\nSIZE = 3\nTWICE = 2 * SIZE\n", {"EMPTY": "{}", "SIZE": "3"}),
        ("N = 0\ndef solve(n):\n    global N\n    N = n\nsolve(3)\n", {}),
        ("import os as N\nN = 1\nM = 1\nif __name__ == '__main__':\n    M = 2\n", {"M": "1"}),
    ],
)
def test_a_constant_beside_the_evaluator_has_the_program_s_own_value(
    program: str, constants: dict[str, str]
) -> None:
    assert _surface(program)[1] == constants


def _values_module() -> dict[str, Any]:
    namespace: dict[str, Any] = {}
    exec(compile(program_text("values.py"), "values.py", "exec"), namespace)
    return namespace


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.complex_numbers(allow_nan=False)
)
KEYS = st.text() | st.integers() | st.tuples(st.integers(), st.text())
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(KEYS, inner)
        | st.sets(st.integers())
        | st.frozensets(st.text())
    ),
    max_leaves=20,
)


@settings(max_examples=25, deadline=None)
@given(VALUES)
def test_data_comes_back_as_it_was(value: Any) -> None:
    values = _VALUES
    back = values["decode"](values["encode"](value))
    assert back == value
    assert repr(back) == repr(value) or isinstance(value, set | frozenset | dict | list | tuple)
    assert type(back) is type(value)


_VALUES = _values_module()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 3)),
        np.arange(6, dtype=">i2").reshape(2, 3),
        np.array([np.nan, np.inf]),
        np.array(2 + 1j),
        np.bool_(True),
    ],
)
def test_arrays_come_back_as_they_were(array: np.ndarray) -> None:
    back = _VALUES["decode"](_VALUES["encode"](array))
    np.testing.assert_array_equal(back, array)
    assert (back.shape, back.dtype.kind, type(back)) == (array.shape, array.dtype.kind, type(array))


@pytest.mark.parametrize(
    "value", [print, object(), np.array(["a"], object), pathlib.Path(), [print], {"a": print}]
)
def test_what_is_no_data_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        _VALUES["encode"](value)


def test_our_programs_are_python_of_older_versions_too() -> None:
    split = ("functions.py", "values.py", "stand_in.py", "sitecustomize.py", "commands.py")
    for name in ("call.py", "shinka_core.py", *split):
        ast.parse(program_text(name), feature_version=(3, 8))
