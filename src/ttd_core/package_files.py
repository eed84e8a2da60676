"""Texts that a plugin ships beside its modules: prompts, programs, helpers."""

from __future__ import annotations

import importlib.resources


def package_text(package: str, *path: str) -> str:
    """A text file of an installed package.

    :param package: its import name.
    :param path: folders and the file's name, below the package.
    :raises OSError: when there is no such file.
    """
    return importlib.resources.files(package).joinpath(*path).read_text(encoding="utf-8")
