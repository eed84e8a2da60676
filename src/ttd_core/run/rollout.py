"""One step's rollouts: sampling and evaluation overlap, each reply judged as soon as it is complete."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Sequence

import attrs
import numpy as np

from ttd_core.plugin.hooks import Hooks
from ttd_core.policy.base import Policy, Sample, SamplingParams
from ttd_core.problem import Execute
from ttd_core.run.evaluate import evaluate_completion
from ttd_core.search.archive import Node
from ttd_core.types import Completion, Group, Message, Rollout, Verdict

#: Told of each reply when it is sampled: group, index, completion.
OnSampled = Callable[[int, int, Completion], None]
#: Told of each verdict: group, index, verdict.
OnEvaluated = Callable[[int, int, Verdict], None]


@attrs.define(eq=False)
class RolloutCollector:
    """Samples and judges the rollouts of one step.

    :param hooks: of the run.
    :param policy: where replies come from.
    :param execute: the sandbox.
    :param workers: verdicts worked on at once.
    """

    hooks: Hooks
    policy: Policy
    execute: Execute
    workers: int

    def collect(
        self,
        starts: Sequence[Node],
        prompts: Sequence[Sequence[Message]],
        count: int,
        params: SamplingParams,
        on_sampled: OnSampled,
        on_evaluated: OnEvaluated,
    ) -> list[Group]:
        """``count`` rollouts from each start state. Callbacks are made from this thread only.

        :raises PluginError: when a hook fails; what was under way is dropped.
        """
        samples: dict[tuple[int, int], Sample] = {}
        verdicts: dict[tuple[int, int], Verdict] = {}
        pool = concurrent.futures.ThreadPoolExecutor(self.workers, thread_name_prefix="evaluate")
        pending: dict[concurrent.futures.Future[Verdict], tuple[int, int]] = {}

        def settle(done: set[concurrent.futures.Future[Verdict]]) -> None:
            for future in done:
                place = pending.pop(future)
                verdicts[place] = future.result()
                on_evaluated(*place, verdicts[place])

        try:
            for sample in self.policy.sample(prompts, count, params):
                place = (sample.prompt, sample.index)
                samples[place] = sample
                on_sampled(*place, sample.completion)
                start = starts[sample.prompt].state
                pending[
                    pool.submit(evaluate_completion, self.hooks, start, sample.completion, self.execute)
                ] = place
                settle({future for future in pending if future.done()})
            while pending:
                done, _ = concurrent.futures.wait(pending, return_when=concurrent.futures.FIRST_COMPLETED)
                settle(done)
        finally:
            # On an interrupt nothing new starts; the executor's close ends what runs.
            pool.shutdown(wait=False, cancel_futures=True)
        return [
            _group(index, starts[index], prompts[index], samples, verdicts) for index in range(len(starts))
        ]


def _group(
    index: int,
    start: Node,
    prompt: Sequence[Message],
    samples: dict[tuple[int, int], Sample],
    verdicts: dict[tuple[int, int], Verdict],
) -> Group:
    places = sorted(place for place in samples if place[0] == index)
    tokens = samples[places[0]].prompt_tokens if places else np.zeros(0, np.int64)
    rollouts = [Rollout(samples[place].completion, verdicts[place]) for place in places]
    return Group(start.id, prompt, tokens, rollouts)
