"""Judging a run's replies in threads beside whoever samples them.

:class:`Judging` judges each reply in one go, or reuses the verdict on an equal program. In its place
:class:`~ttd_core.run.cascade.CascadeJudging` gives programs a part of their budget first. Both outlive a
step: groups come and go by a key of the caller's.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import heapq
import itertools
import threading
from collections.abc import Callable, Collection, Hashable
from typing import Literal

import attrs

from ttd_core.plugin.hooks import Hooks
from ttd_core.policy.base import Sample
from ttd_core.problem import Execute
from ttd_core.run.evaluate import evaluate_action, evaluate_completion, judge_action, judge_reply, read_reply
from ttd_core.run.known_verdicts import KnownVerdicts, can_be_reused, reused
from ttd_core.search.archive import Node
from ttd_core.types import Action, Verdict

#: Called with a reply's verdict before anybody is told: the place to write it down.
OnVerdict = Callable[[Verdict], None]


@attrs.define(eq=False)
class Reply:
    """A reply that is being judged.

    :param group: key of its group.
    :param start: the state that its group starts from.
    :param sample: the reply.
    :param on_verdict: called once with its verdict, in a worker's thread.
    :param order: how many were handed in before it; those handed in first go first.
    :param verdict: to come.
    """

    group: Hashable
    start: Node
    sample: Sample
    on_verdict: OnVerdict
    order: int
    verdict: concurrent.futures.Future[Verdict] = attrs.field(factory=concurrent.futures.Future)


class Judging:
    """Judges replies as they come, several at once. Thread-safe.

    Threads and files are there while replies are under way, and gone after :meth:`abandon`.

    :param hooks: of the run.
    :param execute: the sandbox.
    :param workers: verdicts worked on at once.
    :param on_problem_error: whether an error of the problem's own code on a reply costs that rollout
        (``count``) or is what the future raises (``stop``).
    :param known: the run's verdicts by program, where equal programs are judged once.
    """

    def __init__(
        self,
        hooks: Hooks,
        execute: Execute,
        workers: int,
        on_problem_error: Literal["count", "stop"] = "count",
        known: KnownVerdicts | None = None,
    ) -> None:
        self._hooks = hooks
        self._execute = execute
        self._workers = workers
        self._counts_errors = on_problem_error == "count"
        self._known = known
        self._lock = threading.Lock()
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None
        #: What workers are to do, the earliest reply's first: the second run of a program, or an equal one's
        #: that waited, comes before the programs of the next step.
        self._todo: list[tuple[int, int, Reply, Callable[[Reply], None]]] = []
        self._numbers = itertools.count()
        #: Replies without a verdict. One that is taken out here gets none.
        self._open: set[Reply] = set()
        #: By program those that wait for the verdict on an equal one.
        self._waiting: dict[bytes, list[Reply]] = {}

    def resize(self, workers: int) -> None:
        """Work on so many verdicts at once from now on; what is under way goes on."""
        with self._lock:
            if workers != self._workers:
                self._workers, pool, self._pool = workers, self._pool, None
                if pool is not None:
                    pool.shutdown(wait=False)

    def submit(
        self, group: Hashable, start: Node, sample: Sample, size: int, on_verdict: OnVerdict
    ) -> concurrent.futures.Future[Verdict]:
        """Judge a reply.

        :param group: key of its group: the same for all its replies, unlike any other group's under way.
        :param start: the state that the group starts from.
        :param size: replies that the group has in the end (else see :meth:`end_group`).
        :param on_verdict: called with the verdict before the future has it; what it raises the future raises.
        :return: the verdict to come; raises :class:`~ttd_core.errors.PluginError` when a hook fails and that
            is to stop the run. Cancelled, it has none, and nothing waits for it.
        """
        reply = Reply(group, start, sample, on_verdict, next(self._numbers))
        reply.verdict.add_done_callback(functools.partial(self._forget, reply))
        with self._lock:
            self._open.add(reply)
        self._begin(reply, size)
        return reply.verdict

    def kept(self, group: Hashable, start: Node, index: int, verdict: Verdict, size: int) -> None:
        """Tell of a rollout of a group that has its verdict from before the run was stopped.

        :param index: of the rollout in its group.
        """

    def end_group(self, group: Hashable) -> None:
        """Tell that no more replies of a group come: it is as large as it is."""

    def without_the_rest(self, group: Hashable, index: int, verdict: Verdict) -> Verdict:
        """The verdict on a reply of which no more is waited for: what is known of it, or else ``verdict``.

        :param index: of the rollout in its group.
        """
        return verdict

    def abandon(self, groups: Collection[Hashable] | None = None) -> None:
        """Judge nothing of some groups any further: their futures are cancelled, nothing more is kept.

        What is in the sandbox at the moment runs on, and is forgotten.

        :param groups: their keys; ``None`` for all, and to release threads and files.
        """
        pool = None
        with self._lock:
            dropped = {reply for reply in self._open if groups is None or reply.group in groups}
            self._open -= dropped
            if groups is None:
                pool, self._pool = self._pool, None
                self._todo.clear()
                self._waiting.clear()
                if self._known is not None:
                    self._known.close()
        for reply in dropped:
            if reply.verdict.cancel():
                reply.verdict.set_running_or_notify_cancel()
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)

    # -- for the ways to judge ----------------------------------------------------------------------

    def _begin(self, reply: Reply, size: int) -> None:
        """Start to judge a reply, in another thread."""
        self._queue(reply, self._judge if self._known is None else self._judge_once)

    def _queue(self, reply: Reply, work: Callable[[Reply], None]) -> bool:
        """Have a worker do something for a reply; what that raises, its future raises.

        :return: False where the reply was dropped, and nothing is to be done for it.
        """
        with self._lock:
            if reply not in self._open:
                return False
            if self._pool is None:
                if self._known is not None:
                    self._known.open()
                self._pool = concurrent.futures.ThreadPoolExecutor(
                    self._workers, thread_name_prefix="evaluate"
                )
            heapq.heappush(self._todo, (reply.order, next(self._numbers), reply, work))
            self._pool.submit(self._work)
            return True

    def _work(self) -> None:
        """Do what is first."""
        with self._lock:
            if not self._todo:
                return  # all was abandoned
            _, _, reply, work = heapq.heappop(self._todo)
        try:
            work(reply)
        except BaseException as error:  # noqa: BLE001 (handed to whoever waits for the verdict)
            self._end(reply, error)

    def _finish(self, reply: Reply, verdict: Verdict) -> None:
        """The verdict on a reply: kept, then told. Nothing happens for one that was abandoned."""
        with self._lock:
            if reply not in self._open:
                return
            # Inside the lock, so that nothing is kept once abandon() has returned.
            try:
                reply.on_verdict(verdict)
                outcome: Verdict | BaseException = verdict
            except BaseException as error:  # noqa: BLE001 (handed to whoever waits for the verdict)
                outcome = error
        self._end(reply, outcome)

    def _end(self, reply: Reply, outcome: Verdict | BaseException) -> None:
        with self._lock:
            if reply not in self._open:
                return
            self._open.discard(reply)
        # Somebody may cancel it at any moment.
        with contextlib.suppress(concurrent.futures.InvalidStateError):
            if isinstance(outcome, BaseException):
                reply.verdict.set_exception(outcome)
            else:
                reply.verdict.set_result(outcome)

    def _forget(self, reply: Reply, _future: concurrent.futures.Future[Verdict]) -> None:
        """Called when a future is done, by whomever: with a result there is nothing left to forget."""
        with self._lock:
            self._open.discard(reply)

    def _read(self, reply: Reply) -> Action | Verdict:
        """The action in a reply, or a failed verdict."""
        completion = reply.sample.completion
        if self._counts_errors:
            return read_reply(self._hooks, completion)
        return self._hooks.parse_action(completion)

    def _evaluate(self, hooks: Hooks, reply: Reply, action: Action) -> Verdict:
        """Run the action of a reply and judge where it leads."""
        evaluate = judge_action if self._counts_errors else evaluate_action
        return evaluate(hooks, reply.start.state, action, self._execute)

    # -- in one go ----------------------------------------------------------------------------------

    def _judge(self, reply: Reply) -> None:
        if not reply.verdict.cancelled():
            judge = judge_reply if self._counts_errors else evaluate_completion
            verdict = judge(self._hooks, reply.start.state, reply.sample.completion, self._execute)
            self._finish(reply, verdict)

    # -- equal programs once ------------------------------------------------------------------------

    def _judge_once(self, reply: Reply) -> None:
        """Judge a reply, or find the verdict on an equal program, or wait for it without a thread."""
        known = self._known
        assert known is not None
        if reply.verdict.cancelled():
            return
        action = self._read(reply)
        if isinstance(action, Verdict):
            self._finish(reply, action)
            return
        key = known.key(reply.start.state, action)
        if key is None:
            self._finish(reply, self._evaluate(self._hooks, reply, action))
            return
        followers: list[Reply] = []
        with self._lock:
            if key in self._waiting:
                self._waiting[key].append(reply)
                return
            self._waiting[key] = followers
        verdict: Verdict | None = None
        try:
            verdict = known.get(key)
            if verdict is not None:
                self._finish(reply, reused(verdict))
            elif reply in self._open:  # after abandon() nothing is known any more
                verdict = self._evaluate(self._hooks, reply, action)
                known.put(key, verdict)
                self._finish(reply, verdict)
        finally:
            self._lead(key, followers, verdict)

    def _lead(self, key: bytes, followers: list[Reply], verdict: Verdict | None) -> None:
        """Give those that waited the verdict; where it says nothing of their program, they are judged."""
        with self._lock:
            # After abandon() the key may be another's.
            if self._waiting.get(key) is followers:
                del self._waiting[key]
        for follower in followers:
            if verdict is not None and can_be_reused(verdict):
                self._finish(follower, reused(verdict))
            else:
                self._queue(follower, self._judge_once)
