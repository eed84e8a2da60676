"""Checkpoints of the policy: written aside, renamed, the newest kept.

A step's checkpoint is complete before the step is committed. So the last committed step always has one at or
before it, and a checkpoint newer than the last committed step is a step that never happened.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import re
import shutil

from ttd_core.policy.base import Trainer
from ttd_core.run.files import storage_errors, sync_folder

_NAME = re.compile(r"^step-(\d{6,})$")


class Checkpoints:
    """The ``checkpoints/`` folder of a run.

    :param folder: the run's folder.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder / "checkpoints"

    def path(self, step: int) -> pathlib.Path:
        """Where the checkpoint after ``step`` is."""
        return self.folder / f"step-{step:06d}"

    def steps(self) -> list[int]:
        """Steps that have a whole checkpoint, in order."""
        if not self.folder.is_dir():
            return []
        matches = (_NAME.match(path.name) for path in self.folder.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    def latest(self, at_most: int) -> int:
        """The newest step up to ``at_most`` with a checkpoint; 0 when there is none."""
        return max((step for step in self.steps() if step <= at_most), default=0)

    def digest(self, step: int) -> str:
        """SHA-256 over the names and contents of the files of a checkpoint.

        :raises StorageError: when one cannot be read.
        """
        total = hashlib.sha256()
        folder = self.path(step)
        with storage_errors(folder, "read"):
            for path in sorted(folder.iterdir()):
                with path.open("rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
                total.update(f"{path.name}\0{content}\0".encode())
        return total.hexdigest()

    def save(self, step: int, trainer: Trainer) -> pathlib.Path:
        """Write the checkpoint after ``step``, durably; an older one of the same step is replaced.

        :raises StorageError: when the disk is full or read-only; nothing half-written stays.
        """
        final = self.path(step)
        aside = self.folder / f".{final.name}.aside"
        with storage_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            try:
                trainer.save(aside)
                for path in aside.iterdir():
                    _sync(path)
                sync_folder(aside)
                shutil.rmtree(final, ignore_errors=True)
                aside.rename(final)
                sync_folder(self.folder)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        return final

    def prune(self, kept: int, committed: int) -> None:
        """Delete old checkpoints, and those of steps that were never committed.

        :param kept: how many of the newest stay.
        :param committed: the last committed step.
        """
        steps = self.steps()
        of_committed_steps = [step for step in steps if step <= committed]
        for step in set(steps) - set(of_committed_steps[-kept:]):
            shutil.rmtree(self.path(step), ignore_errors=True)


def _sync(path: pathlib.Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
