"""What is installed here of that which some requirements lead to, directly or not."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def installed_versions(needed: Iterable[Requirement]) -> dict[str, str]:
    """Names and versions of all distributions in this environment that the requirements lead to.

    What is not installed is left out: an optional library, or one for another kind of machine.
    """
    versions: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(need, "") for need in needed]
    while waiting:
        need, extra = waiting.pop()
        if need.marker is not None and not need.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(need.name)
        for asked in {"", *need.extras} - {asked for known, asked in seen if known == name}:
            seen.add((name, asked))
            try:
                installed = importlib.metadata.distribution(name)
            except importlib.metadata.PackageNotFoundError:
                continue
            versions[name] = installed.version
            waiting += [(Requirement(line), asked) for line in installed.requires or ()]
    return versions
