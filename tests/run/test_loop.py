"""Whole runs, started and resumed: what is computed once, and what a prompt knows after a resume."""

from __future__ import annotations

import collections
import json
import pathlib
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from ttd_core import config as configs
from ttd_core.errors import ConfigError
from ttd_core.learn import learner
from ttd_core.plugin.hooks import Hooks
from ttd_core.policy.base import Sample, Sequences
from ttd_core.policy.scripted import ScriptedPolicy
from ttd_core.run import loop, setup
from ttd_core.run.loop import resume_run, start_run
from ttd_core.run.reading import RunReader
from ttd_core.run.setup import RunSetup
from ttd_core.run.totals import StepTotals
from ttd_core.types import Completion

#: The prompt shows what failed from the start state, so that two prompts are equal when their failures are.
PROBLEM = """
    import json

    from ttd_core import Problem, Reward


    class Halves(Problem):
        name = "halves"
        title = "A number"
        metric = "number"
        direction = "max"
        preload = ()

        def task(self):
            return "Return a number below 1."

        def construct(self, value):
            return {"number": float(value)}

        def check(self, state):
            return [] if 0 <= state.data.get("number", 2) < 1 else ["the number is not in [0, 1)"]

        def reward(self, state):
            return Reward(state.data["number"], state.data["number"])

        def render_prompt(self, state, history):
            failed = [[status, each.message, each.output] for status, each in state.failures.items()]
            return [{"role": "user", "content": json.dumps(failed)}]
"""
FAILING = [
    "I have no idea.",
    "```python\ndef run(seed, budget_s, **kwargs):\n    print('here ' * 2000)\n    return 1 / 0\n```",
    "```python\ndef run(seed, budget_s, **kwargs):\n    return 7\n```",
]
VALID = [
    f"```python\ndef run(seed, budget_s, **kwargs):\n    return {number}\n```" for number in (0.1, 0.2, 0.4)
]


class TrainableScript(ScriptedPolicy):
    """Scripted replies of two tokens each, and a trainer that keeps its batches and saves their number."""

    def __init__(self, replies: Sequence[str]) -> None:
        super().__init__(replies)
        self.batches: list[Sequence[Sequences]] = []

    def sample(self, *arguments: Any) -> Any:
        for sample in super().sample(*arguments):
            tokens, logprobs = np.arange(2), np.zeros(2, np.float32)
            completion = Completion(sample.completion.text, tokens, logprobs, np.ones(2, np.bool_))
            yield Sample(sample.prompt, sample.index, completion, np.arange(3))

    def base_logprobs(self, prompt_tokens: Any, completions: Sequence[Completion], temperature: float) -> Any:
        return [completion.logprobs for completion in completions]

    def train_step(self, batch: Sequence[Sequences], temperature: float) -> Mapping[str, float]:
        self.batches.append(batch)
        return {}

    def save(self, folder: pathlib.Path) -> None:
        (folder / "batches").write_text(str(len(self.batches)))

    def load(self, folder: pathlib.Path) -> None:
        assert int((folder / "batches").read_text()) > 0

    def adapter_digest(self) -> str:
        return str(len(self.batches))


@pytest.fixture
def config(tmp_path: pathlib.Path) -> Callable[..., configs.RunConfig]:
    """The config of a run of the problem with scripted replies."""
    path = tmp_path / "halves.py"
    path.write_text(textwrap.dedent(PROBLEM))

    def make(replies: Sequence[str], **settings: Any) -> configs.RunConfig:
        overrides = {
            "policy.backend": "scripted",
            "policy.options": {"replies": list(replies)},
            "options": {"timeout_s": 20.0},
            **settings,
        }
        return configs.load(f"{path}:Halves", overrides=overrides)

    return make


def prompts(folder: pathlib.Path) -> list[str]:
    """The prompt of each group, in order."""
    with RunReader.open(folder) as run:
        return [group.prompt[0]["content"] for group in run.groups()]


