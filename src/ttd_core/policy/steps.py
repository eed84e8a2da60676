"""Which kernels a device gets: the Triton ones on CUDA, the reference elsewhere."""

from __future__ import annotations

import contextlib
import importlib.util
from typing import Any

import torch

from ttd_core.policy.kernels import reference, reference_training

#: Head sizes that the device kernels take: powers of two, as Triton's blocks are, that fit in shared memory.
HEAD_SIZES = (16, 32, 64, 128)


def available(device: torch.device) -> bool:
    """Whether the Triton kernels can run on ``device``."""
    return device.type == "cuda" and importlib.util.find_spec("triton") is not None


def on(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Work on ``device``: kernels and graphs go to the thread's current one, wherever their tensors are."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def load(device: torch.device) -> Any:
    """The module of decoding's kernels for ``device``."""
    if not available(device):
        return reference
    from ttd_core.policy.kernels import device as decoding  # noqa: PLC0415 - Triton loads on use

    return decoding


def load_training(device: torch.device) -> Any:
    """The module of training's kernels for ``device``."""
    if not available(device):
        return reference_training
    from ttd_core.policy.kernels import device_training  # noqa: PLC0415 - Triton loads on use

    return device_training
