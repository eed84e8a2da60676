"""The two rates that a plan is reckoned from, measured on this machine: a large copy and a large product."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from ttd_core.policy.local import devices

#: Wall seconds that each of the two is repeated for.
_SECONDS = 1.0


def measure_device(device: str, dtype: str) -> tuple[float, float, int]:
    """Bytes a second of a large copy, operations a second of a large product, and bytes of a number.

    :param device: as ``policy.device``.
    :param dtype: as ``policy.dtype``; the product is measured in what a run would take.
    :raises EnvironmentLacksError: when there is no such device.
    """
    where = devices.choose_device(device)
    chosen = devices.choose_dtype(dtype, where)
    on_gpu = where.type == "cuda"
    size, rows, width = (2**31, 8192, 8192) if on_gpu else (2**27, 64, 2048)
    source = torch.empty(size, dtype=torch.uint8, device=where)
    target = torch.empty_like(source)
    # On a processor a few rows at a time, as sampling has it: large products are much faster there.
    a = torch.randn(rows, width, device=where).to(chosen)
    b = torch.randn(width, width, device=where).to(chosen)
    copied = 2 * size / _seconds(lambda: target.copy_(source), on_gpu)
    multiplied = 2 * rows * width * width / _seconds(lambda: a @ b.T, on_gpu)
    return copied, multiplied, chosen.itemsize


@torch.inference_mode()
def _seconds(work: Callable[[], object], on_gpu: bool) -> float:
    """Seconds of one call, the fastest tenth of many."""
    times: list[float] = []
    work()
    end = time.perf_counter() + _SECONDS
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        work()
        if on_gpu:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 10]
