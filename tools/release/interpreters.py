"""Finds the interpreters of this machine."""

from __future__ import annotations

import os
import pathlib
import subprocess
from collections.abc import Iterator

from tools.release.check import CheckSkipped


def find_interpreter(version: str) -> pathlib.Path:
    """An interpreter of a version such as ``3.12``, on the path or among pyenv's.

    :raises CheckSkipped: there is none.
    """
    for path in _candidates(version):
        # What pyenv puts on the path exists for every version and fails for those that are not chosen.
        asked = [str(path), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode == 0 and done.stdout.strip() == version:
            return path
    raise CheckSkipped(f"Python {version} is not installed")


def _candidates(version: str) -> Iterator[pathlib.Path]:
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        path = pathlib.Path(folder) / f"python{version}"
        if path.is_file():
            yield path
    pyenv = pathlib.Path(os.environ.get("PYENV_ROOT", pathlib.Path.home() / ".pyenv"))
    yield from sorted(pyenv.glob(f"versions/{version}.*/bin/python"))
