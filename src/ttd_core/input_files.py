"""Files that people hand in: text, JSON values and arrays, read as data and never executed."""

from __future__ import annotations

import gzip
import io
import json
import pathlib
import zipfile
import zlib
from typing import Any

import numpy as np

from ttd_core.errors import UsageError
from ttd_core.text import decode_text

#: Largest data file read, in bytes, unpacked.
MAX_FILE_BYTES = 256 * 1024 * 1024
#: Largest program or config read, in bytes.
MAX_TEXT_BYTES = 16 * 1024 * 1024
_GZIP = b"\x1f\x8b"
_NPY = b"\x93NUMPY"
_ZIP = b"PK\x03\x04"


def read_bytes(path: pathlib.Path, limit: int) -> bytes:
    """A file's content, unpacked where it is gzip's.

    :param limit: most bytes, as stored and as unpacked.
    :raises UsageError: when it cannot be read, is larger, or is damaged.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
            if len(data) <= limit and data.startswith(_GZIP):
                file.seek(0)
                with gzip.open(file) as unpacked:
                    data = unpacked.read(limit + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UsageError(f"{path}: damaged gzip file: {error}") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > limit:
        raise UsageError(f"{path}: larger than the {limit} bytes that are read")
    return data


def read_text_file(path: pathlib.Path) -> str:
    r"""A text file: UTF-8, or UTF-16 and UTF-32 with a byte order mark; line ends become ``\n``.

    :raises UsageError: when it cannot be read or is no text.
    """
    data = read_bytes(path, MAX_TEXT_BYTES)
    try:
        return decode_text(data)
    except ValueError as error:
        raise UsageError(f"{path}: not a text file: {error}") from error


def read_data_file(path: pathlib.Path) -> Any:
    """Read JSON values or arrays from a file, never executing anything in it.

    What the file holds decides, not its name: numpy's ``.npy`` and ``.npz`` are known by their first bytes
    (pickles are refused), all else is JSON text. Each of them may be packed by gzip.

    :return: the JSON value (``NaN`` and ``Infinity`` are read, for the checks to refuse), the array, or the
        arrays of an ``.npz`` by name.
    :raises UsageError: when the file is missing, too large, or not what it seems.
    """
    data = read_bytes(path, MAX_FILE_BYTES)
    kind = "JSON"
    try:
        if data.startswith(_NPY):
            kind = "a numpy array"
            return _npy(data)
        if data.startswith(_ZIP):
            kind = "numpy arrays (.npz)"
            return _npz(data)
        if path.suffix.lower() in (".npy", ".npz"):
            raise ValueError("the file is empty" if not data else "it does not begin as numpy's files do")
        return json.loads(decode_text(data))
    except (ValueError, EOFError, RecursionError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        kind = {".npy": "a numpy array", ".npz": "numpy arrays (.npz)"}.get(path.suffix.lower(), kind)
        raise UsageError(f"{path}: not {kind}: {' '.join(str(error).split())}") from error


def _npy(data: bytes) -> Any:
    # A header may claim any shape; what is allocated is bounded by the bytes that are there.
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    shape, _, dtype = (
        np.lib.format.read_array_header_1_0(stream)
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0(stream)
    )
    if dtype.hasobject:
        raise ValueError("it holds pickled objects, which are never read")
    if int(np.prod(shape, dtype=object)) * dtype.itemsize > len(data):
        raise ValueError("it is cut short")
    stream.seek(0)
    return np.load(stream, allow_pickle=False)


def _npz(data: bytes) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > MAX_FILE_BYTES:
            raise ValueError(f"larger than {MAX_FILE_BYTES} bytes when unpacked")
        for entry in archive.infolist():
            arrays[entry.filename.removesuffix(".npy")] = _npy(archive.read(entry))
    return arrays
