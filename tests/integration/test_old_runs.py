"""A run folder that version 0.1 wrote opens, reports and goes on, as users of that version expect.

``tests/data/run-0.1`` is such a folder, its ``best/`` left out, of the problem below: three steps of two
groups of four, with scripted replies that improve, repeat, crash and hold no program. The archive is so small
that states were evicted.
"""

from __future__ import annotations

import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from click.testing import CliRunner, Result

from ttd_core import config as configs
from ttd_core.cli import main
from ttd_core.metrics import Metric, Timing
from ttd_core.report.facts import read_facts
from ttd_core.run.loop import start_run
from ttd_core.run.reading import RunReader
from ttd_core.run.setup import RunSetup
from ttd_core.types import Status

FOLDER = pathlib.Path(__file__).parent.parent / "data" / "run-0.1"
PROBLEM = """
    import numpy as np

    from ttd_core import Baseline, Problem, Reward


    class Stairs(Problem):
        name = "stairs"
        title = "Three high stairs"
        metric = "sum"
        direction = "max"
        baselines = (Baseline("somebody", 2.5, "a paper"),)
        preload = ("numpy",)

        def task(self):
            return "Return three numbers in [0, 1] whose sum is large."

        def construct(self, value):
            return {"heights": np.array(value, dtype=float)}

        def check(self, state):
            heights = state.data.get("heights")
            if not isinstance(heights, np.ndarray) or heights.shape != (3,):
                return ["there must be three numbers"]
            return [] if np.all((heights >= 0) & (heights <= 1)) else ["a number is not in [0, 1]"]

        def reward(self, state):
            total = float(state.data["heights"].sum())
            return Reward(total, total, {"highest": float(state.data["heights"].max())})

        def inject(self, state):
            return {"last": list(state.data.get("heights", [0.1, 0.2, 0.3]))}

        def starting_program(self):
            return "def run(seed, budget_s, **kwargs):\\n    return [0.1, 0.2, 0.3]\\n"
"""
Ttd = Callable[..., Result]


@pytest.fixture
def old(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, install: Any) -> pathlib.Path:
    """A copy of the folder, in an empty working folder, with its problem installed."""
    install("ttd-stairs", {"stairs": PROBLEM}, problems={"stairs": "stairs:Stairs"})
    monkeypatch.chdir(tmp_path)
    return pathlib.Path(shutil.copytree(FOLDER, tmp_path / "runs" / "old"))


@pytest.fixture
def ttd() -> Ttd:
    """Call ``ttd``; it must succeed."""

    def call(*arguments: object) -> Result:
        result = CliRunner().invoke(main, [str(each) for each in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.stderr
        return result

    return call


def config_of(folder: pathlib.Path) -> configs.RunConfig:
    with RunReader.open(folder) as run:
        return configs.from_toml(run.config(), where=str(folder))


def archive_of(folder: pathlib.Path) -> Any:
    """The archive, but for the texts of failures, which each version of Python words as it likes."""
    with RunReader.open(folder) as run:
        archive = run.load_archive(config_of(folder).search)
    but_texts = attrs.filters.exclude("state", "failures")
    nodes = [
        attrs.asdict(node, recurse=False, filter=but_texts) | {"failed": set(node.failures)}
        for node in archive.nodes.values()
    ]
    return archive.expansions, archive.next_id, nodes


def test_an_old_run_is_read(old: pathlib.Path) -> None:
    with RunReader.open(old) as run:
        assert [record.step for record in run.steps()] == [1, 2, 3]
        assert [record.best_score for record in run.steps()] == pytest.approx([1.2, 1.8, 2.4])
        names = {name for metrics in run.metrics().values() for name in metrics}
        assert names <= {*Metric, *(timing.key for timing in Timing)}
        rollouts = list(run.rollouts())
        assert len(rollouts) == 24
        assert {rollout.status for rollout in rollouts} == {Status.OK, Status.PARSE_ERROR, Status.CRASH}
        assert {state.place for state in run.states()} == {"held", "lineage", "dropped"}
        best = run.best(1)[0]
        assert run.state(best.id).data["heights"].sum() == best.reward.score
        archive = run.load_archive(config_of(old).search)
        # What failed was never written of a state, but its rollouts say it.
        failures = [failure for node in archive.nodes.values() for failure in node.failures.items()]
        assert {status for status, _ in failures} == {Status.PARSE_ERROR, Status.CRASH}
        assert all("ZeroDivisionError" in each.message for status, each in failures if status == "crash")


def test_an_old_run_is_reported(old: pathlib.Path, ttd: Ttd) -> None:
    page = json.loads(ttd("report", old, "--json").stdout)
    assert page["bytes"] > 10_000
    (row,) = json.loads(ttd("compare", old, "--json").stdout)["arms"]
    assert (row["runs"], row["steps"], row["rollouts"]) == (["old"], [3], 24)
    assert row["best_score"] == pytest.approx(2.4)
    facts = read_facts(old)
    assert facts.summary.valid == 15
    assert facts.summary.novel_score == pytest.approx(1.95)
    watched = json.loads(ttd("watch", "old", "--once", "--json").stdout)
    assert (watched["state"], watched["done"], watched["best_score"]) == ("finished", 3, pytest.approx(2.4))
    best = json.loads(ttd("best", "old", "--json").stdout)
    assert best[0]["score"] == pytest.approx(2.4)
    (again,) = json.loads(ttd("best", "old", "--recheck", "1x2", "--json").stdout)
    assert (again["mean"], again["valid"]) == (pytest.approx(2.4), 2)


def test_an_old_run_goes_on_as_a_new_one_would(old: pathlib.Path, ttd: Ttd, tmp_path: pathlib.Path) -> None:
    resumed = json.loads(ttd("resume", "old", "--steps", 5, "--json").stdout)
    assert (resumed["steps"], resumed["interrupted"]) == (5, False)
    with RunReader.open(old) as run:
        assert [record.step for record in run.steps()] == [1, 2, 3, 4, 5]
        prompts = [group.prompt[-1]["content"] for group in run.groups()]
    assert json.loads((old / "best" / "best.json").read_text())["score"] == resumed["best_score"] > 2.4
    # The same config from the start: the old steps are those that this version makes.
    fresh = tmp_path / "fresh"
    start_run(RunSetup.from_config(attrs.evolve(config_of(old), steps=5)), fresh)
    assert archive_of(old) == archive_of(fresh)
    with RunReader.open(fresh) as run:
        assert [group.prompt[-1]["content"] for group in run.groups()] == prompts
