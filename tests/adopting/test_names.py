"""``adopted:FOLDER``: a task's folder as a problem's name, in commands, configs and runs."""

from __future__ import annotations

import json
import pathlib
import sys

import pytest
from click.testing import CliRunner, Result
from tests.adopting.conftest import EVALUATOR, MakeTask

from ttd_core.adopting.interpreter import interpreter, path_of
from ttd_core.cli import main
from ttd_core.config import RunConfig
from ttd_core.errors import UnknownProblemError, UsageError
from ttd_core.plugin import entries, registry
from ttd_core.run.problem_record import ProblemRecord

BETTER = "```python\ndef solve(n):\n    return [float(i) for i in range(n)]\n```"


def ttd(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments], catch_exceptions=False)


def test_a_folder_is_found_by_any_way_to_write_it(
    make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_task()
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))
    for written in (folder, "a task", "./a task/", "~/a task"):
        problem, config = registry.resolve(RunConfig(problem=f"adopted:{written}"))
        assert (problem.name, config.problem) == ("a-task", f"adopted:{folder}")
    assert registry.provenance(problem) == f"a-task ({folder})"
    # a folder whose name ends as a file's does is a folder all the same
    ends = make_task(name="odd.py")
    assert not entries.is_file_reference(f"adopted:{ends}")
    assert registry.load(f"adopted:{ends}").name == "odd-py"
    with pytest.raises(UnknownProblemError, match="adopted: names no folder"):
        registry.load("adopted: ")
    with pytest.raises(UsageError, match="no such folder"):
        registry.load("adopted:nowhere")


def test_the_task_s_time_is_the_default_and_python_becomes_absolute(make_task: MakeTask) -> None:
    folder = make_task({"config.yaml": "evaluator:\n  timeout: 77\n"})
    _, config = registry.resolve(RunConfig(problem=f"adopted:{folder}", options={"python": sys.executable}))
    assert config.options["timeout_s"] == 77.0
    assert config.options["python"] == sys.executable
    assert interpreter(sys.executable) == interpreter(None), "our own, as far as jobs see it"
    assert pathlib.Path(path_of("sh")).is_absolute()


def test_what_is_noted_of_a_task_tells_which_line_was_changed(make_task: MakeTask) -> None:
    folder = make_task({"data/cases.txt": "1 2 3\n", "__pycache__/x.pyc": ""})
    reference = f"adopted:{folder}"
    before = ProblemRecord.of(registry.load(reference), reference)
    assert ProblemRecord.from_text(before.to_text()).changes_to(before) == ""
    assert (before.origin, before.caution) == (str(folder), "the evaluator's word")
    assert "data/cases.txt" in before.source
    assert ".pyc" not in before.source
    make_task({"evaluator.py": EVALUATOR.replace("solve(4)", "solve(5)")})
    changed = before.changes_to(ProblemRecord.of(registry.load(reference), reference))
    assert (
        f"{folder} was changed: 4 lines removed or added, the first: - values = load(path).solve(4)"
        in changed
    )
    make_task()
    (folder / "data" / "cases.txt").write_text("4\n")
    changed = before.changes_to(ProblemRecord.of(registry.load(reference), reference))
    assert "2 lines removed or added" in changed


def test_a_run_says_whose_word_its_scores_are_and_is_read_without_its_task(
    make_task: MakeTask, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_task()
    monkeypatch.chdir(tmp_path)
    replies = tmp_path / "replies.json"
    replies.write_text(json.dumps([BETTER, "none"]))
    scripted = ("--policy", "scripted", "--set", f"policy.options.file={replies}", "--steps", "1")
    size = ("--groups", "1", "--group-size", "2", "--timeout-s", "20")
    ran = ttd("run", f"adopted:{folder}", "--name", "first", *scripted, *size)
    assert ran.exit_code == 0, ran.output
    assert "sandbox strong; scores are the evaluator's word: made beside the candidate" in ran.output
    assert "best combined_score 6 (the evaluator's word)" in ran.output
    folder.rename(tmp_path / "moved")
    assert "6 (the evaluator's word)" in ttd("list-runs").output
    assert "scores are the evaluator's word" in ttd("best", "first").output
    assert "(the evaluator's word)" in ttd("compare", "first").output
    assert "(the evaluator's word)" in ttd("watch", "first").output
    assert ttd("report", "first").exit_code == 0
    page = (tmp_path / "runs" / "first" / "report.html").read_text()
    assert "Scores are the evaluator&#39;s word" in page
    gone = ttd("resume", "first", "--steps", "2")
    assert gone.exit_code == 2
    assert f"{folder} is missing" in gone.output


def test_show_and_eval_say_it_too_and_not_where_it_is_split(make_task: MakeTask) -> None:
    folder = make_task()
    shown = ttd("show", f"adopted:{folder}")
    assert (
        "caution    scores are the evaluator's word: made beside the candidate, which can forge them"
        in shown.output
    )
    judged = ttd("eval", f"adopted:{folder}", folder / "initial_program.py", "--timeout-s", "20")
    assert "a-task: valid; combined_score 3 (the evaluator's word)" in judged.output
    assert "caution" not in ttd("show", f"adopted:{folder}", "--split").output


@pytest.mark.slow
def test_an_adopted_task_keeps_the_contract_of_problems(make_task: MakeTask) -> None:
    checked = ttd("check-problem", f"adopted:{make_task()}")
    assert checked.exit_code == 0, checked.output
