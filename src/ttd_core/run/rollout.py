"""One step's rollouts: sampling and evaluation overlap, each reply judged as soon as it is complete."""

from __future__ import annotations

import concurrent.futures
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import attrs
import numpy as np

from ttd_core.plugin.hooks import Hooks
from ttd_core.policy.base import Policy, Sample, SamplingParams
from ttd_core.problem import Execute
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


@attrs.define(eq=False)
class RolloutCollector:
    """Samples and judges the rollouts of one step.

    :param hooks: of the run.
    :param policy: where replies come from.
    :param execute: the sandbox.
    :param workers: verdicts worked on at once.
    :param pending: keeps replies and verdicts as they come.
    :param on_problem_error: whether an error of the problem's own code on a reply costs that rollout
        (``count``) or is raised (``stop``).
    :param judging: what judges replies; by default each in one go, by the settings above.
    """

    hooks: Hooks
    policy: Policy
    execute: Execute
    workers: int
    pending: PendingRollouts
    on_problem_error: Literal["count", "stop"] = "count"
    judging: Judging = attrs.field()

    @judging.default
    def _judge_in_one_go(self) -> Judging:
        return Judging(self.hooks, self.execute, self.workers, self.on_problem_error)

    def collect(
        self,
        starts: Sequence[Node],
        prompts: Sequence[Sequence[Message]],
        count: int,
        params: SamplingParams,
        kept: Mapping[RolloutIndex, KeptRollout],
        on_sampled: OnSampled,
        on_evaluated: OnEvaluated,
    ) -> list[Group]:
        """Sample and judge ``count`` rollouts from each start state.

        :param starts: one a group.
        :param prompts: the chat messages of each group.
        :param count: rollouts a group.
        :param params: how replies are sampled.
        :param kept: rollouts that are there already; the others alone are sampled.
        :param on_sampled: called from this thread only, as is :param on_evaluated:, for those kept too.
        :return: one group a start, in that order.
        :raises PluginError: when a hook fails and that is to stop the run; what was under way is dropped.
        """
        samples: dict[RolloutIndex, Sample] = {}
        verdicts: dict[RolloutIndex, Verdict] = {}
        batch = object()
        pending: dict[concurrent.futures.Future[Verdict], RolloutIndex] = {}

        def take_sample(sample: Sample, verdict: Verdict | None = None) -> None:
            rollout = (sample.prompt, sample.index)
            samples[rollout] = sample
            on_sampled(*rollout, sample.completion)
            group, start = (batch, sample.prompt), starts[sample.prompt]
            if verdict is None:
                keep = functools.partial(self.pending.judged, rollout)
                pending[self.judging.submit(group, start, sample, count, keep)] = rollout
            else:
                self.judging.kept(group, start, sample.index, verdict, count)
                verdicts[rollout] = verdict
                on_evaluated(*rollout, verdict)

        def take_verdicts(done: set[concurrent.futures.Future[Verdict]]) -> None:
            for future in done:
                rollout = pending.pop(future)
                verdicts[rollout] = future.result()
                on_evaluated(*rollout, verdicts[rollout])

        try:
            for each in kept.values():
                take_sample(each.sample, each.verdict)
            for sample in sample_missing(self.policy, prompts, count, params, kept):
                self.pending.sampled(sample)
                take_sample(sample)
                take_verdicts({future for future in pending if future.done()})
            while pending:
                done, _ = concurrent.futures.wait(pending, return_when=concurrent.futures.FIRST_COMPLETED)
                take_verdicts(done)
        finally:
            # On an interrupt nothing new starts; the executor's close ends what runs.
            self.judging.abandon()
        return [
            _group(index, starts[index], prompts[index], samples, verdicts) for index in range(len(starts))
        ]


def _group(
    index: int,
    start: Node,
    prompt: Sequence[Message],
    samples: dict[RolloutIndex, Sample],
    verdicts: dict[RolloutIndex, Verdict],
) -> Group:
    own = sorted(rollout for rollout in samples if rollout[0] == index)
    prompt_tokens = samples[own[0]].prompt_tokens if own else np.zeros(0, np.int64)
    rollouts = [Rollout(samples[rollout].completion, verdicts[rollout]) for rollout in own]
    return Group(start.id, prompt, prompt_tokens, rollouts)
