"""The local policy on a CUDA device: what it samples is what it trains, in float32 and in bfloat16."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from ttd_core.policy.base import SamplingParams, Sequences
from ttd_core.policy.local import LocalPolicy
from ttd_core.types import Message

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device here"),
]

PROMPTS: list[list[Message]] = [[{"role": "user", "content": text}] for text in ("short", "a longer prompt")]


@pytest.mark.parametrize(("dtype", "gap"), [(torch.float32, 1e-4), (torch.bfloat16, 0.2)])
def test_sampling_and_training_agree(
    make_policy: Callable[..., LocalPolicy], dtype: torch.dtype, gap: float
) -> None:
    torch.backends.cuda.matmul.allow_tf32 = False
    policy = make_policy(dtype=dtype, device="cuda")
    params = SamplingParams(max_new_tokens=40, seed=5)
    samples = list(policy.sample(PROMPTS, 6, params))
    again = list(policy.sample(PROMPTS, 6, params))
    assert [s.completion.tokens.tolist() for s in samples] == [s.completion.tokens.tolist() for s in again]
    batch = []
    for prompt in range(2):
        group = [s for s in samples if s.prompt == prompt]
        completions = [s.completion for s in group]
        base = policy.base_logprobs(group[0].prompt_tokens, completions, 1.0)
        assert all(np.isfinite(part).all() for part in base)
        advantages = [np.full(len(c.tokens), (-1.0) ** n) for n, c in enumerate(completions)]
        batch.append(Sequences(group[0].prompt_tokens, completions, advantages))
    digest = policy.adapter_digest()
    metrics = policy.train_step(batch, 1.0)
    assert metrics["logprob_gap"] < gap
    assert metrics["grad_norm"] > 0
    assert policy.adapter_digest() != digest
