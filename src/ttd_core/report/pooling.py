"""Runs side by side, as the arms of an experiment: runs that differ only in their seed form one arm.

A second run of the same config and seed tells nothing of how seeds differ, so it has no part in their mean
and spread: it stands in an arm of its own.
"""

from __future__ import annotations

import collections
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from ttd_core import config as configs
from ttd_core.config.settings import absent_as_word
from ttd_core.report.facts import RunFacts, Spent

#: A label with more characters gives way to the runs' names.
LONGEST_LABEL = 48
#: An arm of more seeds is told by their number.
MOST_SEEDS_NAMED = 4
#: More runs than these are told by their number in a note.
MOST_RUNS_NAMED = 8


@attrs.frozen(eq=False)
class Arm:
    """One arm of a comparison: runs that differ in their seed only, each with another.

    :param label: what sets it apart from the other arms, in short.
    :param runs: at least one.
    :param differs: the config's keys on which another arm differs, with this one's values.
    :param again: whether its runs repeat seeds that an arm of the same config before it has.
    """

    label: str
    runs: Sequence[RunFacts]
    differs: Mapping[str, Any]
    again: bool = False

    def pooled(
        self, series: Callable[[RunFacts], tuple[Sequence[int], Sequence[float]]], *, holds: bool = False
    ) -> tuple[list[int], list[float], list[float], list[float]]:
        """A quantity pooled over the runs, step by step.

        :param series: gives the steps and values of one run; values that are not finite are left out.
        :param holds: whether a run's last value is its value at all later steps too, as a best score's is.
        :return: the steps, and the mean, least and largest value over the runs that have each step.
        """
        values: dict[int, list[float]] = {}
        curves = [
            {step: value for step, value in zip(*series(run), strict=True) if math.isfinite(value)}
            for run in self.runs
        ]
        steps = sorted(set().union(*curves))
        for curve in curves:
            last = max(curve, default=None)
            for step in steps:
                if step in curve:
                    values.setdefault(step, []).append(curve[step])
                elif holds and last is not None and step > last:
                    values.setdefault(step, []).append(curve[last])
        return (
            steps,
            [float(np.mean(values[step])) for step in steps],
            [min(values[step]) for step in steps],
            [max(values[step]) for step in steps],
        )

    def best_by_spent(
        self, what: Spent, points: int = 120
    ) -> tuple[list[float], list[float], list[float], list[float]]:
        """The best score pooled over the runs against what was spent on it.

        A run keeps its best score until it finds a better one, and after its end: the curve is one of stairs.

        :param what: rollouts judged, or wall seconds.
        :param points: where the runs' steps ended at more amounts, those where nothing changed are left out.
        :return: the amounts, from nothing to what the run spent that spent most, and the mean, least and
            largest best score of the runs at each; amounts at which a run has no score yet are left out.
        """
        curves = [(run.spent_by_step(what), run.best_by_step()[1]) for run in self.runs]
        amounts = np.unique(np.concatenate([spent for spent, _ in curves]))
        at = np.array(
            [np.asarray(best)[np.searchsorted(spent, amounts, side="right") - 1] for spent, best in curves]
        )
        known = np.isfinite(at).all(axis=0)
        amounts, at = amounts[known], at[:, known]
        if len(amounts) > points:
            kept = np.concatenate(([True], (np.diff(at) != 0).any(axis=0)))
            kept[-1] = True
            amounts, at = amounts[kept], at[:, kept]
        return (
            amounts.tolist(),
            at.mean(axis=0).tolist(),
            at.min(axis=0).tolist(),
            at.max(axis=0).tolist(),
        )

    def row(self) -> dict[str, Any]:
        """The arm in numbers, JSON."""
        problem = self.runs[0].problem
        scores = [run.best_score for run in self.runs if run.best_score is not None]
        rollouts = sum(run.summary.rollouts for run in self.runs)
        published = problem.best_comparable()
        best = problem.best_of(scores) if scores else None
        return {
            "problem": problem.name,
            "metric": problem.metric,
            "arm": self.label,
            "differs": dict(self.differs),
            "runs": [run.name for run in self.runs],
            "seeds": [run.config.seed for run in self.runs],
            "again": self.again,
            "hinted": [run.name for run in self.runs if run.hints],
            "steps": [len(run.steps) for run in self.runs],
            "rollouts": rollouts,
            "valid_share": sum(run.summary.valid for run in self.runs) / rollouts if rollouts else 0.0,
            "repeat_share": float(np.mean([run.summary.repeats for run in self.runs])),
            "best_score": best,
            "start_scores": {run.config.seed: run.summary.start_score for run in self.runs},
            "best_scores": {run.config.seed: run.best_score for run in self.runs},
            "last_mean_reward": _mean([run.last_mean_reward() for run in self.runs]),
            "mean_best_score": float(np.mean(scores)) if scores else None,
            "spread": float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
            "best_published": published.score if published else None,
            "beats_published": best is not None and published is not None and problem.beats(best, published),
            "tokens": sum(sum(run.tokens.values()) for run in self.runs),
            "seconds": sum(run.seconds for run in self.runs),
        }


