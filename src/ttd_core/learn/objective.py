"""Advantages of one group of rollouts, in float64 (paper A.1).

Three objectives: the mean baseline, the entropic objective with a constant beta, and the entropic
objective whose beta is solved for each group from a KL budget (the default). All entropic arithmetic is
done on rewards shifted by their maximum and scaled by their range, so a gain of 1e-12 near a record
weighs as much as a gain of 1 far from one, and the result does not change under ``r -> w r + b``.

The leave-one-out normaliser alone has no bound: where one rollout holds nearly all the weight ``q_beta``, the
mean of the others vanishes and the advantage grows to ``1 / eps``. Of two rollouts that is always so, since
the budget of log 2 is the KL's limit, met at an infinite beta only; and it is so for a constant beta when one
reward is far ahead. So beta is lowered until no rollout holds more than :data:`LARGEST_SHARE` of the weight,
which keeps the advantages of n rollouts within ``9 (n - 1) - 1``. The paper's budget never reaches that share
in a group of three or more, where the values are the paper's to every digit.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
import numpy as np
import numpy.typing as npt

from ttd_core.config import LearnConfig

Array = npt.NDArray[np.float64]

#: Keeps the leave-one-out normaliser away from zero (paper A.1).
EPSILON = 1e-12

#: Most of a group's weight ``q_beta`` that one rollout may hold. At a KL of log 2 the leader of three
#: rollouts holds 0.896 at most, of more rollouts less; with 0.9 the KL is 0.704 or more.
LARGEST_SHARE = 0.9
#: What the others must weigh together, beside a leader of weight 1, so that it holds that share.
_LEAST_OTHERS = (1 - LARGEST_SHARE) / LARGEST_SHARE

#: Bisection stops when its aim is met this closely: KL, or weight.
_TOLERANCE = 1e-13


@attrs.frozen(eq=False)
class GroupAdvantages:
    """The advantages of one group, and how they came about.

    :param values: float64 [rollouts]; all zero when the group carries no gradient.
    :param beta: the inverse temperature used, as :func:`bound_beta` left it, per unit of raw reward; ``nan``
        for the mean objective.
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

    def excess(beta: float) -> float:
        return tilted_kl(scaled, beta) - budget

    while tilted_kl(scaled, high) < budget:
        low, high = high, 2 * high
        if high >= cap:
            return cap if tilted_kl(scaled, cap) <= budget else _bisect(excess, low, cap)
    return _bisect(excess, low, high)


def bound_beta(scaled: Array, beta: float) -> float:
    """``beta``, or the lower one at which the leader holds :data:`LARGEST_SHARE` of ``q_beta``.

    :param scaled: float64 [rollouts], maximum 0; two or more.
    :param beta: not negative.
    """
    behind = np.delete(scaled, np.argmax(scaled))

    def excess(beta: float) -> float:
        return _LEAST_OTHERS - float(np.exp(beta * behind).sum())

    return beta if excess(beta) <= 0 else _bisect(excess, 0.0, beta)


def _bisect(excess: Callable[[float], float], low: float, high: float) -> float:
    """Where a growing function is 0, between ``low``, where it is below, and ``high``, where it is above."""
    for _ in range(200):
        middle = 0.5 * (low + high)
        value = excess(middle)
        if abs(value) <= _TOLERANCE or middle in (low, high):
            return middle
        low, high = (middle, high) if value < 0 else (low, middle)
    return 0.5 * (low + high)


def leave_one_out(scaled: Array, beta: float) -> Array:
    """Entropic advantages ``e_n / (Z_n + eps) - 1`` with the leave-one-out normaliser (paper A.1).

    ``Z_n`` is the mean of ``exp(beta * scaled)`` over the other rollouts: nothing keeps it from 0 but
    :func:`bound_beta`, called before.

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

    The entropic objectives are the paper's wherever no rollout holds more than :data:`LARGEST_SHARE` of the
    weight; elsewhere beta is lowered to that share, and the result's ``beta`` and ``kl`` are those of the
    lower one. So no advantage is above ``9 (rollouts - 1) - 1``.

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
    beta = bound_beta(scaled, beta)
    return GroupAdvantages(
        leave_one_out(scaled, beta), beta / reward_range, tilted_kl(scaled, beta), informative=True
    )
