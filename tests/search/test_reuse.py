"""Picking start states: each strategy, blocking of lineages, and whole runs against a direct slow form."""

from __future__ import annotations

import json
import math

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttd_core.config import SearchConfig
from ttd_core.search.archive import Archive, Fate
from ttd_core.search.reuse import EpsilonGreedyReuse, NoReuse, PuctReuse, reuse_from_config
from ttd_core.types import Completion, Group, Reward, Rollout, State, Status, Verdict


def rollout(result):
    """A rollout that failed (None), or reached state ``name`` with a reward: ``(name, value)``."""
    if result is None:
        return Rollout(Completion("?"), Verdict.failed(Status.CRASH, "it broke"))
    name, value = result
    verdict = Verdict(Status.OK, state=State(data={"name": name}), reward=Reward(value, value))
    return Rollout(Completion("!"), verdict)


def group(start, *results):
    return Group(start, [], np.zeros(0, np.int64), [rollout(result) for result in results])


def archive(seeds=1, **config):
    made = Archive(SearchConfig(**config))
    made.add_seeds([(State(), None)] * seeds)
    return made


def ids(nodes):
    return [node.id for node in nodes]


def rng(seed=0):
    return np.random.default_rng(seed)


# -- each strategy ------------------------------------------------------------------------------------


def test_a_fresh_archive_gives_each_group_its_own_seed():
    for strategy in (PuctReuse(), NoReuse()):
        assert ids(strategy.pick(archive(seeds=8), 8, rng())) == list(range(8))
    picked = EpsilonGreedyReuse(0.5).pick(archive(seeds=8), 8, rng())
    assert sorted(ids(picked)) == list(range(8))


def test_a_picked_state_blocks_its_lineage_not_its_siblings():
    made = archive(seeds=2)
    made.admit(1, [group(0, ("a", 5.0), ("b", 4.0))])
    made.admit(2, [group(2, ("c", 10.0))])
    # Nodes: seeds 0 and 1, a = 2, b = 3, c = 4 below a. Q(a) = 10 as well, but c's reward is the higher.
    assert ids(PuctReuse(exploration=0).pick(made, 3, rng())) == [4, 3, 1]


def test_blocking_reaches_across_an_evicted_ancestor():
    made = archive(capacity=2)
    made.admit(1, [group(0, ("a", 1.0))])
    made.admit(2, [group(1, ("b", 2.0))])
    assert not made[1].held
    assert ids(PuctReuse().pick(made, 1, rng())) == [2]
    assert ids(PuctReuse().pick(made, 2, rng())) == [2, 2]


def test_too_few_eligible_states_are_used_again_from_the_top():
    made = archive(seeds=2)
    made.admit(1, [group(0, ("a", 1.0))])
    assert ids(PuctReuse().pick(made, 5, rng())) == [2, 1, 2, 1, 2]
    assert ids(EpsilonGreedyReuse(0.0).pick(made, 3, rng())) == [2, 1, 2]
    assert ids(NoReuse().pick(made, 3, rng())) == [0, 1, 0]


def test_epsilon_greedy_explores_as_often_as_told():
    made = archive()
    made.admit(1, [group(0, *((f"s{index}", float(index)) for index in range(2)))])
    for step in range(2, 20):
        made.admit(step, [group(0, *((f"s{step}-{index}", -float(step + index)) for index in range(2)))])
    generator = rng(3)
    picks = [EpsilonGreedyReuse(0.3).pick(made, 1, generator)[0].id for _ in range(4000)]
    best = made.best().id
    share = np.mean([pick != best for pick in picks])
    # A uniform pick hits the best itself once in len(made) times.
    assert share == pytest.approx(0.3 * (1 - 1 / len(made)), abs=0.025)
    assert set(picks) == set(ids(made.held()))
    assert EpsilonGreedyReuse(0.0).pick(made, 1, generator)[0].id == best


def slow_epsilon_greedy(made, epsilon, count, generator):
    """The strategy as a sentence has it: after each pick, those of its lineage are no longer eligible."""

    def line(node):
        return {node.id, *made.ancestors(node.id)}

    eligible = sorted(made.held(), key=lambda node: (-node.value, node.id))
    picked = []
    while eligible and len(picked) < count:
        explore = generator.random() < epsilon
        node = eligible[int(generator.integers(len(eligible)))] if explore else eligible[0]
        picked.append(node)
        eligible = [other for other in eligible if node.id not in line(other) and other.id not in line(node)]
    return [picked[index % len(picked)].id for index in range(count)]


