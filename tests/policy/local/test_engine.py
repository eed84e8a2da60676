"""Which engine serves, told by a config alone, is what the loaded model gets."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers

from ttd_core.errors import ModelUnavailableError
from ttd_core.policy.base import TellsEngine
from ttd_core.policy.local import engine
from ttd_core.policy.local.lean import model
from ttd_core.policy.local.plain import attention

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
}
MODELS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM, {}),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM, {}),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM, {"head_dim": 32}),
    "qwen3_moe": (
        *(transformers.Qwen3MoeConfig, transformers.Qwen3MoeForCausalLM),
        {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    ),
    "gpt_oss": (
        *(transformers.GptOssConfig, transformers.GptOssForCausalLM),
        {"head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2},
    ),
    "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM, {"head_dim": 16}),
    "odd heads": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM, {"head_dim": 24}),
    "other activation": (transformers.LlamaConfig, transformers.LlamaForCausalLM, {"hidden_act": "gelu"}),
    "dynamic rotation": (
        *(transformers.LlamaConfig, transformers.LlamaForCausalLM),
        {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_config_tells_what_the_model_would(name: str) -> None:
    config_class, model_class, changes = MODELS[name]
    config = config_class(**(SMALL | changes))
    with torch.device("meta"):
        whole = model.why_unsupported(model_class(config))
    assert engine.why_config_unsupported(config.to_dict()) == whole


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"layer_types": ["full_attention", "sliding_attention"]},
        {"layer_types": ["chunked_attention", "linear_attention"]},
        {"attn_logit_softcapping": 50.0},
    ],
)
def test_attention_that_nothing_computes_is_told_by_the_config(changes: dict[str, Any]) -> None:
    told = engine.why_config_refused(changes)
    if told:
        with pytest.raises(ModelUnavailableError, match=f"model 'x' uses {told}, which"):
            attention.require_known_attention(SimpleNamespace(**changes), "x")
    else:
        attention.require_known_attention(SimpleNamespace(**changes), "x")
    assert bool(told) == ("chunked" in str(changes) or "softcapping" in str(changes))


def test_why_an_engine_serves() -> None:
    cpu, ready = engine.machine_lacks(False, False), engine.machine_lacks(True, True)
    lean = str(engine.chosen("auto", ready, ""))
    assert lean == "lean (written out for this family): a CUDA device, and a family that it knows"
    assert str(engine.chosen("auto", cpu, "")) == (
        "plain (transformers' own code): the model runs on the CPU, and the lean engine on CUDA devices"
    )
    # What the model lacks is said before what the machine does: another machine would not help.
    assert engine.chosen("auto", cpu, "its head size is 24").reason == "its head size is 24"
    assert "Triton" in engine.chosen("auto", engine.machine_lacks(True, False), "").reason
    for wanted in ("lean", "plain"):
        assert engine.chosen(wanted, cpu, "") == engine.Engine(wanted, "policy.options.engine asks for it")


def test_a_policy_tells_its_engine(make_policy: Any) -> None:
    policy = make_policy(model_changes={"hidden_size": 64})
    assert isinstance(policy, TellsEngine)
    assert str(policy.engine).startswith("plain (transformers' own code): the model runs on the CPU")
