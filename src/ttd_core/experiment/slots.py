"""How the runs of an experiment share a machine: to each its GPU and its processor cores."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import attrs

from ttd_core.config import RunConfig
from ttd_core.policy.local.devices import cuda_devices


@attrs.frozen
class Slot:
    """What one run at a time has to itself.

    :param cores: processor cores.
    :param device: the GPU, as ``CUDA_VISIBLE_DEVICES`` names it; ``None`` leaves the environment as it is.
    """

    cores: tuple[int, ...]
    device: str | None = None

    def environment(self) -> Mapping[str, str]:
        """What a process in this slot finds set beside this process's environment."""
        return {} if self.device is None else {"CUDA_VISIBLE_DEVICES": self.device}


def divide(cores: Sequence[int], parallel: int) -> list[tuple[int, ...]]:
    """Cores in ``parallel`` shares that differ by one core at most; all get all where there are too few."""
    if len(cores) < parallel:
        return [tuple(cores)] * parallel
    size, more = divmod(len(cores), parallel)
    shares, start = [], 0
    for number in range(parallel):
        end = start + size + (number < more)
        shares.append(tuple(cores[start:end]))
        start = end
    return shares


def make_slots(configs: Sequence[RunConfig], parallel: int | None) -> list[Slot]:
    """The slots of an experiment on this machine.

    A GPU is given out where a run's policy is local and would use one. With more runs at a time than GPUs,
    several share one.

    :param configs: of the runs to be made.
    :param parallel: runs at a time; by default one for each GPU, one on a machine without.
    """
    wants_gpu = any(config.policy.backend == "local" and config.policy.device != "cpu" for config in configs)
    devices = cuda_devices() if wants_gpu else []
    count = min(parallel or max(1, len(devices)), max(1, len(configs)))
    shares = divide(sorted(os.sched_getaffinity(0)), count)
    return [
        Slot(cores, devices[number % len(devices)] if devices else None)
        for number, cores in enumerate(shares)
    ]
