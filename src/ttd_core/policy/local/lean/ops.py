"""Which operations a device gets: Triton kernels on CUDA, plain torch elsewhere."""

from __future__ import annotations

import contextlib
import importlib.util
from typing import Any

import torch

from ttd_core.policy.local.lean.kernels import (
    reference_expert_ops,
    reference_ops,
    reference_training_ops,
)


def has_triton(device: torch.device) -> bool:
    """Whether the Triton kernels can run on ``device``."""
    return device.type == "cuda" and importlib.util.find_spec("triton") is not None


def on_device(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Make ``device`` the thread's current one for a ``with`` block.

    Kernels and graphs go to the current device, wherever their tensors are.
    """
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def decoding_ops(device: torch.device) -> Any:
    """The module of decoding's operations for ``device``: :mod:`.reference_ops` or its Triton twin."""
    if not has_triton(device):
        return reference_ops
    from ttd_core.policy.local.lean.kernels import triton_ops  # noqa: PLC0415 - Triton loads on use

    return triton_ops


def training_ops(device: torch.device) -> Any:
    """The module of training's operations: :mod:`.reference_training_ops` or its Triton twin."""
    if not has_triton(device):
        return reference_training_ops
    from ttd_core.policy.local.lean.kernels import triton_training_ops  # noqa: PLC0415 - Triton loads on use

    return triton_training_ops


def expert_ops(device: torch.device) -> Any:
    """The module of the operations of mixtures: :mod:`.reference_expert_ops` or its Triton twin."""
    if not has_triton(device):
        return reference_expert_ops
    from ttd_core.policy.local.lean.kernels import triton_expert_ops  # noqa: PLC0415 - Triton loads on use

    return triton_expert_ops
