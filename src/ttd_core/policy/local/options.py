"""The options of the ``local`` backend."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, Self

import attrs

from ttd_core.config import RunConfig
from ttd_core.config.settings import at_least, fill, setting
from ttd_core.errors import ConfigError

#: Replies decoded at once where the config does not say, by engine; the lean one lets in as many as fit.
DEFAULT_ROWS: Mapping[str, int] = {"lean": 512, "plain": 64}

_CUDA = re.compile(r"cuda(?::([0-9]{1,4}))?")


def cuda_number(device: str) -> int | None:
    """Which CUDA device ``policy.device`` names, from 0; ``None`` for ``auto`` and ``cpu``.

    :raises ConfigError: when it is no device that models are run on here.
    """
    if device in ("auto", "cpu"):
        return None
    named = _CUDA.fullmatch(device)
    if named is None:
        raise ConfigError(f"policy.device = {device!r} is not a device; use auto, cpu, cuda or cuda:N")
    return int(named[1] or 0)


@attrs.frozen
class LocalOptions:
    """What ``policy.options`` takes."""

    devices: int = setting(1, "devices of this host to sample and learn on", validator=at_least(1))
    engine: Literal["auto", "lean", "plain"] = setting(
        "auto",
        "lean (some families of models), plain (transformers' own code), or auto: lean on a GPU",
    )
    adapter: Literal["refuse", "merge", "ignore"] = setting(
        "refuse",
        "what to do with an adapter in the model's folder: refuse, merge it into the weights, or ignore it",
    )
    adapt: Literal["auto", "attention", "all"] = setting(
        "auto",
        "what learns: all linear layers and experts, those of attention, or auto: all, of mixtures attention",
    )

    replay_routing: bool = setting(
        False,
        "learn with the experts that were chosen while sampling (mixtures of experts, lean, one device)",
    )

    @classmethod
    def of(cls, config: RunConfig) -> Self:
        """Those of a config.

        :raises ConfigError: when one is unknown or does not fit.
        """
        return fill(cls, config.policy.options, prefix="policy.options.")
