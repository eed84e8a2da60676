"""The config of a run: everything that determines it, from defaults, a file and the command line.

A config is stored as resolved (``config.toml`` and ``run.db``), so a run says what it did. Keys are dotted
(``learn.kl_coefficient``). What there is to set is in :mod:`.schema`, how the layers are put together in
:mod:`.layers`, how any attrs class is filled from plain values in :mod:`.settings`.
"""

from __future__ import annotations

from ttd_core.config.layers import (
    Difference,
    describe_settings,
    diff,
    digest,
    flatten,
    from_layers,
    from_toml,
    load,
    override,
    parse_sets,
    to_toml,
)
from ttd_core.config.presets import PRESETS
from ttd_core.config.schema import (
    RESUMABLE_KEYS,
    RESUMABLE_OPTIONS,
    VARIANTS,
    DeadlineConfig,
    LearnConfig,
    PolicyConfig,
    RunConfig,
    SandboxConfig,
    SearchConfig,
)
from ttd_core.config.without_effect import without_effect

__all__ = [
    "PRESETS",
    "RESUMABLE_KEYS",
    "RESUMABLE_OPTIONS",
    "VARIANTS",
    "DeadlineConfig",
    "Difference",
    "LearnConfig",
    "PolicyConfig",
    "RunConfig",
    "SandboxConfig",
    "SearchConfig",
    "describe_settings",
    "diff",
    "digest",
    "flatten",
    "from_layers",
    "from_toml",
    "load",
    "override",
    "parse_sets",
    "to_toml",
    "without_effect",
]
