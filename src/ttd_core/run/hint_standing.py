"""Where a run's hints stand: what its database says of them, beside what people left and took back."""

from __future__ import annotations

import pathlib

import attrs

from ttd_core.run.reading import RunReader
from ttd_core.run.requests import hints


@attrs.frozen
class HintStanding:
    """A hint, and where it stands.

    :param number: its own.
    :param written: seconds since the epoch.
    :param text: safe to show.
    :param began: the first step whose prompts carry it; ``None`` where no step has begun with it yet.
    :param ended: the first step whose prompts are without it again; ``None`` where none is yet.
    :param removed: whether it was taken back, be it that the step under way has it still.
    """

    number: int
    written: float
    text: str
    began: int | None
    ended: int | None
    removed: bool


def hint_standings(folder: pathlib.Path) -> list[HintStanding]:
    """A run's hints in the order of their numbers; those that no step has begun with yet are last.

    One whose file is gone stands as long as no step was made without it: nobody took it back.

    :raises ResumeError: when the folder holds no run.
    :raises StorageError: when they cannot be read.
    """
    with RunReader.open(folder) as run:
        known = run.hints()
    left = {(each.number, each.written): each for each in hints(folder)}
    found = []
    for each in known:
        request = left.pop((each.number, each.written), None)
        removed = each.ended is not None or (request is not None and request.removed)
        found.append(HintStanding(each.number, each.written, each.text, each.began, each.ended, removed))
    waiting = [
        HintStanding(each.number, each.written, each.text, None, None, each.removed) for each in left.values()
    ]
    return found + waiting
