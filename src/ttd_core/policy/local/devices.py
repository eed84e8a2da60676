"""The GPUs that this process may use, and which device and numbers a config gets."""

from __future__ import annotations

import os

import torch

from ttd_core.errors import EnvironmentLacksError
from ttd_core.policy.local.options import cuda_number
from ttd_core.text import counted


def cuda_devices() -> list[str]:
    """Their names for ``CUDA_VISIBLE_DEVICES``, one each; empty without CUDA."""
    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    named = [name.strip() for name in visible.split(",") if name.strip()]
    return named[:count] if named else [str(number) for number in range(count)]


def choose_device(wanted: str) -> torch.device:
    """``auto`` takes the first CUDA device, else the CPU.

    :raises ConfigError: when it is no device that models are run on.
    :raises EnvironmentLacksError: when a CUDA device is asked for that is not here.
    """
    number = cuda_number(wanted)
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if number is None:
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if number >= count:
        finds = f"{counted(count, 'CUDA device')} here, numbered from 0" if count else "no CUDA device here"
        raise EnvironmentLacksError(f"policy.device: '{wanted}' was asked for, but torch finds {finds}")
    return torch.device(wanted)


def choose_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """``auto``: bfloat16 where the hardware multiplies it natively, else float32.

    Without native support bfloat16 on a CPU is emulated: slower than float32 and less exact.
    """
    if wanted != "auto":
        return torch.bfloat16 if wanted == "bfloat16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    capabilities = torch.backends.cpu.get_cpu_capability()
    features = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    native = (
        features.get("avx512_bf16", False) or features.get("amx_bf16", False) or features.get("bf16", False)
    )
    return torch.bfloat16 if native and capabilities != "DEFAULT" else torch.float32
