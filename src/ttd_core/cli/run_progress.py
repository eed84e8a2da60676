"""How far a run has come, counted from its events.

Knows nothing of terminals, so that a live view, plain lines and a reader of the log share it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from ttd_core.cli.wording import compare_with_published, duration
from ttd_core.metrics import Metric
from ttd_core.problem import Problem
from ttd_core.run.time_left import seconds_left
from ttd_core.text import counted, showable_line

#: Characters of a hint in a view.
_HINT_CHARS = 160


@attrs.define
class StepCounts:
    """Counts of one step under way.

    :param step: its number; 0 for none.
    :param sampled: replies.
    :param evaluated: verdicts.
    :param valid: verdicts of ok.
    :param tokens: of the replies that this process sampled.
    :param kept: rollouts that the step had when it was begun: the first that are told of, made by another
        process.
    :param hints: what people's hints to it say.
    :param started: when it began, or when the one before was finished where that is later; ``None`` for none.
    """

    step: int = 0
    sampled: int = 0
    evaluated: int = 0
    valid: int = 0
    tokens: int = 0
    kept: int = 0
    hints: list[str] = attrs.field(factory=list)
    started: float | None = None


class RunProgress:
    """Counts of the run and of the step under way.

    :param problem: names the metric, the published results and which score is better.
    :param clock: seconds; any steady clock.
    """

    def __init__(self, problem: Problem, clock: Callable[[], float] = time.monotonic) -> None:
        self.problem = problem
        #: The run's folder, its policy's name and the sandbox level, as the run says them.
        self.run = ""
        self.policy = ""
        self.sandbox = ""
        #: Steps done before the process that goes on now, done by now, and in all in the end.
        self.steps_before = 0
        self.steps_done = 0
        self.steps = 0
        #: Rollouts a step.
        self.per_step = 0
        #: The step that is to be finished next, and the one after it where that is begun already.
        self.current = StepCounts()
        self.ahead: StepCounts | None = None
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
        if kind == "run_started":
            self.run, self.policy = event["run"], event["policy"]
            self.sandbox = event.get("sandbox", "")
            self.steps_before = self.steps_done = event["step"]
            self.steps = event["steps"]
            self.per_step = event["groups"] * event["group_size"]
            self._started = self._clock()
            self._go_back_to(event["step"])
        elif kind == "step_started":
            self._begin_step(event)
        elif kind == "rollout_sampled":
            counts = self._counts(event["step"])
            counts.sampled += 1
            if counts.sampled > counts.kept:
                counts.tokens += event["tokens"]
        elif kind == "rollout_evaluated":
            counts = self._counts(event["step"])
            counts.evaluated += 1
            counts.valid += event["status"] == "ok"
            self._update_best(event["score"])
        elif kind == "step_finished":
            self.steps_done = event["step"]
            self.current = self.ahead or attrs.evolve(self.current, started=None)
            self.ahead = None
            if self.current.started is not None:
                self.current.started = self._clock()
            self._step_seconds.append(event["seconds"])
            self._update_best(event["best_score"])
            self._update_best(event["metrics"].get(Metric.RUN_SCORE_BEST))
            self._best_after[self.steps_done] = self.best
        elif kind in ("run_interrupted", "run_finished"):
            self.discard_step()
            self._update_best(event.get("best_score"))

    def _begin_step(self, event: Mapping[str, Any]) -> None:
        hints = event.get("hints")
        counts = StepCounts(
            event["step"],
            kept=event.get("kept", 0),
            hints=[str(each) for each in hints] if isinstance(hints, list) else [],
            started=self._clock(),
        )
        if self.current.started is not None and counts.step == self.current.step + 1:
            self.ahead = counts
        else:
            self._go_back_to(self.steps_done)
            self.current = counts

    def _counts(self, step: int) -> StepCounts:
        """Those of a step under way."""
        return self.ahead if self.ahead is not None and step == self.ahead.step else self.current

    def discard_step(self) -> None:
        """Forget what the step under way found: it was not committed, and no resumed run knows of it."""
        self._go_back_to(self.steps_done)

    @property
    def step(self) -> int:
        """The step that is to be finished next."""
        return self.current.step

    @property
    def sampled(self) -> int:
        """Its replies."""
        return self.current.sampled

    @property
    def evaluated(self) -> int:
        """Its verdicts."""
        return self.current.evaluated

    @property
    def valid(self) -> int:
        """Its valid rollouts."""
        return self.current.valid

    @property
    def tokens(self) -> int:
        """Its tokens."""
        return self.current.tokens

    @property
    def hints(self) -> list[str]:
        """What hints to it say."""
        return self.current.hints

    @property
    def tokens_per_second(self) -> float | None:
        """Sampled tokens a second in the step under way; ``None`` before there are any."""
        counts = self.ahead or self.current
        elapsed = 0.0 if counts.started is None else self._clock() - counts.started
        return counts.tokens / elapsed if elapsed > 0 and counts.tokens else None

    @property
    def seconds_elapsed(self) -> float | None:
        """Seconds since the run was begun or resumed; ``None`` before."""
        return None if self._started is None else max(0.0, self._clock() - self._started)

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds to the end of the run; ``None`` before there is anything to judge by."""
        steps_left = self.steps - self.steps_done
        if self._step_seconds:
            return seconds_left(self._step_seconds, steps_left, self._elapsed())
        judged_here = self.current.evaluated - self.current.kept
        if judged_here <= 0 or not self.per_step:
            return None
        return max(0.0, self._elapsed() * self.per_step / judged_here * steps_left - self._elapsed())

    @property
    def phase(self) -> str:
        """What the run is busy with, in words."""
        if self.current.started is None:
            return "starting" if self.steps_done < self.steps else "done"
        if self.ahead is not None and self.ahead.sampled < self.per_step:
            return f"sampling step {self.ahead.step}, evaluating step {self.current.step}"
        return "learning" if self.current.evaluated >= self.per_step else "sampling and evaluating"

    def facts(self) -> list[tuple[str, str]]:
        """What a view shows beside the bars: name and value, in words."""
        counts = self.current
        share = f"{counts.valid / counts.evaluated:.0%}" if counts.evaluated else "-"
        speed = self.tokens_per_second
        return [
            ("now", self.phase),
            ("valid", share),
            ("best", self.best_in_words()),
            ("tokens/s", f"{speed:.0f}" if speed else "-"),
            ("elapsed", self._elapsed_in_words()),
            ("time left", self._left_in_words()),
            *((f"hint {place}", _cut(text)) for place, text in enumerate(counts.hints, 1)),
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
        self.current = attrs.evolve(self.current, started=None)
        self.ahead = None

    def _elapsed(self) -> float:
        """Seconds since the step under way started; 0 between steps."""
        return 0.0 if self.current.started is None else self._clock() - self.current.started

    def _update_best(self, score: float | None) -> None:
        if score is not None and (self.best is None or self.problem.better(score, self.best)):
            self.best = score


def _cut(text: str) -> str:
    """The beginning of a text, on a line."""
    line = showable_line(text)
    return line if len(line) <= _HINT_CHARS else f"{line[: _HINT_CHARS - 3]}..."
