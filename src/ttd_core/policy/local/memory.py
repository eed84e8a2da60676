"""How much memory a device has free."""

from __future__ import annotations

import torch


def free_bytes(device: torch.device) -> int:
    """On a CUDA device, what the driver has free and what torch holds without using it; else the host's."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    with open("/proc/meminfo", encoding="ascii") as lines:
        fields = dict(line.split(":", 1) for line in lines)
    return int(fields["MemAvailable"].split()[0]) * 1024
