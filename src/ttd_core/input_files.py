"""Files that people hand in: text, JSON values, tables and arrays, read as data and never executed.

What a file holds decides how it is read, never its name. Each form costs bounded memory, whatever its header
claims: 256 MiB as it is stored and again as it is unpacked, and about 1 GiB in all for text.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import pathlib
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from ttd_core.errors import UsageError
from ttd_core.text import decode_text, showable_line

#: Largest data file read, in bytes, unpacked.
MAX_FILE_BYTES = 256 * 1024 * 1024
#: Largest program or config read, in bytes.
MAX_TEXT_BYTES = 16 * 1024 * 1024
#: Largest JSON text or table read, in bytes; larger data belongs into ``.npy``.
MAX_JSON_BYTES = 128 * 1024 * 1024
#: Of a JSON text: most values, most lists and objects among them, deepest nesting, digits of a whole number.
MAX_VALUES, MAX_LISTS, MAX_DEPTH, MAX_DIGITS = 5_000_000, 500_000, 100, 4000
#: Most arrays of an ``.npz``, and the longest header of each, in bytes (numpy's own limit).
MAX_ARRAYS, MAX_HEADER = 1000, 10_000
_GZIP = b"\x1f\x8b"
_NPY = b"\x93NUMPY"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_HDF5 = b"\x89HDF\r\n\x1a\n"
#: First bytes of files that are often handed in and are not read here, and what they are.
_OTHERS = {
    _HDF5: "an HDF5 file, which this problem does not read",
    b"BZh": "packed by bzip2: unpack it first",
    b"\xfd7zXZ\x00": "packed by xz: unpack it first",
    b"\x28\xb5\x2f\xfd": "packed by zstd: unpack it first",
    b"\x80\x03": "a pickle, which is never read: save arrays with numpy.save",
    b"\x80\x04": "a pickle, which is never read: save arrays with numpy.save",
    b"\x80\x05": "a pickle, which is never read: save arrays with numpy.save",
    b"PAR1": "a Parquet file, which is not read: save arrays with numpy.save",
    b"%PDF": "a PDF",
}
#: What reading a damaged file may raise: numpy's header is Python source, and its container is zipfile's.
_DAMAGED = (
    *(
        ValueError,
        TypeError,
        LookupError,
        ArithmeticError,
        EOFError,
        SyntaxError,
        RecursionError,
        MemoryError,
    ),
    *(OSError, RuntimeError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)


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


def read_text_file(path: pathlib.Path, limit: int = MAX_TEXT_BYTES) -> str:
    r"""A text file: UTF-8, or UTF-16 and UTF-32 with a byte order mark; line ends become ``\n``.

    :param limit: most bytes, as stored and as unpacked.
    :raises UsageError: when it cannot be read, is larger, or is no text.
    """
    data = read_bytes(path, limit)
    try:
        return decode_text(data)
    except ValueError as error:
        raise UsageError(f"{path}: not a text file: {error}") from error


def is_data(path: pathlib.Path) -> bool:
    """Whether a file begins as numpy's or HDF5's do, packed by gzip or not.

    :raises UsageError: when it cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(16)
            if head.startswith(_GZIP):
                file.seek(0)
                with gzip.open(file) as unpacked:
                    head = unpacked.read(16)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return False
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return head.startswith((_NPY, _HDF5, *_ZIP))


def read_data_file(path: pathlib.Path) -> Any:
    """Read JSON values, a table of numbers or arrays from a file, never executing anything in it.

    What the file holds decides, not its name: numpy's ``.npy`` and ``.npz`` are known by their first bytes
    (pickles are refused), all else is text: JSON, one JSON value a line, or numbers separated by commas,
    blanks, tabs or semicolons, with or without a line of names above. Each may be packed by gzip.

    :return: of JSON the value (``NaN`` and ``Infinity`` are read, for the checks to refuse), or the values of
        the lines; of a table the rows, its only row or column as a plain list, or the columns by name where
        they have names; the array; the arrays of an ``.npz``, or the fields of a structured array, by name.
    :raises UsageError: when the file is missing, too large, or not what it seems.
    """
    data = read_bytes(path, MAX_FILE_BYTES)
    kind, read = _kind(data, path.suffix.lower())
    try:
        return read(data)
    except _DAMAGED as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UsageError(f"{path}: not {kind}: {showable_line(reason)[:300]}") from error


def _kind(data: bytes, suffix: str) -> tuple[str, Callable[[bytes], Any]]:
    """What a file is, in words, and what reads it."""
    if data.startswith(_NPY):
        return "a numpy array", _npy
    if data.startswith(_ZIP):
        return "numpy arrays (.npz)", _npz
    reason = next((what for mark, what in _OTHERS.items() if data.startswith(mark)), "")
    if suffix in (".npy", ".npz"):
        reason = reason or ("it does not begin as numpy's files do" if data else "the file is empty")
    named = {".npy": "a numpy array", ".npz": "numpy arrays (.npz)"}.get(suffix)

    def refuse(_data: bytes) -> Any:
        raise ValueError(reason)

    return named or "JSON", refuse if reason else _text_values


