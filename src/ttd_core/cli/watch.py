"""``ttd watch``: the live view of a run, from another terminal.

Reads ``log.jsonl`` as it grows, or the database where there is none, and feeds it to the same view that
``ttd run`` shows. It writes nothing and holds no lock, so any number may watch.
"""

from __future__ import annotations

import collections
import pathlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import click

from ttd_core.cli.folders import existing_folder, problem_of, runs_dir_option, stored_config
from ttd_core.cli.group import INTERRUPTED
from ttd_core.cli.output import json_option, print_json, say_wrapped
from ttd_core.cli.progress import ProgressView
from ttd_core.cli.run_progress import RunProgress
from ttd_core.cli.wording import step_line
from ttd_core.problem import Problem
from ttd_core.run.events import ASKED_TO_STOP, Event, last_step_begins, read_log
from ttd_core.run.files import resume_command, writing_process
from ttd_core.run.reading import LOG, RunReader

#: Seconds between looks at the log.
INTERVAL = 0.25
#: Finished steps shown at first.
RECENT = 3
#: Room for the name of a fact.
FACT_INDENT = " " * 11


@click.command("watch")
@click.argument("run_name", metavar="RUN")
@click.option("--once", is_flag=True, help="Print the present state and exit.")
@runs_dir_option
@json_option
def watch(run_name: str, once: bool, runs_dir: pathlib.Path, as_json: bool) -> int:
    """Watch a run from another terminal.

    Ends when the run ends. With --json, prints the state then, or at once with --once.

    \b
    Example:
      ttd watch erdos-20260101-120000
      ttd watch runs/erdos-20260101-120000 --once
    """
    folder = existing_folder(run_name, runs_dir)
    stored = stored_config(folder)
    problem = problem_of(folder, stored)
    watcher = RunWatcher(folder, problem, quiet=as_json or once)
    try:
        watcher.catch_up()
        if not once:
            watcher.follow()
    except KeyboardInterrupt:
        return INTERRUPTED
    if as_json:
        print_json(watcher.state())
    elif once:
        for line in watcher.lines():
            say_wrapped(line, FACT_INDENT)
    else:
        say_wrapped(watcher.closing())
    return 0


class EventClock:
    """Seconds since the epoch: those of the event being read, else now."""

    def __init__(self) -> None:
        self.moment: float | None = None

    def __call__(self) -> float:
        return time.time() if self.moment is None else self.moment


@attrs.frozen
class RunEnding:
    """How a run stopped.

    :param kind: ``finished``, ``interrupted``, or ``stopped`` when its process is gone without a word.
    :param sentence: for people.
    """

    kind: str
    sentence: str


