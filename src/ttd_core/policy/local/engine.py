"""Which engine serves a model, told by its config alone: nothing is loaded, and torch is not needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from ttd_core.text import showable_line

#: Families that the lean engine has written out.
FAMILIES = frozenset({"gpt_oss", "llama", "qwen2", "qwen3", "qwen3_moe"})
#: Rotary embeddings whose angles depend on nothing but the position.
_ROPE_TYPES = frozenset({"default", "linear", "llama3", "yarn"})
#: Powers of two, as the blocks of its Triton kernels are, that fit in shared memory.
_HEAD_SIZES = (16, 32, 64, 128)
_ATTENTION = frozenset({"full_attention", "sliding_attention"})


@attrs.frozen
class Engine:
    """Which engine serves, and why.

    :param name: ``lean`` or ``plain``.
    :param reason: in words.
    """

    name: str
    reason: str

    def __str__(self) -> str:
        whose = "written out for this family" if self.name == "lean" else "transformers' own code"
        return f"{self.name} ({whose}): {self.reason}"


def machine_lacks(on_gpu: bool, has_triton: bool) -> str:
    """Why no model runs lean on a device; empty if some do."""
    if not on_gpu:
        return "the model runs on the CPU, and the lean engine on CUDA devices"
    return "" if has_triton else "Triton, which the lean engine's kernels are written in, is not installed"


def chosen(wanted: str, lacks: str, unsupported: str) -> Engine:
    """The engine that a config gets.

    :param wanted: ``policy.options.engine``.
    :param lacks: why no model runs lean on the device; empty if some do.
    :param unsupported: why the model cannot run lean; empty if it can.
    """
    if wanted == "plain":
        return Engine("plain", "policy.options.engine asks for it")
    if wanted == "lean" and not unsupported:
        return Engine("lean", "policy.options.engine asks for it")
    if unsupported:
        return Engine("plain", unsupported)
    if lacks:
        return Engine("plain", lacks)
    return Engine("lean", "a CUDA device, and a family that it knows")


def why_config_unsupported(config: Mapping[str, Any]) -> str:
    """Why the model of a config cannot run lean, as far as a config tells; empty if it can."""
    quantization = config.get("quantization_config")
    method = quantization.get("quant_method") if isinstance(quantization, Mapping) else None
    if not (reason := why_layers_unsupported(config)) and method not in (None, "mxfp4"):
        return "its projections are not plain linear layers"
    return reason


def why_layers_unsupported(config: Mapping[str, Any]) -> str:
    """The same, whatever numbers the weights are published in: of a loaded model its modules tell that."""
    family = str(config.get("model_type", ""))
    if family not in FAMILIES:
        return f"model type '{showable_line(family)}' is none of {', '.join(sorted(FAMILIES))}"
    rope = _rope_type(config)
    if rope not in _ROPE_TYPES:
        return f"its rotary embedding is of type '{showable_line(rope)}'"
    if config.get("hidden_act", "silu") != "silu":
        return f"its activation is '{showable_line(str(config['hidden_act']))}', not silu"
    hidden, heads = config.get("hidden_size"), config.get("num_attention_heads")
    head_size = config.get("head_dim")
    if head_size is None and isinstance(hidden, int) and isinstance(heads, int) and heads > 0:
        head_size = hidden // heads
    if head_size not in _HEAD_SIZES:
        return f"its head size is {head_size}, none of {_HEAD_SIZES}"
    return ""


def why_config_refused(config: Mapping[str, Any]) -> str:
    """What a model's attention has that neither engine computes; empty if nothing."""
    text = config.get("text_config")
    own = {**config, **text} if isinstance(text, Mapping) else config
    types = own.get("layer_types")
    named = {str(kind) for kind in types} if isinstance(types, list) else set()
    unknown = [showable_line(kind) for kind in sorted(named - _ATTENTION)]
    if own.get("attn_logit_softcapping") is not None:
        unknown.append("capped attention scores")
    return ", ".join(unknown)


def _rope_type(config: Mapping[str, Any]) -> str:
    """The type of a rotary embedding, under the names that releases of transformers had for it."""
    for name in ("rope_parameters", "rope_scaling"):
        rope = config.get(name)
        if isinstance(rope, Mapping):
            return str(rope.get("rope_type") or rope.get("type") or "default")
    return "default"
