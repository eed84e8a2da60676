"""How far a run has come, counted from its events.

Knows nothing of terminals, so that a live view, plain lines and a reader of the log share it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ttd_core.cli.wording import compare_with_published, duration
from ttd_core.metrics import Metric
from ttd_core.problem import Problem
from ttd_core.run.time_left import seconds_left
from ttd_core.run.under_way import StepsUnderWay
from ttd_core.text import counted, showable_line

#: Characters of a hint in a view.
_HINT_CHARS = 160


class RunProgress:
    """Counts of the run and of the steps under way.

    :param problem: names the metric, the published results and which score is better.
    :param clock: seconds; any steady clock.
    """

    def __init__(self, problem: Problem, clock: Callable[[], float] = time.monotonic) -> None:
        self.problem = problem
        #: The run's folder, its policy's name and the sandbox level, as the run says them.
        self.run = ""
        self.policy = ""
        self.sandbox = ""
        #: Which engine serves the model, and why; empty where there is no choice.
        self.engine = ""
        #: Steps done before the process that goes on now, done by now, and in all in the end.
        self.steps_before = 0
        self.steps_done = 0
        self.steps = 0
        #: The steps under way, and their counts.
        self.under_way = StepsUnderWay()
        #: The best score so far, of the step under way too.
        self.best: float | None = None
        #: The best score after each finished step, and before the first that is known.
        self._best_after: dict[int, float | None] = {}
        self._clock = clock
        self._started: float | None = None
        self._step_seconds: list[float] = []

    def update(self, event: Mapping[str, Any]) -> None:
        """Count an event; kinds that say nothing about progress are passed over."""
        kind = event["kind"]
        moment = self._clock()
        self.under_way.read(event, moment)
        if kind == "run_started":
            self.run, self.policy = event["run"], event["policy"]
            self.sandbox = event.get("sandbox", "")
            self.engine = event.get("engine", "")
            self.steps_before = self.steps_done = event["step"]
            self.steps = event["steps"]
            self._started = moment
            self._go_back_to(event["step"])
        elif kind == "step_started":
            if self.under_way.ahead is None:
                self._go_back_to(self.steps_done)
        elif kind == "rollout_evaluated":
            self._update_best(event["score"])
        elif kind == "step_finished":
            self.steps_done = event["step"]
            self._step_seconds.append(event["seconds"])
            self._update_best(event["best_score"])
            self._update_best(event["metrics"].get(Metric.RUN_SCORE_BEST))
            self._best_after[self.steps_done] = self.best
        elif kind in ("run_interrupted", "run_finished"):
            self.discard_step()
            self._update_best(event.get("best_score"))

    def discard_step(self) -> None:
        """Forget what the step under way found: it was not committed, and no resumed run knows of it."""
        self._go_back_to(self.steps_done)
        self.under_way.end()

    @property
    def tokens_per_second(self) -> float | None:
        """Sampled tokens a second in the step under way; ``None`` before there are any."""
        return self.under_way.newest.tokens_per_second(self._clock())

    @property
    def seconds_elapsed(self) -> float | None:
        """Seconds since the run was begun or resumed; ``None`` before."""
        return None if self._started is None else max(0.0, self._clock() - self._started)

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds to the end of the run; ``None`` before there is anything to judge by."""
        current = self.under_way.current
        steps_left, elapsed = self.steps - self.steps_done, current.seconds(self._clock())
        if self._step_seconds:
            return seconds_left(self._step_seconds, steps_left, elapsed)
        judged_here = current.judged - current.kept
        if judged_here <= 0:
            return None
        return max(0.0, elapsed * self.under_way.size / judged_here * steps_left - elapsed)

    @property
    def phase(self) -> str:
        """What the run is busy with, in words."""
        current, ahead, size = self.under_way.current, self.under_way.ahead, self.under_way.size
        if current.begun is None:
            return "starting" if self.steps_done < self.steps else "done"
        if ahead is not None and ahead.sampled < size:
            return f"sampling step {ahead.step}, evaluating step {current.step}"
        return "learning" if current.judged >= size else "sampling and evaluating"

    def facts(self) -> list[tuple[str, str]]:
        """What a view shows beside the bars: name and value, in words."""
        current = self.under_way.current
        share = f"{current.valid / current.judged:.0%}" if current.judged else "-"
        speed = self.tokens_per_second
        return [
            ("now", self.phase),
            ("valid", share),
            ("best", self.best_in_words()),
            ("tokens/s", f"{speed:.0f}" if speed else "-"),
            ("elapsed", self._elapsed_in_words()),
            ("time left", self._left_in_words()),
            *((f"hint {place}", _cut(text)) for place, text in enumerate(current.hints, 1)),
        ]

    def best_in_words(self) -> str:
        """The best score beside the best published one."""
        if self.best is None:
            return f"no valid {self.problem.metric} yet"
        return compare_with_published(self.problem, self.best)

    def _elapsed_in_words(self) -> str:
        """Time since this process went on with the run, and since when."""
        if self._started is None:
            return duration(None)
        since = f"went on after step {self.steps_before}" if self.steps_before else "began"
        return f"{duration(self.seconds_elapsed)} since the run {since}"

    def _left_in_words(self) -> str:
        """Time to the end of the run, and for how many steps."""
        left = self.seconds_left
        if left is None:
            return duration(None)
        return f"{duration(left)} to the end of the run, {counted(self.steps - self.steps_done, 'step')}"

    def _go_back_to(self, step: int) -> None:
        """The best score is again the one after ``step``, or after the last one known before it."""
        self._best_after = {each: best for each, best in self._best_after.items() if each <= step}
        self.best = self._best_after[max(self._best_after)] if self._best_after else None

    def _update_best(self, score: float | None) -> None:
        if score is not None and (self.best is None or self.problem.better(score, self.best)):
            self.best = score


def _cut(text: str) -> str:
    """The beginning of a text, on a line."""
    line = showable_line(text)
    return line if len(line) <= _HINT_CHARS else f"{line[: _HINT_CHARS - 3]}..."
