"""Adopted tasks as problems: every form is scored as its own evaluator scores it, and bad ones say why."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator

import pytest
from tests.adopting.conftest import EVALUATOR, PROGRAM, Evaluate, MakeTask, problem_of, run_outside

from ttd_core.errors import EnvironmentLacksError, UsageError
from ttd_core.plugin.hooks import Hooks
from ttd_core.problem import Problem
from ttd_core.run.evaluate import evaluate_action
from ttd_core.sandbox import layout
from ttd_core.sandbox.base import Level
from ttd_core.sandbox.local import LocalExecutor
from ttd_core.types import Action, ScoredState, State, Status, Verdict

ARTIFACTS = """
    from openevolve.evaluation_result import EvaluationResult
    import numpy as np

    ARTIFACTS = {"hint": "go higher", "raw": b"bytes", "note": "a\\nb"}

    def evaluate(path):
        metrics = {"combined_score": np.float64(2.5), "count": np.int32(3), "shape": np.arange(3)}
        return EvaluationResult(metrics=metrics, artifacts=ARTIFACTS)
"""
SHINKA = """
    import argparse
    from shinka.core import run_shinka_eval

    def valid(values):
        return (max(values) <= 9, None if max(values) <= 9 else "a value above 9")

    def score(results):
        return {"combined_score": float(sum(results[0])), "public": {"largest": max(results[0])},
                "private": {"secret": 7}}

    if __name__ == "__main__":
        parser = argparse.ArgumentParser()
        parser.add_argument("--program_path")
        parser.add_argument("--results_dir")
        given = parser.parse_args()
        run_shinka_eval(given.program_path, given.results_dir, "solve", 2, lambda run: {"n": 4},
                        aggregate_metrics_fn=score, validate_fn=valid, run_workers=2)
"""
SHELL = """
    #!/usr/bin/env bash
    set -euo pipefail
    python /benchmark/score.py "$1"
"""
PRINTS = (
    EVALUATOR
    + """
    if __name__ == "__main__":
        import json, sys
        metrics = evaluate(sys.argv[1])
        said = {"status": "success", "combined_score": metrics["combined_score"], "metrics": metrics}
        print(json.dumps(said))
"""
)
STAGES = (
    EVALUATOR
    + """
    def evaluate_stage1(path):
        return {"combined_score": evaluate(path)["combined_score"], "first": 1, "error": 0.0}

    def evaluate_stage2(path):
        if load(path).STEP == 2.0:
            raise RuntimeError("not this one")
        return {"combined_score": 100.0, "second": 2}
