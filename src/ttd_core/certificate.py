"""Certificates: an exact score, the construction it belongs to, and the check that anyone can rerun.

On disk a certificate is a small JSON file beside one ``.npy`` file per array of the construction. Checking
one recomputes everything from the arrays in exact arithmetic and compares; nothing in the JSON is believed.
"""

from __future__ import annotations

import errno
import json
import math
import os
import pathlib
import re
import shlex
import tempfile
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from ttd_core.errors import StorageError, TtdError, UsageError
from ttd_core.input_files import read_data_file
from ttd_core.types import State, array_digest, pack, unpack

#: Marks a JSON file as one of these.
FORMAT = "ttd certificate 1"
#: Decimal places of a certified bound.
PLACES = 20
#: Names of arrays that may name a file. A candidate may have chosen another, which leads elsewhere.
FILE_NAME = re.compile(r"\w[\w.-]{0,99}", re.ASCII)


class CertificateError(TtdError):
    """A certificate does not hold, or a construction cannot be certified because it is not valid."""


@attrs.frozen
class Certificate:
    """An exact score with what proves it.

    :param problem: name of the problem.
    :param bound: the score as a rational number.
    :param up: whether a decimal of it is rounded up (an upper bound) or down (a lower bound).
    :param claim: what is proven, as a formula with ``{decimal}`` in the bound's place.
    :param state: the construction; its code and output are no part of the proof.
    :param facts: further exact results, JSON with rationals as text.
    :param options: of the problem, those under which the construction is valid, where they are not the
        defaults (a higher limit of length, say).
    """

    problem: str
    bound: Fraction
    up: bool
    claim: str
    state: State
    facts: Mapping[str, Any] = attrs.field(factory=dict)
    options: Mapping[str, Any] = attrs.field(factory=dict)

    @property
    def decimal(self) -> str:
        """The bound with twenty places, rounded so that the claim stays true."""
        return decimal_text(self.bound, PLACES, self.up)

    def statement(self) -> dict[str, Any]:
        """What the certificate states, as JSON; its arrays are written beside it."""
        return {
            "format": FORMAT,
            "problem": self.problem,
            "claim": self.claim.format(decimal=self.decimal),
            "bound": {
                "decimal": self.decimal,
                "rounded": "up" if self.up else "down",
                "numerator": str(self.bound.numerator),
                "denominator": str(self.bound.denominator),
            },
            "facts": dict(self.facts),
            **({"options": dict(self.options)} if self.options else {}),
        }


def decimal_text(value: Fraction, places: int, up: bool) -> str:
    """A rational as a decimal, rounded up or down as asked, never to nearest."""
    scaled = value * 10**places
    whole = math.ceil(scaled) if up else math.floor(scaled)
    digits = str(abs(whole)).rjust(places + 1, "0")
    return f"{'-' if whole < 0 else ''}{digits[:-places]}.{digits[-places:]}"


def write(
    certificate: Certificate, path: pathlib.Path, origin: Mapping[str, Any] | None = None
) -> list[pathlib.Path]:
    """Write ``path`` and, beside it, each array as ``STEM.NAME.npy``, its digest for want of a plain name.

    :param origin: where the construction came from, JSON; kept beside the proof and no part of it.
    :return: every file written, the certificate first.
    :raises StorageError: when a file cannot be written.
    """
    names = {
        array_digest(value): f"{path.stem}.{_file_name(name, value)}.npy"
        for name, value in certificate.state.data.items()
        if isinstance(value, np.ndarray)
    }
    arrays: dict[str, npt.NDArray[Any]] = {}
    statement = certificate.statement() | {
        "data": pack(dict(certificate.state.data), arrays),
        "arrays": names,
        "check": check_command(pathlib.Path(path.name)),
    }
    if origin is not None:
        statement["origin"] = dict(origin)
    if set(arrays) != set(names):
        raise UsageError(f"{certificate.problem}: only arrays at the top level of a state can be certified")
    try:
        for digest, name in names.items():
            np.save(path.with_name(name), arrays[digest], allow_pickle=False)
        text = json.dumps(statement, indent=1, ensure_ascii=False) + "\n"
        # A lone surrogate in a construction's text becomes the escape that JSON has for it.
        path.write_bytes(text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from error
    return [path, *(path.with_name(name) for name in names.values())]


def make_folder(path: pathlib.Path) -> None:
    """Make the folder of a certificate that is to be written after long work, which must not be lost.

    :param path: of the certificate.
    :raises StorageError: when its folder cannot be made or written to, or a folder is in its place.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from error


def check_command(path: pathlib.Path) -> str:
    """The command that verifies a certificate, for a shell; the options it needs are in the file."""
    return shlex.join(["ttd", "certify", "--check", str(path)])


def is_certificate(value: Any) -> bool:
    """Whether what a file holds says that it is a certificate."""
    # Of arrays by name, "format" may be an array, which compares entry by entry.
    form = value.get("format") if isinstance(value, dict) else None
    return isinstance(form, str) and form == FORMAT


def stated_options(statement: Mapping[str, Any], path: pathlib.Path) -> dict[str, Any]:
    """The problem's options under which a certificate's construction is valid; empty for the defaults.

    :param statement: as :func:`read` gives it.
    :raises UsageError: when they are not values by name; what each may be, the problem says.
    """
    options = statement.get("options", {})
    if not isinstance(options, dict):
        raise UsageError(f"{path}: its options must be values by name")
    return dict(options)


def _file_name(key: str, array: npt.NDArray[Any]) -> str:
    return key if FILE_NAME.fullmatch(key) else array_digest(array)[:16]


def read(path: pathlib.Path) -> tuple[dict[str, Any], State]:
    """The statement and the construction of a certificate file, its arrays matched to their digests.

    :raises UsageError: when it is not a certificate file or an array is missing.
    :raises CertificateError: when an array is not the one that was certified.
    """
    statement = read_data_file(path)
    if not is_certificate(statement):
        raise UsageError(f"{path}: not a certificate (no '{FORMAT}' in it)")
    arrays = {}
    names = statement.get("arrays")
    for digest, name in names.items() if isinstance(names, dict) else ():
        if not isinstance(name, str) or pathlib.PurePath(name).name != name or not name.endswith(".npy"):
            raise UsageError(f"{path}: {name!r} is not the name of an array file beside it")
        arrays[digest] = read_data_file(path.with_name(name))
        if not isinstance(arrays[digest], np.ndarray) or array_digest(arrays[digest]) != digest:
            raise CertificateError(f"{path}: {name} is not the array that was certified (SHA-256 differs)")
    try:
        data = unpack(statement["data"], arrays)
        if not isinstance(data, dict):
            raise TypeError(f"{type(data).__name__} instead of an object")
        return statement, State(data=data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{path}: its data cannot be read: {error!r}") from error
