"""One step of a run, in memory: pick starts, sample and judge, learn, admit to the archive."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence

import attrs
import numpy as np
import numpy.typing as npt

from ttd_core.config import RunConfig
from ttd_core.errors import PromptTooLongError
from ttd_core.learn.learner import GroupWithAdvantages, LearnedLogprobs, compute_advantages, learn
from ttd_core.metrics import Metric, Timing
from ttd_core.plugin.hooks import Hooks
from ttd_core.policy.base import Metered, Policy, SamplingParams, Trainer
from ttd_core.run import events
from ttd_core.run.judging import Judging
from ttd_core.run.known_verdicts import is_reused
from ttd_core.run.missing import usable
from ttd_core.run.novelty import Repeats
from ttd_core.run.pending import PendingRollouts, prompt_key
from ttd_core.run.prompts import PromptMaker
from ttd_core.run.records import HintRecord
from ttd_core.run.rollout import RolloutCollector
from ttd_core.run.step_metrics import StepMetrics
from ttd_core.run.totals import StepTotals
from ttd_core.sandbox.base import Executor
from ttd_core.search.archive import Archive, Node
from ttd_core.search.reuse import reuse_from_config
from ttd_core.text import counted
from ttd_core.types import Completion, Group, Message, Status, Verdict

_log = logging.getLogger("ttd_core")


def step_rng(config: RunConfig, step: int) -> np.random.Generator:
    """The random generator of one step: a step is repeated alike, whichever process makes it."""
    return np.random.default_rng([config.seed, step])


@attrs.frozen(eq=False)
class StepResult:
    """What a step came to, before it is committed.

    :param groups: with their rollouts judged.
    :param totals: of the groups.
    :param advantages: per group float64 [rollouts], NaN where a rollout does not count.
    :param metrics: numbers by name (:class:`~ttd_core.metrics.Metric`).
    :param timings: seconds by name (:class:`~ttd_core.metrics.Timing`).
    :param learned: what learning computed of replies, by group and index, where ``keep_tokens`` wants it.
    """

    groups: list[Group]
    totals: StepTotals
    advantages: list[npt.NDArray[np.float64]]
    metrics: Mapping[str, float]
    timings: Mapping[str, float]
    learned: Mapping[tuple[int, int], LearnedLogprobs] = attrs.field(factory=dict)

    def finished(self, step: int, metrics: Mapping[str, float], seconds: float) -> events.Event:
        """The ``step_finished`` event."""
        return events.step_finished(
            step=step,
            rollouts=self.totals.rollouts,
            valid=self.totals.valid,
            mean_value=self.totals.mean_value,
            best_value=self.totals.best_value,
            best_score=self.totals.best_score,
            metrics=metrics,
            seconds=seconds,
        )


@attrs.frozen(eq=False)
class _Collected:
    """The rollouts of a step.

    :param groups: with their rollouts judged.
    :param last_sampled: when the last reply was complete, by :func:`time.monotonic`.
    :param kept_tokens: of the replies that were there already.
    """

    groups: list[Group]
    last_sampled: float
    kept_tokens: int


class StepRunner:
    """Makes the steps of one run.

    :param starting_codes: programs the run started from: one that equals them merely repeats.
    :param emit: called with each event.
    :param pending: keeps the rollouts of the step under way.
    :param policy_step: the step that the policy learned last.
    :param judging: what judges its replies.
    """

    def __init__(
        self,
        config: RunConfig,
        hooks: Hooks,
        policy: Policy,
        executor: Executor,
        archive: Archive,
        starting_codes: Sequence[str],
        emit: Callable[[events.Event], None],
        pending: PendingRollouts,
        policy_step: int,
        judging: Judging,
    ) -> None:
        assert hooks.problem is not None
        self._config = config
        self._policy = policy
        self._executor = executor
        self._archive = archive
        self._emit = emit
        self._pending = pending
        self._reuse = reuse_from_config(config.search)
        self._metrics = StepMetrics(hooks.problem, config)
        self._repeats = Repeats(starting_codes)
        #: The step after which the policy is as it is now; ``None`` while it learns.
        self.policy_step: int | None = policy_step
        self._prompts = PromptMaker(hooks, policy, archive, config.on_problem_error)
        self._collector = RolloutCollector(
            hooks, policy, executor.run, executor.workers, pending, config.on_problem_error, judging
        )

    def run(self, step: int, hints: Sequence[HintRecord] = ()) -> StepResult:
        """Make step ``step``: the policy has learned and the archive has grown when it returns.

        :param hints: of people, which its prompts carry.
        """
        stopwatch = _Stopwatch()
        # of a cluster, nodes come and go
        self._collector.workers = self._executor.workers
        rng = step_rng(self._config, step)
        picked = self._reuse.pick(self._archive, self._config.groups, rng)
        params = self._params(rng)
        texts = [hint.text for hint in hints]
        starts, prompts = self._prompts.render(picked, params, texts)
        stopwatch.lap(Timing.PREPARE)
        while True:
            try:
                collected = self._collect(step, starts, prompts, params, texts)
                break
            except PromptTooLongError:
                shorter = self._prompts.shorter(starts, params)
                if shorter is None:
                    raise
                starts, prompts = shorter
        groups = collected.groups
        sampling = stopwatch.seconds_to(collected.last_sampled)
        stopwatch.lap(Timing.ROLLOUTS)
        totals = StepTotals.of(groups)
        _warn_of_problem_errors(step, groups)
        repeats = [
            self._repeats.among(group, start.state.code) for group, start in zip(groups, starts, strict=True)
        ]
        metrics = self._metrics.compute(groups, repeats, totals, self._archive)
        if isinstance(self._policy, Metered):
            metrics.update(self._policy.take_metrics())
        sampled = max(0.0, metrics[Metric.TOKENS] - collected.kept_tokens)
        metrics[Metric.TOKENS_PER_S] = sampled / sampling if sampling > 0 else 0.0
        with_advantages = [
            compute_advantages(group, self._config.learn, repeated)
            for group, repeated in zip(groups, repeats, strict=True)
        ]
        self.policy_step = None
        learned: dict[tuple[int, int], LearnedLogprobs] = {}
        metrics.update(self._learn(with_advantages, learned))
        self.policy_step = step
        stopwatch.lap(Timing.LEARN)
        self._archive.admit(step, groups)
        stopwatch.lap(Timing.ADMIT)
        return StepResult(
            groups,
            totals,
            [item.by_rollout for item in with_advantages],
            metrics,
            {**stopwatch.laps, Timing.SAMPLING: sampling},
            learned,
        )

    def _collect(
        self,
        step: int,
        starts: Sequence[Node],
        prompts: Sequence[Sequence[Message]],
        params: SamplingParams,
        hints: Sequence[str],
    ) -> _Collected:
        """The step's rollouts: those from before the run was stopped, and the others sampled and judged.

        :param hints: of people, as the prompts carry them.
        :raises PromptTooLongError: when a prompt is refused.
        """
        policy, size = self._policy, self._config.group_size
        keys = [prompt_key(*each, params) for each in zip(starts, prompts, strict=True)]
        self._pending.begin(step, policy.adapter_digest() if isinstance(policy, Trainer) else "", keys)
        # On an interrupt it is closed before the executor, whose close ends what runs: that is no verdict.
        with contextlib.closing(self._pending):
            there = self._pending.kept(size)
            kept = usable(policy, there, size)
            if len(kept) < len(there):
                _log.warning(
                    f"step {step}: {counted(len(there) - len(kept), 'rollout')} of groups that were not "
                    f"complete when the run was stopped must be sampled again: {policy.name} samples whole "
                    "groups only"
                )
            nodes = [node.id for node in starts]
            self._emit(events.step_started(step=step, starts=nodes, kept=len(kept), hints=hints))
            last_sampled = time.monotonic()

            def sampled(group: int, index: int, completion: Completion) -> None:
                nonlocal last_sampled
                if (group, index) not in kept:
                    last_sampled = time.monotonic()
                self._emit(
                    events.rollout_sampled(
                        step=step,
                        group=group,
                        index=index,
                        tokens=len(completion.tokens),
                        stop=completion.stop.value,
                    )
                )

            evaluated = self._on_evaluated(step)
            groups = self._collector.collect(starts, prompts, size, params, kept, sampled, evaluated)
        tokens = sum(len(each.sample.completion.tokens) for each in kept.values())
        return _Collected(groups, last_sampled, tokens)

    def _params(self, rng: np.random.Generator) -> SamplingParams:
        policy = self._config.policy
        return SamplingParams(
            temperature=policy.temperature,
            context=policy.context,
            max_new_tokens=policy.max_new_tokens,
            thinking_tokens=policy.thinking_tokens,
            prefill=policy.prefill,
            seed=int(rng.integers(2**63)),
        )

    def _on_evaluated(self, step: int) -> Callable[[int, int, Verdict], None]:
        def evaluated(group: int, index: int, verdict: Verdict) -> None:
            reward = verdict.reward
            self._emit(
                events.rollout_evaluated(
                    step=step,
                    group=group,
                    index=index,
                    status=verdict.status.value,
                    message=verdict.message,
                    value=None if reward is None else reward.value,
                    score=None if reward is None else reward.score,
                    seconds=verdict.seconds,
                    stages=len(verdict.stages),
                    reused=is_reused(verdict),
                )
            )

        return evaluated

    def _learn(
        self, groups: Sequence[GroupWithAdvantages], learned: dict[tuple[int, int], LearnedLogprobs]
    ) -> dict[str, float]:
        if not self._config.learn.train or not isinstance(self._policy, Trainer):
            return {}
        keep = learned if self._config.keep_tokens else None
        return learn(self._policy, groups, self._config.learn, self._config.policy.temperature, keep)


def _warn_of_problem_errors(step: int, groups: Sequence[Group]) -> None:
    """Say loudly that the problem's own code failed, for it needs mending."""
    rollouts = [rollout for group in groups for rollout in group]
    errors = [rollout.verdict for rollout in rollouts if rollout.verdict.status is Status.PROBLEM_ERROR]
    if errors:
        _log.warning(
            f"step {step}: the problem's own code failed on {len(errors)} of {len(rollouts)} replies, which "
            f"count as failed; the first error: {errors[0].message}"
        )


class _Stopwatch:
    """Measures parts of a step, one after the other; ``laps`` has their seconds by name."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        """End a part and name it: the time since the last one ended."""
        now = time.monotonic()
        self.laps[name] = now - self._last
        self._last = now

    def seconds_to(self, moment: float) -> float:
        """Seconds from the end of the last part to ``moment``, a time of :func:`time.monotonic`."""
        return max(0.0, moment - self._last)
