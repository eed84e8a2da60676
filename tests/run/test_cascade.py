"""Short runs first: who goes on, what each verdict says, and what a stop in the middle changes (nothing)."""

from __future__ import annotations

import concurrent.futures
import functools
import json
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttd_core import Action, Options, Problem, Reward, State, Verdict
from ttd_core.errors import PluginError
from ttd_core.plugin.hooks import Hooks
from ttd_core.policy.base import Sample
from ttd_core.run.cascade import CascadeJudging, places
from ttd_core.run.judging import Judging
from ttd_core.run.pending_lines import parsed, read_verdict, verdict_line
from ttd_core.run.row_encoding import exact_json, rollout_columns
from ttd_core.run.step_metrics import cascade_metrics
from ttd_core.sandbox.base import JobResult, Level
from ttd_core.search.archive import Fate, Node, Outcome
from ttd_core.types import Completion, Group, Rollout, Status

BUDGET = 100.0
#: What a program comes to with each budget; ``None`` where it fails.
Program = Mapping[float, float | None]


class Ladder(Problem):
    """A program says what it comes to with each budget; nothing is executed."""

    name = "ladder"
    title = "A number"
    metric = "number"
    direction = "max"

    def task(self) -> str:
        return "Say a number."

    def tells_budget(self, state: State) -> bool:
        return True

    def parse_action(self, completion: Completion) -> Action | Verdict:
        if not completion.text:
            return Verdict.failed(Status.PARSE_ERROR, "no program")
        return Action(completion.text)

    def transition(self, state: State, action: Action, execute: Any) -> State | Verdict:
        known = json.loads(action.code)
        if known == "broken":
            raise RuntimeError("broken")
        value = known[f"{self.options.budget / BUDGET:g}"]
        execute(self.options.budget)
        if value is None:
            return Verdict.failed(Status.CRASH, "it died", code=action.code)
        return State(action.code, {"number": value}, f"with {self.options.budget:g} s")

    def construct(self, value: Any) -> Mapping[str, Any]:
        return {"number": value}

    def check(self, state: State) -> Sequence[str]:
        return []

    def reward(self, state: State) -> Reward:
        return Reward(state.data["number"], state.data["number"])


def used(seconds: float) -> JobResult:
    """The sandbox's word on a program that took so long."""
    return JobResult(Status.OK, wall_s=seconds, level=Level.STRONG)


def ladder() -> Hooks:
    return Hooks(Ladder(Options(timeout_s=110.0, budget_s=BUDGET)), plugins=[], origin="ladder")


def start(value: float | None) -> Node:
    return Node(0, State(), None if value is None else Reward(value, value), None, 0, True, "start")


def text_of(program: Program | None) -> str:
    return "" if program is None else json.dumps({f"{share:g}": value for share, value in program.items()})


def sample(index: int, text: str) -> Sample:
    return Sample(0, index, Completion(text), np.zeros(0, np.int64))


def cascade(
    shares: Sequence[float], keep: float, execute: Callable[[Any], Any] | None = None
) -> CascadeJudging:
    return CascadeJudging(ladder(), execute or used, 2, "count", shares, keep)


def judge_all(
    judging: Judging,
    programs: Sequence[Program | None],
    origin: Node,
    kept: Mapping[int, Verdict] | None = None,
) -> list[Verdict]:
    """The verdicts on a group; some of them are from before."""
    verdicts = dict(kept or {})
    for index, verdict in verdicts.items():
        judging.kept("group", origin, index, verdict, len(programs))
    told: dict[int, Verdict] = {}
    futures = {}
    for index in sorted(set(range(len(programs))) - set(verdicts)):
        reply = sample(index, text_of(programs[index]))
        keep = functools.partial(told.__setitem__, index)
        futures[index] = judging.submit("group", origin, reply, len(programs), keep)
    found = {index: future.result(10) for index, future in futures.items()}
    assert told == found
    judging.abandon()
    return [(verdicts | found)[index] for index in range(len(programs))]


def rewards(verdicts: Sequence[Verdict]) -> list[float]:
    rollouts = [Rollout(Completion(""), verdict) for verdict in verdicts]
    return list(Group(0, [], np.zeros(0, np.int64), rollouts).rewards)


THREE = (0.05, 0.25, 1.0)
values = st.none() | st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
program = st.none() | st.fixed_dictionaries(dict.fromkeys(THREE, values))
group = st.lists(program, min_size=1, max_size=9)


