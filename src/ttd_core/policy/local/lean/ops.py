"""Which kernels a device gets: the Triton ones on CUDA, the reference elsewhere."""

from __future__ import annotations

import contextlib
import importlib.util
from typing import Any

import torch

from ttd_core.policy.local.lean.kernels import reference_ops, reference_training_ops

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
        return reference_ops
    from ttd_core.policy.local.lean.kernels import triton_ops as decoding  # noqa: PLC0415 - Triton loads on use

    return decoding


def load_training(device: torch.device) -> Any:
    """The module of training's kernels for ``device``."""
    if not available(device):
        return reference_training_ops
    from ttd_core.policy.local.lean.kernels import triton_training_ops  # noqa: PLC0415 - Triton loads on use

    return triton_training_ops
