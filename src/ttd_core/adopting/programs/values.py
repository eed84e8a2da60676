"""Values of a call as text and back: Python's plain data and numpy's arrays, and nothing that could act."""

from __future__ import annotations

import base64
import json

_DEEPEST = 40
_KINDS = "biufc"


class NotDataError(TypeError):
    """A value holds something that is no data."""


def encode(value):
    """A value as text.

    :raises NotDataError: when it holds anything but data; says what.
    """
    return json.dumps(_pack(value, 0), allow_nan=False, separators=(",", ":"))


def decode(text):
    """Inverse of :func:`encode`.

    :raises ValueError: when the text is no such value.
    """
    return _unpack(json.loads(text))


def _pack(value, depth):
    if depth > _DEEPEST:
        raise NotDataError(f"nested more than {_DEEPEST} deep")
    kind = type(value)
    if value is None or kind in (bool, str):
        return value
    if kind is int:
        return {"i": str(value)} if abs(value) >= 1 << 53 else value
    if kind is float:
        return {"f": value.hex()}
    if kind is complex:
        return {"c": [value.real.hex(), value.imag.hex()]}
    if kind in (bytes, bytearray):
        return {"b": base64.b64encode(value).decode()}
    if kind is list:
        return [_pack(each, depth + 1) for each in value]
    if kind in (tuple, set, frozenset):
        return {kind.__name__[0] + "s": [_pack(each, depth + 1) for each in value]}
    if kind is dict:
        return {"d": [[_pack(name, depth + 1), _pack(each, depth + 1)] for name, each in value.items()]}
    if kind.__module__ == "numpy" and hasattr(value, "dtype") and value.dtype.kind in _KINDS:
        data = {"t": value.dtype.newbyteorder("=").str, "s": list(value.shape)}
        data["v"] = base64.b64encode(value.astype(data["t"]).tobytes()).decode()
        return {"a" if kind.__name__ == "ndarray" else "n": data}
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    raise NotDataError(f"a value of type {module}{kind.__qualname__}")


_SEQUENCES = {"ts": tuple, "ss": set, "fs": frozenset}


def _unpack(packed):
    if isinstance(packed, list):
        return [_unpack(each) for each in packed]
    if not isinstance(packed, dict):
        return packed
    ((mark, inner),) = packed.items()
    if mark in _SEQUENCES:
        return _SEQUENCES[mark](_unpack(each) for each in inner)
    if mark == "i":
        return int(inner)
    if mark == "f":
        return float.fromhex(inner)
    if mark == "c":
        return complex(*map(float.fromhex, inner))
    if mark == "b":
        return base64.b64decode(inner)
    if mark == "d":
        return {_unpack(name): _unpack(each) for name, each in inner}
    return _array(mark, inner)


def _array(mark, inner):
    import numpy  # noqa: PLC0415 (a program without arrays may be where there is none)

    dtype = numpy.dtype(inner["t"])
    if mark not in ("a", "n") or dtype.kind not in _KINDS:
        raise ValueError(f"no value is marked {mark!r}")
    flat = numpy.frombuffer(base64.b64decode(inner["v"]), dtype)
    return flat.reshape(inner["s"]).copy() if mark == "a" else flat[0]
