"""``ttd watch``: the live view of a run, from another terminal.

Reads ``log.jsonl`` as it grows and feeds it to the same view that ``ttd run`` shows. It writes nothing and
holds no lock, so any number may watch.
"""

from __future__ import annotations

import collections
import pathlib
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import click

from ttd_core.cli.folders import existing_folder, runs_dir_option, stored_config
from ttd_core.cli.group import INTERRUPTED
from ttd_core.cli.output import json_option, print_json
from ttd_core.cli.progress import Progress
from ttd_core.cli.tally import Tally, step_line
from ttd_core.plugin import registry
from ttd_core.problem import Problem
from ttd_core.run.events import Event, read_log
from ttd_core.run.files import writer_of
from ttd_core.run.reading import LOG

#: Seconds between looks at the log.
INTERVAL = 0.25
#: Finished steps told at first.
RECENT = 3


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
    problem = registry.load(stored.problem, stored.options)
    watched = Watched(folder, problem, quiet=as_json or once)
    try:
        watched.catch_up()
        if not once:
            watched.follow()
    except KeyboardInterrupt:
        return INTERRUPTED
    if as_json:
        print_json(watched.state())
    elif once:
        for line in watched.lines():
            click.echo(line)
    else:
        click.echo(watched.closing())
    return 0


class EventClock:
    """Seconds since the epoch: those of the event being read, else now."""

    def __init__(self) -> None:
        self.moment: float | None = None

    def __call__(self) -> float:
        return time.time() if self.moment is None else self.moment


@attrs.frozen
class Ending:
    """How a run stopped: in a word, and what to say."""

    kind: str
    sentence: str


class Watched:
    """A run under watch.

    :param folder: the run's.
    :param quiet: show nothing while it goes on.
    """

    def __init__(self, folder: pathlib.Path, problem: Problem, quiet: bool = False) -> None:
        self._folder = folder
        self._clock = EventClock()
        self._progress = Progress(problem, sys.stdout, quiet, self._clock)
        self._quiet = quiet
        self._offset = 0
        self._last: Event = {}
        self._recent: collections.deque[Event] = collections.deque(maxlen=RECENT)

    @property
    def tally(self) -> Tally:
        """The run's counts so far."""
        return self._progress.tally

    def catch_up(self) -> None:
        """Take in what was logged before, without telling each step again."""
        for event in self._new_events():
            self._read(event, self.tally.feed)

    def follow(self) -> None:
        """Show the run until it ends."""
        with self._progress as progress:
            if not self._quiet:
                progress.begin()
                for event in self._recent:
                    progress.step(event)
            while self.ending() is None:
                time.sleep(INTERVAL)
                self._show(self._new_events())
            # What was logged between the last look and the end.
            self._show(self._new_events())

    def ending(self) -> Ending | None:
        """How the run stopped; ``None`` while it goes on."""
        kind = self._last.get("kind")
        if writer_of(self._folder) is not None:
            return None
        done, again = self.tally.done, f"continue with: ttd resume {self._folder}"
        if kind == "run_finished":
            return Ending("finished", f"finished after step {done}")
        if kind == "run_interrupted":
            return Ending("interrupted", f"interrupted after step {done}; {again}")
        # Its last words may have come between our look at the log and at the lock.
        if self._offset < self._size():
            return None
        return Ending("stopped", f"no process writes this run any more, stopped after step {done}; {again}")

    def state(self) -> dict[str, Any]:
        """The present state, JSON."""
        tally, ending = self.tally, self.ending()
        published = tally.problem.best_baseline()
        return {
            "run": str(self._folder),
            "problem": tally.problem.name,
            "policy": tally.policy,
            "state": ending.kind if ending is not None else "running",
            "process": writer_of(self._folder),
            "phase": tally.phase if ending is None else None,
            "steps": tally.steps,
            "done": tally.done,
            "rollouts_per_step": tally.per_step,
            "sampled": tally.sampled,
            "evaluated": tally.evaluated,
            "valid": tally.valid,
            "tokens_per_second": tally.tokens_per_second if ending is None else None,
            "seconds_left": tally.seconds_left if ending is None else None,
            "best_score": tally.best,
            "best_published": published.score if published else None,
        }

    def lines(self) -> list[str]:
        """The present state for people."""
        ending = self.ending()
        lines = [self._progress.title(), *(self._line(event) for event in self._recent)]
        if ending is not None:
            return [*lines, self.closing()]
        tally = self.tally
        under_way = f"{tally.sampled} sampled, {tally.evaluated} judged of {tally.per_step}"
        facts = [("steps", f"{tally.done}/{tally.steps}"), (f"step {tally.step}", under_way), *tally.facts()]
        return [*lines, *(f"{name:<10} {value}" for name, value in facts)]

    def closing(self) -> str:
        """How it ended, with the best score beside the published."""
        ending = self.ending()
        sentence = ending.sentence if ending is not None else "still going on"
        return f"{sentence}\nbest {self.tally.problem.metric} {self.tally.standing()}"

    def _show(self, events: Sequence[Event]) -> None:
        for event in events:
            self._read(event, self._progress.ttd_event)

    def _read(self, event: Event, take: Any) -> None:
        self._clock.moment = event["time"]
        try:
            take(event=event)
        finally:
            self._clock.moment = None
        self._last = event
        if event["kind"] == "step_finished":
            self._recent.append(event)

    def _new_events(self) -> list[Event]:
        events, self._offset = read_log(self._folder / LOG, self._offset)
        return events

    def _size(self) -> int:
        path = self._folder / LOG
        return path.stat().st_size if path.exists() else 0

    def _line(self, event: Mapping[str, Any]) -> str:
        return step_line(self.tally.problem, event, self.tally.steps)
