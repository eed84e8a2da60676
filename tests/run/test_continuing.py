"""Where a resumed run goes on: nothing is given up without a word."""

from __future__ import annotations

import contextlib
import datetime
import logging
import pathlib
import shutil
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from tests.run.test_loop import VALID, TrainableScript, config  # noqa: F401 - a fixture

from ttd_core import config as configs
from ttd_core.errors import ConfigError, ResumeError
from ttd_core.plugin.spec import hookimpl
from ttd_core.run import loop
from ttd_core.run.loop import RunResult, resume_run, start_run
from ttd_core.run.reading import RunReader
from ttd_core.run.setup import RunSetup

Config = Callable[..., configs.RunConfig]


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setattr(loop, "open_policy", lambda hooks, settings: TrainableScript(VALID))
    return tmp_path / "run"


@pytest.fixture
def begin(folder: pathlib.Path, config: Config) -> Callable[..., RunResult]:  # noqa: F811
    def begin(observers: Any = (), **settings: Any) -> RunResult:
        settings = {"steps": 4, "groups": 1, "group_size": 3, **settings}
        return start_run(RunSetup.from_config(config(VALID, **settings)), folder, observers)

    return begin


def resume(folder: pathlib.Path, steps: int, **more: Any) -> RunResult:
    return resume_run(RunSetup.from_folder(folder, {"steps": steps}), folder, **more)


def checkpoint(folder: pathlib.Path, step: int) -> pathlib.Path:
    return folder / "checkpoints" / f"step-{step:06d}"


def steps_of(folder: pathlib.Path) -> list[int]:
    with RunReader.open(folder) as run:
        return [record.step for record in run.steps()]


def no_policy(*_: Any) -> None:
    raise AssertionError("a policy is opened, which may fetch a model of gigabytes")


def test_a_missing_checkpoint_is_refused_before_a_model_is_opened_and_nothing_is_forgotten(
    begin, folder, monkeypatch
) -> None:
    begin()
    for step in (3, 4):
        shutil.rmtree(checkpoint(folder, step))
    monkeypatch.setattr(loop, "open_policy", no_policy)
    with pytest.raises(ResumeError) as refused:
        resume(folder, 5)
    assert str(refused.value) == (
        f"{checkpoint(folder, 4)} is missing: the run's policy after step 4. Bring it back from a copy; "
        f"or go back, and lose the steps after it, with: ttd resume {folder} --back-to 0"
    )
    assert steps_of(folder) == [1, 2, 3, 4]


def test_a_checkpoint_in_anothers_place_is_noticed(begin, folder) -> None:
    begin()
    shutil.rmtree(checkpoint(folder, 4))
    shutil.copytree(checkpoint(folder, 3), checkpoint(folder, 4))
    with pytest.raises(ResumeError, match=r"step-000004 is not what the run wrote.*--back-to 3"):
        resume(folder, 5)
    (checkpoint(folder, 4) / "batches").write_text("4")
    assert resume(folder, 5).steps == 5


def test_an_emptied_checkpoint_is_noticed(begin, folder) -> None:
    begin()
    for path in checkpoint(folder, 4).iterdir():
        path.unlink()
    with pytest.raises(ResumeError, match="step-000004 is not what the run wrote"):
        resume(folder, 5)


def test_going_back_needs_a_step_that_can_be_gone_back_to(begin, folder) -> None:
    begin(checkpoints_kept=2)
    with pytest.raises(ResumeError, match=r"--back-to 2: that step has no checkpoint; .* back to: 0, 3, 4"):
        resume(folder, 4, back_to=2)
    with pytest.raises(ResumeError, match=r"--back-to 9: the run has steps 0 \(its start\) to 4"):
        resume(folder, 4, back_to=9)
    resume(folder, 3, back_to=3)
    assert steps_of(folder) == [1, 2, 3]
    resume(folder, 1, back_to=0)
    assert steps_of(folder) == [1]


def test_an_interrupt_between_checkpoints_loses_no_step(begin, folder) -> None:
    class Interrupt:
        @hookimpl
        def ttd_event(self, event: Any) -> None:
            if event["kind"] == "step_started" and event["step"] == 4:
                raise KeyboardInterrupt

    result = begin([Interrupt()], steps=9, checkpoint_every=5)
    assert (result.interrupted, result.steps) == (True, 3)
    assert checkpoint(folder, 3).is_dir()
    with RunReader.open(folder) as run:
        assert list(run.checkpoint_digests()) == [3]
    result = resume(folder, 9)
    assert result.steps == 9
    assert steps_of(folder) == list(range(1, 10))


def test_what_a_kill_cost_is_said(begin, folder, caplog) -> None:
    begin(steps=8, checkpoint_every=5)
    # As a kill would have left it: eight steps committed, the last checkpoint of the fifth.
    shutil.rmtree(checkpoint(folder, 8))
    with contextlib.closing(sqlite3.connect(folder / "run.db")) as database, database:
        database.execute("DELETE FROM meta WHERE key = 'checkpoint:8'")
    with caplog.at_level(logging.WARNING, "ttd_core"):
        assert resume(folder, 8).steps == 8
    assert (
        "stopped with no checkpoint after step 5, so steps 6 to 8 are repeated (checkpoint_every = 5)"
        in caplog.text
    )


@pytest.mark.parametrize("said", ["", "2024-02-29"])
def test_prompts_tell_the_first_day_also_when_the_run_goes_on(said: str, begin, folder, monkeypatch) -> None:
    told: list[datetime.date] = []

    class Dated(TrainableScript):
        def date_prompts(self, day: datetime.date) -> None:
            told.append(day)

    monkeypatch.setattr(loop, "open_policy", lambda hooks, settings: Dated(VALID))
    before = datetime.datetime.now(datetime.UTC).date()
    begin(steps=1, **{"policy.prompt_date": said})
    after = datetime.datetime.now(datetime.UTC).date()
    with contextlib.closing(sqlite3.connect(folder / "run.db")) as database, database:
        # The last second of a day by UTC.
        database.execute("UPDATE meta SET value = '1754438399.5' WHERE key = 'created'")
    resume(folder, 2)
    if said:
        assert told == [datetime.date(2024, 2, 29)] * 2
    else:
        assert before <= told[0] <= after
        assert told[1] == datetime.date(2025, 8, 5)


@pytest.mark.parametrize("said", ["today", "2026-1-3", "20260103", "2026-02-30"])
def test_a_day_that_is_none_is_refused(said: str, config) -> None:  # noqa: F811
    with pytest.raises(ConfigError, match="prompt_date must be a day like 2026-01-31, or empty, not "):
        config(VALID, **{"policy.prompt_date": said})
