"""The files of a model, looked at before any library reads them.

A download that was not finished, a pointer in place of a file, or a web page saved under a file's name are
found here and said in one line each. Weights are read as far as their header: names, types and shapes.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from ttd_core.errors import ModelUnavailableError, TtdError
from ttd_core.text import decode_text, showable_line

#: How files begin that stand for others, what they are, and what brings the real ones.
_POINTERS = (
    (b"version https://git-lfs.github.com/spec/", "a git-lfs pointer", "run `git lfs pull` there"),
    (b"# xet version", "a git-xet pointer", "run `git xet` or `git lfs pull` there"),
)
_PAGES = (b"<!doctype html", b"<html", b"<?xml")
_AGAIN = "download it again"
#: Most bytes of a safetensors header, as its library has it.
_MOST_HEADER_BYTES = 100_000_000


@attrs.frozen
class TensorHeader:
    """One tensor of a safetensors file.

    :param dtype: as the format writes it: ``BF16``, ``F8_E4M3``, ``I32``.
    :param shape: its lengths.
    """

    dtype: str
    shape: tuple[int, ...]


def refused(path: pathlib.Path, problem: str, remedy: str = _AGAIN) -> ModelUnavailableError:
    """The error that a file of a model is: one line with its path, what is wrong and what to do."""
    return ModelUnavailableError(f"model file {path} {problem}; {remedy}")


def require_whole(path: pathlib.Path) -> None:
    """Refuse a file that is not there, is empty, or holds something that stands for it.

    :raises ModelUnavailableError: says which, and what to do.
    """
    if not path.exists():
        if path.is_symlink():
            raise refused(
                path, f"leads to {os.readlink(path)}, which is not there: a download was not finished"
            )
        raise refused(path, "is missing")
    try:
        with path.open("rb") as file:
            start = file.read(256)
    except OSError as error:
        raise refused(path, f"cannot be read: {error.strerror or error}", "check its permissions") from error
    if not start:
        raise refused(path, "is empty")
    for mark, what, remedy in _POINTERS:
        if start.startswith(mark):
            raise refused(path, f"is {what}, not the file itself", remedy)
    if start.lstrip().lower().startswith(_PAGES):
        raise refused(path, "is a web page: the server answered the download with a message")


def require_text(path: pathlib.Path) -> None:
    """Refuse a file that is not whole, or no text.

    :raises ModelUnavailableError: says where it stops being text.
    """
    require_whole(path)
    try:
        decode_text(path.read_bytes())
    except (ValueError, OSError) as error:
        raise refused(path, f"is no text file ({showable_line(str(error))})") from error


def read_object(path: pathlib.Path) -> dict[str, Any]:
    """The JSON object that a file of a model holds; a byte order mark is read over.

    :raises ModelUnavailableError: when it holds anything else.
    """
    require_whole(path)
    try:
        value = json.loads(decode_text(path.read_bytes()))
    except RecursionError as error:
        raise refused(path, "is nested too deeply to be read") from error
    except (ValueError, OSError) as error:
        raise refused(path, f"is not JSON ({showable_line(str(error))})") from error
    if not isinstance(value, dict):
        raise refused(path, f"holds a JSON {type(value).__name__}, not an object")
    return value


def read_header(path: pathlib.Path) -> Mapping[str, TensorHeader]:
    """Names, types and shapes of the tensors in a safetensors file.

    :raises ModelUnavailableError: when it is cut short or no such file.
    """
    require_whole(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
        if size < 8 or length > _MOST_HEADER_BYTES or not length:
            raise refused(path, "is no safetensors file")
        if 8 + length > size:
            raise refused(path, f"is incomplete: it ends within its header, after {size} bytes")
        text = file.read(length)
    try:
        entries = json.loads(text)
        entries.pop("__metadata__", None)
        tensors = {
            str(name): TensorHeader(str(entry["dtype"]), tuple(int(n) for n in entry["shape"]))
            for name, entry in entries.items()
        }
        end = max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise refused(path, "is no safetensors file: its header cannot be read") from error
    if not tensors:
        raise refused(path, "holds no tensor")
    if 8 + length + end != size:
        more = "incomplete" if 8 + length + end > size else "damaged"
        raise refused(path, f"is {more}: it holds {size} bytes of {8 + length + end}")
    return tensors


@contextlib.contextmanager
def reading(path: pathlib.Path, what: str, shown: pathlib.Path | None = None) -> Iterator[None]:
    """Turn what a library raises over a model's files into one line, whatever it raises.

    :param path: what is read, for the line.
    :param what: of the model, for the line: ``config``, ``tokeniser``.
    :param shown: the folder that the library was given in its place.
    :raises ModelUnavailableError: in place of any other error.
    """
    try:
        yield
    except TtdError:
        raise
    except Exception as error:
        words = brief(error).replace(str(shown or path), str(path))
        raise ModelUnavailableError(f"the {what} in {path} cannot be loaded: {words}") from error


def brief(error: BaseException) -> str:
    """What a library's error says, in a line that makes sense to a person.

    :param error: its first line is taken, with its type where the words alone would say nothing.
    """
    if isinstance(error, KeyError) and len(str(error).split()) == 1:
        return f"it asks for {showable_line(str(error))}, which is not known here"
    message = str(error)
    if "trust_remote_code" in message:
        return (
            "it needs Python code of its own, which is never executed; choose a model that transformers knows"
        )
    if "above report" in message:
        # The report is a table that transformers logs.
        return (
            "its weights do not fit the model that config.json describes: some are missing or of other shapes"
        )
    lines = [line for line in map(showable_line, message.splitlines()) if line]
    first = " ".join(lines[:2] if lines and lines[0].endswith(":") else lines[:1])[:300]
    return first if len(first.split()) > 3 else f"{type(error).__name__}: {first}".removesuffix(": ")
