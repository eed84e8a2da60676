"""The two things that a page may ask of a run, as ``ttd hint`` and ``ttd stop`` do: hints, and to stop.

All else only reads. What arrives is a small JSON object, which no form of another page can send.
"""

from __future__ import annotations

import json
import pathlib
import time
from typing import Any

import attrs
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from ttd_core.errors import TtdError, UsageError
from ttd_core.run.files import other_machine, writing_process
from ttd_core.run.hint_standing import HintStanding, hint_standings
from ttd_core.run.requests import ask_to_stop, leave_hint, remove_hint
from ttd_core.ui.folders import NotFoundError, RunFolders

#: Bytes of a request.
MOST_BYTES = 64 * 1024


@attrs.frozen
class HintLine:
    """A hint as a page lists it.

    :param number: its own.
    :param state: where it stands, in words.
    :param standing: whether it may be taken back.
    """

    number: int
    text: str
    written: str
    state: str
    standing: bool


def hint_lines(folder: pathlib.Path) -> list[HintLine]:
    """A run's hints, the newest first.

    :raises TtdError: when they cannot be read.
    """
    return [
        HintLine(
            each.number,
            each.text,
            time.strftime("%Y-%m-%d %H:%M", time.localtime(each.written)),
            _state(each),
            not each.removed,
        )
        for each in reversed(hint_standings(folder))
    ]


def _state(hint: HintStanding) -> str:
    if hint.began is None:
        return "taken back before any step" if hint.removed else "waits for the next step"
    if hint.ended is not None:
        return f"in the prompts of steps {hint.began} to {hint.ended - 1}"
    since = f"in the prompts since step {hint.began}"
    return f"{since}, taken back from the next step on" if hint.removed else since


class Doors:
    """The answers to what is posted.

    :param folders: where the runs are.
    """

    def __init__(self, folders: RunFolders) -> None:
        self._folders = folders

    async def answer(self, request: Request) -> Response:
        """Do what is asked, and say in a sentence what was done, or why not."""
        try:
            asked = await _asked(request)
            said = await run_in_threadpool(self._act, request.url.path, asked)
        except NotFoundError as error:
            return PlainTextResponse(f"{error}.", 404)
        except UsageError as error:
            return PlainTextResponse(str(error), 400)
        except TtdError as error:
            return PlainTextResponse(str(error), 503)
        return PlainTextResponse(said)

    def _act(self, path: str, asked: dict[str, Any]) -> str:
        folder = self._folders.folder(_text(asked, "run"))
        if path == "/hint":
            left = leave_hint(folder, _text(asked, "text"))
            return f"Hint {left} is left; prompts carry it from the next step on."
        if path == "/unhint":
            number = asked.get("number")
            if not isinstance(number, int) or isinstance(number, bool):
                raise UsageError("the hint's number is missing")
            remove_hint(folder, number)
            return f"Hint {number} is taken back; prompts are without it from the next step on."
        if writing_process(folder) is None and not other_machine(folder):
            raise UsageError("no process writes this run, so there is nothing to stop")
        ask_to_stop(folder)
        return "Asked: the run ends after the step under way, and `ttd resume` goes on with it."


async def _asked(request: Request) -> dict[str, Any]:
    """The JSON object of a request.

    :raises UsageError: when it is none, or too large.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise UsageError("this takes JSON")
    content = b""
    async for piece in request.stream():
        content += piece
        if len(content) > MOST_BYTES:
            raise UsageError(f"this takes at most {MOST_BYTES // 1024} kB")
    try:
        asked = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UsageError("this takes JSON") from error
    if not isinstance(asked, dict):
        raise UsageError("this takes a JSON object")
    return asked


def _text(asked: dict[str, Any], name: str) -> str:
    value = asked.get(name)
    if not isinstance(value, str):
        raise UsageError(f"{name} is missing")
    return value