class RunWatcher:
    """Follows a run by its log, and shows what happens.

    :param folder: the run's.
    :param problem: the run's.
    :param quiet: show nothing while it goes on.
    """

    def __init__(self, folder: pathlib.Path, problem: Problem, quiet: bool = False) -> None:
        self._folder = folder
        self._clock = EventClock()
        self._view = ProgressView(problem, sys.stdout, quiet, self._clock)
        self._quiet = quiet
        self._offset = 0
        #: Of the last event read from the database, where there is no log.
        self._number = 0
        self._last_event: Event = {}
        self._recent: collections.deque[Event] = collections.deque(maxlen=RECENT)

    @property
    def progress(self) -> RunProgress:
        """The run's counts so far."""
        return self._view.progress

    def catch_up(self) -> None:
        """Count what was logged before, without showing each step again."""
        with RunReader.open(self._folder) as run:
            self._offset = last_step_begins(self._folder / LOG, run.last_step())
            # Else all of it is in what comes next: the log from its beginning, or the database where none is.
            committed = run.events() if self._offset else []
        under_way = self._new_events()
        for event in [*_before(committed, under_way), *under_way]:
            self._read(event, self.progress.update)

    def follow(self) -> None:
        """Show the run until it ends."""
        with self._view as view:
            if not self._quiet:
                view.begin()
                for event in self._recent:
                    view.step(event)
            while self.ending() is None:
                time.sleep(INTERVAL)
                self._show(self._new_events())
            # What was logged between the last look and the end.
            self._show(self._new_events())

    def ending(self) -> RunEnding | None:
        """How the run stopped; ``None`` while it goes on."""
        kind = self._last_event.get("kind")
        if writing_process(self._folder) is not None:
            return None
        done = self.progress.steps_done
        go_on = f"continue with: {resume_command(self._folder)}"
        if kind == "run_finished":
            return RunEnding("finished", f"finished after step {done}")
        if kind == "run_interrupted":
            how = "stopped as asked" if self._last_event.get("reason") == ASKED_TO_STOP else "interrupted"
            return RunEnding("interrupted", f"{how} after step {done}; {go_on}")
        # Its last events may have come between our look at the log and at the lock.
        if self._offset < self._size():
            return None
        return RunEnding(
            "stopped", f"no process writes this run any more, stopped after step {done}; {go_on}"
        )

    def state(self) -> dict[str, Any]:
        """The present state, JSON."""
        run, ending = self.progress, self._ending_settled()
        step = run.under_way.current
        published = run.problem.best_comparable()
        return {
            "run": str(self._folder),
            "problem": run.problem.name,
            "policy": run.policy,
            "state": ending.kind if ending is not None else "running",
            "process": writing_process(self._folder),
            "phase": run.phase if ending is None else None,
            "steps": run.steps,
            "done": run.steps_done,
            "rollouts_per_step": run.under_way.size,
            "sampled": step.sampled,
            "evaluated": step.judged,
            "valid": step.valid,
            "tokens_per_second": run.tokens_per_second if ending is None else None,
            "seconds_elapsed": run.seconds_elapsed if ending is None else None,
            "seconds_left": run.seconds_left if ending is None else None,
            "hints": step.hints,
            "best_score": run.best,
            "caution": run.problem.score_caution() or None,
            "best_published": published.score if published else None,
        }

    def lines(self) -> list[str]:
        """The present state for people."""
        ending = self.ending()
        lines = [self._view.title(), *(self._line(event) for event in self._recent)]
        if ending is not None:
            return [*lines, self.closing()]
        run, under_way = self.progress, self.progress.under_way
        facts = [("steps", f"{run.steps_done}/{run.steps}")]
        for step in filter(None, (under_way.current, under_way.ahead)):
            counts = f"{step.sampled} sampled, {step.judged} judged of {under_way.size}"
            facts.append((f"step {step.step or 0}", counts))
        facts += run.facts()
        return [*lines, *(f"{name:<{len(FACT_INDENT) - 1}} {value}" for name, value in facts)]

    def closing(self) -> str:
        """How it ended, with the best score beside the published."""
        ending = self._ending_settled()
        sentence = ending.sentence if ending is not None else "still going on"
        best = self.progress.best_in_words()
        known = self.progress.best is not None
        return f"{sentence}\nbest {self.progress.problem.metric} {best}" if known else f"{sentence}\n{best}"

    def _ending_settled(self) -> RunEnding | None:
        """How the run stopped, with what its unfinished step found forgotten, as a resumed run forgets it."""
        ending = self.ending()
        if ending is not None:
            self.progress.discard_step()
        return ending

    def _show(self, events: Sequence[Event]) -> None:
        for event in events:
            self._read(event, self._view.ttd_event)

    def _read(self, event: Event, receive: Callable[..., None]) -> None:
        """Hand an event to ``receive`` with the clock at the event's time."""
        self._clock.moment = event["time"]
        try:
            receive(event=event)
        finally:
            self._clock.moment = None
        self._last_event = event
        if event["kind"] == "step_finished":
            self._recent.append(event)
        elif event["kind"] == "run_started":
            # Steps that a resumed run went back behind are no longer its own.
            kept = [each for each in self._recent if each["step"] <= event["step"]]
            self._recent = collections.deque(kept, maxlen=RECENT)

    def _new_events(self) -> list[Event]:
        if (self._folder / LOG).exists():
            events, self._offset = read_log(self._folder / LOG, self._offset)
            return events
        # The log is gone: the database has the events of finished steps.
        with RunReader.open(self._folder) as run:
            events = run.events(self._number)
        self._number = max([self._number, *(event["number"] for event in events)])
        return events

    def _size(self) -> int:
        path = self._folder / LOG
        return path.stat().st_size if path.exists() else 0

    def _line(self, event: Mapping[str, Any]) -> str:
        return step_line(self.progress.problem, event, self.progress.steps)


def _before(committed: Sequence[Event], logged: Sequence[Event]) -> list[Event]:
    """The events of the database that came before the log's from a ``step_started`` on."""
    keys = [(event["kind"], event["time"]) for event in committed]
    later = [(event["kind"], event["time"]) for event in logged]
    if later and later[0] in keys:
        return list(committed[: keys.index(later[0])])
    # Of a step that is not committed the database has what was written at once, a run's beginning or its end.
    at_once = set(later)
    return [event for event, key in zip(committed, keys, strict=True) if key not in at_once]
