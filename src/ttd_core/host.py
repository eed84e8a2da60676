"""The machine that this process runs on."""

from __future__ import annotations

import os


def memory_bytes() -> int:
    """All memory that the machine has; limits of a container are not in it."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
