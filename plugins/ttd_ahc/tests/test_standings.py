"""Ranks, performances and the two forms of the reward."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ttd_ahc.ahc039 import Fishing, FishingOptions, final_standings, official_seeds
from ttd_ahc.ahc058 import Apples
from ttd_core.errors import UsageError
from ttd_core.types import State


def test_a_sum_takes_the_place_it_would_have_taken() -> None:
    standings = final_standings()
    assert standings.rank_and_performance(10**9) == (1, 3390)
    assert standings.rank_and_performance(566_997) == (1, 3390)
    assert standings.rank_and_performance(566_996.9) == (2, 3140)
    assert standings.rank_and_performance(500_000) == (23, standings.performances[22])
    assert standings.rank_and_performance(0) == (683, 265)


def test_places_are_in_order() -> None:
    standings = final_standings()
    assert list(standings.ranks) == sorted(set(standings.ranks))
    assert list(standings.sums) == sorted(set(standings.sums), reverse=True)
    assert list(standings.performances) == sorted(standings.performances, reverse=True)
    for rank, total, performance in zip(standings.ranks, standings.sums, standings.performances, strict=True):
        assert standings.rank_and_performance(total) == (rank, performance)


def test_the_record_is_the_official_one(official) -> None:
    standings = final_standings()
    ranks = json.loads((official / "ahc039_standings.json").read_text())
    performances = json.loads((official / "ahc039_performance.json").read_text())
    assert [[*pair] for pair in zip(standings.ranks, standings.sums, strict=True)] == ranks
    assert [[*pair] for pair in zip(standings.ranks, standings.performances, strict=True)] == performances
    assert list(official_seeds()) == json.loads((official / "ahc039_private_seeds.json").read_text())


def _halves(problem: Fishing) -> State:
    return State(data=problem.construct(problem.examples().good[0]))


def test_both_forms_of_the_reward_come_from_the_same_sum() -> None:
    paper = Fishing(FishingOptions(cases=4))
    mean = Fishing(FishingOptions(cases=4, reward="mean"))
    state = _halves(paper)
    one, other = paper.reward(state), mean.reward(state)
    assert one.score == other.score == sum(paper.scores(state)) / 4
    assert other.value == pytest.approx(one.score / 1500)
    assert (
        one.value == one.metrics["performance"] == final_standings().rank_and_performance(one.score * 150)[1]
    )
    assert one.metrics["sum"] == sum(paper.scores(state))


def test_official_cases_are_other_cases() -> None:
    usual, official = Fishing(FishingOptions(cases=3)), Fishing(FishingOptions(cases=3, official=True))
    assert official.seeds() == list(official_seeds()[:3])
    assert usual.seeds() == [0, 1, 2]
    (violation,) = official.check(_halves(usual))
    assert violation == "the answers are to other seeds than those judged"
    with pytest.raises(UsageError, match="ahc039 has 150 official cases; 151 from number 0 on"):
        Fishing(FishingOptions(cases=151, official=True)).seeds()


def test_apples_are_rewarded_by_their_mean() -> None:
    problem = Apples(Apples.options_type(cases=2))
    state = State(data=problem.construct(problem.examples().good[2]))
    reward = problem.reward(state)
    assert reward.value == pytest.approx(reward.score / 3_000_000)
    assert reward.score == np.mean(problem.scores(state))
