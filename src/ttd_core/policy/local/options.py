"""The options of the ``local`` backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

import attrs

from ttd_core.config import RunConfig
from ttd_core.config.settings import at_least, fill, setting

#: Replies decoded at once where the config does not say, by engine; the lean one lets in as many as fit.
DEFAULT_ROWS: Mapping[str, int] = {"lean": 512, "plain": 64}


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
