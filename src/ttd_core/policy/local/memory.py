"""How much memory a device has free, and whether a model fits before anything of it is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ttd_core.errors import EnvironmentLacksError
from ttd_core.policy.local import sizes
from ttd_core.policy.models.folder import ModelFolder


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
    return sizes.tensors_bytes(folder.tensors, dtype.itemsize, keep_packed)


def reply_bytes(config: Mapping[str, Any], dtype: torch.dtype, context: int) -> int:
    """Memory of the keys and values of one prompt and reply (:func:`.sizes.reply_bytes`)."""
    return sizes.reply_bytes(config, dtype.itemsize, context)


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