@pytest.mark.parametrize("seed", range(20))
def test_epsilon_greedy_picks_as_the_slow_form_draw_by_draw(seed):
    generator = rng(seed)
    made = archive(seeds=3, capacity=25)
    for step in range(1, 16):
        held = made.held()
        starts = [held[int(generator.integers(len(held)))].id for _ in range(2)]
        groups = []
        for start in dict.fromkeys(starts):
            values = generator.integers(9, size=3).astype(float)
            groups.append(group(start, *((f"{step}-{start}-{n}", value) for n, value in enumerate(values))))
        made.admit(step, groups)
    assert len(made.nodes) > len(made.held()), "evicted ancestors must be among the lineages"
    for epsilon in (0.0, 0.4, 1.0):
        for count in (1, 5, 40):
            ours, theirs = rng(seed + 1), rng(seed + 1)
            picks = ids(EpsilonGreedyReuse(epsilon).pick(made, count, ours))
            assert picks == slow_epsilon_greedy(made, epsilon, count, theirs)
            assert ours.random() == theirs.random(), "both must have drawn as often"


def test_every_strategy_repeats_itself_under_one_seed():
    made = archive(seeds=4)
    made.admit(1, [group(node, (f"s{node}", float(node))) for node in range(4)])
    for strategy in (PuctReuse(), EpsilonGreedyReuse(0.7), NoReuse()):
        assert ids(strategy.pick(made, 4, rng(5))) == ids(strategy.pick(made, 4, rng(5)))


def test_an_empty_archive_is_refused():
    for strategy in (PuctReuse(), EpsilonGreedyReuse(), NoReuse()):
        with pytest.raises(ValueError, match="the archive is empty"):
            strategy.pick(Archive(SearchConfig()), 1, rng())


def test_the_config_names_the_strategy_and_its_options():
    assert reuse_from_config(SearchConfig()) == PuctReuse(1.0, False, 0.0)
    authors = SearchConfig(exploration=2.0, scale="range-without-seeds", scale_floor=1e-6)
    assert reuse_from_config(authors) == PuctReuse(2.0, True, 1e-6)
    assert reuse_from_config(SearchConfig(reuse="epsilon-greedy", epsilon=0.2)) == EpsilonGreedyReuse(0.2)
    assert reuse_from_config(SearchConfig(reuse="none")) == NoReuse()


# -- whole runs against a direct slow form ------------------------------------------------------------


class SlowSearch:
    """The paper's A.2 with nothing optimised: every node is kept for ever, every set is recomputed."""

    def __init__(self, config, seeds):
        self.config = config
        self.nodes = [
            {"name": None, "value": 0.0, "parent": None, "held": True, "n": 0, "m": None, "seed": True}
            for _ in range(seeds)
        ]
        self.total = 0

    def lineage(self, node):
        above = []
        while self.nodes[node]["parent"] is not None:
            node = self.nodes[node]["parent"]
            above.append(node)
        return above

    def held(self):
        return [index for index, node in enumerate(self.nodes) if node["held"]]

    def by_reward(self, members):
        return sorted(members, key=lambda index: (-self.nodes[index]["value"], index))

    def pick(self, count):
        held = self.held()
        ranking = self.by_reward(held)
        ranged = held
        if self.config.scale == "range-without-seeds":
            ranged = [index for index in held if not self.nodes[index]["seed"]] or held
        values = [self.nodes[index]["value"] for index in ranged]
        scale = max(max(values) - min(values), self.config.scale_floor) or 1.0

        def score(index):
            node = self.nodes[index]
            quality = node["value"] if node["m"] is None else node["m"]
            prior = (len(held) - ranking.index(index)) / sum(range(1, len(held) + 1))
            return quality + self.config.exploration * scale * prior * math.sqrt(1 + self.total) / (
                1 + node["n"]
            )

        order = sorted(held, key=lambda index: (-score(index), ranking.index(index)))
        picked, blocked = [], set()
        for index in order:
            if index not in blocked and len(picked) < count:
                picked.append(index)
                blocked |= {index, *self.lineage(index)}
                blocked |= {other for other in range(len(self.nodes)) if index in self.lineage(other)}
        return [picked[turn % len(picked)] for turn in range(count)]

    def admit(self, groups):
        for start, results in groups:
            weight = len(results) if self.config.count == "rollout" else 1
            self.total += weight
            for node in [start, *self.lineage(start)]:
                self.nodes[node]["n"] += weight
            values = [result[1] for result in results if result is not None]
            if values:
                best = self.nodes[start]["m"]
                self.nodes[start]["m"] = max(values if best is None else [*values, best])
        for start, results in groups:
            admitted = 0
            for name, value in sorted(filter(None, results), key=lambda result: -result[1]):
                held_names = [self.nodes[index]["name"] for index in self.held()]
                if name not in held_names and admitted < self.config.keep_children:
                    admitted += 1
                    fresh = {"name": name, "value": value, "parent": start, "n": 0, "m": None}
                    self.nodes.append({**fresh, "held": True, "seed": False})
        others = [index for index in self.held() if not self.nodes[index]["seed"]]
        seeds = len(self.held()) - len(others)
        for index in self.by_reward(others)[max(self.config.capacity - seeds, 0) :]:
            self.nodes[index]["held"] = False


