"""``ttd adopt``: what was understood of a task, for people and as JSON."""

from __future__ import annotations

import json
import pathlib
import shutil
import sys

import pytest
from tests.adopting.small_tasks import EVALUATOR, GPU_MODE, OPENEVOLVE, SHINKA, STAGES, write


def test_what_was_understood_and_how_to_go_on(ttd) -> None:
    write(pathlib.Path("five points"), OPENEVOLVE)
    said = ttd("adopt", "five points")
    assert said.exit_code == 0
    assert said.stdout == (
        "five-points: five points\n"
        "  form       OpenEvolve or SkyDiscover\n"
        "  program    python, 6 lines; the evaluator calls place\n"
        "  evaluator  evaluator.py: evaluate(path) is called\n"
        "  score      combined_score, larger is better; it is the evaluator's word\n"
        "  limit      20 s for an evaluation\n"
        "prompt:\n"
        "  | Spread five points over the unit interval.\n"
        "notes:\n"
        "  config.yaml: llm (primary_model, temperature): the model is that of the run (--model)\n"
        "  config.yaml: database (population_size): where programs start from is the run's search\n"
        "  config.yaml: prompt (num_top_programs): what else a prompt shows is ttd's\n"
        "  config.yaml: max_iterations: how long a run goes on is its --steps\n"
        "  config.yaml: diff_based_evolution: how a program is changed is "
        "-o reply=edits or -o reply=program\n"
        "  config.yaml: evaluator (parallel_evaluations): limits and retries are the run's sandbox's\n"
        "next:\n"
        "  ttd show 'adopted:five points' --prompt\n"
        "  ttd run 'adopted:five points' --preset laptop\n"
    )


def test_what_is_missing_has_a_row_each_and_a_command(ttd) -> None:
    evaluator = "import absent_one\nimport requests\nimport subprocess\n" + EVALUATOR
    evaluator += "subprocess.run(['no-such-compiler'])\n"
    write(
        pathlib.Path("task"), OPENEVOLVE | {"evaluator.py": evaluator, "requirements.txt": "absent_one==2\n"}
    )
    said = ttd("adopt", "task").stdout
    assert "\n  lacks      absent_one: python -m pip install absent_one==2\n" in said
    assert "\n  evaluator.py:1: it imports absent_one, which is not installed\n" in said
    assert "\n  lacks      no-such-compiler (evaluator.py:14): no such program is on the path\n" in said
    assert "\n  needs      a network: it imports requests, which asks a server (evaluator.py:2)\n" in said


@pytest.mark.parametrize(
    ("files", "folder", "lines"),
    [
        (
            OPENEVOLVE | {"evaluator.py": STAGES},
            "task",
            [
                "evaluator  evaluator.py: evaluate_stage1(path) is called, evaluate_stage2 where that "
                "reaches 0.5, evaluate_stage3 where that reaches 0.75"
            ],
        ),
        (
            SHINKA,
            "task",
            [
                "form       ShinkaEvolve",
                "evaluator  evaluate.py: called with --program_path and --results_dir, it writes "
                "metrics.json and correct.json",
            ],
        ),
        (
            GPU_MODE,
            "task/vectoradd",
            [
                "form       GPU MODE",
                "score      geom: the geometric mean of the benchmarks' times, smaller is better; it is the "
                "evaluator's word",
                "gpu        wants a CUDA device (reference.py:5)",
            ],
        ),
    ],
)
def test_the_other_forms(ttd, files: dict[str, str], folder: str, lines: list[str]) -> None:
    write(pathlib.Path("task"), files)
    said = [line.strip() for line in ttd("adopt", folder).stdout.splitlines()]
    assert [line for line in lines if line not in said] == []


def test_as_json_with_another_metric_and_another_python(ttd) -> None:
    write(pathlib.Path("task"), OPENEVOLVE)
    arguments = ("--metric", "count", "--direction", "min", "--python", sys.executable)
    facts = json.loads(ttd("adopt", "task", *arguments, "--json").stdout)
    assert (facts["metric"], facts["direction"], facts["entry"]) == ("count", "min", "place")
    assert facts["program"] == OPENEVOLVE["initial_program.py"]
    options = f"-o python={sys.executable} -o metric=count -o direction=min"
    assert facts["commands"][1] == f"ttd run adopted:task {options} --preset laptop"


