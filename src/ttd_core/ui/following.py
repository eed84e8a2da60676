"""A run as it goes on: the step under way with its rollouts, and what was committed.

The run's log says what happens within a step, its database what is committed; both are only read.
"""

from __future__ import annotations

import pathlib
import time
from collections.abc import Mapping
from typing import Any

from ttd_core.errors import TtdError
from ttd_core.run.browsing import RunBrowser
from ttd_core.run.events import Event, read_log
from ttd_core.run.files import resume_command, writing_process
from ttd_core.run.reading import LOG
from ttd_core.run.time_left import seconds_left
from ttd_core.run.under_way import StepsUnderWay
from ttd_core.text import showable_line
from ttd_core.types import Status
from ttd_core.ui.folders import NotFoundError, RunFolders

#: Bytes of the log's end that are read at first: a step of thousands of rollouts.
_TAIL = 4_000_000
#: Rollouts of a step that are shown one by one, at most.
_CELLS = 8192
#: Characters of a message.
_MESSAGE_CHARS = 160
#: One letter for each state of a rollout, as the page's script reads it.
_LETTERS: Mapping[str, str] = {"sampled": "s", **{str(status): "f" for status in Status}, "ok": "o"}


class RunFollower:
    """Looks at one run again and again, and says what it is like now.

    :param folders: where the run is.
    :param name: of the run.
    """

    def __init__(self, folders: RunFolders, name: str) -> None:
        self._folders = folders
        self._name = name
        self._under_way = StepsUnderWay()
        self._offset: int | None = None
        self._version: tuple[float, int, int, int] | None = None
        self._facts: dict[str, Any] = {}

    def look(self) -> dict[str, Any]:
        """The run as it is now, JSON; where it cannot be read, ``trouble`` says why in a sentence."""
        try:
            folder = self._folders.folder(self._name)
            self._read_log(folder)
            with RunBrowser.open(folder) as run:
                version = run.version()
                if version != self._version:
                    self._facts = _committed(run)
                    self._version = version
            return self._now(folder)
        except NotFoundError as error:
            self._offset = None
            return {"state": "gone", "trouble": f"{error}.", "version": None}
        except (TtdError, OSError) as error:
            return {"state": "unreadable", "trouble": str(error), "version": None}

    def _read_log(self, folder: pathlib.Path) -> None:
        path = folder / LOG
        if not path.exists():
            return
        size = path.stat().st_size
        if self._offset is None or size < self._offset:
            self._under_way = StepsUnderWay()
            self._offset = max(0, size - _TAIL)
        if size > self._offset:
            events, self._offset = read_log(path, self._offset)
            for event in events:
                self._under_way.read(event, event["time"])

    def _now(self, folder: pathlib.Path) -> dict[str, Any]:
        facts, steps = self._facts, self._under_way
        step = steps.newest
        process = writing_process(folder)
        goes_on = process is not None
        state = "running" if goes_on else facts["ending"]
        now: dict[str, Any] = {
            "state": state,
            "sentence": "" if goes_on or state == "finished" else f"Continue with: {resume_command(folder)}",
            "trouble": "",
            "version": list(self._version or ()),
            "done": facts["done"],
            "steps": facts["steps"],
            "best": facts["best"],
            "seconds_left": self._seconds_left() if goes_on else None,
            "under_way": None,
        }
        # The run's beginning may lie before the part of the log that was read.
        steps.groups = steps.groups or facts["groups"]
        steps.group_size = steps.group_size or facts["group_size"]
        if goes_on and step.begun is not None and (step.step or 0) > facts["done"]:
            moment = time.time()
            speed = step.tokens_per_second(moment)
            now["under_way"] = {
                "step": step.step,
                "groups": steps.groups,
                "group_size": steps.group_size,
                "sampled": step.sampled,
                "judged": step.judged,
                "valid": step.valid,
                "seconds": round(step.seconds(moment)),
                "tokens_per_s": None if speed is None else round(speed),
                "cells": _letters(steps),
                "latest": [_told(event) for event in reversed(step.latest)],
            }
        return now

    def _seconds_left(self) -> int | None:
        facts, elapsed = self._facts, self._under_way.current.seconds(time.time())
        left = seconds_left(facts["step_seconds"], facts["steps"] - facts["done"], elapsed)
        return None if left is None else round(left)


def _letters(steps: StepsUnderWay) -> str:
    """A letter for each rollout of the newest step, by group: ``.`` awaited, then as :data:`_LETTERS`."""
    if not 0 < steps.size <= _CELLS:
        return ""
    rollouts = steps.newest.rollouts
    places = ((group, index) for group in range(steps.groups) for index in range(steps.group_size))
    return "".join(_LETTERS.get(rollouts.get(place, ""), ".") for place in places)


def _told(event: Event) -> dict[str, Any]:
    """A judged rollout for the page: texts are safe to show."""
    return {
        "place": f"{event['step']}/{event['group']}/{event['index']}",
        "status": event["status"].replace("_", " "),
        "score": None if event["score"] is None else f"{event['score']:.8g}",
        "seconds": event["seconds"],
        "message": showable_line(event["message"])[:_MESSAGE_CHARS],
    }


def _committed(run: RunBrowser) -> dict[str, Any]:
    """What the database says: read again only when it changed."""
    best = next(iter(run.best(1)), None)
    started = run.newest_event("run_started") or {}
    last = run.newest_event("run_started", "run_finished", "run_interrupted") or {}
    seconds = [float(event["seconds"]) for event in run.events(kind="step_finished")]
    endings = {"run_finished": "finished", "run_interrupted": "interrupted"}
    return {
        "done": run.last_step(),
        **{name: int(started.get(name, 0)) for name in ("steps", "groups", "group_size")},
        "best": None if best is None or best.reward is None else f"{best.reward.score:.10g}",
        "step_seconds": seconds,
        "ending": endings.get(str(last.get("kind")), "stopped"),
    }
