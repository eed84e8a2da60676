"""Scripted replies: repeatable by seed, refused when there are none."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from ttd_core import config as configs
from ttd_core.errors import ConfigError
from ttd_core.policy.base import SamplingParams
from ttd_core.policy.scripted import ScriptedPolicy, open_scripted


def texts(policy: ScriptedPolicy, seed: int) -> list[tuple[int, int, str]]:
    samples = policy.sample([[], []], 3, SamplingParams(seed=seed))
    return [(s.prompt, s.index, s.completion.text) for s in samples]


def test_every_place_is_filled_and_a_seed_repeats() -> None:
    policy = ScriptedPolicy(["a", "b", "c", "d"])
    first = texts(policy, 1)
    assert [place[:2] for place in first] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert {text for _, _, text in first} == {"a", "b", "c", "d"}
    assert first == texts(policy, 1)
    assert len({tuple(texts(policy, seed)) for seed in range(20)}) > 1


def test_from_a_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "replies.json"
    path.write_text(json.dumps(["x"]))
    policy = open_scripted(configs.load("p", overrides={"policy.options": {"file": str(path)}}))
    assert policy.name == "1 scripted reply"


@pytest.mark.parametrize("options", [{}, {"replies": []}, {"replies": [1]}, {"file": "/nowhere.json"}])
def test_no_replies_is_a_config_error(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"policy\.options"):
        open_scripted(configs.load("p", overrides={"policy.options": options}))


def test_a_misspelt_option_is_refused_with_the_closest_one() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'policy\.options\.reply'. Did you mean 'replies'"):
        open_scripted(configs.load("p", overrides={"policy.options": {"reply": ["x"]}}))
