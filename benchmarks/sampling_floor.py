"""The time of a step of sampling that no decoder gets below; what counts is in `benchmarks/sampling.py`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import models
import numpy as np
import torch


def synchronize() -> None:
    """Wait for the device, if there is one beside the CPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(call: Callable[[], Any], times: int = 1) -> float:
    """How long so many calls take, their work on the device included."""
    synchronize()
    start = time.perf_counter()
    for _ in range(times):
        call()
    synchronize()
    return time.perf_counter() - start


def ceilings(device: torch.device) -> tuple[float, float]:
    """Bytes a second of a large copy, and operations a second of a large product in the models' dtype."""
    small = device.type == "cpu"
    size, width, dtype = (2**24, 512, torch.float32) if small else (2**31, 8192, torch.bfloat16)
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    a, b = (torch.randn(width, width, device=device, dtype=dtype) for _ in range(2))
    works: list[tuple[Callable[[], Any], int]] = [
        (lambda: target.copy_(source), 2 * size),
        (lambda: a @ b, 2 * width**3),
    ]
    rates = []
    for work, amount in works:
        work()
        rates.append(20 * amount / seconds(work, 20))
    return rates[0], rates[1]


def floor_step(
    model: Any,
    rows: int,
    group: int,
    prompt: int,
    new: int,
    rates: tuple[float, float],
    read: float | None = None,
) -> float:
    """Seconds of one step at the ceilings, averaged over a reply.

    :param group: rows that share a prompt.
    :param prompt: its tokens.
    :param new: tokens of a reply.
    :param rates: see :func:`ceilings`.
    :param read: experts of a layer that a step reads; those of an even draw by default.
    """
    work, config = models.Work.of(model), model.config
    token = 2 * config.num_key_value_heads * config.head_dim * model.dtype.itemsize
    own = np.arange(1, new + 1)
    moved = work.step_bytes(rows, read)
    for layer in model.model.layers:
        window = getattr(layer.self_attn, "sliding_window", None) or prompt + new
        of_prompt = np.clip(window - own, 0, prompt).mean()
        moved += token * (rows // group * of_prompt + rows * np.minimum(own, window).mean())
    return max(moved / rates[0], 2 * (work.layer_weights + work.head_weights) * rows / rates[1])
