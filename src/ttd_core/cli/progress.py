"""Progress of a run: a live view on a terminal, else one line a finished step."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from ttd_core.cli.tally import Tally, step_line
from ttd_core.plugin.guard import mark_as_hosts_own
from ttd_core.plugin.spec import hookimpl
from ttd_core.problem import Problem


class Progress:
    """An observer that tells a person how a run goes. Use it as a context manager.

    :param problem: the run's problem.
    :param stream: where to; a terminal gets the live view.
    :param quiet: tell nothing.
    :param clock: seconds; any steady clock.
    """

    def __init__(
        self,
        problem: Problem,
        stream: TextIO | None = None,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tally = Tally(problem, clock)
        self._quiet = quiet
        self._stream = stream or sys.stdout
        self._live: Live | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    @hookimpl
    def ttd_event(self, event: Mapping[str, Any]) -> None:
        """Count the event, and show what changed.

        :raises BrokenPipeError: when nobody reads any more, which ends the run.
        """
        self.tally.feed(event)
        if self._quiet:
            return
        kind = event["kind"]
        if kind == "run_started":
            self.begin()
        elif kind == "step_finished":
            self.step(event)

    def begin(self) -> None:
        """Say what runs, and go live where that can be."""
        self._say(self.title())
        self._go_live()

    def step(self, event: Mapping[str, Any]) -> None:
        """Say what a finished step came to."""
        self._say(step_line(self.tally.problem, event, self.tally.steps))

    def title(self) -> str:
        """What runs, in a line."""
        tally = self.tally
        already = f", continuing after step {tally.began}" if tally.began else ""
        size = f"{tally.steps} steps of {tally.per_step} rollouts"
        if tally.sandbox:
            size += f", sandbox {tally.sandbox}"
        return f"{tally.run}: {tally.problem.name} with {tally.policy}, {size}{already}"

    def _go_live(self) -> None:
        if self._stream.isatty() and self._live is None:
            console = Console(file=self._stream)
            self._live = Live(_View(self.tally), console=console, refresh_per_second=4, transient=True)
            self._live.start()

    def _say(self, line: str) -> None:
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)
            return
        try:
            print(line, file=self._stream, flush=True)
        except BrokenPipeError as error:
            mark_as_hosts_own(error)
            raise


class _View:
    """Draws a tally; rich asks for it anew at every refresh."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def __rich__(self) -> Group:
        tally = self._tally
        bars = Table.grid(padding=(0, 2))
        bars.add_row(
            "steps", ProgressBar(tally.steps or 1, tally.done, width=40), f"{tally.done}/{tally.steps}"
        )
        for label, count in (("sampled", tally.sampled), ("evaluated", tally.evaluated)):
            bars.add_row(
                label, ProgressBar(tally.per_step or 1, count, width=40), f"{count}/{tally.per_step}"
            )
        facts = Table.grid(padding=(0, 2))
        for name, value in tally.facts():
            facts.add_row(name, value)
        return Group(bars, facts)