def expected_to_go_on(shares: Sequence[float], keep: float, begun: float | None, group: Any) -> list[int]:
    """How many runs each program has, by the rule in words."""
    runs = [0 if each is None else 1 for each in group]
    entrants = len(group)
    for number, share in enumerate(shares[:-1]):
        valid = [i for i, each in enumerate(group) if runs[i] == number + 1 and each[share] is not None]
        valid.sort(key=lambda i: (-group[i][share], i))
        best = set(valid[: math.ceil(keep * entrants - 1e-9)])
        on = best | {i for i in valid if begun is not None and group[i][share] > begun}
        for i in on:
            runs[i] += 1
        entrants = len(on)
    return runs


@settings(max_examples=60, deadline=None)
@given(
    group=group,
    shares=st.sampled_from([(0.05, 1.0), THREE, (1.0,)]),
    keep=st.sampled_from([0.1, 0.25, 0.5, 1.0]),
    begun=st.none() | st.sampled_from([0.15, 0.35, 0.7]),
    cut=st.sets(st.integers(0, 8)),
)
def test_a_group(
    group: list[Program | None], shares: Sequence[float], keep: float, begun: float | None, cut: set[int]
) -> None:
    """The right ones go on; fully run programs compare as without a cascade; the others are not ahead."""
    verdicts = judge_all(cascade(shares, keep), group, start(begun))
    runs = [len(verdict.stages) for verdict in verdicts]
    assert runs == expected_to_go_on(shares, keep, begun, group)
    counted = rewards(verdicts)
    whole = rewards(judge_all(Judging(ladder(), used, 2), group, start(begun)))
    full = [i for i, count in enumerate(runs) if count == len(shares)]
    assert [counted[i] for i in full] == [whole[i] for i in full]
    for i in full:
        if verdicts[i].stages[-1].value is not None:
            assert all(counted[other] <= counted[i] for other in range(len(group)) if other not in full)
    for verdict, each, count in zip(verdicts, group, runs, strict=True):
        reached = [each[share] for share in shares[:count]] if each is not None else []
        scores = [score for score in reached if score is not None]
        # What it says was reached was reached and judged; and the best of it is what it says.
        assert (verdict.reward.score if verdict.reward else None) == max(scores, default=None)
        assert [stage.score for stage in verdict.stages] == reached
        assert verdict.seconds == pytest.approx(sum(BUDGET * share for share in shares[:count]))
    # Stopped in its middle with some verdicts kept, it goes on to the same ones.
    there = {i: verdicts[i] for i in cut if i < len(group)}
    again = judge_all(cascade(shares, keep), group, start(begun), there)
    assert again == verdicts


def test_what_verdicts_say() -> None:
    better_later = {0.05: 0.2, 1.0: 0.5}
    better_before = {0.05: 0.4, 1.0: 0.3}
    dies_later = {0.05: 0.6, 1.0: None}
    dies = {0.05: None, 1.0: 0.9}
    stays = {0.05: 0.1, 1.0: 0.9}
    first, second, third, fourth, fifth, sixth = judge_all(
        cascade([0.05, 1.0], 0.5), [better_later, better_before, dies_later, dies, stays, None], start(None)
    )
    assert (first.reward, first.state.output) == (Reward(0.5, 0.5), "with 100 s")  # type: ignore[union-attr]
    assert (second.reward, second.state.output) == (Reward(0.4, 0.4), "with 5 s")  # type: ignore[union-attr]
    assert (third.status, third.value) == (Status.OK, 0.6)
    assert third.message == "with 100 % of its budget: crash: it died"
    assert (fourth.status, fourth.message, fourth.seconds) == (
        Status.CRASH,
        "it died (with 5 % of its budget)",
        5.0,
    )
    assert (fifth.value, len(fifth.stages), fifth.message) == (0.1, 1, "")
    assert (sixth.status, sixth.stages) == (Status.PARSE_ERROR, ())
    # The one that died in its full run is a failed one; the least of those that came through it has 0.3.
    assert rewards([first, second, third, fourth, fifth, sixth]) == [0.5, 0.3, 0.0, 0.0, 0.1, 0.0]
    # Three had all of their budget after 5 s each; one had not, and ran for 5 s.
    assert cascade_metrics([first, second, third, fourth, fifth, sixth]) == {
        "went_on": 3.0,
        "seconds_spared": (100 - 5) - 3 * 5.0,
    }


