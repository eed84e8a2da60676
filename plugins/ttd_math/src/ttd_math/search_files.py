"""What a search on a device keeps on disk, to go on after a stop: arrays and JSON; nothing is unpickled."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from ttd_core.errors import StorageError, UsageError
from ttd_core.input_files import read_data_file

T = TypeVar("T")


def goes_on(path: pathlib.Path, resume: bool) -> bool:
    """Whether a search goes on from the file that one left, rather than anew.

    :param resume: whether that was asked for.
    :raises UsageError: when there is such a file and nobody asked to go on, or none to go on with.
    """
    if resume and not path.exists():
        raise UsageError(f"{path}: nothing to go on with; leave --resume out")
    if path.exists() and not resume:
        raise UsageError(f"{path}: left by a search; add --resume to go on with it, or remove it")
    return resume


def write(path: pathlib.Path, said: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write the file whole or not at all.

    :param said: JSON, with the ``format`` and the ``settings`` that a search must share to go on from here.
    :raises StorageError: when it cannot be written.
    """
    text = np.frombuffer(json.dumps(said).encode(), dtype=np.uint8)
    beside = path.with_name(f"{path.name}.new")
    try:
        with beside.open("wb") as file:
            np.savez_compressed(file, said=text, **arrays)
        os.replace(beside, path)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from error


def read(
    path: pathlib.Path, form: str, settings: Mapping[str, Any], build: Callable[[dict[str, Any], Any], T]
) -> T:
    """What a search left.

    :param form: the ``format`` that is meant.
    :param settings: of the search that is to go on.
    :param build: makes it of the JSON and the arrays; may raise what damaged data makes it raise.
    :raises UsageError: when the file is none of a search, or belongs to another.
    """
    held = read_data_file(path)
    try:
        said = json.loads(bytes(held["said"]).decode())
        if said["format"] != form:
            raise ValueError(f"its format is {str(said['format'])[:40]!r}")
        kept = said["settings"]
        other = [name for name in settings if kept[name] != settings[name]]
        built = build(said, held)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise UsageError(f"{path}: not what a search left: {str(error)[:200]}") from error
    if other:
        name = other[0]
        raise UsageError(
            f"{path}: left by a search with {name} = {kept[name]}, not {settings[name]}; give the same, or "
            f"another --out"
        )
    return built
