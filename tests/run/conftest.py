"""Fixtures of whole runs: of a problem that judges in milliseconds, by policies that learn."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from tests.run.whole_runs import GROUPS, REPLIES, SIZE, STEPS, Counting, opened, write_numbers

from ttd_core import config as configs
from ttd_core.run import judging
from ttd_core.run.setup import RunSetup
from ttd_core.types import Completion, Verdict


@pytest.fixture
def setup(tmp_path: pathlib.Path) -> Callable[..., RunSetup]:
    path = write_numbers(tmp_path)

    def make(**settings: Any) -> RunSetup:
        overrides = {
            "policy.backend": "scripted",
            "policy.options": {"replies": REPLIES},
            **{"steps": STEPS, "groups": GROUPS, "group_size": SIZE, "sandbox.workers": 1},
            **settings,
        }
        return RunSetup.from_config(configs.load(f"{path}:Numbers", overrides=overrides))

    return make


@pytest.fixture
def policies(monkeypatch: pytest.MonkeyPatch) -> list[Counting]:
    """Every policy that runs of the test open."""
    return opened(monkeypatch, Counting)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The replies that are judged."""
    texts: list[str] = []
    real = judging.judge_reply

    def judge(hooks: Any, start: Any, completion: Completion, execute: Any) -> Verdict:
        texts.append(completion.text)
        return real(hooks, start, completion, execute)

    monkeypatch.setattr(judging, "judge_reply", judge)
    return texts
