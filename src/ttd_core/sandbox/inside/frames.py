"""Frames: how values cross the sandbox's boundary, both ways. No pickle, no ``.npy``, no zip.

::

    "ttd1" | uint32 header length | header (JSON, <= 4 KiB) | body (JSON) | raw array buffers | end of stream

The header gives the body's length and each array's dtype and shape, so the reader knows the exact byte
count before it reads any of it. In the body an array is ``{"$array": index}``. The reader refuses what the
writer never produces: NaN in JSON, repeated keys, deep nesting, dtypes off the list, arrays unused or used
twice, bytes left over.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

MAGIC = b"ttd1"
#: Bytes of the largest message on a control socket, and most descriptors that come with one.
PACKET, PACKET_DESCRIPTORS = 1 << 18, 8
PREFIX = struct.Struct("=4sI")
MAX_HEADER = 4096
MAX_ARRAYS = 16
#: Of a frame that the trusted process writes: a problem may inject more than a candidate may return.
MAX_TRUSTED_HEADER = 1 << 16
MAX_TRUSTED_ARRAYS = 512
MAX_DIMENSIONS = 8
MAX_DEPTH = 32
#: Of what the trusted process writes: room for a result of the greatest depth among a job's arguments.
MAX_TRUSTED_DEPTH = 40
MAX_BODY = 16 << 20
#: Numbers, texts, lists and mappings in JSON: an empty list takes three bytes there, and a hundred here.
MAX_VALUES = 1 << 21
MAX_MESSAGE = 500
#: Of an integer in JSON: what numpy's largest holds, so that no verifier overflows.
MAX_BITS = 64

ITEM_SIZES = {
    "bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8,
    "uint64": 8, "float32": 4, "float64": 8,
}  # fmt: skip

#: Entries of a list below which looking at it as a whole takes longer than entry by entry.
_FEW = 16
_PLAIN = (bool, int, float, str)
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


class FrameError(ValueError):
    """A frame, or a value to be framed, is not what the channel carries; one line for people."""


class Header(NamedTuple):
    """What a frame's header says of what follows it.

    :param status: how the writer says it ended (a claim).
    :param message: the writer's line for people (a claim).
    :param body: bytes of JSON.
    :param arrays: dtype name and shape of each buffer, in order.
    """

    status: str
    message: str
    body: int
    arrays: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def sizes(self) -> list[int]:
        """Bytes of each buffer."""
        return [ITEM_SIZES[dtype] * math.prod(shape) for dtype, shape in self.arrays]

    @property
    def total(self) -> int:
        """Bytes after the header."""
        return self.body + sum(self.sizes)


# -- writing ---------------------------------------------------------------------------------------------


def _where(path: tuple[str | int, ...]) -> str:
    return "the value" + "".join(f"[{part!r}]" for part in path)


class _Packer:
    """Replaces arrays by references and anything else by JSON, or says where it cannot."""

    def __init__(self, inline_arrays: bool, depth: int) -> None:
        self.arrays: list[np.ndarray[Any, Any]] = []
        self.inline_arrays = inline_arrays
        self.depth = depth

    def pack(self, value: Any, path: tuple[str | int, ...] = ()) -> Any:
        if value is None or type(value) in _PLAIN:
            if type(value) is int and value.bit_length() > MAX_BITS:
                raise FrameError(f"{_where(path)} is an integer of more than {MAX_BITS} bits")
            if type(value) is float and not math.isfinite(value):
                raise FrameError(f"{_where(path)} is {value}: only finite numbers can be returned")
            return value
        if len(path) >= self.depth:
            raise FrameError(f"{_where(path[:3])}... is nested deeper than {self.depth} levels")
        if isinstance(value, list | tuple):
            return [self.pack(item, (*path, index)) for index, item in enumerate(value)]
        if isinstance(value, Mapping):
            return self._mapping(value, path)
        if hasattr(value, "__array_interface__") or hasattr(value, "dtype"):
            return self._array(value, path)
        for plain in _PLAIN:
            if isinstance(value, plain):
                return self.pack(plain(value), path)
        raise FrameError(f"{_where(path)} is a {type(value).__name__}: neither JSON nor a numpy array")

    def _mapping(self, value: Mapping[Any, Any], path: tuple[str | int, ...]) -> dict[str, Any]:
        packed: dict[str, Any] = {}
        for key, item in value.items():
            if type(key) is not str or key == "$array":
                raise FrameError(f"{_where(path)} has the key {str(key)[:40]!r}: keys must be plain strings")
            packed[key] = self.pack(item, (*path, key))
        return packed

    def _array(self, value: Any, path: tuple[str | int, ...]) -> Any:
        import numpy as np  # noqa: PLC0415 (a job without arrays never pays for numpy)

        if isinstance(value, np.generic):
            item = value.item()
            if isinstance(item, np.generic):
                item = float(item)
            return self.pack(item, path)
        if type(value) is not np.ndarray:
            raise FrameError(f"{_where(path)} is a {type(value).__name__}: return a plain numpy array")
        name = value.dtype.name
        if value.dtype.kind == "f" and name not in ITEM_SIZES:
            value = value.astype(np.float64)
        elif name not in ITEM_SIZES:
            raise FrameError(f"{_where(path)} is an array of dtype {name}: use numbers (float64 or integers)")
        if value.ndim > MAX_DIMENSIONS:
            raise FrameError(f"{_where(path)} has {value.ndim} dimensions: at most {MAX_DIMENSIONS}")
        if self.inline_arrays:
            return self.pack(value.tolist(), path)
        self.arrays.append(np.ascontiguousarray(value, value.dtype.newbyteorder("=")).reshape(value.shape))
        return {"$array": len(self.arrays) - 1}


def encode(value: Any, status: str = "ok", message: str = "", *, trusted: bool = False) -> list[Any]:
    """Frame a value as a list of buffers to write in order.

    More than 16 arrays (a list of points, say) travel as nested lists instead, unless the trusted process
    writes.

    :param trusted: whether the trusted process writes, for a job to read.
    :raises FrameError: when a part of ``value`` is neither JSON nor an allowed array; says which.
    """
    packer = _Packer(inline_arrays=False, depth=MAX_TRUSTED_DEPTH if trusted else MAX_DEPTH)
    packed = packer.pack(value)
    if trusted and len(packer.arrays) > MAX_TRUSTED_ARRAYS:
        raise FrameError(f"a job is given {len(packer.arrays)} arrays: at most {MAX_TRUSTED_ARRAYS}")
    if not trusted and len(packer.arrays) > MAX_ARRAYS:
        packer = _Packer(inline_arrays=True, depth=MAX_DEPTH)
        packed = packer.pack(value)
    body = json.dumps(packed, allow_nan=False, check_circular=False).encode()
    if len(body) > MAX_BODY:
        raise FrameError(f"the value takes {len(body)} bytes as JSON: return large data as numpy arrays")
    if not trusted and _is_crowded(body):
        raise FrameError(_CROWDED)
    listed = [[array.dtype.name, list(array.shape)] for array in packer.arrays]
    text = {"status": status, "message": message[:MAX_MESSAGE], "body": len(body), "arrays": listed}
    header = json.dumps(text).encode()
    buffers = [array.reshape(-1).view("uint8").data for array in packer.arrays if array.size]
    return [PREFIX.pack(MAGIC, len(header)) + header + body, *buffers]


# -- reading ---------------------------------------------------------------------------------------------


def _refuse_constant(name: str) -> None:
    raise FrameError(f"JSON holds {name}: only finite numbers can be returned")


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise FrameError("JSON repeats a key")
    return mapping


_CROWDED = f"JSON holds more than {MAX_VALUES} values: return large data as numpy arrays"


def _structure(data: bytes) -> int:
    return sum(map(data.count, (b"[", b"{", b",", b":")))


def _is_crowded(data: bytes) -> bool:
    """Whether JSON holds more values than are read; told from its bytes, before any becomes an object.

    Every value but the first follows one of four characters, which texts may hold too: only where those are
    many are texts left out.
    """
    if _structure(data) <= MAX_VALUES:
        return False
    if data.count(b'"') - data.count(b'\\"') > 2 * MAX_VALUES:
        return True  # that many texts are too many by themselves
    return _structure(_STRING.sub(b"", data)) > MAX_VALUES


def strict_json(data: bytes, *, trusted: bool = False) -> Any:
    """Parse JSON that is UTF-8, free of NaN and of repeated keys, and of at most :data:`MAX_VALUES` values.

    :param trusted: whether the trusted process wrote it: then it may hold more values.
    :raises FrameError: for anything else.
    """
    if not trusted and _is_crowded(data):
        raise FrameError(_CROWDED)
    try:
        return json.loads(data.decode(), parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except FrameError:
        raise
    except RecursionError:
        raise FrameError(f"JSON is nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:
        raise FrameError(f"not JSON: {error}") from None


def _natural(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 48:
        raise FrameError("a size in the header is not a natural number")
    return value


def _header_arrays(listed: Any, most: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    if not isinstance(listed, list) or len(listed) > most:
        raise FrameError(f"the header lists more than {most} arrays")
    for entry in listed:
        if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[1], list):
            raise FrameError("the header describes an array in an unknown form")
        dtype, shape = entry
        if not isinstance(dtype, str) or dtype not in ITEM_SIZES:
            raise FrameError("the header names a dtype that is not allowed")
        if len(shape) > MAX_DIMENSIONS:
            raise FrameError(f"an array has more than {MAX_DIMENSIONS} dimensions")
        yield dtype, tuple(_natural(length) for length in shape)


def header_length(prefix: bytes, most: int = MAX_HEADER) -> int:
    """Bytes of header after the eight of the prefix; at most ``most``.

    :raises FrameError: when the prefix is not a frame's.
    """
    magic, length = PREFIX.unpack(prefix)
    if magic != MAGIC:
        raise FrameError("the result does not start as a frame does")
    if not 0 < length <= most:
        raise FrameError(f"the header takes {length} bytes: at most {most}")
    return int(length)


def read_header(data: bytes, most_arrays: int = MAX_ARRAYS) -> Header:
    """Parse a header that lists at most ``most_arrays`` arrays.

    :raises FrameError: when it is malformed.
    """
    fields = strict_json(data)
    if not isinstance(fields, dict) or set(fields) != {"status", "message", "body", "arrays"}:
        raise FrameError("the header has other fields than a frame's")
    if not isinstance(fields["status"], str) or not isinstance(fields["message"], str):
        raise FrameError("the header's status and message are not text")
    body = _natural(fields["body"])
    if not body:
        raise FrameError("the frame has no JSON")
    if body > MAX_BODY:
        raise FrameError(f"the JSON takes {body} bytes: at most {MAX_BODY}")
    return Header(
        fields["status"], fields["message"], body, tuple(_header_arrays(fields["arrays"], most_arrays))
    )


class _Unpacker:
    """Puts arrays in the place of references, and refuses what :class:`_Packer` never writes."""

    def __init__(self, arrays: Sequence[Any], most: int) -> None:
        self.arrays = arrays
        self.most = most
        self.unused = set(range(len(arrays)))

    def unpack(self, value: Any, depth: int = 0) -> Any:
        """The value with arrays in their places; lists and mappings are changed, not copied."""
        if depth > self.most:
            raise FrameError(f"JSON is nested deeper than {self.most} levels")
        if isinstance(value, list):
            if len(value) < _FEW or depth == self.most or not _are_plain_numbers(value):
                for index, item in enumerate(value):
                    value[index] = self.unpack(item, depth + 1)
        elif isinstance(value, dict):
            if "$array" in value:
                return self._array(value)
            for key, item in value.items():
                value[_text(key)] = self.unpack(item, depth + 1)
        elif isinstance(value, str):
            _text(value)
        elif isinstance(value, float) and not math.isfinite(value):
            raise FrameError("JSON holds a number too large for a float")
        elif type(value) is int and value.bit_length() > MAX_BITS:
            raise FrameError(f"JSON holds an integer of more than {MAX_BITS} bits")
        return value

    def _array(self, value: dict[str, Any]) -> Any:
        index = value["$array"]
        if len(value) != 1 or type(index) is not int or index not in self.unused:
            raise FrameError("JSON refers to an array that is absent or already used")
        self.unused.remove(index)
        return self.arrays[index]


def _are_plain_numbers(values: list[Any]) -> bool:
    """Whether a list, not empty, holds numbers alone that may all pass; no step of Python's for each."""
    if not {float, int, bool}.issuperset(map(type, values)):
        return False
    return bool(min(values) > -(2.0**MAX_BITS) and max(values) < 2.0**MAX_BITS)