"""
)


def test_a_function_is_scored_as_outside_with_what_it_prints(make_task: MakeTask, evaluate: Evaluate) -> None:
    folder = make_task()
    outside = run_outside(
        sys.executable,
        "-c",
        "import sys; sys.path.insert(0, sys.argv[1]); import evaluator, json; "
        "print(json.dumps(evaluator.evaluate(sys.argv[1] + '/initial_program.py')))",
        folder,
    )
    verdict = evaluate(folder)
    assert verdict.ok, verdict.message
    assert verdict.state is not None
    assert verdict.reward is not None
    assert verdict.state.data["metrics"] == json.loads(outside.splitlines()[-1])
    assert (verdict.reward.score, verdict.reward.value) == (3.0, 4.0)
    assert "solving 4" in verdict.output


def test_metrics_and_artifacts_stand_in_the_next_prompt(make_task: MakeTask, evaluate: Evaluate) -> None:
    folder = make_task({"evaluator.py": ARTIFACTS})
    verdict = evaluate(folder)
    assert verdict.state is not None, verdict.message
    assert verdict.reward is not None
    assert verdict.state.data["metrics"] == {"combined_score": 2.5, "count": 3, "shape": [0, 1, 2]}
    problem = problem_of(folder)
    prompt = problem.render_prompt(verdict.state, [ScoredState(verdict.state, verdict.reward)])[-1]["content"]
    said, turn = prompt.index("## What the evaluator said"), prompt.index("## Your turn")
    for text in ("count: 3", "hint: go higher", "raw: bytes", "note:\n```\na\nb\n```"):
        assert said < prompt.index(text) < turn
    short = problem_of(folder, evaluator_chars=20)
    assert len(short.render_prompt(verdict.state, [])[-1]["content"]) < len(prompt)


def test_a_script_of_shinka_says_what_is_not_correct(make_task: MakeTask, evaluate: Evaluate) -> None:
    folder = make_task({"initial.py": PROGRAM, "evaluate.py": SHINKA}, whole=True)
    verdict = evaluate(folder)
    assert verdict.reward is not None, verdict.message
    assert verdict.state is not None
    assert verdict.reward.score == 3.0
    assert verdict.state.data["metrics"]["num_valid_runs"] == 2
    prompt = problem_of(folder).render_prompt(verdict.state, [])[-1]["content"]
    assert "largest: 1.5" in prompt
    assert "secret" not in prompt
    wrong = evaluate(folder, "def solve(n):\n    return [10.0]")
    assert wrong.status is Status.INVALID
    assert wrong.message == "the evaluator says: Validation failed: a value above 9"


def test_a_shell_script_finds_its_folder_by_the_container_s_name(
    make_task: MakeTask, evaluate: Evaluate
) -> None:
    reads = PRINTS.replace(
        "def evaluate(path):",
        "def evaluate(path):\n        assert open('/benchmark/pairs.txt').read() == '3'",
    )
    files = {"initial_program.py": PROGRAM, "evaluator/evaluate.sh": SHELL}
    files |= {"evaluator/score.py": reads, "evaluator/pairs.txt": "3"}
    folder = make_task(files, whole=True)
    verdict = evaluate(folder)
    assert verdict.reward is not None, verdict.message
    assert verdict.reward.score == 3.0


def test_a_shell_script_finds_what_lies_beside_itself(make_task: MakeTask, evaluate: Evaluate) -> None:
    script = SHELL.replace("/benchmark/", '"$(cd "$(dirname "$0")" && pwd)"/')
    files = {"initial_program.py": PROGRAM, "evaluator/evaluate.sh": script, "evaluator/score.py": PRINTS}
    verdict = evaluate(make_task(files, whole=True))
    assert verdict.reward is not None, verdict.message + verdict.output
    assert verdict.reward.score == 3.0


def _verdict_at(level: Level, folder: pathlib.Path, **options: str) -> Verdict:
    """The verdict on a task's own program at a level of the sandbox."""
    problem = problem_of(folder, **options)
    with LocalExecutor(1, exactly=level) as executor:
        action = Action(problem.adopted.program, "python")
        return evaluate_action(Hooks(problem), State(), action, executor.run)


