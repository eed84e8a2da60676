"""Files that people hand in: JSON values and arrays, read as data and never executed."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np

from ttd_core.errors import UsageError

#: Largest data file read, in bytes.
MAX_FILE_BYTES = 256 * 1024 * 1024


def read_data_file(path: pathlib.Path) -> Any:
    """Read JSON values or one array from a file, never executing anything in it.

    :param path: ``.npy`` (pickles refused) or JSON text under any other name.
    :return: the JSON value (``NaN`` and ``Infinity`` are read, for the checks to refuse), or the array.
    :raises UsageError: when the file is missing, too large, or not what its name says.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise UsageError(f"{path}: {size} bytes; at most {MAX_FILE_BYTES} are read")
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False)
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, RecursionError, MemoryError) as error:
        kind = "a numpy array" if path.suffix == ".npy" else "JSON"
        raise UsageError(f"{path}: not {kind}: {error}") from error
