"""What the contract's checks rest on: hostile values, leaves, and checks that need a case of their own."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest

from ttd_core.errors import EnvironmentLacksError
from ttd_core.problem import Examples, Problem
from ttd_core.sandbox.base import JobResult
from ttd_core.sandbox.inside import frames
from ttd_core.testing import extremes, hostile
from ttd_core.testing.checkup import CHECKS, Subject
from ttd_core.testing.leaves import leaves, replaced
from ttd_core.testing.subject import shorten, with_short_budget
from ttd_core.types import Reward, State, Status

BY_NAME = {check.name: check for check in CHECKS}


class Number(Problem):
    """The largest number up to 1."""

    name = "number"
    title = "Large number"
    metric = "number"
    direction = "max"

    def task(self):
        return "Return a number up to 1."

    def construct(self, value):
        return {"x": float(value)}

    def check(self, state):
        x = state.data.get("x")
        return [] if type(x) in (int, float) and 0 <= x <= 1 else ["x must be a number from 0 to 1"]

    def reward(self, state):
        return Reward(float(state.data["x"]), float(state.data["x"]))

    def examples(self):
        return Examples(good=[0.5, 1], bad=[2, -1, "x", float("nan")])


def nowhere(_job):
    raise EnvironmentLacksError("no sandbox here")


def sentences(problem: Problem, check: str, execute=nowhere, **given) -> list[str]:
    return [str(each) for each in BY_NAME[check].run(Subject(problem, execute, **given)).findings]


@pytest.mark.parametrize("check", sorted(BY_NAME.keys() - {"transition"}))
def test_a_problem_of_one_number_keeps_the_contract(check: str) -> None:
    assert sentences(Number(), check) == []


def test_the_answer_itself_is_no_report() -> None:
    """`x` equals the score, but there is nothing else it could be a report about."""
    assert sentences(Number(), "reports") == []


def test_what_the_machine_lacks_skips_a_check() -> None:
    class Started(Number):
        def starting_program(self):
            return "def run(**kwargs):\n    return 0.5\n"

    outcome = BY_NAME["program"].run(Subject(Started(), nowhere))
    assert (outcome.findings, outcome.skipped) == ((), "no sandbox here")


def test_states_that_cannot_be_stored() -> None:
    class Endless(Number):
        def construct(self, value):
            return {"x": float(value), "bound": float("inf")}

    (said,) = sentences(Endless(), "stored")[:1]
    assert said.startswith("good example 1 cannot be stored: Out of range float values")
    assert said.endswith("keep finite numbers, text, lists, dicts and plain arrays in a construction.")


def test_a_verdict_that_hangs_on_the_object() -> None:
    class ById(Number):
        first: int | None = None

        def reward(self, state):
            known = state.data
            self.first = self.first or id(known)
            return Reward(1.0 + (self.first == id(known)), float(state.data["x"]))

    assert "is judged otherwise after it was stored" in sentences(ById(), "stored")[0]


def test_a_state_that_changes_while_it_is_judged() -> None:
    class Taking(Number):
        def reward(self, state):
            reward = super().reward(state)
            dict.setdefault(state.data, "seen", True)  # past the refusal of frozen data
            return reward

    assert sentences(Taking(), "repeatable")[-1] == (
        "check or reward changes the state it judges; copy what you want to change."
    )


def test_a_reward_that_would_change_its_state() -> None:
    class Sorting(Number):
        def reward(self, state):
            state.data.update(x=0.0)
            return super().reward(state)

    assert "this data cannot be changed; change a copy" in sentences(Sorting(), "repeatable")[-1]


def test_a_failure_of_the_sandbox_keeps_its_name() -> None:
    class Blaming(Number):
        def transition(self, state, action, execute):
            from ttd_core.types import Verdict

            result = execute(None)
            return Verdict.failed(Status.CRASH, "it failed") if not result.ok else State()

    said = sentences(Blaming(), "transition")
    assert said == [
        "transition turns a failure of the sandbox itself into crash; keep result.status, so that the policy "
        "is not blamed for it."
    ]


def test_examples_of_a_wrong_type() -> None:
    class Listing(Number):
        def examples(self):
            return [0.5]

    assert sentences(Listing(), "examples") == [
        "examples fails: returned list instead of Examples; no input may end a run."
    ]


def test_examples_given_beside_the_problem() -> None:
    assert "bad example 1 is accepted" in sentences(Number(), "examples", examples=Examples([0.1], [0.2]))[0]


def test_options_are_made_quick_unless_a_person_set_them() -> None:
    quick = with_short_budget(Number(), {}).options
    assert (quick.timeout_s, quick.budget_s) == (60.0, 2.0)
    options = Number.options_type(timeout_s=300.0)
    slow = with_short_budget(Number(options), {"timeout_s": 300.0}).options
    assert (slow.timeout_s, slow.budget_s) == (300.0, 2.0)
    short = with_short_budget(Number(Number.options_type(timeout_s=1.0)), {"timeout_s": 1.0}).options
    assert short.budget_s == 0.9


def test_hostile_values_are_such_as_pass_through_the_sandbox_or_a_file() -> None:
    through = 0
    for value in hostile.values():
        try:
            frame = b"".join(bytes(part) for part in frames.encode(value))
        except frames.FrameError:
            json.dumps(value)  # NaN and infinity come from a JSON file alone
        else:
            through += len(frame) > 0
            assert JobResult(Status.OK, value=value).ok
    assert through > 40


def test_spoiled_arrays_differ_in_one_entry() -> None:
    whole = np.arange(6.0).reshape(2, 3)
    for name, spoiled in hostile.spoiled_entries(whole):
        assert np.isfinite(spoiled).sum() == 5, name
    assert [name for name, _ in hostile.spoiled_entries(whole)][:2] == ["nan at [0, 0]", "nan at [1, 2]"]
    masked, objects = (each for _, each in hostile.hiding_arrays(whole))
    assert np.ma.sum(masked) == 10
    assert np.isnan(float(objects[1, 2]))
    assert {each.shape for _, each in hostile.wrong_shapes(whole)} == {(0,), (1, 2, 3), ()}


def test_leaves_and_their_replacement() -> None:
    value = ({"points": [[1, 2], [3, 4]], "name": "x"}, 0.5, [[1], [2, 3]], np.zeros(0), True, np.ones(2))
    found = {leaf.path: leaf for leaf in leaves(value)}
    assert set(found) == {(0, "points"), (1,), (2, 0), (2, 1), (5,)}
    assert found[0, "points"].is_array
    assert not found[1,].is_array
    assert found[0, "points"].where("data") == "data[0]['points']"
    new = replaced(value, (0, "points"), 7)
    assert new[0] == {"points": 7, "name": "x"}
    assert value[0]["points"] == [[1, 2], [3, 4]]
    assert isinstance(new, tuple)
    assert replaced([1, [2, 3]], (1, 0), 9) == [1, [9, 3]]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.zeros((2, 3)), "an array float64[2, 3]"),
        pytest.param(10**5000, "a int", id="a number without text"),
        ([1] * 100, "[" + "1, " * 18 + "1,..."),
        (None, "None"),
    ],
)
def test_values_in_sentences(value, text) -> None:
    assert shorten(value) == text


class Heights(Number):
    """The largest mean of heights up to 1."""

    def construct(self, value):
        return {"h": np.array(value, dtype=float)}

    def check(self, state):
        h = state.data.get("h")
        if not isinstance(h, np.ndarray) or h.ndim != 1 or not 1 <= h.size <= 50:
            return ["h must be 1 to 50 heights"]
        return [] if np.all((h >= 0) & (h <= 1)) else ["a height is not in [0, 1]"]

    def reward(self, state):
        return Reward(float(state.data["h"].mean()), float(state.data["h"].mean()))

    def examples(self):
        return Examples(good=[[0.25] * 9, np.full(5, 0.5)], bad=[[2.0], [float("nan")] * 9, [0.5] * 51])


def test_numbers_of_any_size_and_number_are_judged() -> None:
    assert sentences(Heights(), "total") == []


def test_a_sum_that_overflows_in_check() -> None:
    class Adding(Heights):
        def check(self, state):
            return super().check(state) or ([] if math.fsum(state.data["h"]) > 0 else ["all are 0"])

    class AddingFirst(Adding):
        def check(self, state):
            h = state.data.get("h")
            if isinstance(h, np.ndarray) and h.ndim == 1 and np.isfinite(h).all() and math.fsum(h) <= 0:
                return ["all are 0"]
            return super().check(state)

    assert sentences(Adding(), "total") == []
    told = sentences(AddingFirst(), "total")
    assert any(
        said.startswith("check fails on 1e+308 everywhere as data['h']: OverflowError")
        and said.endswith(
            "refuse numbers that are too large, too small or too many before you compute with them."
        )
        for said in told
    )
    assert all("OverflowError" in said for said in told)


def test_a_score_that_is_not_finite() -> None:
    class Inverse(Heights):
        def reward(self, state):
            return Reward(float(1 / state.data["h"].max()), float(state.data["h"].mean()))

    said = sentences(Inverse(), "total")[-1]
    assert said.startswith("reward fails on 0.0 everywhere as data['h']: ValueError: value must be a finite")


def test_an_answer_that_is_looked_at_before_it_is_counted(monkeypatch) -> None:
    class Slow(Heights):
        def check(self, state):
            h = state.data.get("h")
            if isinstance(h, np.ndarray) and h.ndim == 1:
                sum(one * one for one in h.tolist() for _ in range(40))
            return super().check(state)

    monkeypatch.setattr(extremes, "SECONDS", 0.5)
    (said,) = sentences(Slow(), "total")
    assert re.match(r"judging 10{4,6} zeros as data\['h'\] takes \d s; compare the length", said)