@pytest.fixture
def open_folder() -> Iterator[pathlib.Path]:
    """A folder that other users may read, as pytest's are not: root's jobs run as another user."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield pathlib.Path(name)


@pytest.mark.parametrize("level", [Level.STANDARD, Level.STRONG])
@pytest.mark.parametrize("own", [False, True], ids=["the system's", "a virtual environment"])
def test_python_in_a_shell_script_is_the_task_s(open_folder: pathlib.Path, level: Level, own: bool) -> None:
    """Where a job has no view of its own, what lies in its scratch folder cannot be started."""
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    if python is None:
        pytest.skip("the system has no Python that every user may start")
    if own:
        subprocess.run([python, "-m", "venv", "--without-pip", open_folder / "own"], check=True)
        (library,) = (open_folder / "own" / "lib").glob("python*/site-packages")
        (library / "only_here.py").write_text("")
        python = str(open_folder / "own" / "bin" / "python")
    task = open_folder / "task"
    task.mkdir()
    scores = f"import {'only_here' if own else 'json'}\n{textwrap.dedent(PRINTS)}"
    script = textwrap.dedent(SHELL).replace("python /", "python3 -c 'import json'; python /")
    for name, text in (("initial_program.py", PROGRAM), ("evaluate.sh", script), ("score.py", scores)):
        (task / name).write_text(textwrap.dedent(text).lstrip())
    verdict = _verdict_at(level, task, python=python)
    assert verdict.reward is not None, verdict.message + verdict.output
    assert verdict.reward.score == 3.0


def test_a_python_that_jobs_cannot_reach_is_named(make_task: MakeTask) -> None:
    reached = layout.find().python
    if os.geteuid() != 0 or all(folder.stat().st_mode & 0o001 for folder in pathlib.Path(reached).parents):
        pytest.skip("jobs reach this Python as it is")
    files = {"initial_program.py": PROGRAM, "evaluator/evaluate.sh": SHELL, "evaluator/score.py": PRINTS}
    verdict = _verdict_at(Level.STANDARD, make_task(files, whole=True))
    assert verdict.message == (
        f"evaluate.sh cannot start {reached}, which lies in a folder that is closed to jobs at this level "
        "of the sandbox; name another Python with -o python=PATH"
    )


def test_stages_go_on_where_the_threshold_is_reached(make_task: MakeTask, evaluate: Evaluate) -> None:
    config = "evaluator:\n  cascade_evaluation: true\n  cascade_thresholds: [4.0]\n"
    folder = make_task({"evaluator.py": STAGES, "config.yaml": config})
    below = evaluate(folder)
    assert below.state is not None
    assert below.state.data["metrics"] == {"combined_score": 3.0, "first": 1, "error": 0.0}
    above = evaluate(folder, PROGRAM.replace("0.5", "1.0"))
    assert above.state is not None
    assert above.state.data["metrics"] == {"combined_score": 100.0, "first": 1.0, "second": 2.0}
    raises = evaluate(folder, PROGRAM.replace("0.5", "2.0"))
    assert raises.state is not None
    assert raises.state.data["metrics"]["combined_score"] == 12.0
    assert raises.state.data["metrics"]["stage2_passed"] == 0.0
    assert raises.state.data["artifacts"]["stage2_stderr"] == "not this one"


def test_a_time_limit_that_no_clock_takes_is_refused(make_task: MakeTask) -> None:
    with pytest.raises(ValueError, match="'timeout_s' must be <= 1000000000"):
        problem_of(make_task(), timeout_s=1e300)


def test_metrics_whose_sum_would_be_infinite_are_kept_and_not_counted(make_task: MakeTask) -> None:
    metrics = {"combined_score": 2, "large": 1e308, "small": 0.5}
    reward = problem_of(make_task()).reward(State(data={"metrics": metrics}))
    assert reward.metrics == {"combined_score": 2.0, "small": 0.5}


BAD = [
    ("return [1]", Status.CRASH, "it returned list, not a dictionary of metrics"),
    ("raise ValueError('no\\nway')", Status.CRASH, "raised ValueError: no way (evaluator.py, line 3)"),
    ("import sys; sys.exit(3)", Status.CRASH, "the evaluator called exit(3)"),
    ("import os; os._exit(4)", Status.CRASH, "the evaluator ended with exit code 4 and left no result"),
    ("import os; os.kill(os.getpid(), 9)", Status.CRASH, "the evaluator was killed by SIGKILL"),
    ("return {'combined_score': float('nan')}", Status.INVALID, "combined_score is nan, not a finite number"),
    ("return {'combined_score': 10**400}", Status.INVALID, "not a finite number"),
    ("return {'combined_score': 1.0, 'x': 'y' * 10**7}", Status.CRASH, "result takes more than 4 MiB"),
]


@pytest.mark.parametrize(("body", "status", "says"), BAD)
def test_an_evaluator_that_gives_no_score_says_why_in_a_line(
    make_task: MakeTask, evaluate: Evaluate, body: str, status: Status, says: str
) -> None:
    folder = make_task({"evaluator.py": f"\ndef evaluate(path):\n    {body}\n"})
    verdict = evaluate(folder)
    assert verdict.status is status
    assert says in verdict.message
    assert "\n" not in verdict.message


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({}, "the evaluator gave no metrics"),
        (
            {"metrics": {"combined_score": -1.7e308}},
            "the evaluator's combined_score is -1.7e+308, larger than any score (1e+30)",
        ),
        ({"metrics": {"a": 1, "b": 2}}, "the evaluator gave no combined_score, only a, b"),
        (
            {"metrics": {"combined_score": "high"}},
            "the evaluator's combined_score is high, not a finite number",
        ),
        (
            {"metrics": {"combined_score": True}},
            "the evaluator's combined_score is true, not a finite number",
        ),
        (
            {"metrics": {"combined_score": None}},
            "the evaluator's combined_score is null, not a finite number",
        ),
        ({"metrics": {"combined_score": 1.0, "error": "too\nlong"}}, "the evaluator says: too long"),
        ({"metrics": {"combined_score": 1.0}, "artifacts": {"error": "x"}}, "the evaluator says: x"),
        ({"metrics": {"combined_score": 1.0}, "correct": False}, "says that it is not correct, and no more"),
    ],
)
def test_what_is_no_score_is_refused(make_task: MakeTask, data: dict[str, object], says: str) -> None:
    (complaint,) = problem_of(make_task()).check(State(data=data))
    assert says in complaint


def test_one_that_never_returns_is_ended_and_one_that_prints_a_megabyte_is_not(
    make_task: MakeTask, evaluate: Evaluate
) -> None:
    waits = make_task({"evaluator.py": "def evaluate(path):\n    while True: pass\n"}, name="waits")
    assert evaluate(waits, timeout_s=0.7).status is Status.TIMEOUT
    body = "def evaluate(path):\n    print('y' * 10**6)\n    return {'combined_score': 1.0}\n"
    prints = evaluate(make_task({"evaluator.py": body}, name="prints"))
    assert prints.ok
    assert len(prints.output) < 100_000


def test_an_evaluator_has_pools_and_ends_its_children_but_writes_nowhere_else(
    make_task: MakeTask, evaluate: Evaluate
) -> None:
    body = """
        import concurrent.futures, os, pathlib, socket, subprocess, sys, tempfile

        def refused(action):
            try:
                action()
            except OSError:
                return 1.0
            return 0.0

        def evaluate(path):
            here = pathlib.Path(__file__).parent
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
            child.kill()
            with concurrent.futures.ProcessPoolExecutor(2) as pool:
                sums = list(pool.map(abs, [-1, -2]))
            pathlib.Path("made.txt").write_text("in the working folder")
            own = [os.environ[name] for name in ("HOME", "TMPDIR", "MPLCONFIGDIR")] + [tempfile.gettempdir()]
            return {
                "combined_score": float(sum(sums)),
                "killed": child.wait(),
                "data": len(pathlib.Path("data.txt").read_text()),
                "own": all(place.startswith(os.path.dirname(os.getcwd())) for place in own),
                "writing": refused(lambda: (here / "new.txt").write_text("x")),
                "changing": refused(lambda: (here / "data.txt").write_text("x")),
                "through": refused(lambda: pathlib.Path("data.txt").write_text("x")),
                "network": refused(lambda: getattr(socket, "create_" + "connection")(("127.0.0.1", 9), 1)),
            }
    """
    folder = make_task({"evaluator.py": body, "data.txt": "12345"})
    verdict = evaluate(folder)
    assert verdict.state is not None, verdict.message
    said = dict(verdict.state.data["metrics"])
    assert said.pop("combined_score") == 3.0
    refused = {"writing": 1.0, "changing": 1.0, "through": 1.0, "network": 1.0}
    assert said == {"killed": -9, "data": 5, "own": True, **refused}
    assert (folder / "data.txt").read_text() == "12345"
    assert not (folder / "new.txt").exists()


def test_what_an_evaluator_leaves_running_ends_with_its_job(make_task: MakeTask, evaluate: Evaluate) -> None:
    mark = f"left-{os.getpid()}"
    body = f"""
        import os, subprocess

        def evaluate(path):
            subprocess.Popen(["sleep", "300"], start_new_session=True, env={{"MARK": "{mark}"}})
            for number in (9, 15, 19):
                os.kill(1, number)
            return {{"combined_score": 1.0}}
    """
    verdict = evaluate(make_task({"evaluator.py": body}))
    assert verdict.ok, verdict.message
    left = [path for path in pathlib.Path("/proc").glob("[0-9]*/environ") if _holds(path, mark)]
    assert left == []


def _holds(path: pathlib.Path, mark: str) -> bool:
    try:
        return mark.encode() in path.read_bytes()
    except OSError:
        return False


@pytest.mark.slow
def test_a_program_of_another_language_is_compiled_and_started(
    make_task: MakeTask, evaluate: Evaluate
) -> None:
    body = """
        import os, subprocess, tempfile

        def evaluate(path):
            made = os.path.join(tempfile.mkdtemp(), "made")
            subprocess.run(["g++", "-o", made, path], check=True)
            return {"combined_score": float(subprocess.run([made], capture_output=True).stdout)}
    """
    program = '#include <cstdio>\nint main() { puts("1.25"); }\n'
    folder = make_task({"initial_program.cpp": program, "evaluator.py": body}, whole=True)
    verdict = evaluate(folder)
    assert verdict.reward is not None, f"{verdict.message} {verdict.output}"
    assert verdict.reward.score == 1.25


def test_options_choose_another_metric_and_its_direction(make_task: MakeTask, evaluate: Evaluate) -> None:
    folder = make_task()
    verdict = evaluate(folder, metric="count", direction="min")
    assert verdict.reward is not None
    assert (verdict.reward.score, verdict.reward.value) == (4.0, 0.2)
    problem = problem_of(folder, metric="count", direction="min")
    assert (problem.metric, problem.direction, problem.better(1, 2)) == ("count", "min", True)
    assert (problem_of(folder).metric, problem_of(folder).better(1, 2)) == ("combined_score", False)
    values = [problem.reward(State(data={"metrics": {"count": score}})).value for score in (-3, 0, 0.5, 1e6)]
    assert values == sorted(values, reverse=True)
    assert min(values) > 0
    # a failure counts 0: less than any valid program, also where scores are negative
    larger = problem_of(folder, metric="count")
    values = [
        larger.reward(State(data={"metrics": {"count": score}})).value for score in (-1e6, -3, 0, 0.5, 9)
    ]
    assert values == sorted(set(values))
    assert min(values) > 0


def test_what_is_missing_is_said_before_a_run_begins(make_task: MakeTask, tmp_path: pathlib.Path) -> None:
    lacks = make_task({"evaluator.py": "\n    import surely_not_there\n" + EVALUATOR}, name="lacks")
    with pytest.raises(
        EnvironmentLacksError, match=r"lacks surely_not_there: .* pip install surely-not-there, or"
    ):
        problem_of(lacks).require_machine()
    needs = make_task(
        {"evaluator.py": "\n    import requests\n    requests.get('http://x')\n" + EVALUATOR}, name="needs"
    )
    with pytest.raises(
        EnvironmentLacksError, match="needs what no job is given, and no option allows: a network"
    ):
        problem_of(needs).require_machine()
    other = make_task({"initial_program.wls": "1\n", "evaluator.py": EVALUATOR}, whole=True, name="other")
    if problem_of(other).language == "wolfram":
        with pytest.raises(EnvironmentLacksError, match="jobs find no wolframscript on this machine"):
            problem_of(other).require_machine()
    closed = make_task(name="closed")
    closed.chmod(0o700)
    if os.geteuid() == 0:
        with pytest.raises(EnvironmentLacksError, match=r"cannot read .*closed: chmod -R go\+rX"):
            problem_of(closed).require_machine()
    with pytest.raises(UsageError, match="there is no program"):
        problem_of(make_task(name="usual"), python=str(tmp_path / "nowhere"))


def test_a_score_is_called_the_evaluator_s_word_unless_split(make_task: MakeTask) -> None:
    assert Problem.score_caution(problem_of(make_task())) == ""
    assert problem_of(make_task()).score_caution() == "the evaluator's word"
    assert problem_of(make_task(), split=True).score_caution() == ""


def test_gpu_mode_s_harness_is_run_test_by_test_and_timed(
    make_task: MakeTask, evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = """
        import os, sys, time
        from submission import custom_kernel
        mode, cases = sys.argv[1], open(sys.argv[2]).read().splitlines()
        with os.fdopen(int(os.environ["POPCORN_FD"]), "w") as out:
            ok = all(custom_kernel(int(case.split(":")[1])) == 2 * int(case.split(":")[1]) for case in cases)
            for number in range(len(cases)):
                mean, status = 4000.0 * 4 ** number, "pass" if ok else "fail"
                said = f"mean: {mean}" if mode == "benchmark" else f"status: {status}"
                print(f"{mode}.{number}.{said}", file=out)
                if not ok:
                    print(f"{mode}.{number}.error: wrong", file=out)
            print(f"check: {'pass' if ok else 'fail'}", file=out)
    """
    task = """
        files:
          - {"name": "submission.py", "source": "@SUBMISSION@"}
          - {"name": "eval.py", "source": "harness.py"}
        lang: py
        description: Double a number.
        config: {"main": "eval.py"}
        templates: {"Python": "template.py"}
        tests:
          - {"size": 3}
        benchmarks:
          - {"size": 5}
          - {"size": 7}
        ranking_by: geom
    """
    double = "def custom_kernel(data):\n    return 2 * data\n"
    files = {"task.yml": task, "harness.py": harness, "template.py": double, "reference.py": ""}
    folder = make_task(files, whole=True)
    monkeypatch.setattr("ttd_core.adopting.problem.gpu_devices", lambda: ("/dev/null",))
    verdict = evaluate(folder)
    assert verdict.reward is not None, verdict.message
    assert verdict.state is not None
    assert verdict.reward.score == pytest.approx(8.0)  # the geometric mean of 4 and 16 microseconds
    assert verdict.reward.value == pytest.approx(1 / 9)
    wrong = evaluate(folder, "def custom_kernel(data):\n    return data\n")
    assert wrong.message == "the evaluator says: test.0 failed: wrong"
