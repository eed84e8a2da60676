"""Short runs first: a program runs with a part of its budget, and the best of a group go on with more.

``cascade = [0.1, 1.0]`` with ``keep = 0.25``: every program runs with a tenth of its budget; when all of its
group have, the best quarter of the group goes on, and with it all that beat the state they started from. A
program that fails has no second run. ``docs/cascade.md`` says what each counts for; the rule is
:func:`ttd_core.stages.compared`.

No thread waits for a group: a program that is through a stage is put aside, and the last of its group to get
through has those that go on queued.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Collection, Hashable, Sequence
from typing import Literal

import attrs

from ttd_core.plugin.guard import raise_named
from ttd_core.plugin.hooks import Hooks
from ttd_core.plugin.registry import provenance
from ttd_core.problem import Execute, Problem
from ttd_core.run.evaluate import NOT_OF_THE_PROGRAM
from ttd_core.run.judging import Judging, Reply
from ttd_core.search.archive import Node
from ttd_core.stages import Stage
from ttd_core.types import Action, Verdict

_UNDECIDED = "its step ended before its group was compared: it did not go on"


@attrs.frozen(eq=False)
class StagePlan:
    """One stage of a cascade.

    :param share: of the budget.
    :param budget_s: seconds that programs are told.
    :param hooks: of the run, asked about the problem with that budget.
    """

    share: float
    budget_s: float
    hooks: Hooks


def plan_stages(hooks: Hooks, shares: Sequence[float]) -> list[StagePlan]:
    """The stages of a cascade.

    :param shares: of the budget, growing up to 1.
    :raises PluginError: when the problem cannot be made with another budget.
    """
    problem = hooks.problem
    assert problem is not None
    plans = []
    for share in shares:
        whole = share == 1
        of_share = problem if whole else _with_budget(problem, share)
        plans.append(StagePlan(share, of_share.options.budget, hooks if whole else hooks.asking(of_share)))
    return plans


def _with_budget(problem: Problem, share: float) -> Problem:
    try:
        return problem.with_budget(share)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - raised again, named
        raise_named(error, provenance(problem), "with_budget")


def places(keep: float, entrants: int) -> int:
    """How many of a stage's programs go on at least, if as many came to a valid result."""
    # A tenth of 30 is 3, whatever rounding says.
    return math.ceil(keep * entrants - 1e-9)


def conclude(plans: Sequence[StagePlan], ran: Sequence[Verdict]) -> Verdict:
    """The verdict on a program from those on its runs, in order: its best state, and what each run came to.

    A state that a shorter run reached is as true as any: it is the program's where no later one is better,
    also when the last run failed. Where that one was lost to the sandbox or the problem's own code, all are.

    :param plans: as many stages, or more.
    """
    last = ran[-1]
    stages = tuple(map(_stage, plans, ran))
    valid = [verdict for verdict in reversed(ran) if verdict.reward is not None]
    base, message = last, last.message
    if last.status not in NOT_OF_THE_PROGRAM:
        base = max(valid, key=lambda verdict: verdict.value, default=last)
        said = last.message or last.status.sentence
        if not last.ok and valid:
            message = f"with {_percent(stages[-1])} of its budget: {last.status}: {said}"
        elif not last.ok and stages[-1].share < 1:
            message = f"{said} (with {_percent(stages[-1])} of its budget)"
    return attrs.evolve(
        base,
        message=message,
        seconds=math.fsum(verdict.seconds for verdict in ran),
        level=last.level,
        stages=stages,
    )


def _stage(plan: StagePlan, verdict: Verdict) -> Stage:
    reward = verdict.reward
    return Stage(
        share=plan.share,
        budget_s=plan.budget_s,
        seconds=verdict.seconds,
        status=verdict.status.value,
        value=None if reward is None else float(reward.value),
        score=None if reward is None else float(reward.score),
    )


def _percent(stage: Stage) -> str:
    return f"{100 * stage.share:.3g} %"


@attrs.define(eq=False)
class _Program:
    """A program on its way.

    :param ran: the verdicts on its runs so far.
    :param stage: that it was let into last.
    """

    reply: Reply
    action: Action | None = None
    ran: list[Verdict] = attrs.field(factory=list)
    stage: int = 0

    @property
    def rank(self) -> tuple[float, int]:
        """Lowest for the best; of equals the one that was asked for first."""
        return -self.ran[-1].value, self.reply.sample.index


@attrs.define(eq=False)
class _Group:
    """A group on its way.

    :param size: rollouts that it has in the end.
    :param start_value: reward of the state that it starts from; ``None`` where that has none.
    :param seen: rollouts that came so far.
    :param running: by stage, programs that are not through it yet.
    :param waiting: by stage, programs that are through it and may go on.
    :param entrants: by stage, how many are, or were, in it; the first has the whole group.
    :param gone_on: by stage, how many went on from it before the run was stopped.
    :param programs: that are, or were, on their way, by their index in the group.
    """

    size: int
    start_value: float | None
    stages: int
    seen: int = 0
    running: list[int] = attrs.field(init=False)
    waiting: list[list[_Program]] = attrs.field(init=False)
    entrants: list[int] = attrs.field(init=False)
    gone_on: list[int] = attrs.field(init=False)
    programs: dict[int, _Program] = attrs.field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self.running = [0] * self.stages
        self.waiting = [[] for _ in range(self.stages)]
        self.entrants = [self.size] + [0] * (self.stages - 1)
        self.gone_on = [0] * self.stages

    @property
    def complete(self) -> bool:
        """Whether every rollout came, and has its verdict or will have it without being compared."""
        return self.seen >= self.size and not any(self.running) and not any(self.waiting)

    def decide(self, keep: float) -> tuple[list[tuple[_Program, int]], list[_Program]]:
        """Whom to let go on, each with its stage, and who stays, once a stage has nobody left to wait for."""
        on: list[tuple[_Program, int]] = []
        out: list[_Program] = []
        for stage in range(self.stages - 1):
            if self.seen < self.size or any(self.running[: stage + 1]):
                break
            ranked = sorted(self.waiting[stage], key=lambda program: program.rank)
            self.waiting[stage] = []
            count = max(0, places(keep, self.entrants[stage]) - self.gone_on[stage])
            chosen = ranked[:count] + [each for each in ranked[count:] if self._beats_start(each)]
            out += [each for each in ranked[count:] if not self._beats_start(each)]
            for each in chosen:
                each.stage = stage + 1
            on += [(each, stage + 1) for each in chosen]
            self.running[stage + 1] += len(chosen)
            if ranked:
                self.entrants[stage + 1] = self.gone_on[stage] + len(chosen)
        return on, out

    def _beats_start(self, program: _Program) -> bool:
        return self.start_value is not None and program.ran[-1].value > self.start_value


