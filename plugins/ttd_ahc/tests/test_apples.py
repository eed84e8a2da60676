"""ahc058's rules against the rules written out, machine by machine."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttd_ahc.apples import KINDS, LEVELS, TURNS, Game, InvalidPlan, draw_game, play, read_plan, score_of

IDLE = ["-1"] * TURNS


def direct_apples(game: Game, actions) -> int | None:
    """Apples after the last turn by the rules as they are told; ``None`` for a purchase that cannot be."""
    apples = 1
    count = [[1] * KINDS for _ in range(LEVELS)]
    power = [[0] * KINDS for _ in range(LEVELS)]
    for action in actions:
        if action >= 0:
            level, kind = divmod(action, KINDS)
            price = game.cost[action] * (power[level][kind] + 1)
            if price > apples:
                return None
            apples -= price
            power[level][kind] += 1
        for kind in range(KINDS):
            apples += game.capacity[kind] * count[0][kind] * power[0][kind]
        for level in range(1, LEVELS):
            for kind in range(KINDS):
                count[level - 1][kind] += count[level][kind] * power[level][kind]
    return apples


def affordable(game: Game, wishes) -> list[int]:
    """A plan that makes each wish come true as soon as it can be paid, one after the other."""
    plan: list[int] = []
    for wish in wishes:
        while len(plan) < TURNS:
            if direct_apples(game, [*plan, wish]) is not None:
                plan.append(wish)
                break
            plan.append(-1)
            if len(plan) % 40 == 0:
                break
    return (plan + [-1] * TURNS)[:TURNS]


@given(
    seed=st.integers(0, 2**64 - 1),
    wishes=st.lists(st.integers(0, LEVELS * KINDS - 1), min_size=1, max_size=8),
)
def test_plans_that_can_be_paid_grow_as_the_rules_say(seed, wishes) -> None:
    game = draw_game(seed)
    plan = affordable(game, [0, *wishes])
    expected = direct_apples(game, plan)
    playout = play(game, plan)
    assert playout.apples[-1] == expected
    assert len(playout.apples) == TURNS
    assert sum(playout.power) == sum(action >= 0 for action in plan)


@given(seed=st.integers(0, 50), plan=st.lists(st.integers(-1, 45), min_size=TURNS, max_size=TURNS))
def test_random_plans_are_refused_where_the_rules_refuse_them(seed, plan) -> None:
    game = draw_game(seed)
    legal = all(action < LEVELS * KINDS for action in plan)
    expected = direct_apples(game, plan) if legal else None
    if expected is None:
        with pytest.raises(InvalidPlan, match=r"^turn \d+: (level|there is no machine)"):
            play(game, plan)
    else:
        assert play(game, plan).apples[-1] == expected


def test_a_game_has_what_the_generator_promises() -> None:
    for seed in range(30):
        game = draw_game(seed)
        assert game.capacity[0] == game.cost[0] == 1
        assert list(game.capacity) == sorted(game.capacity)
        for machine, cost in enumerate(game.cost[1:], start=1):
            least = game.capacity[machine % KINDS] * 500 ** (machine // KINDS)
            assert least <= cost <= 100 * least


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "0 actions were printed; 500 are needed"),
        (IDLE[1:], "499 actions were printed"),
        (["0 0 0", *IDLE], "line 1: 3 numbers"),
        (["-1 0", *IDLE], "line 1: 2 numbers; a turn that buys nothing is -1 alone"),
        (["-1", "3", *IDLE], "line 2: 1 numbers; a purchase is a level and a kind"),
        (["4 0", *IDLE], "there is no machine of level 4 and kind 0"),
        (["0 10", *IDLE], "there is no machine of level 0 and kind 10"),
        (["-2 0", *IDLE], "there is no machine of level -2"),
        (["0 -1", *IDLE], "there is no machine of level 0 and kind -1"),
        (["a b", *IDLE], "line 1: 'a' is not an integer"),
        (["0 0.0", *IDLE], "line 1: '0.0' is not an integer"),
        (["0 ٥", *IDLE], "is not an integer"),
        (["9" * 5000, *IDLE], "is not a number that can stand here"),
    ],
)
def test_every_line_that_is_no_action_has_its_own_message(lines, message) -> None:
    with pytest.raises(InvalidPlan, match=message):
        read_plan("\n".join(lines).encode())


def test_a_purchase_that_cannot_be_paid_is_told_with_its_price() -> None:
    game = draw_game(0)
    plan = [-1] * TURNS
    plan[3] = 39
    with pytest.raises(InvalidPlan, match=rf"turn 3: level 3 kind 9 costs {game.cost[39]} apples, and"):
        play(game, plan)


def test_comments_blank_lines_and_lines_after_the_last_turn_do_not_count() -> None:
    text = "\n".join(["# why", "", "0 0\r", "  ", "#1 2 3 4", *IDLE[1:], "anything at all", "7 7 7"])
    plan = read_plan(text.encode())
    assert plan.shape == (TURNS, 1)
    assert plan.dtype == np.int32
    assert plan[:, 0].tolist() == [0, *[-1] * (TURNS - 1)]


def test_the_score_is_a_rounded_logarithm() -> None:
    assert score_of(1) == 0
    assert score_of(0) == 0
    assert score_of(2) == 100_000
    assert score_of(3) == 158_496
    assert score_of(2**57 - 1) == round(1e5 * math.log2(2**57 - 1))
