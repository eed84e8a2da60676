"""The process that reads one HDF5 file: ``python -m ttd_bio.hdf5_process REQUEST``.

:mod:`ttd_bio.hdf5` starts it.

The HDF5 library is large, and files that were made to break it do. So it runs apart, within limits, and what
becomes of it is a sentence. It answers on standard output: one line of JSON, then the arrays' bytes one after
the other.
"""

from __future__ import annotations

import gzip
import json
import os
import pathlib
import resource
import sys
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any, cast

import h5py
import numpy as np

from ttd_bio.hdf5_layouts import NoSuchMatrix, Stored, read_stored

#: Address space of this process in bytes: before arrays are read, whose sizes are known, and at most.
FIRST_MEMORY_BYTES, MEMORY_BYTES = 2 * 2**30, 12 * 2**30
#: Most bytes of a file packed by gzip, unpacked.
MAX_UNPACKED = 4 * 2**30
_GZIP = b"\x1f\x8b"


def main() -> None:
    """Read as the first argument says, and write the answer."""
    request = json.loads(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (FIRST_MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Whatever libraries print must not get into the answer.
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        with _opened(pathlib.Path(request["path"])) as file:
            stored = read_stored(file, request["wanted"])
    except NoSuchMatrix as error:
        _refuse(answer, str(error), error.holds)
    except MemoryError:
        _refuse(answer, "damaged: it unpacks to more than the sizes that it states")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        _refuse(answer, f"damaged gzip file: {error}")
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, OverflowError, RecursionError) as error:
        _refuse(answer, _reason(error))
    else:
        _send(answer, stored)


@contextmanager
def _opened(path: pathlib.Path) -> Iterator[h5py.File]:
    with path.open("rb") as plain, tempfile.TemporaryFile() as unpacked:
        source: Any = str(path)
        start = plain.read(2)
        if not start:
            raise ValueError("the file is empty")
        if start == _GZIP:
            plain.seek(0)
            with gzip.open(plain) as stream:
                _copy(cast(IO[bytes], stream), unpacked)
            source = unpacked
        with h5py.File(source, "r") as file:
            yield file


def _copy(packed: IO[bytes], unpacked: IO[bytes]) -> None:
    left = MAX_UNPACKED
    while data := packed.read(2**20):
        left -= len(data)
        if left < 0:
            raise ValueError(f"larger than {MAX_UNPACKED} bytes when unpacked")
        unpacked.write(data)


def _reason(error: Exception) -> str:
    text = " ".join(str(error.args[0] if isinstance(error, KeyError) and error.args else error).split())
    if "unable to lock file" in text:
        return "another program has it open for writing"
    if "truncated file" in text:
        return "damaged: the file is cut short"
    if "signature not found" in text:
        return "it is no HDF5 file, as AnnData's are"
    if "filter" in text and ("registered" in text or "plugin" in text or "available" in text):
        return f"it is packed by a filter that is not installed here ({text[-160:]})"
    if isinstance(error, ValueError) and type(error) is ValueError:
        return text
    if isinstance(error, OSError) and error.strerror and "ynchronously" not in text:
        return f"cannot be read: {error.strerror}"
    return f"damaged: {text}"


def _refuse(answer: IO[bytes], reason: str, holds: tuple[str, ...] = ()) -> None:
    answer.write(json.dumps({"error": reason, "holds": holds}).encode() + b"\n")
    answer.close()


def _send(answer: IO[bytes], stored: Stored) -> None:
    facts: Mapping[str, Any] = {
        "layout": stored.layout,
        "shape": stored.shape,
        "rows": stored.rows,
        "columns": stored.columns,
        "types": stored.types,
        "place": stored.place,
        "others": stored.others,
        "notes": stored.notes,
        "arrays": [[name, array.dtype.str, list(array.shape)] for name, array in stored.arrays.items()],
    }
    answer.write(json.dumps(facts).encode() + b"\n")
    for array in stored.arrays.values():
        if array.size:
            answer.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    answer.close()


if __name__ == "__main__":
    main()