class CascadeJudging(Judging):
    """Judges replies in stages. See :class:`~ttd_core.run.judging.Judging`.

    :param shares: of the budget, growing up to 1.
    :param keep: share of a stage's programs that goes on.
    :raises PluginError: when the problem cannot be made with another budget.
    """

    def __init__(
        self,
        hooks: Hooks,
        execute: Execute,
        workers: int,
        on_problem_error: Literal["count", "stop"],
        shares: Sequence[float],
        keep: float,
    ) -> None:
        super().__init__(hooks, execute, workers, on_problem_error)
        self._plans = plan_stages(hooks, shares)
        self._keep = keep
        self._groups: dict[Hashable, _Group] = {}
        self._groups_lock = threading.Lock()

    def kept(self, group: Hashable, start: Node, index: int, verdict: Verdict, size: int) -> None:
        """Tell of a rollout that has its verdict: where it went on, it holds a place."""
        with self._groups_lock:
            found = self._group(group, start, size)
            found.seen += 1
            for stage in range(1, len(verdict.stages)):
                found.gone_on[stage - 1] += 1
        self._go_on(group, found)

    def end_group(self, group: Hashable) -> None:
        """Let those that are there be compared."""
        with self._groups_lock:
            found = self._groups.get(group)
            if found is None:
                return
            found.size = found.entrants[0] = found.seen
        self._go_on(group, found)

    def without_the_rest(self, group: Hashable, index: int, verdict: Verdict) -> Verdict:
        """The verdict on a program of which no more is waited for: a state that a short run reached is kept.

        Where its group is not decided, it counts as one that did not go on; else its last run is ``verdict``.
        """
        with self._groups_lock:
            found = self._groups.get(group)
            program = None if found is None else found.programs.get(index)
            if program is None:
                return verdict
            ran = [each for each in program.ran if each.ok][: len(self._plans) - 1]
            went_on = program.stage == len(ran)
        if not ran:
            return verdict
        if not went_on:
            return attrs.evolve(conclude(self._plans, ran), message=_UNDECIDED)
        return conclude(self._plans, [*ran, verdict])

    def abandon(self, groups: Collection[Hashable] | None = None) -> None:
        """Judge nothing of some groups any further."""
        with self._groups_lock:
            for key in list(self._groups) if groups is None else groups:
                self._groups.pop(key, None)
        super().abandon(groups)

    def _group(self, key: Hashable, start: Node, size: int) -> _Group:
        value = None if start.reward is None else start.reward.value
        return self._groups.setdefault(key, _Group(size, value, len(self._plans)))

    def _begin(self, reply: Reply, size: int) -> None:
        with self._groups_lock:
            group = self._group(reply.group, reply.start, size)
            group.seen += 1
            group.running[0] += 1
            program = group.programs[reply.sample.index] = _Program(reply)
        self._queue(reply, functools.partial(self._run_stage, group, program, 0))

    def _run_stage(self, group: _Group, program: _Program, stage: int, reply: Reply) -> None:
        """Run a program in a stage, and let its group go on if it was the last to get through."""
        verdict, waits = None, False
        try:
            if not reply.verdict.cancelled():
                verdict, waits = self._verdict(program, stage)
        finally:
            with self._groups_lock:
                group.running[stage] -= 1
                if waits and not reply.verdict.cancelled():
                    group.waiting[stage].append(program)
            if verdict is not None and not waits:
                self._finish(reply, verdict)
            self._go_on(reply.group, group)

    def _verdict(self, program: _Program, stage: int) -> tuple[Verdict, bool]:
        """What a run in a stage comes to, and whether the program may go on from there."""
        if program.action is None:
            action = self._read(program.reply)
            if isinstance(action, Verdict):
                return action, False
            program.action = action
        verdict = self._evaluate(self._plans[stage].hooks, program.reply, program.action)
        program.ran.append(verdict)
        waits = verdict.ok and stage + 1 < len(self._plans)
        return (verdict if waits else conclude(self._plans, program.ran)), waits

    def _go_on(self, key: Hashable, group: _Group) -> None:
        """Queue those of a group that go on and finish those that do not, if that is decided now."""
        with self._groups_lock:
            on, out = group.decide(self._keep)
            if group.complete and self._groups.get(key) is group:
                del self._groups[key]
        for program in out:
            self._finish(program.reply, conclude(self._plans, program.ran))
        for program, stage in on:
            if not self._queue(program.reply, functools.partial(self._run_stage, group, program, stage)):
                with self._groups_lock:
                    group.running[stage] -= 1
                self._go_on(key, group)