def _text(value: str) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise FrameError("JSON holds text that is not valid Unicode") from None
    return value


def decode(body: bytes, arrays: Sequence[Any], *, trusted: bool = False) -> Any:
    """The value of a frame from its body and its arrays.

    :param trusted: whether the trusted process wrote it: then it may be nested deeper and hold more values.
    :raises FrameError: when the body is not what :func:`encode` writes.
    """
    unpacker = _Unpacker(arrays, MAX_TRUSTED_DEPTH if trusted else MAX_DEPTH)
    value = unpacker.unpack(strict_json(body, trusted=trusted))
    if unpacker.unused:
        raise FrameError("the frame holds arrays that its JSON does not refer to")
    return value


def decode_buffer(buffer: memoryview) -> Any:
    """The value of a whole frame held in memory; its arrays share that memory (for trusted input).

    :raises FrameError: when the frame is malformed.
    """
    start = PREFIX.size + header_length(bytes(buffer[: PREFIX.size]), MAX_TRUSTED_HEADER)
    header = read_header(bytes(buffer[PREFIX.size : start]), MAX_TRUSTED_ARRAYS)
    if len(buffer) != start + header.total:
        raise FrameError("the frame is longer or shorter than its header says")
    arrays = []
    offset = start + header.body
    for (dtype, shape), size in zip(header.arrays, header.sizes, strict=True):
        import numpy as np  # noqa: PLC0415 (a job without arrays never pays for numpy)

        arrays.append(np.frombuffer(buffer[offset : offset + size], dtype).reshape(shape))
        offset += size
    return decode(bytes(buffer[start : start + header.body]), arrays, trusted=True)
