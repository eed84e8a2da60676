"""When the next step is begun: after the one before it is over, or while its programs still run.

With ``schedule = "sync"`` a step is sampled, judged, learned from and committed; then the next is begun.

With ``"pipelined"`` step t+1 is begun once step t is sampled, before step t is learned from::

    sample 1 | sample 2 | learn 1, commit 1 | sample 3 | learn 2, commit 2 | sample 4 | ...
    judge 1  . . . . .                      .
               judge 2 . . . . . . . . . . . . . . . .
                                              judge 3 . . . .

So step t+1 starts from the archive after step t-1 and is sampled by the policy that learned step t-1, and
when it is learned from that policy has learned one step more. Whether step t's verdicts come early or late
changes nothing: step t+1 is sampled before step t is learned from in any case, and learning waits for both.
Sampling and learning never run at once; judging alone runs beside them.
"""

from __future__ import annotations

from collections.abc import Callable

from ttd_core.config import RunConfig
from ttd_core.run.beginning import BegunStep


class Schedule:
    """Begins the steps of one run in the order that its config says.

    :param begin: begins a step, and returns when its replies are sampled.
    :param stopping: whether the run shall end after the step under way: no other is begun then.
    """

    def __init__(
        self,
        config: RunConfig,
        begin: Callable[[int], BegunStep],
        stopping: Callable[[], bool],
    ) -> None:
        self._overlap = config.schedule == "pipelined"
        self._last = config.steps
        self._begin = begin
        self._stopping = stopping
        self._ahead: BegunStep | None = None

    def next(self, step: int) -> tuple[BegunStep, BegunStep | None]:
        """The step to finish, its replies sampled, and the one after it where that is begun already.

        :param step: one more than at the call before.
        """
        current, self._ahead = self._ahead, None
        if current is None:
            current = self._begin(step)
        if self._overlap and step < self._last and not self._stopping():
            self._ahead = self._begin(step + 1)
        return current, self._ahead
