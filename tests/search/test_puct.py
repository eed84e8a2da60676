"""The arithmetic of PUCT: worked values, and properties that hold for any archive."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttd_core.search.puct import exploitation, exploration_scale, puct_table, rank_prior, ranks

NONE = float("nan")


def column(values):
    return np.array(values, dtype=np.float64)


#: Multiples of 1/8 and powers of two keep the affine change below free of rounding.
eighths = st.integers(-8000, 8000).map(lambda value: value / 8)


@st.composite
def archives(draw):
    """Rewards, best children (NaN for none) and visits of 1 to 30 states."""
    size = draw(st.integers(1, 30))
    rewards = draw(st.lists(eighths, min_size=size, max_size=size))
    children = draw(st.lists(st.none() | eighths, min_size=size, max_size=size))
    visits = [0 if child is None else draw(st.integers(1, 50)) for child in children]
    best = column([NONE if child is None else child for child in children])
    return column(rewards), best, np.array(visits, dtype=np.int64)


def test_ranks_put_the_older_of_equals_first():
    assert ranks(column([1.0, 3.0, 3.0, 2.0])).tolist() == [3, 0, 1, 2]


def test_prior_is_linear_in_rank():
    assert rank_prior(ranks(column([5.0, 7.0, 6.0]))).tolist() == [1 / 6, 3 / 6, 2 / 6]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 10.0),
        ({"without_seeds": True}, 0.5),
        ({"without_seeds": True, "floor": 2.0}, 2.0),
        ({"floor": 1e-6}, 10.0),
    ],
)
def test_scale_options(options, expected):
    rewards = column([0.0, 9.5, 10.0])
    assert exploration_scale(rewards, np.array([True, False, False]), **options) == expected


def test_scale_without_a_range():
    same, seeds = column([2.0, 2.0]), np.array([True, True])
    assert exploration_scale(same, seeds) == 1.0
    assert exploration_scale(same, seeds, floor=1e-6) == 1e-6
    # With nothing but seeds there is nothing to leave out.
    assert exploration_scale(column([0.0, 4.0]), seeds, without_seeds=True) == 4.0


def test_quality_is_the_best_child_even_when_it_is_worse():
    assert exploitation(column([5.0, 5.0]), column([NONE, 1.0])).tolist() == [5.0, 1.0]


def test_worked_example():
    """Three states, T = 8, c = 2: every term by hand from the formula of A.2."""
    table = puct_table(
        column([0.0, 1.0, 4.0]), column([3.0, NONE, 2.0]), np.array([2, 0, 5]), 8, exploration=2.0, scale=4.0
    )
    assert table.rank.tolist() == [2, 1, 0]
    assert table.quality.tolist() == [3.0, 1.0, 2.0]
    assert table.bonus == pytest.approx(
        [2 * 4 * (1 / 6) * 3 / 3, 2 * 4 * (2 / 6) * 3 / 1, 2 * 4 * 0.5 * 3 / 6]
    )
    assert table.order.tolist() == [1, 0, 2]


@given(archives(), st.integers(0, 5000), st.sampled_from([0.0, 0.5, 1.0, 3.0]))
def test_against_the_formula_state_by_state(archive, expansions, exploration):
    rewards, best, visits = archive
    scale = exploration_scale(rewards, np.zeros(len(rewards), dtype=np.bool_))
    table = puct_table(rewards, best, visits, expansions, exploration=exploration, scale=scale)
    count = len(rewards)
    for index in range(count):
        rank = sum(
            rewards[other] > rewards[index] or (rewards[other] == rewards[index] and other < index)
            for other in range(count)
        )
        prior = (count - rank) / (count * (count + 1) / 2)
        quality = rewards[index] if math.isnan(best[index]) else best[index]
        spread = max(rewards) - min(rewards)
        bonus = exploration * (spread or 1.0) * prior * math.sqrt(1 + expansions) / (1 + visits[index])
        assert table.rank[index] == rank
        assert table.score[index] == pytest.approx(quality + bonus, rel=1e-12, abs=1e-12)


@given(archives())
def test_prior_sums_to_one_and_falls_with_rank(archive):
    rank = ranks(archive[0])
    prior = rank_prior(rank)
    assert prior.sum() == pytest.approx(1.0, abs=1e-12)
    assert (np.diff(prior[np.argsort(rank)]) < 0).all()
    assert (prior > 0).all()


@given(archives(), st.integers(0, 500), st.integers(-3, 6), st.integers(-1000, 1000))
def test_ranking_ignores_a_positive_affine_change_of_reward(archive, expansions, exponent, shift):
    """R -> w R + b. Not so without a range, where the scale is 1 in the units of the reward."""
    rewards, best, visits = archive
    seeds = np.zeros(len(rewards), dtype=np.bool_)
    if rewards.max() == rewards.min():
        return
    weight = 2.0**exponent

    def scores(rewards, best):
        scale = exploration_scale(rewards, seeds)
        return puct_table(rewards, best, visits, expansions, exploration=1.0, scale=scale)

    before = scores(rewards, best)
    after = scores(weight * rewards + shift, weight * best + shift)
    assert after.score == pytest.approx(weight * before.score + shift, rel=1e-9, abs=1e-9)
    # Scores apart by more than rounding keep their order.
    gaps = -np.diff(before.score[before.order])
    spread = np.ptp(rewards)
    for (first, second), gap in zip(zip(before.order, before.order[1:], strict=False), gaps, strict=True):
        if gap > 1e-9 * spread:
            assert after.score[first] > after.score[second]


@given(archives(), st.integers(0, 500))
def test_order_is_by_score_then_reward_then_age(archive, expansions):
    rewards, best, visits = archive
    table = puct_table(rewards, best, visits, expansions, exploration=1.0, scale=1.0)
    keys = [(-table.score[index], -rewards[index], index) for index in table.order]
    assert keys == sorted(keys)
    assert sorted(table.order.tolist()) == list(range(len(rewards)))