def test_each_is_computed_once(
    config: Callable[..., configs.RunConfig], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run's config is resolved and its hooks are built once, a step's totals and a group's beta too."""
    calls: collections.Counter[str] = collections.Counter()

    def count(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def counting(*arguments: Any, **named: Any) -> Any:
            calls[name] += 1
            return original(*arguments, **named)

        monkeypatch.setattr(owner, name, counting)

    policy = TrainableScript([*VALID, *FAILING])
    monkeypatch.setattr(loop, "open_policy", lambda hooks, config: policy)
    count(setup, "resolve")
    count(Hooks, "__init__")
    count(learner, "group_advantages")
    count(StepTotals, "of")
    start_run(RunSetup.from_config(config(VALID, steps=3, groups=2, group_size=3)), tmp_path / "run")
    assert calls == {"resolve": 1, "__init__": 1, "group_advantages": 3 * 2, "of": 3}


def test_a_plugins_trainer_is_not_given_groups_of_one(
    config: Callable[..., configs.RunConfig], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = TrainableScript(VALID)
    monkeypatch.setattr(loop, "open_policy", lambda hooks, config: policy)
    settings = {"steps": 1, "groups": 2, "group_size": 1}
    with pytest.raises(ConfigError, match="group_size = 1 leaves nothing to learn from"):
        start_run(RunSetup.from_config(config(VALID, **settings)), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    frozen = config(VALID, **settings, **{"learn.train": False})
    assert start_run(RunSetup.from_config(frozen), tmp_path / "run").steps == 1


def test_the_advantages_that_train_are_those_that_are_stored(
    config: Callable[..., configs.RunConfig], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = TrainableScript([*VALID, *FAILING])
    monkeypatch.setattr(loop, "open_policy", lambda hooks, config: policy)
    # Without KL shaping, every token has its rollout's advantage.
    settings = {"steps": 2, "groups": 2, "group_size": 6, "learn.kl_coefficient": 0.0}
    start_run(RunSetup.from_config(config(VALID, **settings)), tmp_path / "run")
    with RunReader.open(tmp_path / "run") as run:
        stored = [rollout.advantage for rollout in run.rollouts()]
    trained = [tokens for batch in policy.batches for group in batch for tokens in group.advantages]
    assert len(policy.batches) == 2
    assert [list(tokens) for tokens in trained] == [[advantage] * 2 for advantage in stored]
    assert len(set(stored)) > 3


def test_what_failed_goes_into_the_next_prompt_also_after_a_resume(
    config: Callable[..., configs.RunConfig], tmp_path: pathlib.Path
) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    settings = {"groups": 1, "group_size": 3}
    start_run(RunSetup.from_config(config(FAILING, steps=3, **settings)), whole)
    start_run(RunSetup.from_config(config(FAILING, steps=1, **settings)), resumed)
    resume_run(RunSetup.from_folder(resumed, {"steps": 2}), resumed)
    resume_run(RunSetup.from_folder(resumed, {"steps": 3}), resumed)
    first, second, third = map(json.loads, prompts(whole))
    assert first == []
    messages = {status: (message, output) for status, message, output in second}
    assert set(messages) == {"parse_error", "crash", "invalid"}
    assert "ZeroDivisionError" in messages["crash"][0]
    # A long output loses its middle.
    assert messages["crash"][1].startswith("here here")
    assert "\n...\n" in messages["crash"][1]
    assert messages["invalid"][0] == "the number is not in [0, 1)"
    assert {status for status, *_ in third} == set(messages)
    assert prompts(resumed) == prompts(whole)


def test_a_failure_is_of_the_state_it_started_from(
    config: Callable[..., configs.RunConfig], tmp_path: pathlib.Path
) -> None:
    """A new state has no failures of its parent's, in a resumed run as in any."""
    start_run(
        RunSetup.from_config(config([*VALID, FAILING[0]], steps=1, groups=1, group_size=4)), tmp_path / "r"
    )
    resume_run(RunSetup.from_folder(tmp_path / "r", {"steps": 4}), tmp_path / "r")
    with RunReader.open(tmp_path / "r") as run:
        archive = run.load_archive(configs.SearchConfig())
        starts = [group.start for group in run.groups()]
        failed = collections.Counter(
            starts[rollout.step - 1] for rollout in run.rollouts() if rollout.status != "ok"
        )
    assert len(set(starts)) > 1
    assert {node.id for node in archive.nodes.values() if node.failures} == set(failed)
