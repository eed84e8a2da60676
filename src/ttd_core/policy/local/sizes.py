"""Memory that a model takes, by its files' headers and its config; arithmetic only, without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ttd_core.policy.models.files import TensorHeader

#: Bytes of a number, by the names that safetensors has for floats; other tensors are taken as bytes.
_FLOAT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
_INTEGER_BYTES = {"I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2}


def tensors_bytes(tensors: Mapping[str, TensorHeader], element: int, keep_packed: bool) -> int:
    """Memory of weights as they will lie on the device.

    :param tensors: by name.
    :param element: bytes of what is stored as floats.
    :param keep_packed: experts in four bits stay so; else each byte becomes two numbers.
    """
    total = 0
    for name, tensor in tensors.items():
        numbers = math.prod(tensor.shape)
        if tensor.dtype in _FLOAT_BYTES:
            total += numbers * element
        elif not keep_packed and name.endswith("_blocks"):
            total += 2 * numbers * element
        elif keep_packed or not name.endswith("_scales"):
            total += numbers * _INTEGER_BYTES.get(tensor.dtype, 1)
    return total


def reply_bytes(config: Mapping[str, Any], element: int, context: int) -> int:
    """Memory of the keys and values of one prompt and reply; 0 where the config does not say their shape.

    :param element: bytes of a number.
    :param context: tokens of both together; the model's own limit counts where it is lower.
    """
    heads = config.get("num_attention_heads")
    layers, kv_heads = config.get("num_hidden_layers"), config.get("num_key_value_heads") or heads
    size = config.get("head_dim") or int(config.get("hidden_size") or 0) // int(heads or 1)
    if not (isinstance(layers, int) and isinstance(kv_heads, int) and isinstance(size, int)):
        return 0
    tokens = min(context, int(config.get("max_position_embeddings") or context))
    return tokens * layers * 2 * kv_heads * size * element
