"""The step under way, counted from a run's events, which tell of it before anything is committed."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Any

#: Judged rollouts that are remembered, the newest.
LATEST = 12


class StepUnderWay:
    """What events say of the step that began last.

    Its counts stay as they are when it ends, until the next begins.
    """

    def __init__(self) -> None:
        #: Its number; ``None`` before the first.
        self.step: int | None = None
        #: When it began, by the clock of the one who counts; ``None`` while no step is under way.
        self.begun: float | None = None
        #: Groups of a step, and rollouts of a group.
        self.groups = self.group_size = 0
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

    def read(self, event: Mapping[str, Any], moment: float) -> None:
        """Count an event; kinds that say nothing of a step under way are passed over.

        :param moment: when it happened, in seconds of any steady clock.
        """
        kind = event["kind"]
        if kind == "run_started":
            self.groups, self.group_size = event["groups"], event["group_size"]
            self._begin(None, None)
        elif kind == "step_started":
            self._begin(event["step"], moment)
            self.kept = event.get("kept", 0)
            hints = event.get("hints")
            self.hints = [str(each) for each in hints] if isinstance(hints, list) else []
        elif kind in ("step_finished", "run_finished", "run_interrupted"):
            self.end()
        elif kind == "rollout_sampled" and event["step"] == self.step:
            self.rollouts.setdefault((event["group"], event["index"]), "sampled")
            if len(self.rollouts) > self.kept:
                self.tokens += event["tokens"]
        elif kind == "rollout_evaluated" and event["step"] == self.step:
            self.rollouts[event["group"], event["index"]] = event["status"]
            self.latest.append(event)

    def end(self) -> None:
        """No step is under way any more."""
        self.begun = None

    @property
    def size(self) -> int:
        """Rollouts of a step."""
        return self.groups * self.group_size

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
        """Seconds since it began; 0 where no step is under way."""
        return 0.0 if self.begun is None else max(0.0, now - self.begun)

    def tokens_per_second(self, now: float) -> float | None:
        """Sampled tokens a second; ``None`` before there are any."""
        seconds = self.seconds(now)
        return self.tokens / seconds if seconds > 0 and self.tokens else None

    def _begin(self, step: int | None, moment: float | None) -> None:
        self.step, self.begun = step, moment
        self.rollouts, self.kept, self.tokens, self.hints = {}, 0, 0, []
        self.latest.clear()
