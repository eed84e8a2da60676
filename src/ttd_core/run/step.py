"""One step of a run, in memory: begun (``beginning.py``), judged, learned from, admitted to the archive."""

from __future__ import annotations

import logging
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence

import attrs
import numpy as np
import numpy.typing as npt

from ttd_core.config import RunConfig
from ttd_core.learn.learner import (
    GroupWithAdvantages,
    LearnedLogprobs,
    compute_advantages,
    counted_rollouts,
    learn,
)
from ttd_core.metrics import Metric, Timing
from ttd_core.plugin.hooks import Hooks
from ttd_core.policy.base import Policy, Trainer
from ttd_core.run import events, rollout_events
from ttd_core.run.beginning import BegunStep, Emit, StepBeginner
from ttd_core.run.deadline import JoinedGroup, LateRollouts, timed_out, wait_for
from ttd_core.run.judging import Judging
from ttd_core.run.late_table import LateRollout
from ttd_core.run.novelty import Repeats
from ttd_core.run.pending import PendingRollouts
from ttd_core.run.records import HintRecord, Place, place_name
from ttd_core.run.rollout import Unjudged
from ttd_core.run.step_metrics import StepMetrics, staleness
from ttd_core.run.totals import StepTotals
from ttd_core.sandbox.base import Executor
from ttd_core.search.archive import Archive
from ttd_core.stages import Counted
from ttd_core.text import counted
from ttd_core.types import Group, Status

_log = logging.getLogger("ttd_core")


@attrs.frozen(eq=False)
class StepResult:
    """What a step came to, before it is committed.

    :param groups: with their rollouts judged.
    :param totals: of the groups.
    :param advantages: per group float64 [rollouts], NaN where a rollout does not count.
    :param metrics: numbers by name (:class:`~ttd_core.metrics.Metric`).
    :param timings: seconds by name (:class:`~ttd_core.metrics.Timing`).
    :param learned: what learning computed of replies, by group and index, where ``keep_tokens`` wants it.
    :param late: rollouts that the step ended without.
    :param joined: where late ones of earlier steps, whose groups come last, were sampled.
    """

    groups: list[Group]
    totals: StepTotals
    advantages: list[npt.NDArray[np.float64]]
    metrics: Mapping[str, float]
    timings: Mapping[str, float]
    learned: Mapping[tuple[int, int], LearnedLogprobs] = attrs.field(factory=dict)
    late: Sequence[LateRollout] = ()
    joined: Sequence[Place] = ()

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


