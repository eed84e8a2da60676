"""How long a run may take on this machine, said before it begins where that is hours.

Only for a model that is sampled here without a GPU, where the defaults, which are the paper's, would take
months. Reckoned from above: every reply as long as it may be, at a speed that is assumed and told. What comes
on top of that is learning, and the programs' own time.
"""

from __future__ import annotations

import os
import pathlib
import re

from ttd_core.config import RunConfig
from ttd_core.sandbox.reserve import has_gpu

#: Tokens a second of a model of one billion parameters on one processor core, replies in batches: with half a
#: billion on two cores, 33 to 56 were measured.
TOKENS_PER_SECOND = 12.0
#: Hours from which on a run is warned of.
HOURS = 2.0
_SIZE = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", re.IGNORECASE)
_UNKNOWN_BILLIONS = 0.5


def warning(config: RunConfig) -> str:
    """What to say before a run begins; empty where it would not take hours, or nothing is known of it."""
    if config.policy.backend != "local" or has_gpu(config.policy.device):
        return ""
    cores = len(os.sched_getaffinity(0))
    model = config.policy.model
    speed = tokens_per_second(model, cores)
    rollouts = config.groups * config.group_size
    seconds = config.steps * rollouts * reply_tokens(config) / speed
    if seconds < HOURS * 3600:
        return ""
    work = f"{config.steps} steps of {rollouts} rollouts of up to {reply_tokens(config):,} tokens"
    assumed = f"{speed:.0f} tokens/s (assumed for {model} on {cores} cores)"
    return (
        f"{work} on a CPU: up to {_in_words(seconds)}, at {assumed}. --preset laptop is sized for two cores; "
        "policy.max_new_tokens bounds a reply"
    )


def reply_tokens(config: RunConfig) -> int:
    """The most tokens that a reply may have."""
    return min(config.policy.max_new_tokens or config.policy.context, config.policy.context)


def tokens_per_second(model: str, cores: int) -> float:
    """The speed that is assumed, by the size that a model's name tells, half a billion if none."""
    found = _SIZE.findall(pathlib.PurePath(model).name)
    billions = _UNKNOWN_BILLIONS
    if found:
        number, unit = found[-1]
        billions = float(number) / (1000 if unit.lower() == "m" else 1)
    return TOKENS_PER_SECOND * cores / max(billions, 0.01)


def _in_words(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:.0f} hours" if hours < 48 else f"{hours / 24:,.0f} days"
