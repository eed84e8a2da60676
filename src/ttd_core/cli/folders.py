"""Run folders as people name them on the command line."""

from __future__ import annotations

import pathlib
import re
import secrets
import time
from collections.abc import Callable
from typing import Any

import click

from ttd_core import config as configs
from ttd_core.errors import ResumeError, StorageError, UsageError
from ttd_core.input_files import read_text_file
from ttd_core.problem import Problem
from ttd_core.run.files import resume_command
from ttd_core.run.problem_record import problem_of_run
from ttd_core.run.reading import DATABASE, RunReader
from ttd_core.run.setup import CONFIG_FILE

#: ``--runs-dir DIR``: where run folders are made and looked up.
runs_dir_option: Callable[[Any], Any] = click.option(
    "--runs-dir",
    type=click.Path(path_type=pathlib.Path, file_okay=False),
    default="runs",
    show_default=True,
    help="Folder that holds the run folders.",
)


def new_folder(runs: pathlib.Path, name: str | None, problem: str) -> pathlib.Path:
    """A path for a new run: as named, or from problem and time. Nothing is made yet.

    :raises UsageError: when it exists already, or the name is a path.
    """
    if name is not None:
        if pathlib.PurePath(name).name != name or name in (".", ".."):
            raise UsageError(f"--name {name}: a plain name is needed; --runs-dir sets the folder around it")
        if (runs / name).exists():
            raise UsageError(_taken(runs / name))
        return runs / name
    # Two processes may begin in the same second: the last part tells them apart.
    stem = re.sub(r"[^A-Za-z0-9_]+", "-", problem).strip("-")
    return runs / f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def _taken(folder: pathlib.Path) -> str:
    """Why a new run cannot have an existing folder, and what to do."""
    if holds_run(folder):
        return f"{folder} exists already; continue it with: {resume_command(folder)}"
    return f"{folder} exists already and holds no run; remove it, or choose another --name"


def holds_run(folder: pathlib.Path) -> bool:
    """Whether a folder's database is a run's, of whatever version."""
    try:
        RunReader.open(folder).close()
    except StorageError:
        return True
    except ResumeError:
        return False
    return True


def existing_folder(run: str, runs: pathlib.Path) -> pathlib.Path:
    """The folder of a run named by its path, or by its name inside ``runs``.

    :raises ResumeError: when there is no run.
    """
    candidates = [pathlib.Path(run), runs / run]
    for folder in candidates:
        if (folder / CONFIG_FILE).is_file() or (folder / DATABASE).is_file():
            return folder
    raise ResumeError(f"no run at {' or '.join(str(folder) for folder in dict.fromkeys(candidates))}")


def problem_of(folder: pathlib.Path, stored: configs.RunConfig) -> Problem:
    """The problem of a run that is read: as installed, else what the run noted of it.

    :raises TtdError: when it cannot be built, and nothing was noted.
    """
    with RunReader.open(folder) as run:
        return problem_of_run(run, stored)


def stored_config(folder: pathlib.Path) -> configs.RunConfig:
    """The config a run was started with.

    :raises ResumeError: when it cannot be read.
    :raises ConfigError: when a key in it is wrong.
    """
    path = folder / CONFIG_FILE
    if not path.exists():
        with RunReader.open(folder) as run:
            return configs.from_toml(run.config(), where=str(folder / DATABASE))
    try:
        text = read_text_file(path)
    except UsageError as error:
        raise ResumeError(str(error)) from error
    return configs.from_toml(text, where=str(path))
