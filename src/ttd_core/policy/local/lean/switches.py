"""Ways to be quicker that are off until they are measured in the engine: the variables that turn them on."""

from __future__ import annotations

import os

#: The adapters' second products are added by the kernels that read a projection's result.
FUSE_ADAPTER = "TTD_LEAN_FUSE_ADAPTER"
#: Packed experts are arranged for the matrix units.
ARRANGE_EXPERTS = "TTD_LEAN_ARRANGE_EXPERTS"


def is_on(variable: str) -> bool:
    """Whether the environment sets a variable to 1."""
    return os.environ.get(variable) == "1"
