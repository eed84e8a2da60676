"""Configs of models that people use, as far as sizes go: what a plan reckons with before a model is fetched.

Of the models' own ``config.json``; :mod:`.outline` takes the file itself where it is at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_QWEN25: dict[str, Any] = {"model_type": "qwen2", "vocab_size": 151_936, "max_position_embeddings": 32_768}
_QWEN3: dict[str, Any] = {
    "model_type": "qwen3",
    "vocab_size": 151_936,
    "max_position_embeddings": 40_960,
    "head_dim": 128,
    "num_key_value_heads": 8,
}
_GPT_OSS: dict[str, Any] = {
    "model_type": "gpt_oss",
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "num_experts_per_tok": 4,
    "sliding_window": 128,
    "vocab_size": 201_088,
    "max_position_embeddings": 131_072,
    "rope_scaling": {"rope_type": "yarn"},
    "quantization_config": {"quant_method": "mxfp4"},
}
_LLAMA3: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 128_256,
    "max_position_embeddings": 131_072,
    "num_key_value_heads": 8,
    "rope_scaling": {"rope_type": "llama3"},
}
_QWEN3_30B: dict[str, Any] = {
    "model_type": "qwen3_moe",
    "vocab_size": 151_936,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "num_experts": 128,
    "num_experts_per_tok": 8,
}


def _sizes(
    layers: int, hidden: int, inner: int, heads: int, kv_heads: int | None = None, *, tied: bool = False
) -> dict[str, Any]:
    sizes = {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "tie_word_embeddings": tied,
    }
    return sizes if kv_heads is None else {**sizes, "num_key_value_heads": kv_heads}


#: By hub id.
PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": {
        "model_type": "llama",
        "vocab_size": 49_152,
        "max_position_embeddings": 8192,
        **_sizes(30, 576, 1536, 9, 3, tied=True),
    },
    "Qwen/Qwen2.5-Coder-0.5B-Instruct": _QWEN25 | _sizes(24, 896, 4864, 14, 2, tied=True),
    "Qwen/Qwen2.5-Coder-1.5B-Instruct": _QWEN25 | _sizes(28, 1536, 8960, 12, 2, tied=True),
    "Qwen/Qwen2.5-Coder-7B-Instruct": _QWEN25 | _sizes(28, 3584, 18_944, 28, 4) | {"vocab_size": 152_064},
    "Qwen/Qwen2.5-Coder-32B-Instruct": _QWEN25 | _sizes(64, 5120, 27_648, 40, 8) | {"vocab_size": 152_064},
    "Qwen/Qwen3-0.6B": _QWEN3 | _sizes(28, 1024, 3072, 16, tied=True),
    "Qwen/Qwen3-1.7B": _QWEN3 | _sizes(28, 2048, 6144, 16, tied=True),
    "Qwen/Qwen3-4B": _QWEN3 | _sizes(36, 2560, 9728, 32, tied=True),
    "Qwen/Qwen3-8B": _QWEN3 | _sizes(36, 4096, 12_288, 32),
    "Qwen/Qwen3-14B": _QWEN3 | _sizes(40, 5120, 17_408, 40),
    "Qwen/Qwen3-32B": _QWEN3 | _sizes(64, 5120, 25_600, 64),
    "Qwen/Qwen3-30B-A3B": _QWEN3_30B | {"max_position_embeddings": 40_960},
    "Qwen/Qwen3-Coder-30B-A3B-Instruct": _QWEN3_30B
    | {"intermediate_size": 5472, "max_position_embeddings": 262_144},
    "meta-llama/Llama-3.2-1B-Instruct": _LLAMA3 | _sizes(16, 2048, 8192, 32, tied=True),
    "meta-llama/Llama-3.1-8B-Instruct": _LLAMA3 | _sizes(32, 4096, 14_336, 32),
    "meta-llama/Llama-3.3-70B-Instruct": _LLAMA3 | _sizes(80, 8192, 28_672, 64),
    "mistralai/Mistral-7B-Instruct-v0.3": {
        "model_type": "mistral",
        "vocab_size": 32_768,
        "max_position_embeddings": 32_768,
        **_sizes(32, 4096, 14_336, 32, 8),
    },
    "openai/gpt-oss-20b": _GPT_OSS | {"num_hidden_layers": 24, "num_local_experts": 32},
    "openai/gpt-oss-120b": _GPT_OSS | {"num_hidden_layers": 36, "num_local_experts": 128},
}


def published(name: str) -> tuple[str, Mapping[str, Any]] | None:
    """The hub id and the config of a model by its hub id, in any case, or by the id's last part."""
    wanted = name.lower()
    for hub_id, config in PUBLISHED.items():
        if wanted in (hub_id.lower(), hub_id.lower().rpartition("/")[2]):
            return hub_id, config
    return None
