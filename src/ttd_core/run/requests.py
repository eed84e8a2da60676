"""What people ask of a run from outside, while it works or between two goes: hints, and to stop.

Each request is a file of its own in the run's folder ``requests``, made by a call that fails where the name
is taken. So any number may ask at the same time, from any machine that sees the folder, and no lock is
needed, which file systems shared by machines may lack. The run reads the folder between two steps; what it
made of a hint is in its database (:meth:`~ttd_core.run.reading.RunReader.hints`).
"""

from __future__ import annotations

import errno
import json
import math
import os
import pathlib
import re
import stat
import time
from typing import Any

import attrs

from ttd_core.errors import UsageError
from ttd_core.run.files import storage_errors
from ttd_core.run.reading import DATABASE
from ttd_core.run.tables import require_database
from ttd_core.text import counted, showable, universal_newlines, without_surrogates

#: Characters of one hint, as a prompt shows it.
MOST_HINT_CHARS = 4000
#: Hints that may stand at the same time.
MOST_HINTS = 10

REQUESTS = "requests"
_STOP = "stop"
_HINT = re.compile(r"hint-([0-9]{6})\.json")
#: Bytes of a hint's file: every character may take six in JSON.
_MOST_BYTES = 64 * 1024


@attrs.frozen
class Hint:
    """A hint as a person left it.

    :param number: from 1, in the order in which they were left; none is used twice.
    :param text: safe to show.
    :param written: seconds since the epoch, by the clock of the machine where it was left.
    :param removed: whether it was taken back.
    """

    number: int
    text: str
    written: float
    removed: bool = False


def leave_hint(folder: pathlib.Path, text: str) -> int:
    """Leave a hint for a run: from its next step on, prompts carry it.

    :param folder: the run's.
    :param text: escapes stand for control characters in it; blanks around it are dropped.
    :return: the hint's number.
    :raises UsageError: when it is empty or too long, or too many stand already.
    :raises ResumeError: when the folder holds no run.
    :raises StorageError: when it cannot be written.
    """
    text = _checked_hint(text)
    present = hints(folder)
    standing = sum(not each.removed for each in present)
    if standing >= MOST_HINTS:
        raise UsageError(f"{folder}: {standing} hints stand already, the most there may be; remove one first")
    requests = _requests_folder(folder)
    content = json.dumps({"text": text, "written": time.time()}, ensure_ascii=False).encode() + b"\n"
    number = max(_numbers(requests), default=0) + 1
    while not _create(_hint_path(requests, number), content):
        number += 1
    return number


def remove_hint(folder: pathlib.Path, number: int) -> None:
    """Take a hint back: from the run's next step on, prompts are without it.

    :raises UsageError: when there is no such hint, or it was taken back already.
    :raises ResumeError: when the folder holds no run.
    :raises StorageError: when this cannot be written.
    """
    present = {each.number: each for each in hints(folder)}
    if number not in present:
        have = f"its hints: {', '.join(map(str, present))}" if present else "it has none"
        raise UsageError(f"{folder}: there is no hint {number}; {have}")
    path = _hint_path(_requests_folder(folder), number).with_suffix(".removed")
    if present[number].removed or not _create(path, b""):
        raise UsageError(f"{folder}: hint {number} was removed already")


def hints(folder: pathlib.Path) -> list[Hint]:
    """Every hint left for a run, the removed ones too, in the order of their numbers.

    A file that is no whole hint is passed over: it may be under way.

    :raises ResumeError: when the folder holds no run.
    :raises StorageError: when they cannot be read.
    """
    require_database(folder / DATABASE)
    requests = folder / REQUESTS
    with storage_errors(requests, "read"):
        found = [(number, _hint_path(requests, number)) for number in sorted(_numbers(requests))]
        read = [_read_hint(number, path) for number, path in found]
    return [hint for hint in read if hint is not None]


def ask_to_stop(folder: pathlib.Path) -> None:
    """Ask a run to end after the step under way. Asking twice is asking once.

    It is for the process that writes the run now: one that begins later forgets it.

    :raises ResumeError: when the folder holds no run.
    :raises StorageError: when this cannot be written.
    """
    require_database(folder / DATABASE)
    _create(_requests_folder(folder) / _STOP, b"")


def asked_to_stop(folder: pathlib.Path) -> bool:
    """Whether somebody asked the run to end after the step under way."""
    return os.path.lexists(folder / REQUESTS / _STOP)


def forget_stop(folder: pathlib.Path) -> None:
    """Forget that somebody asked an earlier process of the run to end.

    :raises StorageError: when this cannot be written.
    """
    path = folder / REQUESTS / _STOP
    with storage_errors(path):
        path.unlink(missing_ok=True)


def _checked_hint(text: str) -> str:
    text = showable(without_surrogates(universal_newlines(text))).strip()
    if not text:
        raise UsageError("the hint is empty; say in a sentence or two what to try")
    if len(text) > MOST_HINT_CHARS:
        length = counted(len(text), "character")
        raise UsageError(
            f"the hint has {length}; {MOST_HINT_CHARS} are the most, for every prompt carries it"
        )
    return text


def _requests_folder(folder: pathlib.Path) -> pathlib.Path:
    """The folder of requests, made when missing."""
    requests = folder / REQUESTS
    with storage_errors(requests):
        requests.mkdir(exist_ok=True)
    return requests


def _numbers(requests: pathlib.Path) -> list[int]:
    """Numbers of the hints that have a file."""
    if not requests.is_dir():
        return []
    return [int(match[1]) for name in os.listdir(requests) if (match := _HINT.fullmatch(name))]


def _hint_path(requests: pathlib.Path, number: int) -> pathlib.Path:
    return requests / f"hint-{number:06d}.json"


def _create(path: pathlib.Path, content: bytes) -> bool:
    """Make a file, durably; ``False`` when its name is taken.

    :raises StorageError: when it cannot be written; a hint that is not whole is none.
    """
    with storage_errors(path):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return False
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    return True


def _read_hint(number: int, path: pathlib.Path) -> Hint | None:
    """A hint from its file, which anybody may have written; ``None`` where that is no hint."""
    try:
        # What is no plain file must not keep the run waiting.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
            return None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with open(descriptor, "rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES or not content.endswith(b"\n"):
        return None
    try:
        value: Any = json.loads(content)
        text, written = _checked_hint(value["text"]), float(value["written"])
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError):
        return None
    if not math.isfinite(written):
        return None
    return Hint(number, text, written, os.path.lexists(path.with_suffix(".removed")))
