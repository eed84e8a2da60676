"""The values that flow through a step: frozen, checked, and the same after a round trip through JSON."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ttd_core.frozen import freeze
from ttd_core.types import (
    ALLOWED_DTYPES,
    Completion,
    Group,
    Reward,
    Rollout,
    State,
    Status,
    StopReason,
    Verdict,
    array_digest,
    pack,
    unpack,
)

arrays = hnp.arrays(
    dtype=st.sampled_from(sorted(ALLOWED_DTYPES)).map(np.dtype),
    shape=hnp.array_shapes(max_dims=3, min_side=0),
)
keys = st.text(max_size=5).filter(lambda key: key != "$array")
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10) | arrays,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
states = st.builds(State, code=st.text(), data=st.dictionaries(keys, values, max_size=3), output=st.text())


@given(states)
def test_a_state_survives_json(state: State) -> None:
    stored: dict[str, Any] = {}
    text = json.dumps(state.to_json(stored))
    again = State.from_json(json.loads(text), stored)
    assert again == state
    assert again.digest == state.digest
    assert hash(again) == hash(state)
    assert set(stored) == {array_digest(array) for array in stored.values()}


def test_an_arrays_digest_is_of_type_shape_and_bytes() -> None:
    array = np.arange(6)
    others = [array.astype(float), array.reshape(2, 3), array[::-1], array.astype(np.uint64)]
    digests = {array_digest(each) for each in (array, *others)}
    assert len(digests) == 5
    assert array_digest(array.copy()) in digests
    assert array_digest(np.zeros((0, 3)))


@given(arrays)
def test_frozen_arrays_are_read_only_copies(array: np.ndarray) -> None:
    frozen = freeze(array)
    assert not frozen.flags.writeable
    assert frozen.flags.c_contiguous
    assert not np.shares_memory(frozen, array)
    assert frozen.dtype == array.dtype
    assert np.array_equal(frozen, array, equal_nan=array.dtype.kind == "f")


def test_a_state_does_not_change_with_what_it_was_made_from() -> None:
    array, inner = np.zeros(3), [1]
    state = State(data={"a": array, "b": {"c": inner}})
    array[0] = 9
    inner.append(2)
    assert state.data["a"][0] == 0
    assert state.data["b"] == {"c": [1]}
    with pytest.raises(ValueError, match="read-only"):
        state.data["a"][0] = 1
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        state.code = "x"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.ma.masked_array([1.0, 2.0], mask=[True, False]), "MaskedArray"),
        (np.zeros(3).view(np.recarray), "recarray"),
        (np.array([object()]), "object"),
        (np.array(["text"]), "dtype"),
        (np.array([1j]), "complex128"),
        (np.array([(1, 2)], dtype=[("a", "i4"), ("b", "i4")]), "dtype"),
        ({1: 2}, "key 1 is not a string"),
        ({"a": {3}}, "set"),
        (b"bytes", "bytes"),
        (1j, "complex"),
        (lambda: None, "function"),
    ],
)
def test_freeze_refuses(value: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        freeze({"x": value} if not isinstance(value, dict) else value)


def test_a_states_data_cannot_be_changed() -> None:
    state = State(data={"rows": [[1, 2], {"a": 3}], "x": np.zeros(2)})
    before = state.digest
    changes: list[Callable[[Any], object]] = [
        lambda data: data.update(rows=1),
        lambda data: data.pop("rows"),
        lambda data: data.setdefault("y", 1),
        lambda data: data.clear(),
        lambda data: data.__setitem__("rows", 1),
        lambda data: data.__delitem__("rows"),
        lambda data: data.__ior__({"y": 1}),
        lambda data: data.popitem(),
        lambda data: data["rows"].append(1),
        lambda data: data["rows"].sort(key=str),
        lambda data: data["rows"].__iadd__([1]),
        lambda data: data["rows"].__imul__(2),
        lambda data: data["rows"].__setitem__(slice(None), []),
        lambda data: data["rows"][0].reverse(),
        lambda data: data["rows"][0].extend([1]),
        lambda data: data["rows"][0].insert(0, 1),
        lambda data: data["rows"][0].remove(1),
        lambda data: data["rows"][0].pop(),
        lambda data: data["rows"][0].clear(),
        lambda data: data["rows"][0].__delitem__(0),
        lambda data: data["rows"][1].update(a=4),
    ]
    for change in changes:
        with pytest.raises(TypeError, match="cannot be changed; change a copy"):
            change(state.data)
    with pytest.raises(ValueError, match="read-only"):
        state.data["x"][0] = 1
    assert state.digest == before


def test_copies_of_frozen_data_can_be_changed() -> None:
    state = State(data={"rows": [[1, 2]], "facts": {"a": [3]}})
    for own in (copy.deepcopy(state.data), json.loads(json.dumps(state.data))):
        own["rows"][0].append(3)
        own["facts"]["a"].clear()
        own["new"] = 1
    shallow = copy.copy(state.data["rows"])
    shallow.append(4)
    assert state.data == {"rows": [[1, 2]], "facts": {"a": [3]}}
    assert attrs.evolve(state, code="x").data is state.data


def test_what_another_process_receives_is_frozen_again() -> None:
    state = State(data={"rows": [[1, 2], {"a": 3}], "x": np.zeros(2)})
    received = pickle.loads(pickle.dumps(state))
    assert received == state
    for change in (
        lambda: received.data.update(x=1),
        lambda: received.data["rows"].append(1),
        lambda: received.data["rows"][1].clear(),
        lambda: received.data["x"].fill(1),
    ):
        with pytest.raises((TypeError, ValueError), match=r"cannot be changed|read-only"):
            change()


def test_freeze_refuses_numbers_with_behaviour() -> None:
    class Sly(float):
        def __lt__(self, other: float) -> bool:
            return True

    with pytest.raises(TypeError, match="Sly"):
        freeze([Sly(1.0)])


def test_freeze_makes_plain_values() -> None:
    assert freeze((np.float32(0.5), np.int64(3), np.bool_(True))) == [0.5, 3, True]
    swapped = freeze(np.array([1, 2], dtype=">i4"))
    assert swapped.dtype.isnative
    assert swapped.tolist() == [1, 2]


def test_identity_is_the_constructions_else_the_codes() -> None:
    array = np.arange(4.0)
    assert State("a", {"x": array}).digest == State("b", {"x": array.copy()}).digest
    assert State("a", {"x": array}) != State("b", {"x": array})
    assert State("a").digest != State("b").digest
    assert State("a", {"x": array}).digest != State("a", {"x": array.astype(np.float32)}).digest
    assert State("a", {"x": array}).digest != State("a", {"x": array.reshape(2, 2)}).digest
    assert State("a") != "a"


def test_unpack_needs_every_array() -> None:
    stored: dict[str, Any] = {}
    packed = pack({"x": np.zeros(2)}, stored)
    with pytest.raises(KeyError):
        unpack(packed, {})
    assert unpack(packed, stored)["x"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "number", [float("nan"), float("inf"), -float("inf"), True, "1", None, np.float32(1)]
)
@pytest.mark.parametrize("field", ["value", "score"])
def test_a_reward_is_finite(number: Any, field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} must be a finite number"):
        Reward(**{"value": 1.0, "score": 1.0, field: number})


def test_a_verdict_is_ok_only_with_state_and_reward() -> None:
    with pytest.raises(ValueError, match="needs a state and a reward"):
        Verdict(Status.OK)
    with pytest.raises(ValueError, match="cannot be ok"):
        Verdict.failed(Status.OK, "x")
    good = Verdict(Status.OK, state=State("x"), reward=Reward(2.0, 3.0))
    assert (good.ok, good.value) == (True, 2.0)
    bad = Verdict.failed(Status.CRASH, "line 3", output="tail")
    assert (bad.ok, bad.value, bad.output) == (False, 0.0, "tail")


def test_every_status_and_stop_reason_has_a_sentence() -> None:
    for each in [*Status, *StopReason]:
        assert each.sentence.endswith(".")
    assert len({status.sentence for status in Status}) == len(Status)


def test_completions_hold_arrays_of_one_length() -> None:
    completion = Completion(text="abc", tokens=np.arange(3), logprobs=np.zeros(3), trained=np.ones(3, bool))
    assert completion.answer == "abc"
    assert Completion(text="<think>x</think>abc", answer="abc").answer == "abc"
    with pytest.raises(ValueError, match="differ in length: 3, 2, 3"):
        Completion(text="", tokens=np.arange(3), logprobs=np.zeros(2), trained=np.ones(3, bool))


def test_a_groups_rewards_count_failures_as_zero() -> None:
    good = Verdict(Status.OK, state=State("x"), reward=Reward(2.5, 1.0))
    rollouts = [
        Rollout(Completion(text=""), good),
        Rollout(Completion(text=""), Verdict.failed(Status.TIMEOUT, "")),
    ]
    group = Group(0, [], np.zeros(0, np.int64), rollouts)
    assert group.rewards.tolist() == [2.5, 0.0]
    assert group.rewards.dtype == np.float64
    assert list(group) == rollouts