#: Few names and few rewards, so that duplicates and ties are common. One name, one reward.
results = st.none() | st.integers(0, 40).map(lambda name: (name, float(name % 9)))
steps = st.lists(st.lists(st.lists(results, min_size=1, max_size=6), min_size=1, max_size=3), max_size=8)
configs = st.builds(
    SearchConfig,
    exploration=st.sampled_from([0.0, 0.5, 1.0, 4.0]),
    scale=st.sampled_from(["range", "range-without-seeds"]),
    scale_floor=st.sampled_from([0.0, 1e-6, 3.0]),
    count=st.sampled_from(["group", "rollout"]),
    capacity=st.integers(1, 12),
    keep_children=st.integers(1, 3),
)


def check_same(made, slow):
    assert ids(made.held()) == slow.held()
    assert made.expansions == slow.total
    for node in made.nodes.values():
        direct = slow.nodes[node.id]
        assert (node.visits, node.best_child, node.parent) == (direct["n"], direct["m"], direct["parent"])
        assert list(made.ancestors(node.id)) == slow.lineage(node.id)


@settings(max_examples=150, deadline=None)
@given(configs, st.integers(1, 4), steps)
def test_runs_equal_the_slow_form(config, seeds, steps):
    """Picks, n, m, T, capacity and lineage, step by step; and the invariants of the archive."""
    made, slow = archive(seeds, **attrs.asdict(config)), SlowSearch(config, seeds)
    strategy = reuse_from_config(config)
    for number, batch in enumerate(steps, start=1):
        starts = ids(strategy.pick(made, len(batch), rng()))
        assert starts == slow.pick(len(batch))
        groups = list(zip(starts, batch, strict=True))
        made.admit(number, [group(start, *results) for start, results in groups])
        slow.admit(groups)
        check_same(made, slow)
        held = made.held()
        assert sum(node.seed for node in held) == seeds
        assert len(held) <= max(config.capacity, seeds)
        fresh = [node.digest for node in held if not node.seed]
        assert len(set(fresh)) == len(fresh)
        for row in made.admission.outcomes:
            assert sum(outcome.fate is Fate.ADMITTED for outcome in row) <= config.keep_children


@settings(max_examples=100, deadline=None)
@given(
    configs,
    st.sampled_from(["puct", "epsilon-greedy", "none"]),
    st.integers(1, 4),
    steps,
    st.integers(0, 8),
)
def test_a_restored_archive_continues_exactly(config, reuse, seeds, steps, cut):
    """Restored from its snapshot after ``cut`` steps, a run goes on as if nothing had happened."""
    config = SearchConfig(**{**attrs.asdict(config), "reuse": reuse})
    strategy, made = reuse_from_config(config), archive(seeds, **attrs.asdict(config))
    other = None
    for number, batch in enumerate(steps, start=1):
        if number - 1 == cut:
            snapshot, arrays = made.snapshot()
            other = Archive.restore(config, json.loads(json.dumps(snapshot)), arrays)
        for twin in filter(None, [made, other]):
            starts = ids(strategy.pick(twin, len(batch), rng(number)))
            twin.admit(number, [group(start, *results) for start, results in zip(starts, batch, strict=True)])
        if other is not None:
            assert other.snapshot() == made.snapshot()
            assert other.admission == made.admission


@settings(max_examples=100, deadline=None)
@given(configs, st.sampled_from(["puct", "epsilon-greedy"]), st.integers(1, 4), steps, st.integers(1, 8))
def test_no_two_picks_share_a_lineage_unless_all_are_used_up(config, reuse, seeds, steps, count):
    config = SearchConfig(**{**attrs.asdict(config), "reuse": reuse})
    made, strategy = archive(seeds, **attrs.asdict(config)), reuse_from_config(config)
    for number, batch in enumerate(steps, start=1):
        starts = ids(strategy.pick(made, len(batch), rng(number)))
        made.admit(number, [group(start, *results) for start, results in zip(starts, batch, strict=True)])
    picked = ids(strategy.pick(made, count, rng(1)))
    distinct = list(dict.fromkeys(picked))
    assert len(picked) == count
    assert picked == [distinct[turn % len(distinct)] for turn in range(count)]
    for first in distinct:
        assert not set(made.ancestors(first)) & set(distinct)
    if len(distinct) < count:
        related = {relative for node in distinct for relative in (node, *made.ancestors(node))}
        for node in made.held():
            assert node.id in related or set(made.ancestors(node.id)) & set(distinct)
