"""A run keeps what its problem was: a change is refused or told, and its folder can be read without it."""

from __future__ import annotations

import json
import logging
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner
from tests.run.test_loop import VALID, config  # noqa: F401 - a fixture

from ttd_core import config as configs
from ttd_core.cli import main
from ttd_core.errors import ResumeError
from ttd_core.report.facts import read_facts
from ttd_core.report.page import report_page
from ttd_core.run.loop import resume_run, start_run
from ttd_core.run.problem_record import ProblemRecord
from ttd_core.run.reading import RunReader
from ttd_core.run.setup import RunSetup


@pytest.fixture
def folder(config: Callable[..., configs.RunConfig], tmp_path: pathlib.Path) -> pathlib.Path:  # noqa: F811
    """A run of one step."""
    settings: dict[str, Any] = {"steps": 1, "groups": 1, "group_size": 3, "learn.train": False}
    start_run(RunSetup.from_config(config(VALID, **settings)), tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def problem_file(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "halves.py"


def resume(folder: pathlib.Path, **more: Any) -> int:
    return resume_run(RunSetup.from_folder(folder, {"steps": 2}, **more), folder).steps


def test_a_changed_problem_is_refused_and_the_difference_named(folder, problem_file) -> None:
    source = problem_file.read_text()
    problem_file.write_text(source.replace("0 <= state.data", "0.1 <= state.data"))
    with pytest.raises(ResumeError) as refused:
        resume(folder)
    message = str(refused.value)
    assert f"{problem_file} was changed: 2 lines removed or added, the first: - return [] if 0 <=" in message
    assert message.endswith("go on all the same with --accept-problem")
    assert (folder / "problem" / "halves.py").read_text() == source
    problem_file.write_text((folder / "problem" / "halves.py").read_text())
    assert resume(folder) == 2


def test_an_accepted_change_is_told_in_the_report(folder, problem_file, caplog) -> None:
    problem_file.write_text(problem_file.read_text() + "\n# harmless\n")
    with caplog.at_level(logging.WARNING, "ttd_core"):
        assert resume(folder, accept_problem=True) == 2
    assert "halves.py was changed: 2 lines removed or added, the first: +; accepted after" in caplog.text
    facts = read_facts(folder)
    assert list(facts.problem_changes) == [1]
    assert "The problem was changed after step 1" in report_page([facts])
    # It is the run's problem from now on.
    assert resume_run(RunSetup.from_folder(folder, {"steps": 3}), folder).steps == 3


def test_a_run_is_read_without_its_problem(folder, problem_file) -> None:
    before = read_facts(folder)
    problem_file.unlink()
    facts = read_facts(folder)
    assert (facts.problem.name, facts.problem.metric) == ("halves", "number")
    assert facts.best_score == before.best_score
    assert "number" in report_page([facts])
    for command in (["best"], ["watch", "--once"], ["report"], ["compare"]):
        result = CliRunner().invoke(main, [command[0], str(folder), *command[1:]])
        assert result.exit_code == 0, (command, result.output)
    with pytest.raises(ResumeError, match=r"halves\.py is missing: the run's problem\. Put it back"):
        resume(folder)


def test_another_version_of_a_plugin_is_a_change() -> None:
    was = ProblemRecord("ttd-math 0.1.0", "", {"name": "erdos"})
    assert was.changes_to(ProblemRecord("ttd-math 0.1.0", "", {})) == ""
    now = ProblemRecord("ttd-math 0.2.0", "", {})
    assert was.changes_to(now) == "erdos is of ttd-math 0.2.0 now, and was of ttd-math 0.1.0"


def test_what_is_noted_survives_a_round_trip(folder) -> None:
    with RunReader.open(folder) as run:
        noted = run.problem_record()
    assert noted is not None
    record = ProblemRecord.from_text(noted)
    assert json.loads(record.to_text()) == json.loads(noted)
    assert record.facts["direction"] == "max"


def test_relative_paths_are_made_absolute(
    config: Callable[..., configs.RunConfig],  # noqa: F811
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "replies.json").write_text(json.dumps(VALID))
    (tmp_path / "mine").mkdir()
    settings = {"policy.model": "mine", "policy.options": {"file": "replies.json"}}
    resolved = RunSetup.from_config(config(VALID, **settings)).config.policy
    assert resolved.model == str(tmp_path / "mine")
    assert resolved.options["file"] == str(tmp_path / "replies.json")
    other = RunSetup.from_config(config(VALID, **{"policy.model": "smollm2-135m"})).config.policy
    assert other.model == "smollm2-135m"
