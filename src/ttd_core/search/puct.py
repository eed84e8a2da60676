"""The arithmetic of PUCT over start states (paper, appendix A.2), on plain arrays.

    score(s) = Q(s) + c * scale * P(s) * sqrt(1 + T) / (1 + n(s))

Nothing here knows about nodes or lineages; see :mod:`ttd_core.search.archive` and
:mod:`ttd_core.search.reuse`. All arrays are one entry a state, in the order of age (oldest first), which
is what decides ties.
"""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@attrs.frozen(eq=False)
class PuctTable:
    """The terms of every state's score.

    :param rank: int64 [states], 0 for the best reward.
    :param quality: float64 [states], Q: the best child's reward, else the state's own.
    :param prior: float64 [states], P: positive, sums to 1.
    :param bonus: float64 [states], the exploration term, c and scale included.
    :param score: float64 [states], ``quality + bonus``.
    :param scale: what the exploration term was scaled with.
    :param order: int64 [states], indices by score, best first; ties by reward, then by age.
    """

    rank: Ints
    quality: Floats
    prior: Floats
    bonus: Floats
    score: Floats
    scale: float
    order: Ints


def ranks(rewards: Floats) -> Ints:
    """int64 [states]: 0 for the highest reward; among equal rewards the older state comes first."""
    order = np.argsort(-rewards, kind="stable")
    result = np.empty(len(rewards), dtype=np.int64)
    result[order] = np.arange(len(rewards))
    return result


def rank_prior(rank: Ints) -> Floats:
    """float64 [states]: P, linear in rank, best first: ``(N - rank) / sum`` (paper A.2)."""
    weights = (len(rank) - rank).astype(np.float64)
    prior: Floats = weights / weights.sum()
    return prior


def exploration_scale(
    rewards: Floats, seeds: Bools, *, without_seeds: bool = False, floor: float = 0.0
) -> float:
    """``Rmax - Rmin`` over the archive, 1 when that is 0 (paper A.2).

    :param rewards: float64 [states], at least one.
    :param seeds: bool [states], True for seeds.
    :param without_seeds: leave the seeds out of the range, when there is anything else.
    :param floor: least value returned; above 0 it replaces the 1 of an archive without a range.
    """
    if without_seeds and not seeds.all():
        rewards = rewards[~seeds]
    spread = max(float(rewards.max() - rewards.min()), floor)
    return spread if spread > 0 else 1.0


def exploitation(rewards: Floats, best_children: Floats) -> Floats:
    """float64 [states]: Q. The best child's reward where a child succeeded, else the state's own.

    :param best_children: float64 [states], m(s); NaN where no child ever succeeded.
    """
    return np.where(np.isnan(best_children), rewards, best_children)


def puct_table(
    rewards: Floats,
    best_children: Floats,
    visits: Ints,
    expansions: int,
    *,
    exploration: float,
    scale: float,
) -> PuctTable:
    """Score every state (paper A.2).

    :param rewards: float64 [states], R(s), at least one.
    :param best_children: float64 [states], m(s); NaN where no child ever succeeded.
    :param visits: int64 [states], n(s).
    :param expansions: T, over the whole run.
    :param exploration: c.
    :param scale: see :func:`exploration_scale`.
    """
    rank = ranks(rewards)
    prior = rank_prior(rank)
    quality = exploitation(rewards, best_children)
    bonus = exploration * scale * prior * np.sqrt(1.0 + expansions) / (1.0 + visits)
    score = quality + bonus
    # Laid out by rank, which says "by reward, then by age", a stable sort breaks the ties of the score by it.
    by_rank = np.empty(len(rank), dtype=np.int64)
    by_rank[rank] = np.arange(len(rank))
    order = by_rank[np.argsort(-score[by_rank], kind="stable")]
    return PuctTable(rank, quality, prior, bonus, score, scale, order)
