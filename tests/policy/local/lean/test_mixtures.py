"""Mixtures of experts on the lean engine, against transformers' own eager model in float32."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from tests.policy.local.lean.lean_models import VOCABULARY, make_mixture

from ttd_core.policy.local.lean.decode import LeanDecoder
from ttd_core.policy.local.lean.model import LeanModel, why_unsupported
from ttd_core.policy.local.packing import build_pack
from ttd_core.policy.local.replies import DecodeLimits, whole_groups
from ttd_core.policy.local.training import LogprobModel

KINDS = ["qwen3_moe", "qwen3_moe, shares as they are", "qwen3_moe, some layers dense", "gpt_oss"]
PROMPTS = [[5, 6, 7, 8], list(range(3, 33)), [11]]


def eager(model: Any) -> Any:
    """A copy with transformers' own attention."""
    plain = copy.deepcopy(model)
    plain.set_attn_implementation("eager")
    return plain


def logprobs_of(plain: Any, prompt: list[int], reply: list[int]) -> torch.Tensor:
    logits = plain(input_ids=torch.tensor([prompt + reply]), use_cache=False).logits[0].float()
    rows = logits[len(prompt) - 1 : -1].log_softmax(-1)
    return rows.gather(1, torch.tensor(reply)[:, None])[:, 0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("adapted", [True, False])
def test_sampled_as_transformers_has_it(kind: str, adapted: bool) -> None:
    model = make_mixture(kind, adapted)
    assert why_unsupported(model) == ""
    plain = eager(model)
    # Longer than gpt-oss's windows here; seven rows for nine replies, thinking cut off and an end forced.
    limits = DecodeLimits(frozenset(), [26] * 3, [20] * 3, lambda tokens: [1, 9, len(tokens)])
    replies = list(LeanDecoder(LeanModel(model), 7).decode(PROMPTS, whole_groups(3, 3), 1.0, limits, 3))
    assert sorted((reply.prompt_index, reply.index) for reply in replies) == [
        (prompt, index) for prompt in range(3) for index in range(3)
    ]
    for reply in replies:
        expected = logprobs_of(plain, PROMPTS[reply.prompt_index], reply.tokens).detach()
        sampled = torch.tensor(reply.trained)
        assert not sampled.all()
        torch.testing.assert_close(
            torch.tensor(reply.logprobs)[sampled], expected[sampled], rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("checkpointing", ["on", "off"])
def test_learned_as_transformers_has_it(kind: str, checkpointing: str) -> None:
    model = make_mixture(kind)
    plain = eager(model)
    rng = np.random.default_rng(0)
    replies = [rng.integers(0, VOCABULARY, length) for length in (20, 3, 11)]
    pack = build_pack(np.array(PROMPTS[1]), replies, range(3), torch.device("cpu"))
    logprobs = LogprobModel(model, checkpointing, LeanModel(model))
    logprobs.set_training(pack.ids.shape[1])
    found = logprobs.pack_logprobs(pack, 1.0)
    expected = torch.cat([logprobs_of(plain, PROMPTS[1], reply.tolist()) for reply in replies])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    weights = torch.linspace(-1, 2, len(found))
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    named = dict(plain.named_parameters())
    adapter = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert adapter
    assert all("lora" in name for name in adapter)
    for name, parameter in model.named_parameters():
        if name in adapter:
            torch.testing.assert_close(parameter.grad, named[name].grad, rtol=1e-4, atol=1e-4, msg=name)
