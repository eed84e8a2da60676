"""A problem whose own code fails on what a candidate wrote: one rollout is lost, and the run goes on."""

from __future__ import annotations

import logging
import pathlib
import textwrap
from typing import Any

import pytest

from ttd_core import config as configs
from ttd_core.errors import PluginError
from ttd_core.metrics import Metric
from ttd_core.run.loop import resume_run, start_run
from ttd_core.run.reading import RunReader
from ttd_core.run.setup import RunSetup

#: Check fails on 13, reward gives NaN for 14, construct raises on text; no prompt can be rendered for 0.25.
PROBLEM = """
    from ttd_core import Problem, Reward


    class Fragile(Problem):
        name = "fragile"
        title = "A number"
        metric = "number"
        direction = "max"
        preload = ()

        def task(self):
            return "Return a number."

        def construct(self, value):
            return {"number": value.real}

        def check(self, state):
            return [] if 1 / (state.data.get("number", 0) - 13) <= 1 else ["too large"]

        def reward(self, state):
            number = state.data["number"]
            return Reward(float("nan") if number == 14 else number, number)

        def render_prompt(self, state, history):
            return [{"role": "user", "content": "abc"[int(1 / (state.data.get("number", 1) - 0.25)) % 3]}]
"""


def returns(value: str) -> str:
    return f"```python\ndef run(seed, budget_s, **kwargs):\n    return {value}\n```"


@pytest.fixture
def begin(tmp_path: pathlib.Path) -> Any:
    file = tmp_path / "fragile.py"
    file.write_text(textwrap.dedent(PROBLEM))

    def begin(replies: list[str], **overrides: Any) -> RunSetup:
        config = configs.load(
            f"{file}:Fragile",
            overrides={
                "policy.backend": "scripted",
                "policy.options": {"replies": replies},
                "groups": 1,
                "group_size": len(replies),
                "steps": 1,
                **overrides,
            },
        )
        return RunSetup.from_config(config)

    return begin


def test_an_error_on_a_candidates_result_costs_one_rollout(begin, tmp_path, caplog) -> None:
    replies = [returns("13"), returns("14"), returns("'text'"), returns("0.5"), returns("-3")]
    with caplog.at_level(logging.WARNING, "ttd_core"):
        start_run(begin(replies), tmp_path / "run")
    assert "failed on 2 of 5 replies, which count as failed; the first error: plugin" in caplog.text
    with RunReader.open(tmp_path / "run") as run:
        verdicts = [(row.status, row.message) for row in run.rollouts(1)]
        metrics = run.metrics()[1]
    assert sorted(status for status, _ in verdicts) == [
        "invalid",
        "ok",
        "ok",
        "problem_error",
        "problem_error",
    ]
    messages = " ".join(message for _, message in verdicts)
    for part in ("ttd_check: ZeroDivisionError: ", "ttd_reward: ", "AttributeError"):
        assert part in messages
    assert metrics[Metric.PROBLEM_ERRORS] == 2


def test_every_resume_goes_on_too(begin, tmp_path) -> None:
    replies = [returns("13"), returns("0.5")]
    start_run(begin(replies), tmp_path / "run")
    result = resume_run(RunSetup.from_folder(tmp_path / "run", {"steps": 3}), tmp_path / "run")
    assert result.best_score == 0.5


def test_who_develops_a_problem_may_stop_at_the_first_error(begin, tmp_path) -> None:
    replies = [returns("13"), returns("0.5")]
    with pytest.raises(PluginError, match=r"ttd_check.*ZeroDivisionError"):
        start_run(begin(replies, on_problem_error="stop"), tmp_path / "run")
    setup = RunSetup.from_folder(tmp_path / "run", {"on_problem_error": "count"})
    assert resume_run(setup, tmp_path / "run").best_score == 0.5


def test_a_state_without_a_prompt_leaves_its_place_to_its_parent(begin, tmp_path, caplog) -> None:
    with caplog.at_level(logging.WARNING, "ttd_core"):
        start_run(begin([returns("0.25")], steps=4), tmp_path / "run")
    assert "state 1: no prompt could be rendered, so its parent takes its place: plugin" in caplog.text
    with RunReader.open(tmp_path / "run") as run:
        assert {group.start for step in range(1, 5) for group in run.groups(step)} == {0}
