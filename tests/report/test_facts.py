"""What is read of a run, and how runs are pooled."""

from __future__ import annotations

import math

import attrs
import pytest

from ttd_core.report.facts import against_published, read_facts
from ttd_core.report.figures import step_ranges
from ttd_core.report.page import compare_page
from ttd_core.report.pooling import by_problem, notes_on, pool_seeds, seeds_that_repeat
from ttd_core.run.reading import RunReader
from ttd_core.run.records import HintRecord
from ttd_core.types import Status


def test_facts_add_up(first) -> None:
    assert (first.name, first.problem.name, first.policy) == ("first", "heights", "7 scripted replies")
    assert len(first.steps) == 12
    assert sum(sum(counts.values()) for counts in first.statuses.values()) == 96
    assert sum(values.size for values in first.rewards.values()) == first.summary.valid
    assert first.summary.valid + sum(each.count for each in first.failures) == 96
    counts = [each.count for each in first.failures]
    assert counts == sorted(counts, reverse=True)
    examples = {each.status: each.example for each in first.failures}
    assert "number 2.0" in examples[Status.INVALID]
    assert first.sandbox
    assert first.seconds > 0


def test_best_by_step_only_improves_and_starts_with_the_seed(first) -> None:
    steps, scores = first.best_by_step()
    assert steps == list(range(13))
    assert scores[0] == pytest.approx(0.6)
    assert scores == sorted(scores)
    assert scores[-1] == first.best_score == first.best.reward.score


def test_the_path_leads_from_a_seed_to_the_best(first) -> None:
    path = first.path_to_best()
    assert path[0].seed
    assert path[-1].id == first.best.id
    assert [each.parent for each in path[1:]] == [each.id for each in path[:-1]]
    assert len(path) > 3


def test_standing_names_the_best_published(first) -> None:
    problem = first.problem
    assert against_published(problem, 2.75) == "better than the published 2.5 of somebody <i> by 0.25"
    assert against_published(problem, 2.25) == "worse than the published 2.5 of somebody <i> by 0.25"
    assert against_published(problem, 2.5) == "equal to the published 2.5 of somebody <i>"


def test_seeds_are_pooled_and_arms_named_by_what_differs(runs) -> None:
    facts = [read_facts(folder) for folder in (runs.first, runs.other, runs.second)]
    pooled, other = pool_seeds(facts)
    assert [run.name for run in pooled.runs] == ["first", "second"]
    assert (pooled.label, other.label) == ("full", "no-reuse")
    assert (pooled.differs, other.differs) == ({"variant": "full"}, {"variant": "no-reuse"})
    assert list(by_problem([pooled, other])) == ["heights"]
    steps, mean, low, high = pooled.pooled(lambda run: run.best_by_step())
    assert steps == list(range(13))
    one, two = (facts[place].best_by_step()[1] for place in (0, 2))
    for place in range(13):
        assert mean[place] == pytest.approx((one[place] + two[place]) / 2)
        assert (low[place], high[place]) == (min(one[place], two[place]), max(one[place], two[place]))
    row = pooled.row()
    assert row["seeds"] == [0, 1]
    assert row["rollouts"] == 192
    assert row["best_score"] == max(one[-1], two[-1])
    assert row["spread"] == pytest.approx(abs(one[-1] - two[-1]) / math.sqrt(2))
    assert other.row()["spread"] is None


def test_a_run_that_ended_earlier_keeps_its_best_in_the_mean(runs) -> None:
    first, second = (read_facts(folder) for folder in (runs.first, runs.second))
    short = attrs.evolve(second, steps=second.steps[:4])
    (pooled,) = pool_seeds([first, short])
    steps, mean, _, high = pooled.pooled(lambda run: run.best_by_step(), holds=True)
    assert steps == list(range(13))
    assert mean == sorted(mean)
    kept = short.best_by_step()[1][-1]
    assert mean[12] == pytest.approx((first.best_by_step()[1][12] + kept) / 2)
    assert high[12] == first.best_by_step()[1][12]
    assert pooled.pooled(lambda run: run.best_by_step())[1][12] == first.best_by_step()[1][12]


def test_best_scores_against_what_they_cost(runs) -> None:
    facts = [read_facts(folder) for folder in (runs.first, runs.second)]
    (pooled,) = pool_seeds(facts, {"first": "ours"})
    assert pooled.label == "ours"
    one, two = (run.best_by_step()[1] for run in facts)
    amounts, mean, low, high = pooled.best_by_spent("rollouts", points=13)
    assert amounts == [8.0 * step for step in range(13)]
    assert mean == pytest.approx([(a + b) / 2 for a, b in zip(one, two, strict=True)])
    assert (low, high) == ([*map(min, one, two)], [*map(max, one, two)])
    seconds, mean, _, _ = pooled.best_by_spent("seconds")
    assert seconds[-1] == pytest.approx(max(run.seconds for run in facts))
    assert mean[-1] == pytest.approx((one[-1] + two[-1]) / 2)
    row = pooled.row()
    assert row["best_scores"] == {0: one[-1], 1: two[-1]}
    assert row["start_scores"] == {0: facts[0].summary.start_score, 1: facts[1].summary.start_score}
    rewards = [sum(run.rewards[step].sum() for step in (10, 11, 12)) / 24 for run in facts]
    assert row["last_mean_reward"] == pytest.approx(sum(rewards) / 2)


