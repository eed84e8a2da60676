"""What an experiment came to: arm against arm, seed by seed, and what it cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from ttd_core.experiment.plan import MachineShare
from ttd_core.metrics import Metric, Timing
from ttd_core.report.facts import RunFacts
from ttd_core.report.pooling import Arm
from ttd_core.text import counted


@attrs.frozen
class Paired:
    """One arm against another over the seeds that both have.

    :param first: the arm that comes first in the plan.
    :param second: the other one.
    :param seeds: seeds for which both have a best score.
    :param ahead: on how many of them the first one's best score is the better.
    :param level: on how many of them both are equal as scores are shown: less is rounding, or one optimum.
    :param gains: for each seed, how much better the first one's best score is; negative when it is worse.
    """

    first: str
    second: str
    seeds: Sequence[int]
    ahead: int
    level: int
    gains: Sequence[float]

    def sentence(self) -> str:
        """For people."""
        if not self.seeds:
            return f"{self.first} and {self.second} have no seed in common"
        all_seeds = counted(len(self.seeds), "seed")
        if self.level == len(self.seeds):
            return f"{self.first} and {self.second} are level in {self.level} of {all_seeds}"
        mean = sum(self.gains) / len(self.gains)
        level = f" and level in {self.level}" if self.level else ""
        return (
            f"{self.first} is ahead of {self.second} in {self.ahead} of {all_seeds}{level}, "
            f"by {mean:.3g} on average ({min(self.gains):.3g} to {max(self.gains):.3g})"
        )


def pair(first: Arm, second: Arm) -> Paired:
    """Compare two arms of one problem seed by seed."""
    problem = first.runs[0].problem
    scores = [
        {run.config.seed: run.best_score for run in arm.runs if run.best_score is not None}
        for arm in (first, second)
    ]
    seeds = sorted(scores[0].keys() & scores[1].keys())
    gains = [problem.gain(scores[1][seed], scores[0][seed]) for seed in seeds]
    apart = [problem.format_score(scores[0][seed]) != problem.format_score(scores[1][seed]) for seed in seeds]
    ahead = sum(gain > 0 and differs for gain, differs in zip(gains, apart, strict=True))
    return Paired(first.label, second.label, seeds, ahead, len(seeds) - sum(apart), gains)


def pairs(arms: Sequence[Arm]) -> list[Paired]:
    """The first arm against each other one."""
    return [pair(arms[0], other) for other in arms[1:]]


@attrs.frozen
class TimeToTarget:
    """How long the runs of an arm took to a score.

    :param arm: its label.
    :param target: the score.
    :param seconds: by seed, wall seconds of the steps up to the one that reached it, that one included;
        ``None`` where none did.
    :param spent: by seed, wall seconds of all steps.
    :param waiting_share: of all steps' time, when the policy neither sampled nor learned; ``None`` where some
        run did not measure it.
    :param tokens_per_s: sampled a second of sampling, mean over the steps; ``None`` where no run measured it.
    """

    arm: str
    target: float
    seconds: Mapping[int, float | None]
    spent: Mapping[int, float]
    waiting_share: float | None
    tokens_per_s: float | None

    def sentence(self) -> str:
        """For people."""
        by_seed = [
            f"seed {seed} not in {self.spent[seed]:.0f} s" if taken is None else f"seed {seed} {taken:.0f} s"
            for seed, taken in self.seconds.items()
        ]
        taken = [each for each in self.seconds.values() if each is not None]
        mean = f", mean {sum(taken) / len(taken):.0f} s" if len(taken) == len(self.seconds) > 1 else ""
        waiting = (
            "" if self.waiting_share is None else f"; the policy waited {self.waiting_share:.0%} of the time"
        )
        rate = "" if self.tokens_per_s is None else f"; {self.tokens_per_s:,.0f} tokens/s while sampling"
        return f"{self.arm}, time to {self.target:.10g}: {', '.join(by_seed)}{mean}{waiting}{rate}"


def time_to(arm: Arm, target: float) -> TimeToTarget:
    """How long each run of an arm took to a score."""
    waiting = [run.total(Timing.WAITING.key) for run in arm.runs if run.series(Timing.WAITING.key)[1]]
    whole = sum(run.seconds for run in arm.runs)
    rates = [rate for run in arm.runs for rate in run.series(Metric.TOKENS_PER_S)[1]]
    return TimeToTarget(
        arm.label,
        target,
        {run.config.seed: _seconds_to(run, target) for run in arm.runs},
        {run.config.seed: run.seconds for run in arm.runs},
        sum(waiting) / whole if len(waiting) == len(arm.runs) and whole else None,
        sum(rates) / len(rates) if rates else None,
    )


def _seconds_to(run: RunFacts, target: float) -> float | None:
    """Wall seconds of a run's steps up to the first that is as good as a score."""
    for best, spent in zip(run.best_by_step()[1], run.spent_by_step("seconds"), strict=True):
        if not math.isnan(best) and not run.problem.better(target, best):
            return spent
    return None


def cost_row(arm: Arm, machine: MachineShare) -> dict[str, Any]:
    """What an arm cost, JSON: minutes of its runs, tokens, evaluations, money by the hour of a run."""
    seconds = sum(run.seconds for run in arm.runs)
    return {
        "arm": arm.label,
        "minutes": seconds / 60,
        "tokens": sum(sum(run.tokens.values()) for run in arm.runs),
        "evaluations": sum(run.summary.rollouts for run in arm.runs),
        "price": seconds / 3600 * machine.price_per_hour,
        "currency": machine.currency,
    }
