"""Sliding windows and sinks: sampled, recomputed and learned as transformers' eager attention has them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tests.policy.local.lean.lean_models import make_model

from ttd_core import config as configs
from ttd_core.policy.base import Sequences
from ttd_core.policy.local.lean.decode import LeanDecoder
from ttd_core.policy.local.lean.model import LeanModel, why_unsupported
from ttd_core.policy.local.packing import build_pack
from ttd_core.policy.local.plain import attention, sliding_window
from ttd_core.policy.local.plain.decode import PlainDecoder
from ttd_core.policy.local.policy import LocalPolicy
from ttd_core.policy.local.replies import DecodeLimits, whole_groups
from ttd_core.policy.local.training import LogprobModel
from ttd_core.types import Completion, StopReason

VOCABULARY, WINDOW = 97, 8
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "sliding_window": WINDOW,
    "pad_token_id": 0,
}
MIXED = {"layer_types": ["sliding_attention", "full_attention"]}
PROMPTS = [[5, 6, 7, 8], list(range(3, 33)), [11]]
KINDS = {
    "gpt-oss": (
        transformers.GptOssConfig,
        transformers.GptOssForCausalLM,
        MIXED | {"num_local_experts": 4, "num_experts_per_tok": 2},
    ),
    "gemma 3": (transformers.Gemma3TextConfig, transformers.Gemma3ForCausalLM, MIXED),
    "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM, {}),
    "qwen 3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM, MIXED | {"use_sliding_window": True}),
}


@pytest.fixture(params=KINDS)
def models(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """A model with our attention, and the same one with transformers' own."""
    config, kind, extra = KINDS[request.param]
    torch.manual_seed(0)
    model = kind(config(**SHAPE, **extra)).eval()
    for name, parameter in model.named_parameters():
        parameter.data.normal_(1.0 if "norm" in name else 0.0, 0.2)
        if "sinks" in name:
            parameter.data.normal_(1.0, 1.0)
    plain = copy.deepcopy(model)
    plain.set_attn_implementation("eager")
    attention.install(model)
    attention.require_known_attention(model.config, "it")
    return model, plain


def logprobs_of(plain: Any, prompt: list[int], reply: list[int]) -> torch.Tensor:
    logits = plain(input_ids=torch.tensor([prompt + reply]), use_cache=False).logits[0].float()
    rows = logits[len(prompt) - 1 : -1].log_softmax(-1)
    return rows.gather(1, torch.tensor(reply)[:, None])[:, 0]


def test_sampled_as_transformers_has_it(models: tuple[Any, Any]) -> None:
    model, plain = models
    logprobs = LogprobModel(model, "off")
    decoder = PlainDecoder(logprobs.backbone, logprobs.head, logprobs.layers, model.device, max_rows=5)
    limits = DecodeLimits(frozenset(), [3 * WINDOW] * 3, None, lambda _: [])
    for reply in decoder.decode(PROMPTS, whole_groups(3, 3), 1.0, limits, 3):
        expected = logprobs_of(plain, PROMPTS[reply.prompt_index], reply.tokens)
        assert reply.logprobs == pytest.approx(expected.detach().numpy(), abs=1e-4)


@pytest.mark.parametrize("checkpointing", ["off", "on"])
def test_learned_as_transformers_has_it(
    models: tuple[Any, Any], checkpointing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sliding_window, "CHUNK", 16)
    model, plain = models
    rng = np.random.default_rng(0)
    replies = [rng.integers(0, VOCABULARY, length) for length in (20, 3, 11)]
    pack = build_pack(np.array(PROMPTS[1]), replies, range(3), torch.device("cpu"))
    logprobs = LogprobModel(model, checkpointing)
    logprobs.set_training(pack.ids.shape[1])
    found = logprobs.pack_logprobs(pack, 1.0)
    expected = torch.cat([logprobs_of(plain, PROMPTS[1], reply.tolist()) for reply in replies])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    weights = torch.linspace(-1, 2, len(found))
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    named = dict(plain.named_parameters())
    compared = 0
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and named[name].grad is not None:
            torch.testing.assert_close(parameter.grad, named[name].grad, rtol=1e-3, atol=1e-3, msg=name)
            compared += 1
    assert compared > 10


def test_a_policy_learns_from_what_it_sampled(models: tuple[Any, Any], make_tokenizer: Any) -> None:
    overrides = {"policy.lora_rank": 4, "policy.batch": 4, "policy.device": "cpu"}
    policy = LocalPolicy(models[0], make_tokenizer(), configs.load("none", overrides=overrides))
    completions = completions_of(policy)
    advantages = [np.full(len(one.tokens), (-1.0) ** n) for n, one in enumerate(completions)]
    digest = policy.adapter_digest()
    metrics = policy.train_step([Sequences(np.array(PROMPTS[1]), completions, advantages)], 1.0)
    assert metrics["logprob_gap_max"] < 1e-4
    assert metrics["grad_norm"] > 0
    assert policy.adapter_digest() != digest


def completions_of(policy: LocalPolicy) -> list[Completion]:
    """Replies to the second prompt, by token ids: the tokenizer's words are not the model's."""
    limits = DecodeLimits(frozenset({1}), [3 * WINDOW], None, lambda _: [])
    replies = policy._decoder.decode(PROMPTS[1:2], whole_groups(1, 4), 1.0, limits, 0)
    return [
        Completion("", *reply.arrays(), stop=StopReason.LENGTH, answer="")
        for reply in sorted(replies, key=lambda reply: reply.index)
    ]


def test_windows_run_lean_too() -> None:
    changes = MIXED | {"use_sliding_window": True, "sliding_window": WINDOW}
    model = make_model("qwen3", **changes)
    assert why_unsupported(model) == ""
    plain = copy.deepcopy(model)
    plain.set_attn_implementation("eager")
    limits = DecodeLimits(frozenset(), [3 * WINDOW] * 3, None, lambda _: [])
    for reply in LeanDecoder(LeanModel(model), 4).decode(PROMPTS, whole_groups(3, 2), 1.0, limits, 3):
        expected = logprobs_of(plain, PROMPTS[reply.prompt_index], reply.tokens)
        assert reply.logprobs == pytest.approx(expected.detach().numpy(), abs=1e-4)
