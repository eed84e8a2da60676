"""The local policy on a CUDA device: what it samples is what it trains, in float32 and in bfloat16."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from ttd_core.policy.base import SamplingParams, Sequences
from ttd_core.policy.local.lean.decode import LeanDecoder
from ttd_core.policy.local.policy import LocalPolicy
from ttd_core.types import Message

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device here"),
]

PROMPTS: list[list[Message]] = [[{"role": "user", "content": text}] for text in ("short", "a longer prompt")]

#: Heads of a size that the kernels take.
SIZES = {"hidden_size": 64}


@pytest.mark.parametrize("engine", ["lean", "plain"])
@pytest.mark.parametrize(("dtype", "gap"), [(torch.float32, 1e-4), (torch.bfloat16, 0.2)])
def test_sampling_and_training_agree(
    make_policy: Callable[..., LocalPolicy], dtype: torch.dtype, gap: float, engine: str
) -> None:
    torch.backends.cuda.matmul.allow_tf32 = False
    options = {"engine": engine}
    policy = make_policy(model_changes=SIZES, dtype=dtype, device="cuda", policy__options=options)
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


def test_both_decoders_say_the_same_in_float32(make_policy: Callable[..., LocalPolicy]) -> None:
    torch.backends.cuda.matmul.allow_tf32 = False
    params = SamplingParams(max_new_tokens=90, seed=5)
    said = []
    for engine in ("lean", "plain"):
        options = {"engine": engine}
        policy = make_policy(model_changes=SIZES, device="cuda", policy__options=options, policy__batch=8)
        samples = sorted(policy.sample(PROMPTS, 12, params), key=lambda s: (s.prompt, s.index))
        said.append([(s.completion.tokens.tolist(), s.completion.logprobs) for s in samples])
    # A random number may fall between two cumulative sums that differ by rounding; then replies part.
    same = [one[0] == other[0] for one, other in zip(*said, strict=True)]
    assert sum(same) >= len(same) - 1
    for agree, one, other in zip(same, *said, strict=True):
        if agree:
            np.testing.assert_allclose(one[1], other[1], atol=1e-4)


def test_a_cuda_device_samples_fast_by_itself(make_policy: Callable[..., LocalPolicy]) -> None:
    assert isinstance(make_policy(model_changes=SIZES, device="cuda")._decoder, LeanDecoder)
    # Heads of 8 are none that the kernels take.
    assert not isinstance(make_policy(device="cuda")._decoder, LeanDecoder)