def test_stages_are_kept_with_a_verdict() -> None:
    (verdict,) = judge_all(cascade([0.05, 1.0], 0.5), [{0.05: 0.4, 1.0: 0.3}], start(None))
    line = parsed(exact_json(verdict_line("key", (0, 0), verdict)).encode())
    assert read_verdict(line) == verdict
    del line["stages"]  # as versions without cascades wrote it
    assert read_verdict(line).stages == ()
    row = rollout_columns(Rollout(Completion(""), verdict), Outcome(Fate.FAILED), None)
    (facts,) = [json.loads(each) for each in row if isinstance(each, str) and each.startswith('{"stages"')]
    assert [(each["budget_s"], each["seconds"], each["score"]) for each in facts["stages"]] == [
        (5.0, 5.0, 0.4),
        (100.0, 100.0, 0.3),
    ]


def test_no_thread_waits_for_a_group() -> None:
    """Two groups in turn with two workers: those that are through wait for the rest without a worker."""
    judging = cascade([0.05, 1.0], 0.25)
    programs = [{0.05: 0.1 * (1 + i), 1.0: 0.5} for i in range(6)]
    futures: list[concurrent.futures.Future[Verdict]] = []
    for index, each in enumerate(programs):
        for group in range(4):
            reply = sample(index, text_of(each))
            futures.append(judging.submit(group, start(None), reply, 6, lambda verdict: None))
    assert all(future.result(10).ok for future in futures)
    judging.abandon()


def test_the_second_runs_of_a_step_come_before_the_programs_of_the_next() -> None:
    """As where steps overlap: else a step would wait for all first runs of the next one."""
    begin, ran = threading.Event(), list[float]()

    def execute(budget: float) -> JobResult:
        assert begin.wait(10)
        ran.append(budget)
        return used(budget)

    judging = CascadeJudging(ladder(), execute, 1, "count", [0.05, 1.0], 0.5)
    futures = [
        judging.submit(step, start(None), sample(index, text_of({0.05: 0.1, 1.0: 0.5})), 2, lambda v: None)
        for step in ("this", "next")
        for index in range(2)
    ]
    begin.set()
    assert all(future.result(10).ok for future in futures)
    assert ran == [5.0, 5.0, BUDGET] * 2
    judging.abandon()


def test_a_group_that_ends_early_goes_on_without_the_rest() -> None:
    judging = cascade([0.05, 1.0], 0.25)
    future = judging.submit("g", start(None), sample(0, text_of({0.05: 0.1, 1.0: 0.5})), 64, lambda v: None)
    assert concurrent.futures.wait([future], 0.05).not_done
    judging.end_group("g")
    assert future.result(10).value == 0.5
    judging.end_group("g")  # nothing is under way
    judging.abandon()


def test_what_is_abandoned_is_neither_kept_nor_goes_on() -> None:
    ran: list[float] = []
    entered, leave = threading.Event(), threading.Event()

    def execute(budget: float) -> JobResult:
        ran.append(budget)
        entered.set()
        assert leave.wait(10)
        return used(budget)

    judging = cascade([0.05, 1.0], 1.0, execute)
    kept: list[Verdict] = []
    text = text_of({0.05: 0.1, 1.0: 0.5})
    first = [judging.submit("g", start(None), sample(index, text), 2, kept.append) for index in range(2)]
    assert entered.wait(10)
    judging.abandon()
    leave.set()
    assert all(future.cancelled() for future in first)
    # The same key again, as a step that is begun again has it.
    again = [judging.submit("g", start(None), sample(index, text), 2, kept.append) for index in range(2)]
    assert [future.result(10).value for future in again] == [0.5, 0.5]
    assert len(kept) == 2
    assert ran.count(BUDGET) == 2
    judging.abandon()


def test_nothing_waits_for_a_reply_that_was_cancelled() -> None:
    """Neither the other that is at its stage already, nor the next stage for one that would have gone on."""
    entered, leave = threading.Event(), threading.Event()

    def execute(budget: float) -> JobResult:
        entered.set()
        assert leave.wait(10)
        return used(budget)

    judging = cascade(THREE, 0.5, execute)
    kept: list[Verdict] = []
    text = text_of({0.05: 0.1, 0.25: 0.2, 1.0: 0.5})
    futures = [judging.submit("g", start(None), sample(index, text), 4, kept.append) for index in range(4)]
    assert entered.wait(10)
    assert futures[0].cancel()
    leave.set()
    assert [len(future.result(10).stages) for future in futures[1:]] == [3, 2, 1]
    assert len(kept) == 3
    judging.abandon()


