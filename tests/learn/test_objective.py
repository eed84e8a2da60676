"""The objective against golden vectors, its invariances, and the budget it promises to meet."""

from __future__ import annotations

import math

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttd_core.config import LearnConfig
from ttd_core.learn.objective import (
    LARGEST_SHARE,
    bound_beta,
    group_advantages,
    leave_one_out,
    solve_beta,
    tilted_kl,
)

ADAPTIVE = LearnConfig()
CONSTANT = attrs.evolve(ADAPTIVE, advantage="entropic")
MEAN = attrs.evolve(ADAPTIVE, advantage="mean")

#: Rewards with a spread that float64 resolves: on a grid, so that no two differ by rounding alone.
REWARDS = st.lists(st.integers(-1000, 1000).map(lambda n: n / 64), min_size=2, max_size=40)
SPREAD_REWARDS = REWARDS.filter(lambda rewards: max(rewards) > min(rewards))


@pytest.mark.parametrize(
    ("rewards", "beta", "expected"),
    [
        ([0, 1, 2, 3], 1.445859224, [-0.96963308, -0.86669806, -0.33870056, 8.86541794]),
        ([0] * 63 + [1], 3.359879073, [-0.30605819] * 63 + [27.78570971]),
        ([0, 0, 0, 1], 2.553244909, [-0.79796251] * 3 + [11.84872917]),
        ([0.6] * 31 + [0] * 33, 8.929064794, [1.08916921] * 31 + [-0.99046842] * 33),
        ([0, 1], math.log(9), [-8 / 9, 8]),
        ([5, 5.25], 4 * math.log(9), [-8 / 9, 8]),
    ],
)
def test_golden_vectors(rewards: list[float], beta: float, expected: list[float]) -> None:
    found = group_advantages(rewards, ADAPTIVE)
    assert found.beta == pytest.approx(beta, rel=1e-9)
    assert found.values == pytest.approx(np.array(expected), abs=1e-8)
    assert found.informative


def test_golden_line() -> None:
    found = group_advantages(np.linspace(0, 1, 64), ADAPTIVE)
    assert found.beta == pytest.approx(5.181563387, rel=1e-9)
    assert found.values.max() == pytest.approx(4.43113016, abs=1e-8)
    assert found.values.min() == pytest.approx(-0.97189094, abs=1e-8)


@given(SPREAD_REWARDS)
def test_kl_budget_is_met_where_it_can_be(rewards: list[float]) -> None:
    found = group_advantages(rewards, ADAPTIVE)
    ties = rewards.count(max(rewards))
    reachable = math.log(len(rewards) / ties)
    if reachable > math.log(2) + 1e-6:
        assert abs(found.kl - math.log(2)) < 1e-9
    elif reachable < math.log(2) - 1e-6:
        assert found.kl == pytest.approx(reachable, abs=1e-9)
        assert found.beta == pytest.approx(1e12 / (max(rewards) - min(rewards)))


@given(SPREAD_REWARDS, st.sampled_from([2.0**-20, 0.5, 4.0, 1024.0]), st.integers(-64, 64))
def test_invariant_to_scale_and_shift(rewards: list[float], scale: float, shift: int) -> None:
    # Powers of two and small integers keep the transformed rewards exact, so equality is to rounding.
    plain = group_advantages(rewards, ADAPTIVE).values
    moved = group_advantages([scale * reward + scale * shift for reward in rewards], ADAPTIVE).values
    assert moved == pytest.approx(plain, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("config", [ADAPTIVE, CONSTANT, MEAN], ids=["adaptive", "constant", "mean"])
@given(rewards=SPREAD_REWARDS)
def test_monotone_in_reward(config: LearnConfig, rewards: list[float]) -> None:
    values = group_advantages(rewards, config).values
    order = np.argsort(rewards, kind="stable")
    assert (np.diff(values[order]) >= -1e-9).all()
    assert values[int(np.argmax(rewards))] > 0


@pytest.mark.parametrize("config", [ADAPTIVE, CONSTANT, MEAN], ids=["adaptive", "constant", "mean"])
@given(reward=st.floats(-1e6, 1e6), size=st.integers(0, 8))
def test_constant_groups_carry_nothing(config: LearnConfig, reward: float, size: int) -> None:
    found = group_advantages([reward] * size, config)
    assert not found.informative
    assert (found.values == 0).all()
    assert len(found.values) == size


@given(REWARDS)
def test_mean_baseline_is_zero_mean(rewards: list[float]) -> None:
    assert group_advantages(rewards, MEAN).values.sum() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("objective", ["entropic-adaptive", "entropic"])
@given(
    rewards=st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=4),
    budget=st.sampled_from([0.1, math.log(2), 1.0, 1.5, 10.0]),
    beta=st.sampled_from([0.0, 0.5, 2.0, 1e3, 1e9]),
    cap_on=st.sampled_from(["scaled", "raw"]),
)
def test_small_groups_have_bounded_advantages(
    objective: str, rewards: list[float], budget: float, beta: float, cap_on: str
) -> None:
    config = attrs.evolve(
        ADAPTIVE, advantage=objective, kl_budget=budget, beta=beta, beta_cap=1e12, beta_cap_on=cap_on
    )
    found = group_advantages(rewards, config)
    most = 9 * (len(rewards) - 1) - 1
    assert (found.values >= -1).all()
    assert (found.values <= most * (1 + 1e-9)).all()
    assert (np.diff(found.values[np.argsort(rewards, kind="stable")]) >= -1e-9).all()


