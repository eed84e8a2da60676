"""A matrix and its names out of an HDF5 file that may be anything; :mod:`ttd_bio.hdf5_process` opens it."""

from __future__ import annotations

import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import Any, cast

import attrs
import numpy as np

from ttd_bio.sparse_parts import compressed
from ttd_core.errors import UsageError
from ttd_core.text import showable_line

#: Longest time that reading one file may take, in seconds.
TIMEOUT_S = 600.0
_PROCESS = "ttd_bio.hdf5_process"


class NoMatrixError(UsageError):
    """A file cannot give the matrix asked for.

    :param holds: the matrices that it has.
    """

    def __init__(self, message: str, holds: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.holds = tuple(holds)


@attrs.frozen(eq=False)
class StoredMatrix:
    """A matrix of a file, checked in full.

    :param matrix: dense [rows, columns], or CSR or CSC of that shape.
    :param rows: names, or ``None``.
    :param columns: names, or ``None``.
    :param types: of the columns, where 10x Genomics' file says them.
    :param place: ``X``, ``raw.X`` or ``layers/NAME``.
    :param others: the file's other matrices, in the same words.
    :param notes: what could not be read beside it, one sentence each.
    """

    matrix: Any
    rows: list[str] | None
    columns: list[str] | None
    types: list[str] | None
    place: str
    others: tuple[str, ...]
    notes: tuple[str, ...]


def read_hdf5(path: pathlib.Path, wanted: Sequence[str]) -> StoredMatrix:
    """The first of the wanted matrices that an AnnData file has, or a 10x file's, cells by features.

    :param wanted: each ``X``, ``raw.X`` or ``layers/NAME``; a 10x file has no choice.
    :raises NoMatrixError: when there is none, or the file is damaged; one line that says why.
    """
    if not path.is_file():
        raise NoMatrixError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    request = json.dumps({"path": str(path.absolute()), "wanted": list(wanted)})
    # OpenBLAS would reserve memory for each of its threads.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", _PROCESS, request],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
        )
        timer = threading.Timer(TIMEOUT_S, process.kill)
        start = time.monotonic()
        timer.start()
        try:
            assert process.stdout is not None
            with process.stdout as answer:
                stored = _received(path, cast(io.BufferedReader, answer))
        finally:
            timer.cancel()
            process.kill()
            process.wait()
        if stored is None and time.monotonic() - start >= TIMEOUT_S:
            raise NoMatrixError(f"{path}: damaged: reading it took more than {TIMEOUT_S:g} s")
        if stored is None:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - 2000))
            last = (log.read().decode(errors="replace").strip().splitlines() or [""])[-1]
            raise NoMatrixError(
                f"{path}: damaged: the HDF5 library failed on it. {showable_line(last)}".rstrip()
            )
    return stored


def _received(path: pathlib.Path, answer: io.BufferedReader) -> StoredMatrix | None:
    """The answer of the process; ``None`` when it ended without one."""
    line = answer.readline()
    if not line.endswith(b"\n"):
        return None
    facts = json.loads(line)
    if "error" in facts:
        raise NoMatrixError(f"{path}: {showable_line(facts['error'])}", facts["holds"])
    arrays = {}
    for name, dtype, shape in facts["arrays"]:
        array = np.empty(shape, np.dtype(dtype))
        if array.size and answer.readinto(array.reshape(-1).view(np.uint8).data) != array.nbytes:
            return None
        arrays[name] = array
    try:
        dense = arrays.get("dense")
        matrix = dense if dense is not None else compressed(facts["layout"], shape=facts["shape"], **arrays)
    except ValueError as error:
        raise NoMatrixError(f"{path}: damaged file: {facts['place']}: {error}", facts["others"]) from error
    sides = (facts["rows"], facts["columns"], facts["types"])
    return StoredMatrix(matrix, *sides, facts["place"], tuple(facts["others"]), tuple(facts["notes"]))