def test_one_group_is_abandoned_beside_another() -> None:
    leave = threading.Event()

    def execute(budget: float) -> JobResult:
        assert leave.wait(10)
        return used(budget)

    judging = cascade([0.05, 1.0], 1.0, execute)
    kept: list[Verdict] = []
    text = text_of({0.05: 0.1, 1.0: 0.5})
    futures = [
        judging.submit(group, start(None), sample(0, text), 1, kept.append) for group in ("one", "other")
    ]
    judging.abandon(["one", "neither"])
    leave.set()
    assert futures[0].cancelled()
    assert futures[1].result(10).value == 0.5
    assert len(kept) == 1
    judging.abandon()


def test_an_error_of_the_problem_costs_its_rollout_or_is_raised() -> None:
    broken = sample(0, '"broken"')
    judging = cascade([0.05, 1.0], 0.25)
    verdict = judging.submit("g", start(None), broken, 1, lambda verdict: None).result(10)
    assert (verdict.status, len(verdict.stages)) == (Status.PROBLEM_ERROR, 1)
    judging.abandon()
    strict = CascadeJudging(ladder(), used, 2, "stop", [0.05, 1.0], 0.25)
    with pytest.raises(PluginError, match="broken"):
        strict.submit("g", start(None), broken, 1, lambda verdict: None).result(10)
    strict.abandon()


def test_what_cannot_be_written_down_is_raised() -> None:
    def keep(verdict: Verdict) -> None:
        raise OSError("the disk is full")

    judging = cascade([0.05, 1.0], 0.25)
    with pytest.raises(OSError, match="full"):
        judging.submit("g", start(None), sample(0, text_of({0.05: None, 1.0: 0.5})), 1, keep).result(10)
    judging.abandon()


def test_places() -> None:
    assert [places(0.25, size) for size in (1, 4, 5, 64)] == [1, 1, 2, 16]
    assert places(0.1, 30) == 3


@pytest.mark.parametrize(
    ("options", "share", "expected"),
    [
        ({"timeout_s": 1100.0}, 0.1, (99.0, 209.0)),
        ({"timeout_s": 10.0, "budget_s": 4.0}, 0.25, (1.0, 7.0)),
        ({"timeout_s": 10.0, "budget_s": 20.0}, 0.1, (2.0, 1.0)),
        ({"timeout_s": 10.0, "budget_s": 4.0}, 1.0, (4.0, 10.0)),
    ],
)
def test_the_time_around_a_budget_stays(
    options: dict[str, float], share: float, expected: tuple[float, float]
) -> None:
    problem = Ladder(Options(**options)).with_budget(share)
    assert (problem.options.budget_s, problem.options.timeout_s) == pytest.approx(expected)


def test_what_short_runs_reached_is_kept_where_no_more_is_waited_for() -> None:
    """Of a group that is not compared yet, and of a program that went on; in its first run it has none."""
    leave = {5.0: threading.Event(), BUDGET: threading.Event()}
    entered = threading.Semaphore(0)

    def execute(budget: float) -> JobResult:
        entered.release()
        assert leave[budget].wait(10)
        return used(budget)

    judging = CascadeJudging(ladder(), execute, 4, "count", [0.05, 1.0], 0.5)
    late = Verdict.failed(Status.TIMEOUT, "late")
    texts = [text_of({0.05: value, 1.0: 0.9}) for value in (0.2, 0.4)]
    decided = [
        judging.submit("decided", start(None), sample(index, text), 2, lambda verdict: None)
        for index, text in enumerate(texts)
    ]
    other = judging.submit("other", start(None), sample(0, texts[0]), 2, lambda verdict: None)
    assert all(entered.acquire(timeout=10) for _ in range(3))
    assert judging.without_the_rest("decided", 1, late) is late
    leave[5.0].set()
    assert entered.acquire(timeout=10)  # with all of its budget
    assert decided[0].result(10).value == 0.2
    went_on = judging.without_the_rest("decided", 1, late)
    assert (went_on.status, went_on.value, len(went_on.stages)) == (Status.OK, 0.4, 2)
    assert went_on.message == "with 100 % of its budget: timeout: late"
    assert rewards([went_on]) == [0.0]
    while judging.without_the_rest("other", 0, late) is late:
        time.sleep(0.001)
    waits = judging.without_the_rest("other", 0, late)
    assert (waits.status, waits.value, len(waits.stages)) == (Status.OK, 0.2, 1)
    assert waits.message == "its step ended before its group was compared: it did not go on"
    assert rewards([waits]) == [0.2]
    assert judging.without_the_rest("none", 0, late) is late
    judging.abandon()
    leave[BUDGET].set()
    assert other.cancelled()
