"""Hints in whole runs: which steps have them, what a resume repeats, and to stop."""

from __future__ import annotations

import contextlib
import json
import pathlib
import shutil
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from tests.run.test_continuing import Config, folder, resume, steps_of  # noqa: F401 - a fixture
from tests.run.test_loop import FAILING, TrainableScript, config  # noqa: F401 - a fixture

from ttd_core.config import SearchConfig
from ttd_core.plugin.spec import hookimpl
from ttd_core.policy.base import SamplingParams
from ttd_core.policy.scripted import ScriptedPolicy
from ttd_core.run import loop
from ttd_core.run.loop import RunResult, start_run
from ttd_core.run.prompts import PromptMaker, with_hints
from ttd_core.run.reading import RunReader
from ttd_core.run.requests import ask_to_stop, leave_hint, remove_hint
from ttd_core.run.setup import RunSetup
from ttd_core.search.archive import Archive
from ttd_core.types import Message, State

ABOVE = "## Hints\n\nA person who follows this search says:\n\n"


class Script(TrainableScript):
    """Its checkpoints may be those of steps that taught nothing."""

    def load(self, folder: pathlib.Path) -> None:  # noqa: F811
        assert (folder / "batches").is_file()


class At:
    """Does something while a step is under way."""

    def __init__(self, **actions: Callable[[], Any]) -> None:
        self._actions = actions

    @hookimpl
    def ttd_event(self, event: Mapping[str, Any]) -> None:
        if event["kind"] == "step_started" and (act := self._actions.pop(f"step_{event['step']}", None)):
            act()


@pytest.fixture
def begin(
    tmp_path: pathlib.Path,
    config: Config,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., RunResult]:
    monkeypatch.setattr(loop, "open_policy", lambda hooks, settings: Script(FAILING[:1]))

    def begin(name: str, at: At, **settings: Any) -> RunResult:
        settings = {"steps": 6, "groups": 2, "group_size": 2, "checkpoint_every": 10, **settings}
        return start_run(RunSetup.from_config(config(FAILING[:1], **settings)), tmp_path / name, [at])

    return begin


def prompts_of(folder: pathlib.Path) -> list[str]:  # noqa: F811
    """The prompt of each step's first group, without what the problem says."""
    with RunReader.open(folder) as run:
        found = [group.prompt[0]["content"] for group in run.groups() if group.group_index == 0]
    return [text.partition("\n\n## Hints")[2] and text.partition("\n\n")[2] for text in found]


class Killed(BaseException):
    """Ends the process's work without a word, as a kill does: nothing is caught, nothing written."""


@pytest.mark.parametrize("ending", [KeyboardInterrupt, Killed])
def test_a_resumed_run_has_the_hints_of_one_that_was_never_stopped(begin, tmp_path, ending) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    begin(
        "whole",
        At(
            step_1=lambda: leave_hint(whole, "first\nof two lines"),
            step_3=lambda: (leave_hint(whole, "second"), remove_hint(whole, 1)),
        ),
    )

    def killed() -> None:
        # What is asked for during a step counts from the next one, also when that step is made again.
        leave_hint(cut, "second")
        remove_hint(cut, 1)
        raise ending

    with contextlib.suppress(Killed):
        result = begin("cut", At(step_1=lambda: leave_hint(cut, "first\nof two lines"), step_3=killed))
        assert (result.interrupted, result.asked, result.steps) == (True, False, 2)
    if ending is Killed:  # no checkpoint was written: both steps are made again
        assert steps_of(cut) == [1, 2]
        assert not (cut / "checkpoints" / "step-000002").exists()
    assert resume(cut, 6).steps == 6
    first, second = f"{ABOVE}> first\n> of two lines", f"{ABOVE}> second"
    assert prompts_of(whole) == ["", first, first, second, second, second]
    assert prompts_of(cut) == prompts_of(whole)
    with RunReader.open(whole) as one, RunReader.open(cut) as other:
        spans = [(each.number, each.began, each.ended, each.text) for each in one.hints()]
        assert spans == [(1, 2, 4, "first\nof two lines"), (2, 4, None, "second")]
        assert spans == [(each.number, each.began, each.ended, each.text) for each in other.hints()]
        assert one.groups() == other.groups()
        assert [each.text for each in other.hints(3)] == ["first\nof two lines"]


def test_steps_lost_with_their_checkpoint_are_repeated_with_their_hints(begin, tmp_path) -> None:
    folder = tmp_path / "run"  # noqa: F811
    begin("run", At(step_1=lambda: leave_hint(folder, "old")), steps=4, checkpoint_every=2)
    before = prompts_of(folder)
    remove_hint(folder, 1)
    leave_hint(folder, "new")
    # As a kill between checkpoints leaves it: step 4 was committed, its checkpoint was not.
    shutil.rmtree(folder / "checkpoints" / "step-000004")
    with contextlib.closing(sqlite3.connect(folder / "run.db")) as database, database:
        database.execute("DELETE FROM meta WHERE key = 'checkpoint:4'")
    resume(folder, 5)
    assert prompts_of(folder) == [*before, f"{ABOVE}> new"]


