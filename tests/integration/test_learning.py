"""A small real model learns: what its programs print is rewarded, and in thirty steps it prints just that.

With the advantages dealt out at random among a group's rollouts the same run learns nothing, so it is the
credit, not the steps, that teaches.
"""

from __future__ import annotations

import pathlib
import textwrap
from typing import Any

import attrs
import numpy as np
import pytest

from ttd_core import config as configs
from ttd_core.learn import learner
from ttd_core.learn.objective import GroupAdvantages, group_advantages
from ttd_core.run.loop import start_run
from ttd_core.run.reading import RunReader
from ttd_core.run.setup import RunSetup

# The model is small: a second thread waits for the sandbox's jobs more than it helps.
pytestmark = pytest.mark.usefixtures("one_thread")

#: The reply becomes a program that prints it; reward is the share of what it prints that is the letter a.
PROBLEM = """
    from ttd_core import Action, Problem, Reward


    class Print(Problem):
        name = "print"
        title = "Print the letter a"
        metric = "share"
        direction = "max"
        preload = ()

        def task(self):
            return "Print the letter a."

        def render_prompt(self, state, history):
            return [{"role": "user", "content": "Write: aaaaaaaaaa"}]

        def parse_action(self, completion):
            return Action(f"def run(seed, budget_s, **kwargs):\\n    return {completion.text!r}\\n")

        def construct(self, value):
            return {"text": str(value)}

        def check(self, state):
            return []

        def reward(self, state):
            letters = [character for character in state.data["text"] if not character.isspace()]
            share = letters.count("a") / max(len(letters), 1)
            return Reward(share, share)
"""

STEPS, GROUP = 30, 16
#: The largest share there is.
MAXIMUM = 1.0


def config(problem: pathlib.Path) -> configs.RunConfig:
    settings: dict[str, Any] = {
        "steps": STEPS,
        "groups": 1,
        "group_size": GROUP,
        "search.reuse": "none",
        "learn.learning_rate": 1e-3,
        # The reward lies far from anything the base model would say.
        "learn.kl_coefficient": 0.0,
        "policy.model": "smollm2-135m",
        "policy.dtype": "float32",
        "policy.device": "cpu",
        "policy.lora_rank": 8,
        "policy.max_new_tokens": 8,
        "checkpoint_every": STEPS,
    }
    return configs.load(f"{problem}:Print", overrides=settings)


def shares(folder: pathlib.Path) -> list[float]:
    """Mean reward of each step."""
    with RunReader.open(folder) as run:
        events = run.events()
    return [event["mean_value"] for event in events if event["kind"] == "step_finished"]


@pytest.fixture
def problem(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "print.py"
    path.write_text(textwrap.dedent(PROBLEM))
    return path


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_reward_is_learned_to_within_a_tenth_of_its_maximum(
    problem: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    result = start_run(RunSetup.from_config(config(problem)), tmp_path / "run")
    found = shares(tmp_path / "run")
    assert len(found) == STEPS
    assert found[0] < 0.3 * MAXIMUM
    assert np.mean(found[-5:]) >= 0.9 * MAXIMUM
    assert result.adapter[0] != result.adapter[1]
    with RunReader.open(tmp_path / "run") as run:
        metrics = [event["metrics"] for event in run.events() if event["kind"] == "step_finished"]
    # float32 on a CPU: what was sampled is what is trained.
    assert max(step.get("logprob_gap_max", 0.0) for step in metrics) < 1e-4


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_shuffled_advantage_teaches_nothing(
    problem: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)

    def shuffled(rewards: Any, config: configs.LearnConfig) -> GroupAdvantages:
        found = group_advantages(rewards, config)
        return attrs.evolve(found, values=rng.permutation(found.values))

    monkeypatch.setattr(learner, "group_advantages", shuffled)
    result = start_run(RunSetup.from_config(config(problem)), tmp_path / "run")
    found = shares(tmp_path / "run")
    assert result.adapter[0] != result.adapter[1]
    assert np.mean(found[-5:]) < 0.5 * MAXIMUM
