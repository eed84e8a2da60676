"""Objects of an HDF5 file from anywhere: no other file is read, and sizes are bounded before anything is.

An HDF5 file can name others: by external links, by external storage of a dataset and by virtual datasets.
None is followed. Its datasets may claim any size that nothing in the file stands for.
"""

from __future__ import annotations

import math
import resource
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ttd_bio.sparse_parts import MAX_SIDE, MAX_STORED, native
from ttd_core.text import showable_line

#: Most bytes of all names of one side of a matrix.
MAX_NAME_BYTES = 2**28
#: Most bytes of one chunk of a dataset.
MAX_CHUNK_BYTES = 2**30
#: Size from which on a dataset must have stored bytes, and how many of its bytes one of those may stand for:
#: gzip packs 1032 into one at most.
_STORED_FROM, _MOST_PACKED = 2**26, 2000
#: Most soft links in a row.
_MAX_LINKS = 8
_NAMES_AT_ONCE = 2**14


def shown(name: str) -> str:
    """A name out of a file, for a message."""
    line = showable_line(name)
    return line if len(line) <= 60 else line[:57] + "..."


def listed(group: h5py.Group, limit: int = 1000) -> list[str]:
    """Names in a group, at most ``limit``, without following any link."""
    names = []
    for name in group:
        names.append(name if isinstance(name, str) else name.decode(errors="replace"))
        if len(names) == limit:
            break
    return names


def member(group: Any, *path: str, links: int = _MAX_LINKS) -> Any:
    """The object under a path of names, or ``None``.

    :param group: anything; what is no group has no members.
    :raises ValueError: where the way leads into another file.
    """
    here = group
    for name in path:
        here = _step(here, name, links) if isinstance(here, h5py.Group) else None
    return here


def _step(group: h5py.Group, name: str, links: int) -> Any:
    # Group.get and `in` would open the file that an external link names.
    word = name.encode("utf-8", "surrogateescape")
    if not group.id.links.exists(word):
        return None
    kind = group.id.links.get_info(word).type
    if kind == h5py.h5l.TYPE_HARD:
        return group[name]
    if kind != h5py.h5l.TYPE_SOFT:
        raise ValueError(f"'{shown(name)}' is a link to another file, which is never followed")
    if not links:
        raise ValueError(f"'{shown(name)}' is a link that leads in a circle")
    target = group.id.links.get_val(word).decode("utf-8", "surrogateescape")
    start = group.file["/"] if target.startswith("/") else group
    parts = [part for part in target.split("/") if part not in ("", ".")]
    return member(start, *parts, links=links - 1)


def text_attribute(thing: Any, name: str) -> str:
    """An attribute that is text; empty when there is none."""
    value = thing.attrs.get(name, "") if thing is not None else ""
    return (
        value.decode("utf-8", "replace")
        if isinstance(value, bytes)
        else value
        if isinstance(value, str)
        else ""
    )


def numbers(dataset: Any, what: str, dimensions: int = 1) -> npt.NDArray[Any]:
    """All of a dataset of numbers, in this machine's byte order.

    :param what: it is, for messages.
    :raises ValueError: when it is no dataset of numbers, or has other dimensions, is too large, or lies in
        another file.
    """
    _refuse_elsewhere(dataset, what)
    if dataset.dtype.kind not in "biuf":
        raise ValueError(f"{what} holds {dataset.dtype}, not numbers")
    if dataset.ndim != dimensions:
        raise ValueError(f"{what} has {dataset.ndim} dimensions, not {dimensions}")
    _refuse_large(dataset, what, MAX_STORED)
    _make_room(dataset.size * max(8, dataset.dtype.itemsize))
    return native(np.asarray(dataset[()]))


def strings(thing: Any, what: str) -> list[str] | None:
    """Names, stored in any of AnnData's ways; ``None`` when in one that is not known.

    :param thing: text of variable or fixed length, numbers, or a group that holds a categorical or nullable
        array.
    :raises ValueError: as :func:`numbers`.
    """
    if isinstance(thing, h5py.Group):
        codes, categories = member(thing, "codes"), member(thing, "categories")
        if codes is not None and categories is not None:
            return _categorical(numbers(codes, what), strings(categories, what), what)
        values = member(thing, "values")
        return None if values is None or isinstance(values, h5py.Group) else strings(values, what)
    if thing is None or "categories" in thing.attrs:
        return None
    _refuse_elsewhere(thing, what)
    if thing.ndim != 1:
        raise ValueError(f"{what} have {thing.ndim} dimensions, not 1")
    _refuse_large(thing, what, MAX_SIDE)
    return _texts(thing, what)


def column(frame: h5py.Dataset, what: str) -> list[str] | None:
    """The names in a table as one dataset of records, as AnnData wrote before 0.7."""
    _refuse_elsewhere(frame, what)
    fields = frame.dtype.names
    if frame.ndim != 1 or not fields:
        return None
    _refuse_large(frame, what, MAX_SIDE)
    name = next((field for field in ("index", "_index") if field in fields), fields[0])
    return _readable(frame[name].tolist())


def _texts(dataset: h5py.Dataset, what: str) -> list[str] | None:
    text = h5py.check_string_dtype(dataset.dtype)
    if text is None and dataset.dtype.kind not in "biufS":
        return None
    found: list[str] = []
    left = MAX_NAME_BYTES
    for start in range(0, len(dataset), _NAMES_AT_ONCE):
        block = _readable(dataset[start : start + _NAMES_AT_ONCE].tolist())
        left -= sum(map(len, block))
        if left < 0:
            raise ValueError(f"{what} have more than {MAX_NAME_BYTES} characters in all")
        found += block
    return found


def _readable(values: Sequence[Any]) -> list[str]:
    return [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values]


def _categorical(codes: npt.NDArray[Any], names: list[str] | None, what: str) -> list[str] | None:
    if names is None:
        return None
    if codes.dtype.kind not in "iu" or (len(codes) and int(codes.max()) >= len(names)):
        raise ValueError(f"{what} are damaged: a code has no category")
    return [names[code] if code >= 0 else "" for code in codes.tolist()]


def _make_room(size: int) -> None:
    """Raise the limit on this process' memory by what reading so many bytes takes, where there is one.

    What a packed piece of a dataset unpacks to is known only once it is unpacked, and the limit ends that.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_AS, (min(hard, soft + 2 * size), hard))


def _refuse_elsewhere(dataset: Any, what: str) -> None:
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"{what} {'is missing' if dataset is None else 'is no dataset'}")
    if dataset.is_virtual:
        raise ValueError(f"{what} is a virtual dataset, made of other datasets' parts, which is never read")
    if dataset.external:
        raise ValueError(f"{what} lies in another file, which is never read")
    if dataset.shape is None:
        raise ValueError(f"{what} is empty")


def _refuse_large(dataset: h5py.Dataset, what: str, most: int) -> None:
    size = dataset.size * dataset.dtype.itemsize
    says = f"{what} says to have {' x '.join(map(str, dataset.shape))} entries of {dataset.dtype}"
    if dataset.size > most or size > 8 * MAX_STORED:
        raise ValueError(f"{says}, more than is read")
    if size > max(_STORED_FROM, _MOST_PACKED * dataset.id.get_storage_size()):
        raise ValueError(f"{says}, and holds next to none of them")
    if dataset.chunks and math.prod(dataset.chunks) * dataset.dtype.itemsize > MAX_CHUNK_BYTES:
        raise ValueError(f"{what} is stored in pieces of more than {MAX_CHUNK_BYTES} bytes")
