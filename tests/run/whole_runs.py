"""What tests of whole runs share: problems judged in milliseconds, a policy that learns, what is stored."""

from __future__ import annotations

import json
import pathlib
import sqlite3
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import attrs
import numpy as np
import pytest

from ttd_core.plugin.spec import hookimpl
from ttd_core.policy.base import Sample
from ttd_core.policy.scripted import ScriptedPolicy
from ttd_core.run import loop
from ttd_core.run.loop import RunResult, resume_run
from ttd_core.run.pending import PENDING
from ttd_core.run.reading import RunReader
from ttd_core.run.setup import RunSetup
from ttd_core.types import Completion, StopReason

Made = TypeVar("Made")

#: Judges without running anything: whole runs take milliseconds. The prompt shows where it starts from.
NUMBERS = """
    import numpy as np

    from ttd_core import Action, Problem, Reward, State, Verdict
    from ttd_core.types import Status


    class Numbers(Problem):
        name = "numbers"
        title = "A number"
        metric = "number"
        direction = "max"
        preload = ()

        def task(self):
            return "Say a number below 1."

        def render_prompt(self, state, history):
            best = history[-1].reward.score if history else None
            failed = [each.message for each in state.failures.values()]
            return [{"role": "user", "content": f"better than {best}, not {failed}"}]

        def parse_action(self, completion):
            if completion.text == "none":
                return Verdict.failed(Status.PARSE_ERROR, "no number")
            return Action(completion.text)

        def transition(self, state, action, execute):
            return State(action.code, self.construct(float(action.code)), "said it")

        def construct(self, value):
            return {"number": np.array([value, 1 / 3]), "list": [value]}

        def check(self, state):
            return []

        def reward(self, state):
            number = state.data["list"][0]
            return Reward(number, number, {"third": number / 3})
"""
REPLIES = ["0.1", "none", "0.25", "0.3", "0.25", "0.7", "none", "0.65", "0.5", "0.123456789", "0.9"]
STEPS, GROUPS, SIZE = 3, 2, 4

#: A program says what it comes to with a tenth of the budget and with all of it, and how long each run takes
#: (no time if it does not say). Each run is noted in a file.
CLIMB = """
    import threading
    import time

    from ttd_core import Action, Problem, Reward, State, Verdict
    from ttd_core.types import Status

    WRITING = threading.Lock()


    class Climb(Problem):
        name = "climb"
        title = "A number"
        metric = "number"
        direction = "max"
        preload = ()
        deterministic = True

        def task(self):
            return "Say two numbers and a time."

        def tells_budget(self, state):
            return True

        def parse_action(self, completion):
            if completion.text == "none":
                return Verdict.failed(Status.PARSE_ERROR, "no numbers")
            return Action(completion.text)

        def transition(self, state, action, execute):
            short, whole, seconds = (*action.code.split(), "0")[:3]
            with WRITING, open("{log}", "a") as file:
                file.write(f"{{state.digest}} {{action.code}} {{self.options.budget:g}}\\n")
            time.sleep(float(seconds))
            word = short if self.options.budget < 100 else whole
            if word == "dies":
                return Verdict.failed(Status.CRASH, "it died", code=action.code)
            return State(action.code, {{"number": float(word)}})

        def construct(self, value):
            return {{"number": float(value)}}

        def check(self, state):
            return []

        def reward(self, state):
            return Reward(state.data["number"], state.data["number"])
"""


def write_numbers(folder: pathlib.Path) -> pathlib.Path:
    """The file of the problem ``Numbers``."""
    path = folder / "numbers.py"
    path.write_text(textwrap.dedent(NUMBERS))
    return path


def write_climb(folder: pathlib.Path) -> pathlib.Path:
    """The file of the problem ``Climb``, whose runs are noted in ``log`` beside it."""
    path = folder / "climb.py"
    path.write_text(textwrap.dedent(CLIMB).format(log=folder / "log"))
    return path


class Counting(ScriptedPolicy):
    """Scripted replies that learn: each has tokens, what is learned is how many batches there were."""

    def __init__(self, replies: Sequence[str] = REPLIES) -> None:
        super().__init__(replies)
        self.asked: list[tuple[int, int]] = []
        self.batches: list[Any] = []
        self.learned = 0

    def sample_part(self, *arguments: Any) -> Iterator[Sample]:
        for sample in super().sample_part(*arguments):
            self.asked.append((sample.prompt, sample.index))
            tokens = np.arange(2 + sample.index)
            logprobs = -np.arange(2 + sample.index, dtype=np.float32) / 3
            completion = Completion(sample.completion.text, tokens, logprobs, tokens > 0, StopReason.LENGTH)
            yield Sample(sample.prompt, sample.index, completion, np.arange(3))

    def base_logprobs(self, prompt_tokens: Any, completions: Sequence[Completion], temperature: float) -> Any:
        return [completion.logprobs for completion in completions]

    def train_step(self, batch: Any, temperature: float) -> Any:
        self.batches.append(batch)
        self.learned += 1
        return {}

    def save(self, folder: pathlib.Path) -> None:
        (folder / "learned").write_text(str(self.learned))

    def load(self, folder: pathlib.Path) -> None:
        self.learned = int((folder / "learned").read_text())

    def adapter_digest(self) -> str:
        return str(self.learned)


@attrs.define
class Watch:
    """Calls a function with each event."""

    call: Callable[[Any], None]

    @hookimpl
    def ttd_event(self, event: Any) -> None:
        self.call(event)


def opened(monkeypatch: pytest.MonkeyPatch, make: Callable[[], Made]) -> list[Made]:
    """Have runs of the test open these policies; those that are opened."""
    made: list[Made] = []

    def open_one(hooks: Any, config: Any) -> Made:
        made.append(make())
        return made[-1]

    monkeypatch.setattr(loop, "open_policy", open_one)
    return made


def rows(folder: pathlib.Path) -> dict[str, list[Any]]:
    """All that a run's database says of its steps, without times."""
    queries = {
        "steps": "SELECT step, rollouts, valid, mean_value, best_value, best_score, expansions, next_node "
        "FROM steps",
        "states": "SELECT * FROM states",
        "node_stats": "SELECT * FROM node_stats",
        "groups": "SELECT * FROM groups",
        "rollouts": "SELECT * FROM rollouts",
        "metrics": "SELECT * FROM metrics WHERE name NOT LIKE 'seconds%' AND name <> 'tokens_per_s'",
    }
    database = sqlite3.connect(folder / "run.db")
    found = {name: database.execute(query).fetchall() for name, query in queries.items()}
    database.close()
    return found


def resume(folder: pathlib.Path, observers: Sequence[Any] = (), **changes: Any) -> RunResult:
    return resume_run(RunSetup.from_folder(folder, changes), folder, observers)


def pending_of(folder: pathlib.Path, step: int | None = None) -> list[dict[str, Any]]:
    """The lines that are kept of the step under way, or of one of those that overlap."""
    path = folder / (PENDING if step is None else f"pending-{step:06d}.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def metric(folder: pathlib.Path, name: str) -> list[float]:
    """A metric of each step, in order."""
    with RunReader.open(folder) as run:
        return [numbers[name] for _, numbers in sorted(run.metrics().items())]
