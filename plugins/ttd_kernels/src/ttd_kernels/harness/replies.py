"""Reading what a candidate's process says: the part of a reply that is needed, the verdict of a failure."""

from __future__ import annotations

import math
from typing import Any

from ttd_core.types import Status

#: Longest text of a candidate's that goes into a verdict, characters.
_LONGEST_TEXT = 400
#: The kinds of failure that the candidate's side may name, and the verdict of each.
_STATUS_OF_KIND = {
    "crash": Status.CRASH,
    "memory": Status.MEMORY,
    "forbidden": Status.FORBIDDEN,
}


class EvaluationError(Exception):
    """An evaluation that ends without a score.

    :param status: of the verdict.
    :param message: of the verdict.
    :param uninterpretable: whether the candidate's process says that only a GPU can run it; counts where no
        times are taken, and so no score is at stake.
    """

    def __init__(self, status: Status, message: str, uninterpretable: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.uninterpretable = uninterpretable


def reply_value(reply: dict[str, Any], key: str) -> Any:
    """The value under ``key`` of a reply that reports no failure.

    :raises EvaluationError: when it reports one, or has no such key.
    """
    if "failed" in reply:
        kind = str(reply.get("kind"))
        status = _STATUS_OF_KIND.get(kind, Status.CRASH)
        raise EvaluationError(status, _printable(reply["failed"]), kind == "uninterpretable")
    if "wrong" in reply:
        raise EvaluationError(Status.INVALID, _printable(reply["wrong"]))
    if key not in reply:
        raise EvaluationError(Status.REJECTED, "the program answered the harness in its own words")
    return reply[key]


def claimed_microseconds(value: Any) -> float:
    """A time as a candidate's process claims it, microseconds.

    :raises EvaluationError: when it is not a positive, finite number.
    """
    if type(value) not in (int, float) or not math.isfinite(value) or value <= 0:
        raise EvaluationError(Status.REJECTED, f"it claims to have taken {_printable(value)} us")
    return float(value)


def _printable(value: Any) -> str:
    """A candidate's value as one short line."""
    printable = "".join(letter for letter in str(value)[:_LONGEST_TEXT] if letter.isprintable())
    return " ".join(printable.split())
