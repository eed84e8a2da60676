"""The steps under way, counted from a run's events, which tell of them before anything is committed.

One step is under way at a time, or two where steps overlap: the one that is to be finished next, and the one
after it.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Any

#: Judged rollouts that are remembered, the newest.
LATEST = 12


class StepUnderWay:
    """What events say of one step. Its counts stay as they are when it ends."""

    def __init__(self, step: int | None = None, begun: float | None = None) -> None:
        #: Its number; ``None`` where no step has begun.
        self.step = step
        #: When it began, or when the one before was over where that is later, by the clock of the one who
        #: counts; ``None`` while it is not under way.
        self.begun = begun
        #: By group and index: ``sampled``, or the verdict's status once a rollout is judged.
        self.rollouts: dict[tuple[int, int], str] = {}
        #: Rollouts that were there when it began: the first that are told of, sampled by another process.
        self.kept = 0
        #: Sampled since it began.
        self.tokens = 0
        #: What people's hints to it say.
        self.hints: list[str] = []
        #: The events of the rollouts judged last.
        self.latest: collections.deque[Mapping[str, Any]] = collections.deque(maxlen=LATEST)

    @property
    def sampled(self) -> int:
        """How many of its rollouts were sampled."""
        return len(self.rollouts)

    @property
    def judged(self) -> int:
        """How many of its rollouts were judged."""
        return sum(status != "sampled" for status in self.rollouts.values())

    @property
    def valid(self) -> int:
        """How many of its rollouts were found valid."""
        return sum(status == "ok" for status in self.rollouts.values())

    def seconds(self, now: float) -> float:
        """Seconds since it began; 0 where it is not under way."""
        return 0.0 if self.begun is None else max(0.0, now - self.begun)

    def tokens_per_second(self, now: float) -> float | None:
        """Sampled tokens a second; ``None`` before there are any."""
        seconds = self.seconds(now)
        return self.tokens / seconds if seconds > 0 and self.tokens else None

    def count(self, event: Mapping[str, Any]) -> None:
        """Count the event of one of its rollouts."""
        place = (event["group"], event["index"])
        if event["kind"] == "rollout_sampled":
            self.rollouts.setdefault(place, "sampled")
            if len(self.rollouts) > self.kept:
                self.tokens += event["tokens"]
        else:
            self.rollouts[place] = event["status"]
            self.latest.append(event)


class StepsUnderWay:
    """What events say of the step that is to be finished next, and of the one that overlaps it."""

    def __init__(self) -> None:
        #: The step that is to be finished next, or that was finished last.
        self.current = StepUnderWay()
        #: The one after it, where that is begun already.
        self.ahead: StepUnderWay | None = None
        #: Groups of a step, and rollouts of a group.
        self.groups = self.group_size = 0

    def read(self, event: Mapping[str, Any], moment: float) -> None:
        """Count an event; kinds that say nothing of a step under way are passed over.

        :param moment: when it happened, in seconds of any steady clock.
        """
        kind = event["kind"]
        if kind == "run_started":
            self.groups, self.group_size = event["groups"], event["group_size"]
            self.current, self.ahead = StepUnderWay(), None
        elif kind == "step_started":
            self._begin(event, moment)
        elif kind == "step_finished":
            self._finish(event["step"], moment)
        elif kind in ("run_finished", "run_interrupted"):
            self.end()
        elif kind in ("rollout_sampled", "rollout_evaluated"):
            for step in filter(None, (self.current, self.ahead)):
                if step.step == event["step"]:
                    step.count(event)

    def end(self) -> None:
        """No step is under way any more."""
        self.current.begun, self.ahead = None, None

    @property
    def newest(self) -> StepUnderWay:
        """The step that began last."""
        return self.ahead or self.current

    @property
    def size(self) -> int:
        """Rollouts of a step."""
        return self.groups * self.group_size

    def _begin(self, event: Mapping[str, Any], moment: float) -> None:
        step = StepUnderWay(event["step"], moment)
        step.kept = event.get("kept", 0)
        hints = event.get("hints")
        step.hints = [str(each) for each in hints] if isinstance(hints, list) else []
        current = self.current
        if current.begun is not None and current.step is not None and step.step == current.step + 1:
            self.ahead = step
        else:
            self.current, self.ahead = step, None

    def _finish(self, step: int, moment: float) -> None:
        if self.current.step is not None and step < self.current.step:
            return  # of one that began before the events that were read
        if self.ahead is None:
            self.current.begun = None
        else:
            self.current, self.ahead = self.ahead, None
            self.current.begun = moment