class StepRunner:
    """Makes the steps of one run.

    :param starting_codes: programs the run started from: one that equals them merely repeats.
    :param archive_at: the archive as it was after a committed step.
    :param emit: called with each event.
    :param folder: of the run, for what is kept of steps under way.
    :param policy_step: the step that the policy learned last.
    :param judging: what judges its replies.
    :param late: rollouts that committed steps ended without and no other has yet.
    """

    def __init__(
        self,
        config: RunConfig,
        hooks: Hooks,
        policy: Policy,
        executor: Executor,
        archive: Archive,
        starting_codes: Sequence[str],
        emit: Emit,
        archive_at: Callable[[int], Archive],
        folder: pathlib.Path,
        policy_step: int,
        judging: Judging,
        late: Sequence[LateRollout] = (),
    ) -> None:
        assert hooks.problem is not None
        self._config = config
        self._policy = policy
        self._archive = archive
        self._folder = folder
        self._overlapping = config.schedule == "pipelined"
        self._metrics = StepMetrics(hooks.problem, config)
        self._repeats = Repeats(starting_codes)
        #: The step after which the policy is as it is now; ``None`` while it learns.
        self.policy_step: int | None = policy_step
        self._executor = executor
        self._judging = judging
        self._late = LateRollouts(self._judging, archive, late)
        self._emit = emit
        self._beginner = StepBeginner(config, hooks, policy, archive, archive_at, self._judging, emit)
        self._under_way: list[BegunStep] = []

    def close(self) -> None:
        """Judge and keep nothing more. On an interrupt this comes before the executor's close.

        What that ends is no verdict.
        """
        for step in self._under_way:
            step.close()
        self._judging.abandon()

    def begin(self, step: int, hints: Sequence[HintRecord] = ()) -> BegunStep:
        """Begin step ``step``; returns when its replies are sampled. Others go on being judged meanwhile.

        :param hints: of people, which its prompts carry.
        """
        pending = PendingRollouts(
            self._folder, self._config.keep_rollouts, step if self._overlapping else None
        )
        assert self.policy_step is not None
        # Nodes of a cluster come and go.
        self._judging.resize(self._executor.workers)
        before = list(self._under_way)

        def take_verdicts() -> None:
            for each in before:
                each.rollouts.take_verdicts()

        texts = [hint.text for hint in hints]
        begun = self._beginner.begin(step, self.policy_step, pending, texts, take_verdicts)
        self._under_way.append(begun)
        return begun

    def finish(self, current: BegunStep, ahead: BegunStep | None = None) -> StepResult:
        """End a step: the policy has learned and the archive has grown when it returns.

        :param current: the step.
        :param ahead: the next one, where it is begun already.
        """
        step, stopwatch = current.step, Stopwatch()
        self._wait(current, ahead)
        stopwatch.lap(Timing.WAITING)
        joined = self._joined(step)
        late = self._without_late(current)
        current.pending.close()
        own = current.rollouts.groups()
        groups = [*own, *(each.group for each in joined)]
        totals = StepTotals.of(groups)
        _warn_of_problem_errors(step, groups)
        repeats = [self._repeats.among(group, self._archive[group.start].state.code) for group in groups]
        metrics = self._metrics.compute(groups, repeats, totals, self._archive)
        metrics.update(self._sampling_metrics(current, late, joined, metrics))
        others: list[Sequence[Counted]] = [*([()] * len(own)), *(each.others for each in joined)]
        with_advantages = [
            compute_advantages(group, self._config.learn, repeated, of_others)
            for group, repeated, of_others in zip(groups, repeats, others, strict=True)
        ]
        new_late = self._keep_late(current, late, own, repeats)
        self.policy_step = None
        learned: dict[tuple[int, int], LearnedLogprobs] = {}
        metrics.update(self._learn(with_advantages, learned))
        self.policy_step = step
        stopwatch.lap(Timing.LEARN)
        starts = [node.id for node in ahead.starts] if ahead else []
        self._archive.admit(step, groups, [*starts, *self._late.starts])
        stopwatch.lap(Timing.ADMIT)
        timings = {
            Timing.PREPARE: current.prepared,
            Timing.SAMPLING: current.rollouts.last_sampled - current.sampling_began,
            Timing.ROLLOUTS: current.rollouts.last_judged - current.sampling_began,
            **stopwatch.laps,
        }
        advantages = [item.by_rollout for item in with_advantages]
        places = [rollout.place for each in joined for rollout in each.rollouts]
        return StepResult(groups, totals, advantages, metrics, timings, learned, new_late, places)

    def _wait(self, current: BegunStep, ahead: BegunStep | None) -> None:
        """Wait for the verdicts of a step, or for its deadline; in the last step for all there are."""
        deadline, beside = self._config.deadline, ahead.rollouts if ahead else None
        if current.step == self._config.steps:
            counts_all = deadline.then == "later"
            wait_for(current.rollouts, beside, None if counts_all else deadline, self._late.verdicts)
        else:
            wait_for(current.rollouts, beside, deadline)

    def _joined(self, step: int) -> list[JoinedGroup]:
        """Late rollouts of earlier steps that are judged by now; events tell of each by its own place."""
        joined = self._late.take()
        for each in joined:
            for late, rollout in zip(each.rollouts, each.group, strict=True):
                self._emit(rollout_events.evaluated(late.step, late.index, rollout.verdict))
        if joined:
            names = [rollout.name for each in joined for rollout in each.rollouts]
            self._emit(events.rollouts_joined(step=step, places=names))
        return joined

    def _without_late(self, current: BegunStep) -> list[Unjudged]:
        """What the step ends without; nothing where that counts as timeouts, which are verdicts."""
        indices = current.rollouts.unjudged
        if not indices:
            return []
        deadline = self._config.deadline
        names = [place_name((current.step, *index)) for index in indices]
        self._emit(events.rollouts_late(step=current.step, places=names, then=deadline.then))
        if deadline.then == "timeout":
            current.rollouts.count_unjudged(timed_out(deadline))
            return []
        return current.rollouts.take_unjudged()

    def _keep_late(
        self,
        current: BegunStep,
        late: Sequence[Unjudged],
        groups: Sequence[Group],
        repeats: Sequence[npt.NDArray[np.bool_]],
    ) -> list[LateRollout]:
        """Keep what the step ends without until it is judged.

        :param groups: of the step, without it.
        """
        kept = []
        for sample, verdict in late:
            group = groups[sample.prompt]
            others = counted_rollouts(group, self._config.learn, repeats[sample.prompt])
            policy_step = current.policy_steps[sample.prompt, sample.index]
            rollout = LateRollout(current.step, group.start, group.prompt, sample, policy_step, others)
            self._late.add(rollout, verdict)
            kept.append(rollout)
        return kept

    def _sampling_metrics(
        self,
        current: BegunStep,
        late: Sequence[Unjudged],
        joined: Sequence[JoinedGroup],
        metrics: Mapping[str, float],
    ) -> dict[str, float]:
        """What the policy counted, tokens a second, how stale the replies are, and how many were late."""
        arrived = [rollout for each in joined for rollout in each.rollouts]
        found: dict[str, float] = dict(current.metered)
        tokens = found.get(Metric.TOKENS)
        if tokens is None:
            tokens = metrics[Metric.TOKENS] + sum(len(sample.completion.tokens) for sample, _ in late)
            tokens -= sum(len(rollout.sample.completion.tokens) for rollout in arrived)
        sampling = current.rollouts.last_sampled - current.sampling_began
        sampled = max(0.0, tokens - current.kept_tokens)
        found[Metric.TOKENS_PER_S] = sampled / sampling if sampling > 0 else 0.0
        if self._config.deadline.set or joined:
            found[Metric.LATE] = float(len(late) or len(current.rollouts.timed_out))
            found[Metric.JOINED] = float(len(arrived))
        if self._overlapping or self._config.deadline.set or joined:
            gone = {(sample.prompt, sample.index) for sample, _ in late}
            own = [each for index, each in current.policy_steps.items() if index not in gone]
            found |= staleness(current.step, [*own, *(rollout.policy_step for rollout in arrived)])
        return found

    def committed(self, current: BegunStep) -> None:
        """Forget what was kept of a step that is committed now."""
        self._under_way.remove(current)
        current.pending.clear()
        current.rollouts.release()

    def warn_of_late(self) -> None:
        """Say what no step has taken in, at the end of a run whose last step was made before."""
        late = len(self._late.verdicts)
        if late:
            _log.warning(
                f"{counted(late, 'late rollout')} of earlier steps can only join a further step: they count "
                "once the run goes on with more --steps"
            )

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


class Stopwatch:
    """Measures parts of a step, one after the other; ``laps`` has their seconds by name."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        """End a part and name it: the time since the last one ended."""
        now = time.monotonic()
        self.laps[name] = now - self._last
        self._last = now
