"""The namespaces and the view of the file system that bubblewrap would make, made by hand."""

from __future__ import annotations

from typing import Any

_ROOT = "/tmp"


def build(view: dict[str, Any]) -> None:
    """Enter new namespaces and leave only ``view`` of the file system.

    :param view: ``user``, whether a user namespace is needed first; ``bind``, (source, target) pairs read
        only; ``devices``; ``links``, (target, path) pairs; ``folders``, empty ones; ``masks``, folders and
        files to cover.
    :raises OSError: when the kernel or its policy refuses.
    """
    raise NotImplementedError(view)
