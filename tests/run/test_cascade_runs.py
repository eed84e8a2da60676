"""Whole runs with short runs first: what is stored, and a kill at any moment of a group's way."""

from __future__ import annotations

import collections
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from tests.run.whole_runs import Watch, pending_of, rows, write_climb

from ttd_core import config as configs
from ttd_core.run.loop import resume_run, start_run
from ttd_core.run.reading import RunReader
from ttd_core.run.setup import RunSetup

REPLIES = [
    "0.1 0.5",
    "none",
    "0.2 0.1",
    "0.4 dies",
    "dies 0.9",
    "0.3 0.6",
    "0.15 0.7",
    "0.25 0.2",
    "0.12 0.8",
]
STEPS, GROUPS, SIZE = 3, 2, 6


@pytest.fixture
def setup(tmp_path: pathlib.Path) -> Callable[..., RunSetup]:
    path = write_climb(tmp_path)

    def make(**settings: Any) -> RunSetup:
        overrides = {
            "policy.backend": "scripted",
            "policy.options": {"replies": REPLIES},
            "options": {"budget_s": 100.0, "timeout_s": 110.0},
            **{"steps": STEPS, "groups": GROUPS, "group_size": SIZE, "sandbox.workers": 2},
            **{"cascade": [0.1, 1.0], "keep": 0.25},
            **settings,
        }
        return RunSetup.from_config(configs.load(f"{path}:Climb", overrides=overrides))

    return make


def test_a_killed_run_comes_out_the_same(setup: Any, tmp_path: pathlib.Path) -> None:
    moments: list[pathlib.Path] = []

    def copy(event: Any) -> None:
        if event.get("step") == 2 and event["kind"].startswith("rollout"):
            moments.append(tmp_path / f"moment-{len(moments)}")
            shutil.copytree(tmp_path / "whole", moments[-1], symlinks=True)

    start_run(setup(), tmp_path / "whole", [Watch(copy)])
    whole = rows(tmp_path / "whole")
    log = tmp_path / "log"
    full = set()
    for folder in moments[1::4]:
        verdicts = [line for line in pending_of(folder) if "status" in line]
        # Final verdicts alone are kept: that a program does not go on is known when its group is whole.
        replies = collections.Counter(line["group"] for line in pending_of(folder) if "text" in line)
        stayed = [line for line in verdicts if line["status"] == "ok" and len(line["stages"]) == 1]
        assert all(replies[line["group"]] == SIZE for line in stayed)
        full.add(sum(len(line["stages"]) == 2 for line in verdicts))
        log.unlink()
        resume_run(RunSetup.from_folder(folder, {}), folder)
        assert rows(folder) == whole
        # A program whose verdict was kept does not run again.
        ran = log.read_text().splitlines()
        steps = sum(row[3] != "parse_error" for row in whole["rollouts"] if row[0] > 1)
        kept = sum(line["status"] != "parse_error" for line in verdicts)
        assert sum(line.endswith(" 10") for line in ran) == steps - kept
    assert len(full) > 1


def test_what_a_run_keeps_of_each_stage(setup: Any, tmp_path: pathlib.Path) -> None:
    told: dict[int, int] = {}

    def note(event: Any) -> None:
        if event["kind"] == "rollout_evaluated":
            told[event["index"]] = event["stages"]

    start_run(setup(groups=1, group_size=len(REPLIES), steps=1), tmp_path / "run", [Watch(note)])
    with RunReader.open(tmp_path / "run") as run:
        rollouts = {rollout.text: rollout for rollout in run.rollouts()}
        metrics = run.metrics()[1]
        states = {state.code: state for state in run.states() if not state.seed}
    # A quarter of nine is three; the state that they start from has no score to beat.
    stages = {text: rollout.metrics.get("stages", []) for text, rollout in rollouts.items()}
    assert told == {each.rollout_index: len(stages[text]) for text, each in rollouts.items()}
    assert {text for text, ran in stages.items() if len(ran) == 2} == {"0.4 dies", "0.3 0.6", "0.25 0.2"}
    assert [
        (each["share"], each["budget_s"], each["status"], each["score"]) for each in stages["0.4 dies"]
    ] == [
        (0.1, 10.0, "ok", 0.4),
        (1.0, 100.0, "crash", None),
    ]
    assert stages["none"] == []
    assert metrics["went_on"] == 3
    # Four valid programs had a tenth of 100 s each: 0.1, 0.2, 0.15, 0.12.
    assert metrics["seconds_spared"] == pytest.approx(4 * 100, abs=1)
    # The archive has true scores, of whichever run; the group was compared by what each counts for.
    assert rollouts["0.25 0.2"].score == 0.25
    assert rollouts["0.4 dies"].score == 0.4
    assert set(states) == {"0.3 0.6", "0.4 dies"}
    assert [states[code].reward.score for code in ("0.3 0.6", "0.4 dies")] == [0.6, 0.4]
    advantage = {text: rollout.advantage for text, rollout in rollouts.items()}
    assert advantage["0.3 0.6"] == max(advantage.values())
    # Of those that did not go on none is ahead of "0.25 0.2", which counts for its 0.2.
    order = ["0.25 0.2", "0.2 0.1", "0.15 0.7", "0.12 0.8", "0.1 0.5", "0.4 dies", "dies 0.9", "none"]
    ordered = [advantage[text] for text in order]
    assert ordered == sorted(ordered, reverse=True)
    assert len(set(ordered)) == 5
    assert ordered[0] == ordered[1]