def test_runs_of_one_seed_are_no_two_seeds(runs) -> None:
    first, second, other = (read_facts(folder) for folder in (runs.first, runs.second, runs.other))
    twin, third = attrs.evolve(first, name="twin"), attrs.evolve(first, name="third")
    arms = pool_seeds([first, twin, second, third, other])
    assert [[run.name for run in arm.runs] for arm in arms] == [
        *(["first", "second"], ["twin"], ["third"], ["other"])
    ]
    assert [arm.again for arm in arms] == [False, True, True, False]
    assert [arm.label for arm in arms] == [*("full", "twin, seed 0 again", "third, seed 0 again", "no-reuse")]
    assert arms[0].row()["spread"] == pool_seeds([first, second])[0].row()["spread"]
    assert seeds_that_repeat(arms).startswith("seed 0 3 times: ")
    assert seeds_that_repeat(pool_seeds([first, second, other])) == ""
    again = pool_seeds([first, second, twin, attrs.evolve(second, name="copy")])
    assert [arm.label for arm in again] == ["first and second", "twin and copy, seeds 0, 1 again"]
    assert seeds_that_repeat(again).startswith("seed 0 twice, seed 1 twice: ")


def test_runs_with_hints_are_told_from_those_without(first, runs) -> None:
    hints = [HintRecord(1, 0.0, 2, None, "try it")]
    second = read_facts(runs.second)
    hinted = attrs.evolve(second, hints=hints)
    (arm,) = pool_seeds([first, hinted])
    assert notes_on([arm]) == [
        "hints of people were in prompts of second: more than configs and seeds tells these runs apart"
    ]
    assert notes_on(pool_seeds([first, second])) == []
    assert arm.row()["hinted"] == ["second"]
    alike = "hints of people were in prompts of first and second, the same ones at the same steps"
    assert notes_on(pool_seeds([attrs.evolve(first, hints=hints), hinted])) == [alike]
    assert notes_on(pool_seeds([hinted])) == ["hints of people were in prompts of second"]
    many = [attrs.evolve(hinted, name=f"run-{number}") for number in range(20)]
    assert notes_on(pool_seeds([first, *many]))[-1].startswith(
        "hints of people were in prompts of 20 of the 21 runs: more than"
    )
    assert "Hints of people were in prompts of second" in compare_page([first, hinted])


def test_many_amounts_are_thinned_to_those_where_a_best_changes(runs) -> None:
    facts = []
    for folder in (runs.first, runs.second):
        run = read_facts(folder)
        # Nothing is found after the fifth step.
        capped = [
            attrs.evolve(each, best_score=run.steps[min(each.step, 5) - 1].best_score) for each in run.steps
        ]
        facts.append(attrs.evolve(run, steps=capped))
    (pooled,) = pool_seeds(facts)
    whole, thin = pooled.best_by_spent("seconds", points=10_000), pooled.best_by_spent("seconds", points=3)
    assert 3 < len(thin[0]) < len(whole[0])
    assert (thin[0][0], thin[0][-1]) == (whole[0][0], whole[0][-1])
    for place, amount in enumerate(whole[0]):
        held = max(index for index, each in enumerate(thin[0]) if each <= amount)
        assert [curve[place] for curve in whole[1:]] == [curve[held] for curve in thin[1:]]


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (["k9-toy-0", "k9-toy-1"], "k9-toy, seeds 0 and 1"),
        (["a-seed0", "a-seed1", "a-seed2"], "a, seeds 0, 1 and 2"),
        ([f"long-{n}" for n in range(6)], "long, 6 seeds"),
        (["one", "two"], "one and two"),
        (["7", "8"], "7 and 8"),
        ([f"{n}-{'x' * 30}" for n in "ab"], f"a-{'x' * 30} to b-{'x' * 30}, seeds 0 and 1"),
    ],
)
def test_pooled_seeds_are_named_after_what_their_names_share(first, names, label) -> None:
    runs = [
        attrs.evolve(first, name=name, config=attrs.evolve(first.config, seed=seed))
        for seed, name in enumerate(names)
    ]
    assert [arm.label for arm in pool_seeds(runs)] == [label]


def test_one_run_alone_is_named_after_its_folder(first) -> None:
    assert [arm.label for arm in pool_seeds([first])] == ["first"]


def test_arms_that_differ_in_much_are_named_after_their_runs(runs, first) -> None:
    second = read_facts(runs.second)
    options = {**first.config.options, "timeout_s": 7.0, "output_chars": 9, "memory_mb": 99}
    changed = attrs.evolve(first, name="changed", config=attrs.evolve(first.config, options=options))
    pooled, alone = pool_seeds([first, second, changed])
    assert (pooled.label, alone.label) == ("first and second", "changed")
    assert alone.differs == {
        f"options.{key}": options[key] for key in ("memory_mb", "output_chars", "timeout_s")
    }


@pytest.mark.parametrize(
    ("steps", "rollouts", "found"),
    [
        (50, 512, [(0, 1), (9, 10), (24, 25), (49, 50)]),
        (50, 8, [(0, 6), (8, 14), (22, 28), (44, 50)]),
        (3, 8, [(0, 1), (1, 2), (2, 3)]),
        (1, 8, [(0, 1)]),
    ],
)
def test_windows_of_steps(steps: int, rollouts: int, found: list[tuple[int, int]]) -> None:
    assert step_ranges(steps, rollouts) == found


def test_a_run_without_a_step(runs) -> None:
    facts = read_facts(runs.empty)
    assert facts.steps == []
    assert facts.best_by_step() == ([0], [pytest.approx(0.6)])
    with RunReader.open(runs.empty) as run:
        assert facts.best.id == run.best(1)[0].id
