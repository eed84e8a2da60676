"""The first half of a step: starts picked, prompts rendered, replies sampled while the first are judged."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence

import attrs
import numpy as np

from ttd_core.config import RunConfig
from ttd_core.errors import PromptTooLongError
from ttd_core.plugin.hooks import Hooks
from ttd_core.policy.base import Metered, Policy, SamplingParams, Trainer
from ttd_core.run import events, rollout_events
from ttd_core.run.judging import Judging
from ttd_core.run.missing import usable
from ttd_core.run.pending import KeptRollout, PendingRollouts, prompt_key
from ttd_core.run.prompts import PromptMaker
from ttd_core.run.records import RolloutIndex
from ttd_core.run.rollout import OnEvaluated, OnSampled, StepRollouts
from ttd_core.search.archive import Archive, Node
from ttd_core.search.reuse import reuse_from_config
from ttd_core.text import counted
from ttd_core.types import Completion, Message, Verdict

_log = logging.getLogger("ttd_core")

#: Called with each event.
Emit = Callable[[events.Event], None]


def step_rng(config: RunConfig, step: int) -> np.random.Generator:
    """The random generator of one step: a step is repeated alike, whichever process makes it."""
    return np.random.default_rng([config.seed, step])


@attrs.frozen(eq=False)
class BegunStep:
    """A step whose replies are sampled; its verdicts may still be coming.

    :param starts: the state that each group starts from.
    :param rollouts: what is there of it.
    :param pending: where that is kept until the step is committed.
    :param policy_steps: by rollout the step that the policy which gave the reply had learned last.
    :param kept_tokens: tokens of the replies that were there from before the run was stopped.
    :param metered: what the policy counted of its requests while it sampled.
    :param prepared: seconds that picking and rendering took.
    :param sampling_began: by :func:`time.monotonic`.
    """

    step: int
    starts: Sequence[Node]
    rollouts: StepRollouts
    pending: PendingRollouts
    policy_steps: Mapping[RolloutIndex, int]
    kept_tokens: int
    metered: Mapping[str, float]
    prepared: float
    sampling_began: float

    def close(self) -> None:
        """Keep nothing more of it: what the executor's close ends is no verdict."""
        self.pending.close()
        self.rollouts.cancel()


@attrs.frozen(eq=False)
class _Prompts:
    """What a step samples from.

    :param after: the committed step whose archive the starts were picked from.
    :param policy: digest of the policy then; empty for one that does not learn.
    """

    maker: PromptMaker
    starts: list[Node]
    prompts: list[list[Message]]
    params: SamplingParams
    after: int
    policy: str

    def shorter(self) -> _Prompts | None:
        """After one of them was refused as too long; ``None`` when there is nothing left to cut."""
        found = self.maker.shorter(self.starts, self.params)
        return None if found is None else attrs.evolve(self, starts=found[0], prompts=found[1])