def test_a_wrong_folder_is_one_line_and_exit_code_2(ttd) -> None:
    pathlib.Path("empty").mkdir()
    said = ttd("adopt", "empty")
    assert (said.exit_code, said.stdout, said.stderr.count("\n")) == (2, "", 1)
    assert said.stderr.startswith("error: ")
    assert "empty: empty; a task's folder has" in said.stderr


def test_controls_of_a_folder_reach_no_terminal(ttd) -> None:
    files = {
        "README.md": "# \x1b[31mRed\n",
        "config.yaml": 'prompt: {system_message: "a\\e[2Jb"}\n"\\e]0;x": 1\n',
    }
    write(pathlib.Path("task"), OPENEVOLVE | files)
    said = ttd("adopt", "task").stdout
    assert "\x1b" not in said
    assert "task: \\x1b[31mRed" in said.replace("task: task", "")


def test_the_starting_programs_score_in_the_sandbox(ttd) -> None:
    write(pathlib.Path("task"), OPENEVOLVE)
    said = ttd("adopt", "task", "--score")
    assert said.exit_code == 0
    assert "task: valid; combined_score 0.2 (the evaluator's word)\n" in said.stdout
    failing = EVALUATOR.replace("return {", 'return {"error": "no points", ')
    write(pathlib.Path("task"), {"evaluator.py": failing})
    said = ttd("adopt", "task", "--score", "--json")
    assert (said.exit_code, json.loads(said.stdout)["score"]["status"]) == (1, "invalid")
    write(pathlib.Path("task"), {"evaluator.py": "import absent_one\n" + EVALUATOR})
    said = ttd("adopt", "task", "--score")
    assert (said.exit_code, said.stderr.count("\n")) == (3, 1)
    assert "lacks absent_one" in said.stderr


@pytest.mark.parametrize(
    ("files", "folder", "name", "copied"),
    [
        (OPENEVOLVE, "task", "Task", ["config.yaml", "evaluator.py", "initial_program.py"]),
        (SHINKA, "task", "Task", ["evaluate.py", "initial.py", "run_evo.py"]),
        (
            GPU_MODE,
            "task/vectoradd",
            "Vectoradd",
            ["eval.py", "template.py", "vectoradd/reference.py", "vectoradd/task.yml"],
        ),
    ],
)
def test_a_plugin_of_ones_own(ttd, files: dict[str, str], folder: str, name: str, copied: list[str]) -> None:
    write(pathlib.Path("task"), files | {"outputs/old.json": "{}", ".hidden": "x"})
    made = ttd("adopt", folder, "--write", "mine", "--json")
    assert made.exit_code == 0
    package = pathlib.Path("mine/src") / f"ttd_{name.lower()}"
    inside = sorted(str(path.relative_to(package / "task")) for path in (package / "task").rglob("*.*"))
    assert inside == copied
    assert json.loads(made.stdout)["commands"][-1] == f"ttd check-problem {name.lower()}"
    # Its words may be changed, and the copy stands by itself.
    (package / "prompt.md").write_text("Other words.\n")
    shutil.rmtree("task")
    prompt = ttd("show", f"./{package}/__init__.py:{name}", "--prompt")
    assert prompt.exit_code == 0
    assert "Other words." in prompt.stdout
    described = json.loads(ttd("show", f"./{package}/__init__.py:{name}", "--json").stdout)
    facts = json.loads(made.stdout)
    assert {key: described[key] for key in ("name", "title", "metric", "direction")} == {
        key: facts[key] for key in ("name", "title", "metric", "direction")
    }


def test_a_plugin_is_written_over_nothing(ttd) -> None:
    write(pathlib.Path("task"), OPENEVOLVE)
    write(pathlib.Path("mine"), {"notes.txt": "x"})
    said = ttd("adopt", "task", "--write", "mine")
    assert (said.exit_code, said.stderr) == (
        2,
        "error: mine exists already and is not empty; name a new folder\n",
    )
    assert sorted(path.name for path in pathlib.Path("mine").iterdir()) == ["notes.txt"]


@pytest.mark.slow
def test_a_plugin_of_ones_own_keeps_the_contract(ttd) -> None:
    write(pathlib.Path("task"), SHINKA)
    assert ttd("adopt", "task", "--write", "mine").exit_code == 0
    checked = ttd("check-problem", "./mine/src/ttd_task/__init__.py:Task")
    assert (checked.exit_code, checked.stdout.splitlines()[-1]) == (0, "task: 13 of 13 checks pass")
