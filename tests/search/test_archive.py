"""The archive: statistics, admission, capacity, lineage, and its snapshot."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ttd_core.config import SearchConfig
from ttd_core.search.archive import Archive, Fate
from ttd_core.types import Completion, Group, Reward, Rollout, State, Status, Verdict


def ok(name, value):
    state = State(code=f"# {name}", data={"name": name})
    return Rollout(Completion(name), Verdict(Status.OK, state=state, reward=Reward(value, -value)))


def failed(status=Status.CRASH):
    return Rollout(Completion("?"), Verdict.failed(status, "it broke"))


def group(start, *rollouts):
    return Group(start, [], np.zeros(0, np.int64), list(rollouts))


def archive(seeds=1, **config):
    made = Archive(SearchConfig(**config))
    made.add_seeds([(State(), None)] * seeds)
    return made


def fates(admission):
    return [[outcome.fate for outcome in row] for row in admission.outcomes]


def test_unscored_seeds_count_as_zero_and_are_all_kept_though_equal():
    made = archive(seeds=8)
    assert [node.value for node in made.held()] == [0.0] * 8
    assert made.history(0) == ()
    assert made.best() is None


def test_best_two_children_of_each_expansion():
    made = archive(seeds=2)
    admission = made.admit(1, [group(0, ok("a", 1), ok("b", 3), ok("c", 2), failed()), group(1, ok("d", 0))])
    assert fates(admission) == [[Fate.SURPLUS, Fate.ADMITTED, Fate.ADMITTED, Fate.FAILED], [Fate.ADMITTED]]
    assert [node.value for node in made.held() if not node.seed] == [3, 2, 0]
    assert made[0].best_child == 3
    assert made.best().value == 3


def test_the_earlier_of_equal_children_is_kept():
    made = archive(keep_children=1)
    made.admit(1, [group(0, ok("late", 1), ok("later", 1))])
    assert made[1].state.data["name"] == "late"


def test_visits_go_to_every_ancestor_and_m_to_the_parent_alone():
    made = archive()
    made.admit(1, [group(0, ok("a", 1))])
    made.admit(2, [group(1, ok("b", 5))])
    made.admit(3, [group(2, ok("c", 2))])
    assert [made[node].visits for node in range(4)] == [3, 2, 1, 0]
    assert [made[node].best_child for node in range(4)] == [1, 5, 2, None]
    assert made.expansions == 3
    assert [made[node].attempts for node in range(4)] == [1, 1, 1, 0]


def test_an_expansion_without_success_still_counts():
    made = archive()
    made.admit(1, [group(0, failed(), failed(Status.TIMEOUT))])
    assert (made.expansions, made[0].visits, made[0].best_child, len(made)) == (1, 1, None, 1)


def test_counting_per_rollout():
    made = archive(count="rollout")
    made.admit(1, [group(0, failed(), ok("a", 1), ok("b", 1))])
    made.admit(2, [group(1, ok("c", 1), failed())])
    assert (made.expansions, made[0].visits, made[1].visits) == (5, 5, 2)


def test_one_start_in_two_groups_is_two_expansions():
    made = archive()
    made.admit(1, [group(0, ok("a", 1), ok("b", 2), ok("c", 3)), group(0, ok("d", 0))])
    assert (made.expansions, made[0].visits, made[0].best_child, len(made)) == (2, 2, 3, 4)


def test_a_state_already_held_is_counted_not_admitted():
    made = archive()
    made.admit(1, [group(0, ok("a", 1))])
    admission = made.admit(2, [group(1, ok("a", 1), ok("a", 1), ok("b", 0)), group(0, ok("b", 0))])
    assert fates(admission) == [[Fate.DUPLICATE, Fate.DUPLICATE, Fate.ADMITTED], [Fate.DUPLICATE]]
    assert [outcome.node for outcome in admission.outcomes[0]] == [1, 1, 2]
    assert made[1].duplicates == 2
    assert made[2].duplicates == 1
    # It counts for its parent all the same.
    assert made[1].best_child == 1


def test_repeats_take_no_place_among_the_best_children():
    made = archive()
    made.admit(1, [group(0, ok("a", 9), ok("a", 9), ok("a", 9), ok("b", 1), ok("c", 2))])
    assert sorted(node.state.data["name"] for node in made.held() if not node.seed) == ["a", "c"]


def test_a_repeat_of_equal_seeds_counts_for_the_oldest():
    made = archive(seeds=3)
    again = Rollout(Completion("x"), Verdict(Status.OK, state=State(), reward=Reward(1.0, 1.0)))
    admission = made.admit(1, [group(2, again)])
    assert admission.outcomes[0][0].node == 0
    assert [made[node].duplicates for node in range(3)] == [1, 0, 0]


def test_states_without_a_construction_are_compared_by_code():
    def program(code, output):
        state = State(code=code, output=output)
        return Rollout(Completion(code), Verdict(Status.OK, state=state, reward=Reward(1.0, 1.0)))

    made = archive()
    admission = made.admit(1, [group(0, program("x", "one"), program("x", "two"), program("y", "one"))])
    assert fates(admission) == [[Fate.ADMITTED, Fate.DUPLICATE, Fate.ADMITTED]]


def test_capacity_keeps_the_best_and_every_seed():
    made = archive(seeds=2, capacity=4)
    made.admit(1, [group(0, ok("a", -1), ok("b", 1)), group(1, ok("c", 2), ok("d", 0))])
    assert sorted(node.value for node in made.held()) == [0, 0, 1, 2]
    admission = made.admit(2, [group(0, ok("e", 0.5), ok("f", 3))])
    assert fates(admission) == [[Fate.BELOW_CAPACITY, Fate.ADMITTED]]
    assert admission.outcomes[0][0].node is None
    assert sorted(node.value for node in made.held()) == [0, 0, 2, 3]


def test_an_evicted_state_may_come_back_later():
    made = archive(capacity=2)
    made.admit(1, [group(0, ok("a", 1))])
    made.admit(2, [group(0, ok("b", 2))])
    admission = made.admit(3, [group(0, ok("a", 3))])
    assert fates(admission) == [[Fate.ADMITTED]]


def test_an_evicted_ancestor_keeps_the_lineage_whole():
    made = archive(capacity=2)
    made.admit(1, [group(0, ok("a", 1))])
    made.admit(2, [group(1, ok("b", 2))])
    assert [node.id for node in made.held()] == [0, 2]
    assert not made[1].held
    assert list(made.ancestors(2)) == [1, 0]
    assert [entry.state.data["name"] for entry in made.history(2)] == ["a", "b"]
    made.admit(3, [group(2, ok("c", 1))])
    assert [made[node].visits for node in (0, 1, 2)] == [3, 2, 1]


def test_an_evicted_node_that_nobody_descends_from_is_forgotten():
    made = archive(capacity=2)
    made.admit(1, [group(0, ok("a", 1))])
    made.admit(2, [group(1, ok("b", 2))])
    made.admit(3, [group(0, ok("c", 3))])
    assert list(made.nodes) == [0, 3]


def test_history_is_oldest_first_and_leaves_unscored_seeds_out():
    made = Archive(SearchConfig())
    made.add_seeds([(State(code="start"), Reward(1.0, 9.0)), (State(), None)])
    made.admit(1, [group(0, ok("a", 2)), group(1, ok("b", 3))])
    assert [entry.reward.value for entry in made.history(2)] == [1.0, 2]
    assert made.history(2)[-1].state == made[2].state
    assert [entry.reward.value for entry in made.history(3)] == [3]


def test_an_unknown_start_changes_nothing():
    made = archive()
    before = made.snapshot()[0]
    with pytest.raises(ValueError, match="start state 7 is not in the archive"):
        made.admit(1, [group(0, ok("a", 1)), group(7, ok("b", 1))])
    assert made.snapshot()[0] == before


def test_snapshot_survives_json_and_npy_exactly(tmp_path):
    made = archive(capacity=3)
    values = np.array([0.1, np.nextafter(1.0, 2.0), 1e-310, -0.0])
    state = State(
        code="é\x00\udc80", data={"h": values, "deep": [{"mask": np.array([True])}, 1, None]}, output="o"
    )
    reward = Reward(0.1 + 0.2, 1 / 3, {"iterations": 12, "gap": float("inf")})
    made.admit(1, [group(0, Rollout(Completion("x"), Verdict(Status.OK, state=state, reward=reward)))])
    made.admit(2, [group(1, ok("b", 2), ok("c", 3), ok("d", 4)), group(1, failed())])
    snapshot, arrays = made.snapshot()
    for digest, array in arrays.items():
        np.save(tmp_path / f"{digest}.npy", array, allow_pickle=False)
    loaded = {path.stem: np.load(path, allow_pickle=False) for path in tmp_path.iterdir()}
    again = Archive.restore(made.config, json.loads(json.dumps(snapshot)), loaded)
    assert again.snapshot()[0] == snapshot
    assert again[1].state.data["h"].tobytes() == values.tobytes()
    assert not again[1].state.data["h"].flags.writeable
    assert again[1].reward == reward


def test_a_program_that_is_no_valid_unicode_has_an_identity():
    state = State(code="x = '\ud800'")
    assert state.code == "x = '\ufffd'"
    assert state.digest == State(code="x = '\ufffd'").digest != State(code="x = ''").digest


def test_a_construction_cannot_pose_as_a_stored_array():
    with pytest.raises(TypeError, match="reserved"):
        State(data={"h": {"$array": "0" * 64}})


def test_a_snapshot_of_another_format_is_refused():
    with pytest.raises(ValueError, match="format 99"):
        Archive.restore(SearchConfig(), {"format": 99}, {})


def test_every_fate_has_a_sentence():
    assert all(fate.sentence.endswith(".") for fate in Fate)
