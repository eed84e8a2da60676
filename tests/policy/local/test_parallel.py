"""Two processes say and learn what one does; their messages keep every bit; a lost one is named."""

from __future__ import annotations

import os
import pathlib
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.policy.local.lean.lean_models import make_model

from ttd_core import config as configs
from ttd_core.config import RunConfig
from ttd_core.errors import ConfigError, EnvironmentLacksError, UsageError
from ttd_core.policy.base import Sample, SamplingParams, Sequences, Trainer
from ttd_core.policy.local import messages
from ttd_core.policy.local.parallel import ParallelPolicy
from ttd_core.policy.local.policy import LocalPolicy, open_local
from ttd_core.policy.local.sharding import shard_packs, shard_replies
from ttd_core.types import Completion, Message, StopReason

PROMPTS: list[list[Message]] = [
    [{"role": "user", "content": text}] for text in ("short", "a longer prompt", "x")
]
PARAMS = SamplingParams(max_new_tokens=12, seed=7)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5))
def test_every_reply_has_one_rank(prompts: int, count: int, ranks: int) -> None:
    shards = shard_replies(prompts, count, ranks)
    found = sorted((p, i) for shard in shards for p, indices in enumerate(shard) for i in indices)
    assert found == [(p, i) for p in range(prompts) for i in range(count)]
    sizes = [sum(len(indices) for indices in shard) for shard in shards]
    assert max(sizes) - min(sizes) <= 1


def completion(length: int, seed: int = 0) -> Completion:
    rng = np.random.default_rng(seed)
    return Completion(
        text="tëxt",
        tokens=rng.integers(0, 99, length),
        logprobs=rng.normal(size=length).astype(np.float32),
        trained=rng.random(length) < 0.5,
        stop=StopReason.LENGTH,
        answer="answer",
    )


def group(lengths: list[int], prompt: int = 4) -> Sequences:
    completions = [completion(length, n) for n, length in enumerate(lengths)]
    return Sequences(np.arange(prompt), completions, [np.full(n, float(i)) for i, n in enumerate(lengths)])


LENGTHS = st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=6), min_size=1, max_size=4)


@given(LENGTHS, st.integers(1, 4))
def test_every_pack_has_one_rank(lengths: list[list[int]], ranks: int) -> None:
    batch = [group(one, prompt=n + 1) for n, one in enumerate(lengths)]
    items = [item for shard in shard_packs(batch, 40, ranks) for item in shard]
    learned = [
        (len(item.prompt_tokens), advantages[0], len(one.tokens))
        for item in items
        for one, advantages in zip(item.completions, item.advantages, strict=True)
    ]
    expected = [(n + 1, float(m), size) for n, one in enumerate(lengths) for m, size in enumerate(one)]
    assert sorted(learned) == sorted(expected)


