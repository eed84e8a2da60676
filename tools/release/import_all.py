"""Run by the interpreter of a fresh environment: imports every module of an installed package.

    python import_all.py PACKAGE [LIBRARY ...]

A module may lack one of the named libraries, those of extras that are not installed, and nothing else. Prints
how many were imported. Knows the standard library only.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterator

#: Folders of sources that candidates start from or call: texts for the sandbox, no modules of ours.
TEXTS = {"helpers", "programs"}


def modules(package: str) -> Iterator[str]:
    """Names of all modules of a package, itself included, but those that run when imported."""
    yield package
    for found in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        parts = found.name.split(".")
        if not TEXTS & set(parts) and parts[-1] != "__main__":
            yield found.name


def main(package: str, *optional: str) -> None:
    """The command line."""
    imported = 0
    for name in modules(package):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] not in optional:
                raise
        else:
            imported += 1
    print(imported)


if __name__ == "__main__":
    main(*sys.argv[1:])
