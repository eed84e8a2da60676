"""How many cores are kept for the run's own process, and the GPUs that decide it."""

from __future__ import annotations

import os
import pathlib

from ttd_core.config import RunConfig
from ttd_core.text import counted

#: Of the cores, what is kept for the run's own process by default at most.
_LARGEST_SHARE = 4


def has_gpu(device: str) -> bool:
    """Whether a run's model would be on a GPU; asked of the system, for torch takes seconds to load.

    :param device: ``policy.device`` of its config.
    """
    if device != "auto":
        return device != "cpu"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return not hidden and any(pathlib.Path("/dev").glob("nvidia[0-9]*"))


def sampling_devices(config: RunConfig) -> int:
    """On how many GPUs of this machine a run's model is sampled; 0 on processors, or elsewhere."""
    policy = config.policy
    if policy.backend != "local" or not has_gpu(policy.device):
        return 0
    devices = policy.options.get("devices", 1)
    return max(1, devices) if type(devices) is int else 1


def reserve_warning(config: RunConfig, cores: int) -> str:
    """What to say of more cores kept than there are; empty where there is nothing.

    :param cores: that this process may use; those of a cluster are not known before it is reached.
    """
    wanted = config.sandbox.reserve
    if config.sandbox.executor != "local" or wanted is None or wanted < cores:
        return ""
    kept = reserved_cores(config, cores)
    return (
        f"sandbox.reserve = {wanted}: of the {counted(cores, 'core')} that may be used here {kept} can be "
        "kept, for candidates need one"
    )


def reserved_cores(config: RunConfig, cores: int) -> int:
    """How many cores no candidate is to run on; one at least is left to candidates.

    :param cores: that this process may use.
    """
    wanted = config.sandbox.reserve
    if wanted is None:
        wanted = min(sampling_devices(config), cores // _LARGEST_SHARE)
    return min(wanted, cores - 1)
