"""How much memory a device has free, and whether a model fits before anything of it is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from ttd_core.errors import EnvironmentLacksError
from ttd_core.policy.models.folder import ModelFolder

#: Bytes of a number, by the names that safetensors has for floats; other tensors are taken as bytes.
_FLOAT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
_INTEGER_BYTES = {"I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2}


def free_bytes(device: torch.device) -> int:
    """On a CUDA device, what the driver has free and what torch holds without using it; else the host's."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    with open("/proc/meminfo", encoding="ascii") as lines:
        fields = dict(line.split(":", 1) for line in lines)
    return int(fields["MemAvailable"].split()[0]) * 1024


def weight_bytes(folder: ModelFolder, dtype: torch.dtype, keep_packed: bool) -> int:
    """Memory of a model's weights as they will lie on the device, by the headers of its files.

    :param dtype: of what is stored as floats.
    :param keep_packed: experts in four bits stay so; else each byte becomes two numbers.
    """
    total = 0
    for name, tensor in folder.tensors.items():
        numbers = math.prod(tensor.shape)
        if tensor.dtype in _FLOAT_BYTES:
            total += numbers * dtype.itemsize
        elif not keep_packed and name.endswith("_blocks"):
            total += 2 * numbers * dtype.itemsize
        elif keep_packed or not name.endswith("_scales"):
            total += numbers * _INTEGER_BYTES.get(tensor.dtype, 1)
    return total


def reply_bytes(config: Mapping[str, Any], dtype: torch.dtype, context: int) -> int:
    """Memory of the keys and values of one prompt and reply; 0 where the config does not say their shape.

    :param context: tokens of both together; the model's own limit counts where it is lower.
    """
    heads = config.get("num_attention_heads")
    layers, kv_heads = config.get("num_hidden_layers"), config.get("num_key_value_heads") or heads
    size = config.get("head_dim") or int(config.get("hidden_size") or 0) // int(heads or 1)
    if not (isinstance(layers, int) and isinstance(kv_heads, int) and isinstance(size, int)):
        return 0
    tokens = min(context, int(config.get("max_position_embeddings") or context))
    return tokens * layers * 2 * kv_heads * size * dtype.itemsize


def require_room(
    folder: ModelFolder, dtype: torch.dtype, device: torch.device, keep_packed: bool, context: int
) -> None:
    """Refuse a model that a CUDA device has no room for, before it is loaded.

    :raises EnvironmentLacksError: says what does not fit, by how much, and what would help.
    """
    if device.type != "cuda":
        return
    free = free_bytes(device)
    weights, reply = weight_bytes(folder, dtype, keep_packed), reply_bytes(folder.config, dtype, context)
    has = f"{device} has {free / 1e9:.1f} GB free"
    if weights > free:
        packed = weight_bytes(folder, dtype, True)
        kept = (
            f" (the lean engine keeps experts packed, {packed / 1e9:.1f} GB: leave policy.options.engine out)"
            if packed <= free
            else ""
        )
        raise EnvironmentLacksError(
            f"the weights of the model in {folder.path} take {weights / 1e9:.1f} GB and {has}{kept}; "
            "choose a smaller model or a device with more memory"
        )
    if weights + reply > free:
        raise EnvironmentLacksError(
            f"the model in {folder.path} takes {weights / 1e9:.1f} GB, one reply of policy.context = "
            f"{context} tokens {reply / 1e9:.1f} GB, and {has}; lower policy.context or choose a device with "
            "more memory"
        )
