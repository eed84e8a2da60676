"""Advantages of one group of rollouts, in float64 (paper A.1).

Three objectives: the mean baseline, the entropic objective with a constant beta, and the entropic
objective whose beta is solved for each group from a KL budget (the default). All entropic arithmetic is
done on rewards shifted by their maximum and scaled by their range, so a gain of 1e-12 near a record
weighs as much as a gain of 1 far from one, and the result does not change under ``r -> w r + b``.
"""

from __future__ import annotations

import math

import attrs
import numpy as np
import numpy.typing as npt

from ttd_core.config import LearnConfig

Array = npt.NDArray[np.float64]

#: Keeps the leave-one-out normaliser away from zero (paper A.1).
EPSILON = 1e-12

#: Bisection stops when the KL budget is met this closely.
_KL_TOLERANCE = 1e-13


@attrs.frozen(eq=False)
class GroupAdvantages:
    """The advantages of one group, and how they came about.

    :param values: float64 [rollouts]; all zero when the group carries no gradient.
    :param beta: the inverse temperature used, per unit of raw reward; ``nan`` for the mean objective.
    :param kl: KL(q_beta || uniform) reached, in nats.
    :param informative: whether the group carries any gradient.
    """

    values: Array
    beta: float
    kl: float
    informative: bool


def tilted_kl(scaled: Array, beta: float) -> float:
    """KL(q_beta || uniform) in nats, where ``q_beta = softmax(beta * scaled)`` (paper A.1).

    :param scaled: float64 [rollouts], maximum 0.
    :param beta: inverse temperature, not negative; the KL grows with it.
    """
    logits = beta * scaled
    weights = np.exp(logits)
    total = float(weights.sum())
    return math.log(len(scaled)) - math.log(total) + float(weights @ logits) / total


def solve_beta(scaled: Array, budget: float, cap: float) -> float:
    """The beta >= 0 at which ``tilted_kl`` equals ``budget``; ``cap`` where it cannot be reached below.

    :param scaled: float64 [rollouts], maximum 0, minimum -1.
    :param budget: KL in nats.
    :param cap: largest beta.
    """
    low, high = 0.0, 1.0
    while tilted_kl(scaled, high) < budget:
        low, high = high, 2 * high
        if high >= cap:
            return cap if tilted_kl(scaled, cap) <= budget else _bisect(scaled, budget, low, cap)
    return _bisect(scaled, budget, low, high)


def _bisect(scaled: Array, budget: float, low: float, high: float) -> float:
    """The beta between ``low``, below the budget, and ``high``, above it, that meets it to rounding."""
    for _ in range(200):
        middle = 0.5 * (low + high)
        excess = tilted_kl(scaled, middle) - budget
        if abs(excess) <= _KL_TOLERANCE or middle in (low, high):
            return middle
        low, high = (middle, high) if excess < 0 else (low, middle)
    return 0.5 * (low + high)


def leave_one_out(scaled: Array, beta: float) -> Array:
    """Entropic advantages ``e_n / (Z_n + eps) - 1`` with the leave-one-out normaliser (paper A.1).

    :param scaled: float64 [rollouts], maximum 0.
    :return: float64 [rollouts]; not zero-mean.
    """
    weights = np.exp(beta * scaled)
    # Summing the others directly, not total minus own: the difference loses a lone winner's digits.
    others = np.array([np.delete(weights, index).sum() for index in range(len(weights))])
    result: Array = weights / (others / (len(weights) - 1) + EPSILON) - 1.0
    return result


def group_advantages(rewards: npt.ArrayLike, config: LearnConfig) -> GroupAdvantages:
    """Advantages of one group, by the objective ``learn.advantage`` of the config.

    :param rewards: [rollouts], finite.
    :raises ValueError: if a reward is not finite.
    """
    values = np.asarray(rewards, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("rewards must be finite")
    size = len(values)
    largest = values.max() if size else 0.0
    reward_range = float(largest - values.min()) if size else 0.0
    if size < 2 or reward_range == 0.0:
        return GroupAdvantages(np.zeros(size), math.nan, 0.0, informative=False)
    if config.advantage == "mean":
        return GroupAdvantages(values - values.mean(), math.nan, 0.0, informative=True)
    scaled = (values - largest) / reward_range
    if config.advantage == "entropic":
        beta = config.beta * reward_range
    else:
        cap = config.beta_cap if config.beta_cap_on == "scaled" else config.beta_cap * reward_range
        beta = solve_beta(scaled, config.kl_budget, cap)
    return GroupAdvantages(
        leave_one_out(scaled, beta), beta / reward_range, tilted_kl(scaled, beta), informative=True
    )
