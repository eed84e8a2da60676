"""The GPUs that this process may use."""

from __future__ import annotations

import os

import torch


def cuda_devices() -> list[str]:
    """Their names for ``CUDA_VISIBLE_DEVICES``, one each; empty without CUDA."""
    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    named = [name.strip() for name in visible.split(",") if name.strip()]
    return named[:count] if named else [str(number) for number in range(count)]
