"""What happens in a run, as JSON: one constructor a kind, and the log they are written to.

An event has ``kind``, ``time`` (seconds since the epoch) and the fields of its kind, which are the
constructor's parameters. Observers get each through the ``ttd_event`` hook; ``log.jsonl`` has one a line,
as it happens, steps that were abandoned included; ``run.db`` has those of committed steps, without the two
kinds that speak of a single rollout.
"""

from __future__ import annotations

import functools
import inspect
import json
import math
import os
import pathlib
import re
import time as clock
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ttd_core.run.files import LARGEST_LINE, LineFile, read_lines, storage_errors

Event = dict[str, Any]

#: Kinds that tell of one rollout: in the log and the hook, but not in the database, whose ``rollouts``
#: table says more.
ROLLOUT_KINDS = frozenset({"rollout_sampled", "rollout_evaluated"})

#: Bytes of the log that are looked through at once, from its end.
_BLOCK = 1 << 20
#: A line's end, and how a line begins that tells of a step's beginning; this is no longer than so many bytes.
_STEP_STARTED = re.compile(rb'\n\{"kind": "step_started", "time": [^,]{1,40}, "step": (\d+)')
_LINE_HEAD = 120

#: The reason of a run's interruption where somebody asked it to stop.
ASKED_TO_STOP = "asked to stop"

#: Kinds that are written to the database at once; others wait for their step's commit.
DURABLE_KINDS = frozenset({"run_started", "step_finished", "run_finished", "run_interrupted"})


def run_started(
    *,
    run: str,
    problem: str,
    policy: str,
    step: int,
    steps: int,
    groups: int,
    group_size: int,
    sandbox: str = "",
    engine: str = "",
) -> Event:
    """A run began, or continues.

    :param run: its folder.
    :param problem: name of the problem.
    :param policy: name of the policy, for people.
    :param step: last committed step; 0 for a fresh run.
    :param steps: steps it shall have in the end.
    :param groups: groups a step.
    :param group_size: rollouts a group.
    :param sandbox: the level candidate code runs at.
    :param engine: which engine serves a model on this machine, and why; empty for other policies.
    """
    return _event(
        "run_started",
        run=run,
        problem=problem,
        policy=policy,
        step=step,
        steps=steps,
        groups=groups,
        group_size=group_size,
        sandbox=sandbox,
        engine=engine,
    )


def step_started(
    *, step: int, starts: Sequence[int], kept: int = 0, hints: Sequence[str] = (), after: int | None = None
) -> Event:
    """Start states are picked and sampling begins; of the step before, where steps overlap, judging goes on.

    :param step: 1 for the first.
    :param starts: node of each group's start state.
    :param kept: rollouts that the step has already, from before the run was stopped in its middle; their
        events follow as those of all others.
    :param hints: of people, as the prompts carry them.
    :param after: the committed step from whose archive the starts are picked; the one before, ``None`` too,
        or where steps overlap the one before that.
    """
    after = step - 1 if after is None else after
    return _event("step_started", step=step, starts=list(starts), kept=kept, hints=list(hints), after=after)


def rollout_sampled(*, step: int, group: int, index: int, tokens: int, stop: str) -> Event:
    """A completion is whole.

    :param step: the step it belongs to.
    :param group: index of its group in the step.
    :param index: index in its group.
    :param tokens: its length, forced tokens included.
    :param stop: why sampling ended (:class:`~ttd_core.types.StopReason`).
    """
    return _event("rollout_sampled", step=step, group=group, index=index, tokens=tokens, stop=stop)


