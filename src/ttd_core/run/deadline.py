"""Stragglers: when a step ends without its last verdicts, and what becomes of those rollouts.

With ``deadline.then = "later"`` a late rollout is judged on and joins the first step that ends after its
verdict is there, in a group of its own: the archive takes it in, and it is learned from with the advantage
that it has among the rollouts of its own group. The last step of a run waits for all, so none is lost. With
``"timeout"`` it counts as a timeout at once, and what its program comes to is not looked at.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import itertools
import math
import queue
import time
from collections.abc import Iterable, Sequence

import attrs

from ttd_core.config import DeadlineConfig
from ttd_core.run.judging import Judging
from ttd_core.run.late_table import LateRollout
from ttd_core.run.records import Place
from ttd_core.run.rollout import StepRollouts
from ttd_core.search.archive import Archive
from ttd_core.stages import Counted
from ttd_core.types import Group, Rollout, Status, Verdict

#: Among the metrics of a late rollout's verdict: where it was sampled, as STEP/GROUP/INDEX.
SAMPLED_IN = "sampled_in"


def time_left(config: DeadlineConfig, rollouts: StepRollouts) -> float | None:
    """Seconds until what a step has no verdict on is late: 0 once it is, ``None`` while no time is set.

    A step has one verdict at least, whatever its deadline.
    """
    if not rollouts.judged:
        return None
    # 28 % of 25 is 7, whatever rounding says.
    if config.share is not None and rollouts.judged >= math.ceil(config.share * rollouts.sampled - 1e-9):
        return 0.0
    if config.seconds is None:
        return None
    return max(0.0, rollouts.last_sampled + config.seconds - time.monotonic())


def wait_for(
    step: StepRollouts,
    beside: StepRollouts | None = None,
    deadline: DeadlineConfig | None = None,
    others: Iterable[concurrent.futures.Future[Verdict]] = (),
) -> None:
    """Return when every verdict of a step is there, or when what is not is late.

    :param beside: the step after it, whose verdicts are taken in as they come.
    :param deadline: that the step has; none where it waits for all.
    :param others: verdicts that are waited for too.
    :raises PluginError: when a hook fails and that is to stop the run.
    """
    others = set(others)
    #: One entry a verdict that came; of the others the future, which is taken out.
    came: queue.SimpleQueue[concurrent.futures.Future[Verdict] | None] = queue.SimpleQueue()
    steps = [step] if beside is None else [step, beside]
    try:
        # What is there before it is listened for is taken in at once, so nothing is missed.
        for each in steps:
            each.on_arrival = functools.partial(came.put, None)
        for future in others:
            future.add_done_callback(came.put)
        while True:
            for each in steps:
                each.take_verdicts()
            left = None if deadline is None else time_left(deadline, step)
            if left == 0 or not (step.waiting or others):
                return
            with contextlib.suppress(queue.Empty):
                others.discard(came.get(timeout=left))
    finally:
        for each in steps:
            each.on_arrival = lambda: None


def timed_out(config: DeadlineConfig) -> Verdict:
    """The verdict on a rollout that is late where that counts as a timeout."""
    limits = [] if config.share is None else [f"deadline.share = {config.share:g}"]
    limits += [] if config.seconds is None else [f"deadline.seconds = {config.seconds:g}"]
    message = f"not judged when its step ended ({', '.join(limits)}): it counts as a timeout"
    return Verdict.failed(Status.TIMEOUT, message)


@attrs.frozen(eq=False)
class JoinedGroup:
    """Late rollouts of one group that join a step together.

    :param group: of these rollouts alone.
    :param rollouts: where they come from, in the same order.
    """

    group: Group
    rollouts: Sequence[LateRollout]

    @property
    def others(self) -> Sequence[Counted]:
        """The rollouts of their group that were judged in time and count."""
        return self.rollouts[0].others


class LateRollouts:
    """The rollouts whose steps ended without them, until they join another.

    :param waiting: those of steps that are committed already: they are judged again.
    """

    def __init__(self, judging: Judging, archive: Archive, waiting: Sequence[LateRollout]) -> None:
        self._waiting: dict[Place, tuple[LateRollout, concurrent.futures.Future[Verdict]]] = {}
        for late in waiting:
            # Those of its group are compared already: it is a group of its own.
            verdict = judging.submit(late.place, archive[late.start], late.sample, 1, lambda _verdict: None)
            self._waiting[late.place] = late, verdict

    def add(self, late: LateRollout, verdict: concurrent.futures.Future[Verdict]) -> None:
        """Keep a rollout whose verdict is still to come."""
        self._waiting[late.place] = late, verdict

    @property
    def starts(self) -> list[int]:
        """Nodes that they started from, which the archive must keep."""
        return [late.start for late, _ in self._waiting.values()]

    @property
    def verdicts(self) -> list[concurrent.futures.Future[Verdict]]:
        """That are still to come, or not taken yet."""
        return [verdict for _, verdict in self._waiting.values()]

    def take(self) -> list[JoinedGroup]:
        """Those that are judged, a group for each of theirs, in order of their places; kept no longer.

        :raises PluginError: when a hook fails and that is to stop the run.
        """
        places = sorted(place for place, (_, verdict) in self._waiting.items() if verdict.done())
        joined = []
        for _, of_group in itertools.groupby(places, key=lambda place: place[:2]):
            pairs = [self._waiting.pop(place) for place in of_group]
            rollouts = [
                Rollout(late.sample.completion, _marked(late, verdict.result())) for late, verdict in pairs
            ]
            first = pairs[0][0]
            group = Group(first.start, first.prompt, first.sample.prompt_tokens, rollouts, late=True)
            joined.append(JoinedGroup(group, [late for late, _ in pairs]))
        return joined


def _marked(late: LateRollout, verdict: Verdict) -> Verdict:
    return attrs.evolve(verdict, metrics={**verdict.metrics, SAMPLED_IN: late.name})