def test_who_goes_back_leaves_out_what_was_removed_and_has_what_is_new(begin, tmp_path) -> None:
    folder = tmp_path / "run"  # noqa: F811
    at = At(step_1=lambda: leave_hint(folder, "bad"), step_2=lambda: leave_hint(folder, "kept"))
    begin("run", at, steps=4, checkpoint_every=1, checkpoints_kept=9)
    remove_hint(folder, 1)
    leave_hint(folder, "new")
    resume(folder, 4, back_to=1)
    assert prompts_of(folder) == ["", f"{ABOVE}> new", *[f"{ABOVE}> kept\n\n> new"] * 2]


def test_after_going_back_hints_count_from_the_next_step_as_ever(begin, tmp_path) -> None:
    folder = tmp_path / "run"  # noqa: F811
    at = At(step_1=lambda: leave_hint(folder, "old"))
    begin("run", at, steps=4, checkpoint_every=1, checkpoints_kept=9)
    at = At(step_2=lambda: (leave_hint(folder, "new"), remove_hint(folder, 1)))
    resume(folder, 4, observers=[at], back_to=1)
    assert prompts_of(folder) == ["", f"{ABOVE}> old", f"{ABOVE}> new", f"{ABOVE}> new"]


def test_a_run_that_is_asked_to_stop_finishes_its_step(begin, tmp_path) -> None:
    folder = tmp_path / "run"  # noqa: F811
    result = begin("run", At(step_2=lambda: ask_to_stop(folder)))
    assert (result.interrupted, result.asked, result.steps) == (True, True, 2)
    with RunReader.open(folder) as run:
        event = run.newest_event("run_interrupted")
    assert event is not None
    assert (event["reason"], event["step"]) == ("asked to stop", 2)
    ask_to_stop(folder)  # of an earlier process: one that begins later is not meant
    result = resume(folder, 3)
    assert (result.interrupted, result.steps) == (False, 3)


def test_a_prompt_of_any_form_carries_hints() -> None:
    user, system = {"role": "user", "content": "ask\n"}, {"role": "system", "content": "be brief"}
    assert with_hints([system, user], []) == [system, user]
    hints = ["do it\n\n## Your turn", "> twice"]
    section = f"{ABOVE}> do it\n> \n> ## Your turn\n\n> > twice"
    assert with_hints([system, user, system], hints) == [
        system,
        {"role": "user", "content": f"ask\n\n{section}"},
        system,
    ]
    assert with_hints([system], hints) == [system, {"role": "user", "content": section}]
    assert user["content"] == "ask\n"


def test_the_step_tells_its_hints(begin, tmp_path) -> None:
    folder = tmp_path / "run"  # noqa: F811
    begin("run", At(step_1=lambda: leave_hint(folder, "try it")), steps=2)
    with RunReader.open(folder) as run:
        started = [each for each in run.events() if each["kind"] == "step_started"]
    assert [each["hints"] for each in started] == [[], ["try it"]]
    assert json.loads((folder / "log.jsonl").read_text().splitlines()[1])["hints"] == []


class Measuring:
    """A policy that knows how long prompts are: a character is a token."""

    def measure_prompt(self, prompt: Sequence[Message], params: SamplingParams) -> tuple[int, int]:
        return sum(len(message["content"]) for message in prompt), params.context


@pytest.mark.parametrize(("characters", "carried"), [(200, True), (3000, False)])
def test_a_hint_that_leaves_no_room_is_left_out(
    config: Config,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
    characters: int,
    carried: bool,
) -> None:
    hooks = RunSetup.from_config(config(FAILING[:1])).hooks
    archive = Archive(SearchConfig())
    archive.add_seeds([(State(), None)])
    maker = PromptMaker(hooks, Measuring(), archive, "count")  # type: ignore[arg-type]
    _, [prompt] = maker.render(archive.seeds(), SamplingParams(context=1000), ["x" * characters])
    assert ("xxx" in prompt[0]["content"]) == carried
    assert ("the hints do not fit the model's context" in caplog.text) == (not carried)


def test_a_server_that_refuses_a_prompt_gets_one_without_hints_before_the_run_ends(config: Config) -> None:  # noqa: F811
    hooks = RunSetup.from_config(config(FAILING[:1])).hooks
    archive = Archive(SearchConfig())
    archive.add_seeds([(State(), None)])
    maker, params = (
        PromptMaker(hooks, ScriptedPolicy(FAILING), archive, "count"),
        SamplingParams(context=1000),
    )
    starts, [prompt] = maker.render(archive.seeds(), params, ["try"])
    assert prompt[0]["content"].endswith("> try")
    shorter = maker.shorter(starts, params)
    assert shorter is not None
    assert shorter[1] == [[{"role": "user", "content": "[]"}]]
    assert maker.shorter(starts, params) is None
