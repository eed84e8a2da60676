"""Named sets of keys for the machines that people have: a beginning, which a file and flags then change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: By name, dotted keys with their values; the defaults are the paper's, for machines of its size.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    # Minutes a step on two processor cores.
    "laptop": {
        "steps": 3,
        "groups": 2,
        "group_size": 16,
        "policy.model": "qwen2.5-coder-0.5b",
        "policy.temperature": 0.8,
        "policy.max_new_tokens": 256,
        "policy.lora_rank": 16,
        "policy.batch": 32,
        "learn.learning_rate": 1e-4,
        "learn.micro_batch_tokens": 3072,
    },
    # One GPU, a run in hours: the size of experiments/erdos-ablation.toml, with room for whole programs.
    "gpu": {
        "steps": 20,
        "groups": 8,
        "group_size": 32,
        "policy.model": "qwen2.5-coder-1.5b",
        "policy.max_new_tokens": 2048,
    },
}


def in_words(name: str) -> str:
    """What a preset sets: ``steps=3, groups=2, ...``."""
    return ", ".join(f"{key}={value}" for key, value in PRESETS[name].items())