def test_messages_keep_every_bit() -> None:
    here, there = socket.socketpair()
    batch = [group([3, 1]), group([2])]
    one = Sample(2, 5, completion(4), np.arange(3))
    with here, there:
        messages.send(here, messages.batch_message(batch, 0.5))
        messages.send(here, messages.sample_message(one))
        message = messages.receive(there)
        assert message is not None
        found, temperature = messages.read_batch(message)
        message = messages.receive(there)
        assert message is not None
        again = messages.read_sample(message)
        here.close()
        assert messages.receive(there) is None
    assert temperature == 0.5
    for item, other in zip(found, batch, strict=True):
        np.testing.assert_array_equal(item.prompt_tokens, other.prompt_tokens)
        for a, b in zip(item.completions, other.completions, strict=True):
            same(a, b)
        for a, b in zip(item.advantages, other.advantages, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
    assert (again.prompt, again.index) == (2, 5)
    same(again.completion, one.completion)


def same(one: Completion, other: Completion) -> None:
    assert (one.text, one.stop, one.answer) == (other.text, other.stop, other.answer)
    for name in ("tokens", "logprobs", "trained"):
        assert getattr(one, name).dtype == getattr(other, name).dtype
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def make_config(**options: Any) -> RunConfig:
    values = {"policy.lora_rank": 4, "learn.learning_rate": 1e-2, "policy.batch": 3, "policy.device": "cpu"}
    values |= {"policy.dtype": "float32", "learn.micro_batch_tokens": 80}
    return configs.load("none", overrides=values | {"policy." + key: value for key, value in options.items()})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"devices": 0}, "policy.options.devices must be at least 1, not 0"),
        ({"devices": "two"}, "policy.options.devices needs a whole number, not 'two'"),
        ({"device": 2}, r"unknown key 'policy.options.device'. Did you mean 'devices'"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_local(make_config(options=options))


@pytest.fixture
def both(
    tmp_path: pathlib.Path, make_tokenizer: Callable[..., Any]
) -> Iterator[tuple[LocalPolicy, ParallelPolicy]]:
    """One process and two, on the same model in a folder."""
    folder = tmp_path / "model"
    tokenizer = make_tokenizer()
    model = make_model("qwen2", adapted=False, vocab_size=len(tokenizer), max_position_embeddings=512)
    model.generation_config.eos_token_id = len(tokenizer) - 1
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    one = open_local(make_config(model=str(folder)))
    two = open_local(make_config(model=str(folder), options={"devices": 2}))
    assert isinstance(one, LocalPolicy)
    assert isinstance(two, ParallelPolicy)
    yield one, two
    two.close()


def in_order(samples: Iterator[Sample]) -> list[Sample]:
    return sorted(samples, key=lambda s: (s.prompt, s.index))


@pytest.mark.slow
def test_two_processes_are_one_policy(
    both: tuple[LocalPolicy, ParallelPolicy], tmp_path: pathlib.Path
) -> None:
    one, two = both
    assert isinstance(two, Trainer)
    assert two.name.endswith("x 2")
    for step in range(2):
        params = attrs.evolve(PARAMS, seed=step)
        alone, shared = (in_order(policy.sample(PROMPTS, 3, params)) for policy in both)
        assert [(s.prompt, s.index) for s in shared] == [(p, i) for p in range(3) for i in range(3)]
        for a, b in zip(alone, shared, strict=True):
            assert a.completion.tokens.tolist() == b.completion.tokens.tolist()
            assert a.completion.text == b.completion.text
            np.testing.assert_allclose(a.completion.logprobs, b.completion.logprobs, atol=1e-5)
        batch = []
        for prompt in range(3):
            samples = [s for s in alone if s.prompt == prompt]
            completions = [s.completion for s in samples]
            bases = [p.base_logprobs(samples[0].prompt_tokens, completions, 1.0) for p in both]
            for a, b in zip(*bases, strict=True):
                np.testing.assert_allclose(a, b, atol=1e-5)
            advantages = [np.full(len(c.tokens), (-1.0) ** n) for n, c in enumerate(completions)]
            batch.append(Sequences(samples[0].prompt_tokens, completions, advantages))
        told = [
            [
                attrs.evolve(each, recomputed=[np.full_like(c.logprobs, np.nan) for c in each.completions])
                for each in batch
            ]
            for _ in both
        ]
        single, double = (policy.train_step(each, 1.0) for policy, each in zip(both, told, strict=True))
        for a, b in zip(*told, strict=True):
            for c, d in zip(a.recomputed or (), b.recomputed or (), strict=True):
                np.testing.assert_allclose(c, d, atol=1e-5)
        assert double.keys() == single.keys()
        assert double["loss"] == pytest.approx(single["loss"], rel=1e-5, abs=1e-5)
        assert double["grad_norm"] == pytest.approx(single["grad_norm"], rel=1e-4)
        for a, b in zip(one.adapter, two._local.adapter, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    (folder := tmp_path / "checkpoint").mkdir()
    two.save(folder)
    digest = two.adapter_digest()
    two.train_step(batch, 1.0)
    assert two.adapter_digest() != digest
    two.load(folder)
    assert two.adapter_digest() == digest
    again = in_order(two.sample(PROMPTS, 3, PARAMS))
    for a, b in zip(in_order(one.sample(PROMPTS, 3, PARAMS)), again, strict=True):
        assert a.completion.tokens.tolist() == b.completion.tokens.tolist()
    with pytest.raises(UsageError, match="tokens long and the context holds"):
        list(two.sample([[{"role": "user", "content": "x" * 600}]], 2, PARAMS))
    stopped = two.sample(PROMPTS, 3, PARAMS)
    next(stopped)
    stopped.close()
    assert len(list(two.sample(PROMPTS, 1, PARAMS))) == 3

    # A process that is lost is named, and nothing waits for it.
    os.kill(two._workers[0].process.pid, signal.SIGKILL)
    two._workers[0].process.wait()
    with pytest.raises(EnvironmentLacksError, match="process 1 ended"):
        list(two.sample(PROMPTS, 3, PARAMS))