class StepBeginner:
    """Begins the steps of one run.

    :param archive: that starts are picked from.
    :param archive_at: the archive as it was after a committed step.
    :param judging: judges the replies.
    :param emit: called with each event.
    """

    def __init__(
        self,
        config: RunConfig,
        hooks: Hooks,
        policy: Policy,
        archive: Archive,
        archive_at: Callable[[int], Archive],
        judging: Judging,
        emit: Emit,
    ) -> None:
        self._config = config
        self._policy = policy
        self._archive = archive
        self._archive_at = archive_at
        self._judging = judging
        self._emit = emit
        self._reuse = reuse_from_config(config.search)
        self._prompts = self._maker(hooks, archive)
        self._hooks = hooks

    def begin(
        self,
        step: int,
        policy_step: int,
        pending: PendingRollouts,
        hints: Sequence[str],
        meanwhile: Callable[[], None],
    ) -> BegunStep:
        """Pick starts, render prompts and sample; returns when the last reply is there.

        :param policy_step: the step that the policy learned last, which is the last committed one too.
        :param pending: keeps what is sampled and judged.
        :param hints: of people, which the prompts carry.
        :param meanwhile: called after each reply.
        """
        started = time.monotonic()
        prompts = self._prepare(step, policy_step, pending, hints)
        began = time.monotonic()
        while True:
            try:
                return self._sample(
                    step, policy_step, prompts, pending, hints, meanwhile, (began - started, began)
                )
            except PromptTooLongError:
                shorter = prompts.shorter()
                if shorter is None:
                    raise
                prompts = shorter

    def _prepare(
        self, step: int, policy_step: int, pending: PendingRollouts, hints: Sequence[str]
    ) -> _Prompts:
        """The prompts of a step: those that it was begun with where it is begun again, else new ones."""
        digest = self._policy.adapter_digest() if isinstance(self._policy, Trainer) else ""
        begun = pending.begun(step)
        if begun is not None and step == policy_step + 1 and begun[0] == policy_step - 1:
            # Begun before the last committed step was learned from, as overlapping steps are.
            archive = self._archive_at(begun[0])
            made = self._render(step, self._maker(self._hooks, archive), archive, hints, *begun)
            if all(node.id in self._archive.nodes for node in made.starts):
                return made
        return self._render(step, self._prompts, self._archive, hints, policy_step, digest)

    def _maker(self, hooks: Hooks, archive: Archive) -> PromptMaker:
        return PromptMaker(hooks, self._policy, archive, self._config.on_problem_error)

    def _render(
        self,
        step: int,
        maker: PromptMaker,
        archive: Archive,
        hints: Sequence[str],
        after: int,
        policy: str,
    ) -> _Prompts:
        rng = step_rng(self._config, step)
        picked = self._reuse.pick(archive, self._config.groups, rng)
        params = self._params(rng)
        starts, prompts = maker.render(picked, params, hints)
        return _Prompts(maker, starts, prompts, params, after, policy)

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

    def _sample(
        self,
        step: int,
        policy_step: int,
        made: _Prompts,
        pending: PendingRollouts,
        hints: Sequence[str],
        meanwhile: Callable[[], None],
        times: tuple[float, float],
    ) -> BegunStep:
        """The step's rollouts: those from before the run was stopped, and the others sampled.

        :raises PromptTooLongError: when a prompt is refused.
        """
        size = self._config.group_size
        keys = [prompt_key(*each, made.params) for each in zip(made.starts, made.prompts, strict=True)]
        overlapping = self._config.schedule == "pipelined"
        with contextlib.ExitStack() as undo:
            # On an interrupt it is closed before the executor: what that ends is no verdict.
            undo.callback(pending.close)
            pending.begin(step, made.policy, keys, made.after if overlapping else None)
            kept = self._kept(step, pending)
            nodes = [node.id for node in made.starts]
            self._emit(
                events.step_started(step=step, starts=nodes, kept=len(kept), hints=hints, after=made.after)
            )
            policy_steps: dict[RolloutIndex, int] = dict.fromkeys(
                ((group, index) for group in range(len(keys)) for index in range(size)), policy_step
            )
            for index, each in kept.items():
                policy_steps[index] = made.after if each.policy_step is None else each.policy_step
            callbacks = self._on_sampled(step), self._on_evaluated(step)
            rollouts = StepRollouts(self._judging, pending, made.starts, made.prompts, *callbacks)
            undo.callback(rollouts.cancel)
            newer = None if made.after == policy_step else policy_step
            rollouts.sample(self._policy, size, made.params, kept, newer, meanwhile)
            undo.pop_all()
        return BegunStep(
            step,
            made.starts,
            rollouts,
            pending,
            policy_steps,
            sum(len(each.sample.completion.tokens) for each in kept.values()),
            self._policy.take_metrics() if isinstance(self._policy, Metered) else {},
            *times,
        )

    def _kept(self, step: int, pending: PendingRollouts) -> dict[RolloutIndex, KeptRollout]:
        """The rollouts that are there from before the run was stopped and can be used."""
        size = self._config.group_size
        there = pending.kept(size)
        kept = usable(self._policy, there, size)
        if len(kept) < len(there):
            _log.warning(
                f"step {step}: {counted(len(there) - len(kept), 'rollout')} of groups that were not "
                f"complete when the run was stopped must be sampled again: {self._policy.name} samples whole "
                "groups only"
            )
        return kept

    def _on_sampled(self, step: int) -> OnSampled:
        def sampled(group: int, index: int, completion: Completion) -> None:
            self._emit(rollout_events.sampled(step, (group, index), completion))

        return sampled

    def _on_evaluated(self, step: int) -> OnEvaluated:
        def evaluated(group: int, index: int, verdict: Verdict) -> None:
            self._emit(rollout_events.evaluated(step, (group, index), verdict))

        return evaluated
