"""Small models of the families that run lean, with random weights and adapters."""

from __future__ import annotations

import warnings
from typing import Any

import peft
import torch
import transformers

from ttd_core.policy.local.adapter import lora_config
from ttd_core.policy.local.plain import attention

VOCABULARY = 97
FAMILY = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
}


_SETTINGS: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 4096,
}
#: Mixtures: what their config says beside the sizes they share with the others.
MIXTURES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "qwen3_moe": (transformers.Qwen3MoeConfig, transformers.Qwen3MoeForCausalLM, {"norm_topk_prob": True}),
    "qwen3_moe, shares as they are": (
        transformers.Qwen3MoeConfig,
        transformers.Qwen3MoeForCausalLM,
        {"norm_topk_prob": False, "num_experts_per_tok": 3},
    ),
    "qwen3_moe, some layers dense": (
        transformers.Qwen3MoeConfig,
        transformers.Qwen3MoeForCausalLM,
        {"norm_topk_prob": True, "mlp_only_layers": [0]},
    ),
    "gpt_oss": (
        transformers.GptOssConfig,
        transformers.GptOssForCausalLM,
        {"intermediate_size": 32, "sliding_window": 8, "pad_token_id": 0},
    ),
}


def make_mixture(kind: str = "qwen3_moe", adapted: bool = True, adapt: Any = "auto", **changes: Any) -> Any:
    """A mixture with five experts, two a token where ``kind`` does not say otherwise."""
    config, model, extra = MIXTURES[kind]
    sizes = {"num_experts": 5, "num_local_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
    return _finished(model(config(**(_SETTINGS | sizes | extra | changes))), adapted, adapt)


def make_model(kind: str = "qwen3", adapted: bool = True, adapt: Any = "auto", **changes: Any) -> Any:
    config, model = FAMILY[kind]
    return _finished(model(config(**(_SETTINGS | changes))), adapted, adapt)


def _finished(made: Any, adapted: bool, adapt: Any = "auto") -> Any:
    torch.manual_seed(0)
    for name, parameter in made.named_parameters():
        parameter.data.normal_(1.0 if "norm" in name else 0.0, 0.2)
    attention.install(made)
    if adapted:
        lora = lora_config(made, adapt, 3, 6)
        with warnings.catch_warnings():
            # peft asks transformers by a name that transformers has since deprecated.
            warnings.simplefilter("ignore", FutureWarning)
            wrapped = peft.get_peft_model(made, lora)
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(0, 0.3)
    return made.eval()
