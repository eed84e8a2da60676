"""Small models of the family that runs lean, with random weights and adapters."""

from __future__ import annotations

import warnings
from typing import Any

import peft
import torch
import transformers

from ttd_core.policy.local.plain import attention

VOCABULARY = 97
FAMILY = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
}


def make_model(kind: str = "qwen3", adapted: bool = True, **changes: Any) -> Any:
    torch.manual_seed(0)
    config, model = FAMILY[kind]
    settings = {
        "vocab_size": VOCABULARY,
        "hidden_size": 48,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 4096,
    }
    made = model(config(**(settings | changes)))
    for name, parameter in made.named_parameters():
        parameter.data.normal_(1.0 if "norm" in name else 0.0, 0.2)
    attention.install(made)
    if adapted:
        lora = peft.LoraConfig(r=3, lora_alpha=6, target_modules="all-linear", task_type="CAUSAL_LM")
        with warnings.catch_warnings():
            # peft asks transformers by a name that transformers has since deprecated.
            warnings.simplefilter("ignore", FutureWarning)
            wrapped = peft.get_peft_model(made, lora)
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(0, 0.3)
    return made.eval()
