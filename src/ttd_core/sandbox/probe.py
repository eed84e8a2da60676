"""Which level this machine can form, found by trying."""

from __future__ import annotations

from ttd_core.errors import SandboxUnavailableError
from ttd_core.sandbox import launch
from ttd_core.sandbox.base import Level


def choose(level: str, exactly: Level | None = None) -> launch.Means:
    """The means to form a level."""
    strong = launch.Means(Level.STRONG, bubblewrap=launch.find_bubblewrap(), landlock=7, seccomp=True)
    standard = launch.Means(Level.STANDARD, landlock=7, seccomp=True)
    if exactly is Level.STANDARD or not strong.bubblewrap:
        if level == "strong":
            raise SandboxUnavailableError("sandbox level strong needs bubblewrap: apt install bubblewrap")
        return standard
    return strong