def rollout_evaluated(
    *,
    step: int,
    group: int,
    index: int,
    status: str,
    message: str,
    value: float | None,
    score: float | None,
    seconds: float,
    stages: int = 0,
    reused: bool = False,
) -> Event:
    """A rollout was judged.

    :param step: the step it was sampled in, also where it was late and joins another.
    :param group: index of its group in the step.
    :param index: index in its group.
    :param status: how it ended (:class:`~ttd_core.types.Status`).
    :param message: one line for people: what went wrong; empty when nothing did.
    :param value: its reward; ``None`` when it failed.
    :param score: in the problem's metric; ``None`` when it failed.
    :param seconds: wall seconds its program ran.
    :param stages: where short runs come first, how often it ran, each time with more of its budget.
    :param reused: whether the verdict is that on an equal program, and nothing ran.
    """
    return _event(
        "rollout_evaluated",
        step=step,
        group=group,
        index=index,
        status=status,
        message=message,
        value=value,
        score=score,
        seconds=seconds,
        stages=stages,
        reused=reused,
    )


def rollouts_late(*, step: int, places: Sequence[str], then: str) -> Event:
    """A step's deadline passed before all of its rollouts were judged.

    :param step: the step.
    :param places: of the others, as STEP/GROUP/INDEX.
    :param then: ``later`` where they join a later step, ``timeout`` where they count as timeouts.
    """
    return _event("rollouts_late", step=step, places=list(places), then=then)


def rollouts_joined(*, step: int, places: Sequence[str]) -> Event:
    """Late rollouts of earlier steps are judged and part of a step.

    :param step: the step that they join.
    :param places: where they were sampled, as STEP/GROUP/INDEX.
    """
    return _event("rollouts_joined", step=step, places=list(places))


def step_finished(
    *,
    step: int,
    rollouts: int,
    valid: int,
    mean_value: float,
    best_value: float | None,
    best_score: float | None,
    metrics: Mapping[str, float],
    seconds: float,
) -> Event:
    """A step is committed.

    :param step: its number, 1 for the first.
    :param rollouts: how many it had.
    :param valid: how many of them were ok.
    :param mean_value: mean reward, failed rollouts as 0.
    :param best_value: its best reward; ``None`` when nothing succeeded.
    :param best_score: the score of that; ``None`` when nothing succeeded.
    :param metrics: the step's numbers by name (:class:`~ttd_core.metrics.Metric`), timings left out.
    :param seconds: wall seconds the step took.
    """
    return _event(
        "step_finished",
        step=step,
        rollouts=rollouts,
        valid=valid,
        mean_value=mean_value,
        best_value=best_value,
        best_score=best_score,
        metrics=dict(metrics),
        seconds=seconds,
    )


def settings_changed(*, step: int, changes: Mapping[str, Any]) -> Event:
    """A resumed run goes on with other settings.

    :param step: last committed step: the next one is the first with the new settings.
    :param changes: the new values, by dotted key.
    """
    return _event("settings_changed", step=step, changes=changes)


def checkpoint_written(*, step: int, path: str) -> Event:
    """Adapter and optimiser are on disk.

    :param step: the step after which they were written.
    :param path: the checkpoint's folder, relative to the run's.
    """
    return _event("checkpoint_written", step=step, path=path)


def run_finished(*, step: int, best_value: float | None, best_score: float | None, seconds: float) -> Event:
    """The last step is done.

    :param step: number of the last step.
    :param best_value: best reward of the whole run; ``None`` when nothing ever succeeded.
    :param best_score: its score; ``None`` when nothing ever succeeded.
    :param seconds: wall seconds since this process started or resumed it.
    """
    return _event("run_finished", step=step, best_value=best_value, best_score=best_score, seconds=seconds)


def run_interrupted(*, step: int, reason: str, resume: str) -> Event:
    """The run stops early, on purpose or by an error.

    :param step: last committed step; the one under way is begun again, with the rollouts that it has.
    :param reason: one line.
    :param resume: the command that continues it.
    """
    return _event("run_interrupted", step=step, reason=reason, resume=resume)


def _event(kind: str, **fields: Any) -> Event:
    return {"kind": kind, "time": clock.time(), **fields}


def to_line(event: Mapping[str, Any]) -> str:
    """Strict JSON without a line break: numbers that JSON lacks (NaN, infinities) become ``null``."""
    return json.dumps(plain(event), allow_nan=False)