def pool_seeds(runs: Sequence[RunFacts], names: Mapping[str, str] | None = None) -> list[Arm]:
    """Pool runs that agree in everything in their config but the seed, in the order given.

    Where a seed comes twice, its second run goes to a second arm, its third to a third.

    :param names: what an arm is called, by the name of a run in it; by default what sets it apart.
    """
    names = names or {}
    pools: dict[tuple[str, int], list[RunFacts]] = {}
    times: collections.Counter[tuple[str, int]] = collections.Counter()
    for run in runs:
        digest = configs.digest(_without_seed(run))
        seed = (digest, run.config.seed)
        pools.setdefault((digest, times[seed]), []).append(run)
        times[seed] += 1
    groups = list(pools.values())
    arms = []
    for (_, earlier), group in pools.items():
        differs = _differences(group, groups)
        label = names.get(group[0].name) or _label(group, differs, runs)
        if earlier:
            label = f"{group[0].name if differs else label}, {_seeds_again(group)}"
        arms.append(Arm(label, group, differs, again=earlier > 0))
    return arms


def seeds_that_repeat(arms: Sequence[Arm]) -> str:
    """Which seeds have several runs of one config, in a sentence; empty when none has."""
    times = collections.Counter(
        (configs.digest(_without_seed(run)), run.config.seed) for arm in arms for run in arm.runs
    )
    repeated = [f"seed {seed} {_times(count)}" for (_, seed), count in times.items() if count > 1]
    if not repeated:
        return ""
    return (
        f"{', '.join(dict.fromkeys(repeated))}: a second run of the same config and seed is no second seed; "
        "it has a row of its own, and no part in a mean or a spread"
    )


def runs_with_hints(arms: Sequence[Arm]) -> str:
    """Which runs had hints of people, in a sentence; empty when none had."""
    hinted = {
        run.name: tuple((hint.began, hint.ended, hint.text) for hint in run.hints)
        for arm in arms
        for run in arm.runs
    }
    names = [name for name, hints in hinted.items() if hints]
    if not names:
        return ""
    which = _listed(names) if len(names) <= MOST_RUNS_NAMED else f"{len(names)} of the {len(hinted)} runs"
    said = f"hints of people were in prompts of {which}"
    if len(set(hinted.values())) > 1:
        return f"{said}: more than configs and seeds tells these runs apart"
    return said if len(names) == 1 else f"{said}, the same ones at the same steps"


def notes_on(arms: Sequence[Arm]) -> list[str]:
    """What a reader of a comparison must know beside its numbers, a sentence each."""
    return [note for note in (seeds_that_repeat(arms), runs_with_hints(arms)) if note]


def _times(count: int) -> str:
    return "twice" if count == 2 else f"{count} times"


def _seeds_again(group: Sequence[RunFacts]) -> str:
    seeds = ", ".join(str(run.config.seed) for run in group)
    return f"seed{'s' if len(group) > 1 else ''} {seeds} again"


def by_problem(arms: Sequence[Arm]) -> dict[str, list[Arm]]:
    """Arms by their problem's name: scores of two problems share no axis."""
    result: dict[str, list[Arm]] = {}
    for arm in arms:
        result.setdefault(arm.runs[0].problem.name, []).append(arm)
    return result


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _without_seed(run: RunFacts) -> configs.RunConfig:
    return attrs.evolve(run.config, seed=0)


def _differences(group: Sequence[RunFacts], groups: Sequence[Sequence[RunFacts]]) -> dict[str, Any]:
    """The keys on which an arm's config differs from another's of the same problem."""
    name = group[0].problem.name
    others = [other[0] for other in groups if other is not group and other[0].problem.name == name]
    keys: dict[str, Any] = {}
    for other in others:
        for difference in configs.diff(_without_seed(group[0]), _without_seed(other)):
            keys[difference.key] = absent_as_word(difference.first)
    # The variant's name stands for the keys that it sets.
    if "variant" in keys:
        set_by_variants = {key for changes in configs.VARIANTS.values() for key in changes}
        keys = {key: value for key, value in keys.items() if key not in set_by_variants}
    return dict(sorted(keys.items()))


def _label(group: Sequence[RunFacts], differs: Mapping[str, Any], runs: Sequence[RunFacts]) -> str:
    """The differences if they are few, else what the runs' names share, with their seeds; or the names."""
    # A variant's name says by itself what it is.
    text = ", ".join(value if key == "variant" else f"{key} = {value}" for key, value in differs.items())
    if text and len(text) <= LONGEST_LABEL:
        return text
    if len(group) == 1:
        return group[0].name
    names = [run.name for run in group]
    seeds = _listed([str(run.config.seed) for run in group])
    seeds = f"seeds {seeds}" if len(group) <= MOST_SEEDS_NAMED else f"{len(group)} seeds"
    shared = re.sub(r"[-_. ]*(seed)?[-_. =]*\d*$", "", _common_start(names))
    others = [run.name for run in runs if run.name not in names]
    if shared and not any(name.startswith(shared) for name in others):
        return f"{shared}, {seeds}"
    listed = _listed(names)
    return listed if len(listed) <= LONGEST_LABEL else f"{names[0]} to {names[-1]}, {seeds}"


def _common_start(names: Sequence[str]) -> str:
    same = itertools.takewhile(lambda characters: len(set(characters)) == 1, zip(*names, strict=False))
    return "".join(characters[0] for characters in same)


def _listed(words: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
