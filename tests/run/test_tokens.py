"""Kept tokens: what a step knows of them comes back bit for bit, within the bound, and nothing otherwise."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from tests.run.test_continuing import Config, resume
from tests.run.test_loop import FAILING, VALID, TrainableScript, config  # noqa: F401 - a fixture

from ttd_core.learn.learner import LearnedLogprobs
from ttd_core.policy.base import Sample, Sequences
from ttd_core.policy.scripted import ScriptedPolicy
from ttd_core.run import loop
from ttd_core.run.loop import start_run
from ttd_core.run.reading import RunReader
from ttd_core.run.setup import RunSetup
from ttd_core.run.tokens import keep_tokens, read_tokens
from ttd_core.types import Completion, Group, Rollout, Status, Verdict


def completion(length: int, first: int = 0) -> Completion:
    tokens = first + np.arange(length)
    return Completion(
        "text", tokens, -np.arange(length, dtype=np.float32) / 3, tokens % 3 != 1, answer="text"
    )


def group(*lengths: int, first: int = 0) -> Group:
    verdict = Verdict.failed(Status.PARSE_ERROR, "no")
    replies = [Rollout(completion(length, first + 10 * n), verdict) for n, length in enumerate(lengths)]
    return Group(0, [], np.arange(2), replies)


class Spelling:
    """Spells tokens: some texts cannot be written as UTF-8."""

    def token_texts(self, tokens: Sequence[int]) -> list[str]:
        return ["\ud800" if token == 1 else f" t{token}" for token in tokens]


def test_tokens_come_back_as_they_were() -> None:
    groups = [group(3, 0, 2), group(4, first=100)]
    learned = {(1, 0): LearnedLogprobs(np.full(4, -1.25, np.float32), np.full(4, -1.5, np.float32))}
    kept = keep_tokens(groups, learned, Spelling(), 10**6)
    assert kept is not None
    found = read_tokens(kept.data, kept.arrays, kept.texts)
    assert list(found) == [(0, 0), (1, 0), (0, 2)]
    for (number, index), record in found.items():
        reply = groups[number].rollouts[index].completion
        np.testing.assert_array_equal(record.ids, reply.tokens)
        np.testing.assert_array_equal(record.trained, reply.trained)
        np.testing.assert_array_equal(record.sampled[reply.trained], reply.logprobs[reply.trained])
        assert np.isnan(record.sampled[~reply.trained]).all()
    assert found[0, 0].texts == [" t0", "\ufffd", " t2"]
    assert (found[1, 0].base.tolist(), found[1, 0].recomputed.tolist()) == ([-1.25] * 4, [-1.5] * 4)
    assert np.isnan(found[0, 2].base).all()
    # About 17 bytes a token, and the places.
    assert sum(array.nbytes for array in kept.arrays.values()) == 9 * 17 + 3 * 24


@pytest.mark.parametrize(
    ("most", "places"),
    [(0, None), (2, [(0, 1)]), (3, [(0, 0)]), (8, [(0, 0), (1, 0)]), (9, [(0, 0), (1, 0), (0, 1)])],
)
def test_no_more_is_kept_than_is_asked_for(most: int, places: Any) -> None:
    groups = [group(3, 2), group(4, 7)]
    kept = keep_tokens(groups, {}, object(), most)
    found = None if kept is None else list(read_tokens(kept.data, kept.arrays, {}))
    assert found == places
    assert kept is None or not kept.texts


class Telling(TrainableScript):
    """A trainer that tells what it recomputes, and spells its tokens."""

    def sample(self, *arguments: Any) -> Any:
        for sample in super().sample(*arguments):
            reply = sample.completion
            logprobs = np.array([-0.5, -2.5], np.float32)
            told = Completion(reply.text, reply.tokens, logprobs, reply.trained)
            yield Sample(sample.prompt, sample.index, told, sample.prompt_tokens)

    def base_logprobs(self, prompt_tokens: Any, completions: Any, temperature: float) -> Any:
        return [each.logprobs - 1 for each in completions]

    def train_step(self, batch: Sequence[Sequences], temperature: float) -> Any:
        for sequences in batch:
            for reply, array in zip(sequences.completions, sequences.recomputed or (), strict=False):
                array[:] = reply.logprobs + np.float32(0.25)
        return super().train_step(batch, temperature)

    def token_texts(self, tokens: Sequence[int]) -> list[str]:
        return [f"<{token}>" for token in tokens]


def test_a_run_keeps_what_its_policy_tells(
    config: Config,  # noqa: F811
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop, "open_policy", lambda hooks, settings: Telling(VALID))
    settings: dict[str, Any] = {"steps": 2, "groups": 1, "group_size": 3}
    folder, without = tmp_path / "with", tmp_path / "without"
    start_run(RunSetup.from_config(config(VALID, keep_tokens=5, **settings)), folder)
    start_run(RunSetup.from_config(config(VALID, **settings)), without)
    with RunReader.open(folder) as run, RunReader.open(without) as bare:
        assert bare.tokens(1) == {}
        assert run.metrics().keys() == bare.metrics().keys()
        assert next(run.rollouts()).advantage == next(bare.rollouts()).advantage
        assert run.tokens(2).keys() == {(0, 0), (0, 1)}
        record = run.tokens(1)[0, 1]
    assert record.texts == ["<0>", "<1>"]
    assert [array.tolist() for array in (record.sampled, record.base, record.recomputed)] == [
        [-0.5, -2.5],
        [-1.5, -3.5],
        [-0.25, -2.25],
    ]
    resume(folder, 2, back_to=1)
    with RunReader.open(folder) as run:
        assert run.tokens(2).keys() == {(0, 0), (0, 1)}


def test_a_policy_without_tokens_has_none_to_keep(config: Config, tmp_path: pathlib.Path) -> None:  # noqa: F811
    settings: dict[str, Any] = {"steps": 1, "groups": 1, "group_size": 2, "keep_tokens": 1000}
    start_run(RunSetup.from_config(config(FAILING[:1], **settings)), tmp_path / "run")
    with RunReader.open(tmp_path / "run") as run:
        assert run.tokens(1) == {}
    assert not isinstance(ScriptedPolicy(["x"]), Spelling)