def plain(value: Any) -> Any:
    """Strict JSON of a value that plugins may have filled with numpy scalars, NaN or odd types."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return plain(value.tolist())
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


class EventLog:
    """Appends events to ``log.jsonl``, one a line.

    :param path: the file; made when missing.
    :raises StorageError: when it cannot be written.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self._lines = LineFile(path)

    def append(self, event: Mapping[str, Any]) -> None:
        """Write one event.

        :raises StorageError: when the disk is full or read-only.
        """
        self._lines.append(to_line(event))

    def close(self) -> None:
        """Close the file."""
        self._lines.close()


def read_log(path: pathlib.Path, offset: int = 0) -> tuple[list[Event], int]:
    """Events appended since ``offset``, and the offset to go on from.

    A last line without its end is left for the next call; a torn line in the middle is skipped, and so is an
    event that lacks what its kind says, or has it of another type.

    :param offset: bytes; 0, or what the last call returned.
    """
    if not path.exists():
        return [], 0
    with storage_errors(path, "read"), open(path, "rb") as file:
        file.seek(offset)
        events: list[Event] = []
        for line in read_lines(file, LARGEST_LINE):
            if not line.endswith(b"\n"):
                break
            offset = file.tell()
            if (event := _parse(line)) is not None:
                events.append(event)
    return events, offset


def last_step_begins(path: pathlib.Path, committed: int) -> int:
    """Where the log tells of the first step after ``committed`` that is under way, in bytes.

    Of the last step where none is, 0 where there is none, or nothing before it. What came before is in the
    database too, but for single rollouts; the log of a long run is large, and is read from its end.
    """
    if not path.exists():
        return 0
    found = 0
    with storage_errors(path, "read"), open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        after = b""
        while end > 0:
            begin = max(0, end - _BLOCK)
            file.seek(begin)
            # With the beginning of what follows, for a line may lie across two blocks.
            content = file.read(end - begin) + after
            for match in reversed(list(_STEP_STARTED.finditer(content))):
                if match.start() >= end - begin:
                    continue
                if found and int(match[1]) <= committed:
                    return found
                found = begin + match.start() + 1
                if int(match[1]) <= committed:
                    return found
            after, end = content[:_LINE_HEAD], begin
    return found


def _parse(line: bytes | str) -> Event | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and _is_whole(event) else None


def decode_event(body: str) -> dict[str, Any]:
    """An event from its row.

    :raises ValueError: when it lacks what its kind says, or has it of another type.
    """
    event = _parse(body)
    if event is None:
        raise ValueError(f"{body:.60} lacks what an event of its kind has")
    return event


def _is_whole(event: Mapping[str, Any]) -> bool:
    """Whether an event has its kind, its time and the fields of its kind, each of its type."""
    if not isinstance(event.get("kind"), str) or not isinstance(event.get("time"), int | float):
        return False
    return all(isinstance(event.get(name), kinds) for name, kinds in _fields(event["kind"]).items())


@functools.cache
def _fields(kind: str) -> dict[str, tuple[type, ...]]:
    """The fields that every event of a kind has, with their types in JSON; none of unknown kinds."""
    constructor = _CONSTRUCTORS.get(kind)
    if constructor is None:
        return {}
    hints = typing.get_type_hints(constructor)
    parameters = inspect.signature(constructor).parameters.values()
    return {each.name: _JSON_TYPES[hints[each.name]] for each in parameters if each.default is each.empty}


_CONSTRUCTORS: Mapping[str, Callable[..., Event]] = {
    constructor.__name__: constructor
    for constructor in (
        *(run_started, step_started, rollout_sampled, rollout_evaluated, step_finished),
        *(
            settings_changed,
            checkpoint_written,
            run_finished,
            run_interrupted,
            rollouts_late,
            rollouts_joined,
        ),
    )
}
_JSON_TYPES: Mapping[Any, tuple[type, ...]] = {
    str: (str,),
    int: (int,),
    float: (int, float),
    float | None: (int, float, type(None)),
    Sequence[int]: (list,),
    Sequence[str]: (list,),
    Mapping[str, float]: (dict,),
    Mapping[str, Any]: (dict,),
}