def _text_values(data: bytes) -> Any:
    """JSON, JSON lines, or a table of numbers."""
    if len(data) > MAX_JSON_BYTES:
        raise ValueError(f"text of more than {MAX_JSON_BYTES} bytes; save arrays with numpy.save")
    text = decode_text(data)
    # An upper bound of what will be made, whatever stands in quotes.
    lists = text.count("[") + text.count("{")
    if lists > MAX_LISTS or lists + text.count(",") + text.count("\n") > MAX_VALUES:
        raise ValueError(
            f"more than {MAX_LISTS} lists or {MAX_VALUES} values; save arrays with numpy.save instead"
        )
    try:
        return _json(text)
    except json.JSONDecodeError as error:
        for other in (_json_lines, _table):
            try:
                return other(text)
            except _NotSo:
                continue
        raise ValueError(_where(text, error)) from error


class _NotSo(Exception):
    """The text has another form."""


def _json(text: str) -> Any:
    value = json.loads(text, object_pairs_hook=_object, parse_int=_integer)
    level, depth = [value], 0
    while level := [
        item
        for each in level
        if isinstance(each, list | dict)
        for item in (each.values() if isinstance(each, dict) else each)
        if isinstance(item, list | dict)
    ]:
        depth += 1
        if depth >= MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} lists")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in value if names.count(name) > 1)
        raise ValueError(f"the key '{twice[:60]}' stands twice in one object")
    return value


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a whole number of {len(digits)} digits")
    return int(digits)


def _json_lines(text: str) -> list[Any]:
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) < 2:
        raise _NotSo
    try:
        return [_json(line) for line in lines]
    except json.JSONDecodeError as error:
        raise _NotSo from error


def _table(text: str) -> Any:
    """Rows of numbers, or columns by name; comments (``#``) and blank lines are skipped."""
    if text.count("\n") > 2 * MAX_LISTS:
        raise ValueError(f"a table of more than {2 * MAX_LISTS} lines; save arrays with numpy.save instead")
    lines = [line.strip() for line in text.split("\n")]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise _NotSo
    mark = next((mark for mark in "\t;," if mark in lines[0]), None)
    rows = [
        [cell.strip() for cell in (line[: -len(mark)] if mark and line.endswith(mark) else line).split(mark)]
        for line in lines
    ]
    names = rows.pop(0) if any(_number(cell) is None for cell in rows[0]) else None
    if not rows or len({len(row) for row in rows}) > 1 or (names and len(names) != len(rows[0])):
        raise _NotSo
    numbers = [[_number(cell) for cell in row] for row in rows]
    if any(number is None for row in numbers for number in row):
        raise _NotSo
    if names:
        columns = [list(column) for column in zip(*numbers, strict=True)]
        return _object([(name.strip("\"' "), column) for name, column in zip(names, columns, strict=True)])
    if len(numbers) == 1 or len(numbers[0]) == 1:
        return [number for row in numbers for number in row]
    return numbers


def _number(cell: str) -> float | None:
    # `float` also takes underscores and the digits of other scripts.
    if "_" in cell or not cell.isascii():
        return None
    try:
        return float(cell)
    except ValueError:
        return None


def _where(text: str, error: json.JSONDecodeError) -> str:
    """What is wrong with a text, and what stands there."""
    if not text.strip():
        return "the file is empty"
    here = showable_line(text[error.pos : error.pos + 40])
    stands = f"where '{here}' stands" if here else "where the text ends"
    return f"{error.msg}: line {error.lineno} column {error.colno}, {stands}"


def _npy(data: bytes) -> Any:
    # A header may claim any shape; what is allocated is bounded by the bytes that are there.
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    width = "<H" if version == (1, 0) else "<I"
    (length,) = struct.unpack(width, data[8 : 8 + struct.calcsize(width)])
    if length > MAX_HEADER:
        raise ValueError(f"its header claims {length} bytes; at most {MAX_HEADER} are read")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers written by old versions, and of odd source in them
        shape, _, dtype = (
            np.lib.format.read_array_header_1_0(stream)
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0(stream)
        )
        if dtype.hasobject:
            raise ValueError("it holds pickled objects, which are never read: save numbers, one array each")
        if dtype.itemsize == 0 or (dtype.names is None and dtype.kind not in "biufcSU"):
            raise ValueError(f"its entries are of type {dtype}, which is not read")
        if any(size < 0 for size in shape) or math.prod(shape) * dtype.itemsize > len(data) - stream.tell():
            raise ValueError("it is cut short")
        stream.seek(0)
        array = np.load(stream, allow_pickle=False)
    names = array.dtype.names
    return array if names is None else {name: array[name] for name in names}


def _npz(data: bytes) -> dict[str, Any]:
    # The list of entries is read whole before it can be counted; each begins with these bytes.
    if data.count(b"PK\x01\x02") > MAX_ARRAYS:
        raise ValueError(f"more than {MAX_ARRAYS} arrays")
    arrays: dict[str, Any] = {}
    room = MAX_FILE_BYTES
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archive.infolist():
            name = entry.filename.removesuffix(".npy")
            if name == entry.filename:
                raise ValueError(f"it holds '{name[:60]}', which is no array")
            if name in arrays:
                raise ValueError(f"it holds two arrays named '{name[:60]}'")
            # What numpy writes; other methods unpack without a bound.
            if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"'{name[:60]}' is encrypted, or packed otherwise than numpy does")
            with archive.open(entry) as file:
                content = file.read(room + 1)
            room -= len(content)
            if room < 0:
                raise ValueError(f"larger than {MAX_FILE_BYTES} bytes when unpacked")
            arrays[name] = _npy(content)
    return arrays
