"""The rollouts of a step under way: each reply is judged as soon as it is complete, beside sampling."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import queue
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ttd_core.policy.base import Policy, Sample, SamplingParams
from ttd_core.run.judging import Judging
from ttd_core.run.missing import sample_missing
from ttd_core.run.pending import KeptRollout, PendingRollouts
from ttd_core.run.records import RolloutIndex
from ttd_core.search.archive import Node
from ttd_core.types import Completion, Group, Message, Rollout, Verdict

#: Called for each reply when it is sampled: group, index, completion.
OnSampled = Callable[[int, int, Completion], None]
#: Called for each verdict: group, index, verdict.
OnEvaluated = Callable[[int, int, Verdict], None]
#: A reply with the verdict that is to come.
Unjudged = tuple[Sample, concurrent.futures.Future[Verdict]]


class StepRollouts:
    """The rollouts of one step, from when it is begun until it is learned from.

    :param judging: of the run.
    :param pending: keeps replies and verdicts as they come.
    :param starts: one a group.
    :param prompts: the chat messages of each group.
    :param on_sampled: called for each reply, kept ones too, from the thread that calls the methods.
    :param on_evaluated: called for each verdict in the same way.
    """

    def __init__(
        self,
        judging: Judging,
        pending: PendingRollouts,
        starts: Sequence[Node],
        prompts: Sequence[Sequence[Message]],
        on_sampled: OnSampled,
        on_evaluated: OnEvaluated,
    ) -> None:
        self._judging = judging
        self._pending = pending
        self._starts = starts
        self._prompts = prompts
        self._on_sampled = on_sampled
        self._on_evaluated = on_evaluated
        self._samples: dict[RolloutIndex, Sample] = {}
        self._prompt_tokens: dict[int, npt.NDArray[np.int64]] = {}
        self._verdicts: dict[RolloutIndex, Verdict] = {}
        self._waiting: dict[RolloutIndex, concurrent.futures.Future[Verdict]] = {}
        #: Those of the waiting that are judged, in the order in which that came, and are not taken in yet.
        self._arrived: queue.SimpleQueue[RolloutIndex] = queue.SimpleQueue()
        #: Called in a worker's thread when a verdict is there to be taken in.
        self.on_arrival: Callable[[], None] = lambda: None
        #: Which were late and count as timeouts.
        self.timed_out: list[RolloutIndex] = []
        #: When the last reply was sampled and the last verdict was there, by :func:`time.monotonic`.
        self.last_sampled = self.last_judged = time.monotonic()

    def sample(
        self,
        policy: Policy,
        count: int,
        params: SamplingParams,
        kept: Mapping[RolloutIndex, KeptRollout],
        policy_step: int | None = None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        """Sample ``count`` replies to each prompt and hand each in; returns when the last is there.

        :param kept: rollouts that are there already; the others alone are sampled.
        :param policy_step: of the policy, where that is not the one that the step was begun after.
        :param meanwhile: called after each reply.
        :raises PluginError: when a hook fails and that is to stop the run.
        """
        self.last_sampled = self.last_judged = time.monotonic()
        for each in kept.values():
            self._take(each.sample, count, each.verdict)
        for sample in sample_missing(policy, self._prompts, count, params, kept):
            self.last_sampled = time.monotonic()
            self._pending.sampled(sample, policy_step)
            self._take(sample, count)
            self.take_verdicts()
            meanwhile()
        for group in range(len(self._starts)):
            self._judging.end_group((self, group))

    def _take(self, sample: Sample, count: int, verdict: Verdict | None = None) -> None:
        rollout = (sample.prompt, sample.index)
        self._samples[rollout] = sample
        self._prompt_tokens[sample.prompt] = sample.prompt_tokens
        self._on_sampled(*rollout, sample.completion)
        group, start = (self, sample.prompt), self._starts[sample.prompt]
        if verdict is None:
            keep = functools.partial(self._pending.judged, rollout)
            future = self._waiting[rollout] = self._judging.submit(group, start, sample, count, keep)
            future.add_done_callback(functools.partial(self._arrive, rollout))
        else:
            self._judging.kept(group, start, sample.index, verdict, count)
            self._note(rollout, verdict)

    def _arrive(self, rollout: RolloutIndex, _future: concurrent.futures.Future[Verdict]) -> None:
        """Called when a reply is judged, by whomever."""
        self._arrived.put(rollout)
        self.on_arrival()

    def take_verdicts(self) -> None:
        """Take in the verdicts that are there, in the order in which they came.

        :raises PluginError: when a hook fails and that is to stop the run.
        """
        with contextlib.suppress(queue.Empty):
            while True:
                rollout = self._arrived.get_nowait()
                future = self._waiting.pop(rollout, None)
                if future is not None:  # else it was late
                    self._note(rollout, future.result())

    def _note(self, rollout: RolloutIndex, verdict: Verdict) -> None:
        self.last_judged = time.monotonic()
        self._verdicts[rollout] = verdict
        self._on_evaluated(*rollout, verdict)

    @property
    def waiting(self) -> int:
        """How many verdicts are still to come, or to be taken in."""
        return len(self._waiting)

    @property
    def sampled(self) -> int:
        """How many replies are there."""
        return len(self._samples)

    @property
    def judged(self) -> int:
        """How many verdicts are there."""
        return len(self._verdicts)

    @property
    def unjudged(self) -> list[RolloutIndex]:
        """Which replies have no verdict yet, in order."""
        return sorted(self._waiting)

    def take_unjudged(self) -> list[Unjudged]:
        """The replies without a verdict, in order, with the verdicts to come; the step goes without."""
        futures, self._waiting = self._waiting, {}
        return [(self._samples.pop(rollout), futures[rollout]) for rollout in sorted(futures)]

    def count_unjudged(self, verdict: Verdict) -> None:
        """Count every reply without a verdict as having this one, or what is known of it by now."""
        self.timed_out = self.unjudged
        self._waiting.clear()
        verdicts = {
            (group, index): self._judging.without_the_rest((self, group), index, verdict)
            for group, index in self.timed_out
        }
        self.cancel()
        for rollout, known in verdicts.items():
            self._pending.judged(rollout, known)
            self._note(rollout, known)

    def cancel(self) -> None:
        """Judge nothing more of it, but for what runs."""
        self._judging.abandon({(self, group) for group in range(len(self._starts))})

    def release(self) -> None:
        """Hold no reply any longer: the step is committed, and its late ones are waited for one by one."""
        self._samples, self._verdicts, self._prompt_tokens = {}, {}, {}

    def groups(self) -> list[Group]:
        """One group a start, in that order, of the rollouts that are judged."""
        own: list[list[RolloutIndex]] = [[] for _ in self._starts]
        for rollout in sorted(self._samples):
            own[rollout[0]].append(rollout)
        return [self._group(index, rollouts) for index, rollouts in enumerate(own)]

    def _group(self, index: int, own: Sequence[RolloutIndex]) -> Group:
        prompt_tokens = self._prompt_tokens.get(index, np.zeros(0, np.int64))
        rollouts = [Rollout(self._samples[rollout].completion, self._verdicts[rollout]) for rollout in own]
        return Group(self._starts[index].id, self._prompts[index], prompt_tokens, rollouts)