@given(
    size=st.integers(2, 256),
    place=st.integers(0, 255),
    gain=st.sampled_from([1e-9, 1.0, 1e9]),
    budget=st.sampled_from([math.log(2), 3.0, 100.0]),
    objective=st.sampled_from(["entropic-adaptive", "entropic"]),
)
def test_a_lone_winner_is_bounded(size: int, place: int, gain: float, budget: float, objective: str) -> None:
    rewards = np.zeros(size)
    rewards[place % size] = gain
    found = group_advantages(rewards, attrs.evolve(ADAPTIVE, advantage=objective, kl_budget=budget))
    winner = found.values[place % size]
    assert 0 < winner <= (9 * (size - 1) - 1) * (1 + 1e-9)
    others = np.delete(found.values, place % size)
    assert (others < 0).all()
    assert (others >= -1).all()


@given(SPREAD_REWARDS.filter(lambda rewards: len(rewards) > 2))
def test_the_bound_leaves_the_papers_budget_alone_in_groups_of_three_and_more(rewards: list[float]) -> None:
    scaled = (np.array(rewards) - max(rewards)) / (max(rewards) - min(rewards))
    beta = solve_beta(scaled, math.log(2), 1e12)
    assert bound_beta(scaled, beta) == beta
    assert (group_advantages(rewards, ADAPTIVE).values == leave_one_out(scaled, beta)).all()


def test_a_lowered_beta_leaves_the_leader_its_largest_share() -> None:
    scaled = np.array([-1.0, 0.0, -0.5, -0.75])
    beta = bound_beta(scaled, 1e12)
    weights = np.exp(beta * scaled)
    assert weights.max() / weights.sum() == pytest.approx(LARGEST_SHARE, rel=1e-12)
    assert bound_beta(scaled, beta / 2) == beta / 2


def test_leave_one_out_is_not_zero_mean() -> None:
    assert group_advantages([0, 1, 2, 3], ADAPTIVE).values.sum() > 1


@given(SPREAD_REWARDS, st.floats(0.01, 30))
def test_leave_one_out_matches_its_definition(rewards: list[float], beta: float) -> None:
    scaled = (np.array(rewards) - max(rewards)) / (max(rewards) - min(rewards))
    weights = [math.exp(beta * value) for value in scaled]
    expected = [
        weight / (sum(weights[:n] + weights[n + 1 :]) / (len(weights) - 1) + 1e-12) - 1
        for n, weight in enumerate(weights)
    ]
    assert leave_one_out(scaled, beta) == pytest.approx(np.array(expected), rel=1e-9)


def test_tiny_gains_near_a_record_keep_their_full_weight() -> None:
    # 1/0.381 has a float32 spacing of 2.4e-7: in float32 these four rewards would be one.
    base = 1 / 0.381
    near = group_advantages([base, base + 1e-10, base + 2e-10, base + 3e-10], ADAPTIVE)
    far = group_advantages([0, 1, 2, 3], ADAPTIVE)
    assert near.values == pytest.approx(far.values, rel=1e-4)


def test_raw_cap_stops_learning_where_the_scaled_one_does_not() -> None:
    rewards = [2.62 + 1e-10 * n for n in range(64)]
    raw = attrs.evolve(ADAPTIVE, beta_cap=1e6, beta_cap_on="raw")
    assert group_advantages(rewards, raw).values.max() < 1e-2
    assert group_advantages(rewards, ADAPTIVE).values.max() > 4


def test_constant_beta_is_per_unit_of_raw_reward() -> None:
    found = group_advantages([0.0, 1.0], CONSTANT)
    assert found.beta == 2.0
    assert found.values == pytest.approx(np.array([math.exp(-2) - 1, math.exp(2) - 1]))


def test_not_finite_rewards_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        group_advantages([1.0, math.nan], ADAPTIVE)


@given(st.lists(st.floats(-1, 0), min_size=3, max_size=30), st.floats(0, 50), st.floats(0.01, 10))
def test_tilted_kl_grows_with_beta(tail: list[float], beta: float, more: float) -> None:
    scaled = np.array([0.0, -1.0, *tail])
    assert tilted_kl(scaled, beta + more) >= tilted_kl(scaled, beta) - 1e-12
    assert tilted_kl(scaled, 0.0) == pytest.approx(0, abs=1e-12)


def test_solve_beta_gives_the_cap_when_the_budget_is_out_of_reach() -> None:
    assert solve_beta(np.array([0.0, 0.0, -1.0]), math.log(2), 1e12) == 1e12
    assert solve_beta(np.array([0.0, -1.0, -1.0]), math.log(2), 0.5) == 0.5
