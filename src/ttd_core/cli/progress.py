"""Showing how a run goes: a live view on a terminal, else one line a finished step."""

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
from rich.text import Text

from ttd_core.cli.output import wrapped
from ttd_core.cli.run_progress import RunProgress
from ttd_core.cli.wording import caution_about_scores, step_line
from ttd_core.plugin.guard import mark_as_hosts_own
from ttd_core.plugin.spec import hookimpl
from ttd_core.problem import Problem
from ttd_core.text import counted, showable, showable_line


class ProgressView:
    """An observer that shows a person how a run goes. Use it as a context manager.

    :param problem: the run's problem.
    :param stream: where to, standard output by default; a terminal gets the live view.
    :param quiet: show nothing, but count.
    :param clock: seconds; any steady clock.
    """

    def __init__(
        self,
        problem: Problem,
        stream: TextIO | None = None,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.progress = RunProgress(problem, clock)
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
        self.progress.update(event)
        if self._quiet:
            return
        kind = event["kind"]
        if kind == "run_started":
            self.begin()
        elif kind == "step_started" and event.get("kept"):
            kept, per_step = event["kept"], self.progress.under_way.size
            self._say(f"step {event['step']}: {kept} of {per_step} replies are there from before the stop")
        elif kind == "step_finished":
            self.step(event)

    def begin(self) -> None:
        """Say what runs, and go live where that can be."""
        self._say(self.title())
        if self.progress.engine:
            self._say(showable_line(f"engine: {self.progress.engine}"))
        self._go_live()

    def step(self, event: Mapping[str, Any]) -> None:
        """Say what a finished step came to."""
        self._say(step_line(self.progress.problem, event, self.progress.steps))

    def title(self) -> str:
        """What runs, in a line."""
        run = self.progress
        already = f", continuing after step {run.steps_before}" if run.steps_before else ""
        size = f"{counted(run.steps, 'step')} of {counted(run.under_way.size, 'rollout')}"
        if run.sandbox:
            size += f", sandbox {run.sandbox}"
        caution = caution_about_scores(run.problem)
        cautious = f"; {caution}" if caution else ""
        return showable_line(f"{run.run}: {run.problem.name} with {run.policy}, {size}{already}{cautious}")

    def _go_live(self) -> None:
        if self._stream.isatty() and self._live is None:
            console = Console(file=self._stream)
            self._live = Live(_Drawing(self.progress), console=console, refresh_per_second=4, transient=True)
            self._live.start()

    def _say(self, line: str) -> None:
        line = showable(line)
        if self._stream.isatty():
            line = wrapped(line, Console(file=self._stream).width)
        if self._live is not None:
            self._live.console.print(Text(line), soft_wrap=True)
            return
        try:
            print(line, file=self._stream, flush=True)
        except BrokenPipeError as error:
            mark_as_hosts_own(error)
            raise


class _Drawing:
    """Bars and facts; rich asks for them anew at every refresh."""

    def __init__(self, progress: RunProgress) -> None:
        self._progress = progress

    def __rich__(self) -> Group:
        run = self._progress
        bars = Table.grid(padding=(0, 2))
        bars.add_row(
            "steps", ProgressBar(run.steps or 1, run.steps_done, width=40), f"{run.steps_done}/{run.steps}"
        )
        steps = run.under_way
        current, ahead = steps.current, steps.ahead
        counts = [("sampled", current.sampled), ("evaluated", current.judged)]
        if ahead is not None:
            counts.append(("next sampled", ahead.sampled))
        for label, count in counts:
            bars.add_row(label, ProgressBar(steps.size or 1, count, width=40), f"{count}/{steps.size}")
        facts = Table.grid(padding=(0, 2))
        for name, value in run.facts():
            facts.add_row(name, Text(showable_line(value)))
        return Group(bars, facts)
