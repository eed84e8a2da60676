"""Equal programs are judged once, and which ways to judge are refused."""

from __future__ import annotations

import contextlib
import json
import pathlib
import sqlite3
import textwrap
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import pytest
from tests.run.whole_runs import Watch

from ttd_core import Action, Options, Problem, Reward, State, Verdict
from ttd_core import config as configs
from ttd_core.errors import ConfigError, PluginError, StorageError
from ttd_core.plugin.hooks import Hooks
from ttd_core.policy.base import Sample
from ttd_core.run.events import read_log
from ttd_core.run.judges import budget_warning
from ttd_core.run.judging import Judging
from ttd_core.run.known_verdicts import VERDICTS, KnownVerdicts, is_reused
from ttd_core.run.loop import resume_run, start_run
from ttd_core.run.pending import PENDING
from ttd_core.run.reading import LOG, RunReader
from ttd_core.run.setup import RunSetup
from ttd_core.sandbox.base import JobResult, Level
from ttd_core.search.archive import Node
from ttd_core.types import Completion, Status


class Echo(Problem):
    """A program is a JSON text: a number is the construction, anything else ends the program in that way."""

    name = "echo"
    title = "A number"
    metric = "number"
    direction = "max"
    deterministic = True

    def task(self) -> str:
        return "Say a number."

    def parse_action(self, completion: Completion) -> Action | Verdict:
        return Action(completion.text)

    def transition(self, state: State, action: Action, execute: Any) -> State | Verdict:
        whole = self.complete(state, action)
        if isinstance(whole, Verdict):
            return whole
        execute(whole.code)
        said = json.loads(whole.code.splitlines()[-1])
        if isinstance(said, str):
            return Verdict.failed(Status(said), f"it said {said}", code=whole.code)
        return State(whole.code, {"numbers": np.array([said, 1 / 3])}, "said it")

    def construct(self, value: Any) -> Mapping[str, Any]:
        return {"numbers": value}

    def check(self, state: State) -> Sequence[str]:
        return []

    def reward(self, state: State) -> Reward:
        return Reward(float(state.data["numbers"][0]), float(state.data["numbers"][0]))


class Runs:
    """The sandbox: notes which programs ran; each waits until it may end."""

    def __init__(self) -> None:
        self.programs: list[str] = []
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Event()
        self.may_end.set()

    def __call__(self, program: Any) -> Any:
        self.programs.append(program)
        self.begun.release()
        assert self.may_end.wait(10)
        return JobResult(Status.OK, wall_s=2.0, peak_memory=7, level=Level.STRONG)


def node(state: State) -> Node:
    return Node(0, state, None, None, 0, True, state.digest)


EMPTY = node(State())


@pytest.fixture
def make(tmp_path: pathlib.Path) -> Any:
    """Makes what judges equal programs once, with what it ran."""
    made: list[Judging] = []

    def make(identity: str = "1", workers: int = 2, **options: Any) -> tuple[Judging, Runs]:
        problem, runs = Echo(Options(**options)), Runs()
        hooks = Hooks(problem, plugins=[], origin="echo")
        known = KnownVerdicts(tmp_path, problem, identity)
        made.append(Judging(hooks, runs, workers, "count", known))  # type: ignore[arg-type]
        return made[-1], runs

    yield make
    for judging in made:
        judging.abandon()


def submit(judging: Judging, texts: Sequence[str], start: Node = EMPTY) -> list[Any]:
    samples = [Sample(0, i, Completion(text), np.zeros(0, np.int64)) for i, text in enumerate(texts)]
    return [judging.submit("g", start, sample, len(texts), lambda verdict: None) for sample in samples]


def judge(judging: Judging, texts: Sequence[str], start: Node = EMPTY) -> list[Verdict]:
    return [future.result(10) for future in submit(judging, texts, start)]


def test_the_second_waits_for_the_verdict_on_the_first_and_holds_no_thread(make: Any) -> None:
    judging, runs = make()
    runs.may_end.clear()
    futures = submit(judging, ["1"] * 5)
    assert runs.begun.acquire(timeout=10)
    other = submit(judging, ["2"])[0]
    # With two workers it could not have begun if one of the equal ones held a thread.
    assert runs.begun.acquire(timeout=10)
    runs.may_end.set()
    verdicts = [future.result(10) for future in [*futures, other]]
    assert sorted(runs.programs) == ["1", "2"]
    assert [verdict.value for verdict in verdicts] == [1, 1, 1, 1, 1, 2]
    assert sum(map(is_reused, verdicts)) == 4
    assert sorted(verdict.seconds for verdict in verdicts) == [0, 0, 0, 0, 2, 2]


def test_a_later_process_knows_what_was_judged(make: Any) -> None:
    texts = ["0.25", '"crash"', "0.5", '"timeout"']
    first, _ = make()
    before = judge(first, texts)
    first.abandon()
    second, runs = make()
    after = judge(second, texts)
    assert runs.programs == []
    for one, other in zip(before, after, strict=True):
        assert is_reused(other)
        same = attrs.evolve(other, seconds=one.seconds, metrics=one.metrics)
        assert same == one
        assert other.metrics == {**one.metrics, "reused_seconds": 2.0}
        if one.state is not None:
            assert other.state is not None
            assert other.state.data["numbers"].tobytes() == one.state.data["numbers"].tobytes()


def test_another_start_option_or_problem_is_another_verdict(make: Any) -> None:
    starts = [
        State(),
        State(code="# start"),
        State(data={"numbers": np.array([0.1])}),
        State(data={"numbers": np.array([0.2])}),
        State(data={"numbers": np.array([0.2])}, output="printed"),
    ]
    judging, runs = make()
    for state in [*starts, *starts]:
        judge(judging, ["1"], node(state))
    assert len(runs.programs) == len(starts)
    judging.abandon()
    for settings in ({"memory_mb": 7}, {"identity": "2"}):
        other, runs = make(**settings)
        judge(other, ["1"])
        assert runs.programs == ["1"]
        other.abandon()


def test_equal_means_equal_in_every_character(make: Any) -> None:
    """The other text is a repeat, but its messages would name other lines."""
    judging, runs = make()
    judge(judging, ["1", "\n1"])
    assert sorted(runs.programs) == ["\n1", "1"]


def test_edits_are_judged_by_the_program_that_they_make(make: Any) -> None:
    judging, runs = make(reply="edits")
    start = node(State(code="def run():\n    pass\n\n\nA = 1\nB = 2\n0.5\n"))
    edit = "<<<<<<< SEARCH\n{}\n=======\n{}\n>>>>>>> REPLACE\n"
    problem_edits = [
        edit.format("A = 1\nB = 2", "A = 1\nB = 3"),
        edit.format("B = 2", "B = 3"),
        edit.format("C", "D"),
    ]
    samples = [Action(text, edits=True) for text in problem_edits]
    judging._hooks.parse_action = lambda completion: samples[int(completion.text)]  # type: ignore[method-assign]
    verdicts = judge(judging, ["0", "1", "2"], start)
    assert runs.programs == ["def run():\n    pass\n\n\nA = 1\nB = 3\n0.5\n"]
    assert [verdict.status for verdict in verdicts] == [Status.OK, Status.OK, Status.EDIT_ERROR]
    assert sum(map(is_reused, verdicts)) == 1


@pytest.mark.parametrize("status", ["infrastructure", "problem_error"])
def test_what_is_no_verdict_on_the_program_is_not_taken_over(make: Any, status: str) -> None:
    judging, runs = make(workers=1)
    verdicts = judge(judging, [f'"{status}"'] * 3)
    assert len(runs.programs) == 3
    assert not any(map(is_reused, verdicts))
    judging.abandon()
    again, runs = make()
    judge(again, [f'"{status}"'])
    assert len(runs.programs) == 1


def test_a_damaged_row_is_a_program_that_is_judged_again(make: Any, tmp_path: pathlib.Path) -> None:
    judging, _ = make()
    judge(judging, ["1", "2"])
    judging.abandon()
    with sqlite3.connect(tmp_path / VERDICTS) as database:
        database.execute("UPDATE verdicts SET verdict = x'00ff'")
    database.close()
    again, runs = make()
    assert [verdict.value for verdict in judge(again, ["1", "2"])] == [1, 2]
    assert sorted(runs.programs) == ["1", "2"]


def test_a_file_that_is_no_database_is_one_line(make: Any, tmp_path: pathlib.Path) -> None:
    (tmp_path / VERDICTS).write_bytes(b"no database, but long enough to be taken for one " * 40)
    judging, _ = make()
    with pytest.raises(StorageError, match=r"verdicts\.db is damaged, or another program's\. Remove it"):
        submit(judging, ["1"])


def test_a_database_of_other_tables_may_be_removed(make: Any, tmp_path: pathlib.Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / VERDICTS)) as database, database:
        database.execute("CREATE TABLE verdicts (a, b)")
    judging, _ = make()
    with pytest.raises(StorageError, match=r"Remove it and go on: what it had is judged again"):
        submit(judging, ["1"])


def test_abandoned_programs_are_not_waited_for(make: Any) -> None:
    judging, runs = make()
    runs.may_end.clear()
    first = submit(judging, ["1", "1"])
    assert runs.begun.acquire(timeout=10)
    judging.abandon()
    assert all(future.cancelled() for future in first)
    again = submit(judging, ["1"])
    assert runs.begun.acquire(timeout=10)
    runs.may_end.set()
    assert again[0].result(10).value == 1


def test_workers_come_and_go_while_replies_are_judged(make: Any) -> None:
    """What waits for an equal program, or in the queue of fewer workers, has its verdict all the same."""
    judging, runs = make(workers=1)
    runs.may_end.clear()
    futures = submit(judging, ["1", "1", "2", "3"])
    assert runs.begun.acquire(timeout=10)
    judging.resize(3)
    futures += submit(judging, ["1", "2", "4"])
    assert all(runs.begun.acquire(timeout=10) for _ in range(2))
    judging.resize(1)
    futures += submit(judging, ["5"])
    runs.may_end.set()
    assert [future.result(10).value for future in futures] == [1, 1, 2, 3, 1, 2, 4, 5]
    assert sorted(runs.programs) == ["1", "2", "3", "4", "5"]
    judging.abandon()
    until = time.monotonic() + 10
    while any(thread.name.startswith("evaluate") for thread in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.001)


def test_a_follower_is_judged_where_the_one_before_it_is_given_up(make: Any) -> None:
    """Given up while it waits for a worker; and while it runs, when its verdict is known all the same."""
    judging, runs = make(workers=1)
    runs.may_end.clear()
    first = submit(judging, ["1"])[0]
    assert runs.begun.acquire(timeout=10)
    sample = Sample(0, 0, Completion("2"), np.zeros(0, np.int64))
    given_up = judging.submit("other", EMPTY, sample, 1, lambda verdict: None)
    followers = submit(judging, ["1", "2"])
    judging.abandon({"other"})
    assert first.cancel()
    runs.may_end.set()
    assert [future.result(10).value for future in followers] == [1, 2]
    assert given_up.cancelled()
    assert sorted(runs.programs) == ["1", "2"]
    assert [is_reused(future.result()) for future in followers] == [True, False]


# -- what a run may ask for -----------------------------------------------------------------------------

FILE = """
    from ttd_core import Action, Problem, Reward, State, Verdict


    class {name}(Problem):
        name = "{name}"
        title = "A number"
        metric = "number"
        direction = "max"
        preload = ()
        deterministic = {deterministic}

        def task(self):
            return "Say a number below 1."

        def parse_action(self, completion):
            return Action(completion.text)

        {rest}

        def construct(self, value):
            return {{"number": float(value)}}

        def check(self, state):
            return []

        def reward(self, state):
            return Reward(state.data["number"], state.data["number"])
"""
#: Judges without a sandbox, and writes down what it judged.
NOTES = """
        def transition(self, state, action, execute):
            with open("{log}", "a") as file:
                file.write(action.code + " ")
            return State(action.code, self.construct(float(action.code)))
"""


@pytest.fixture
def setup(tmp_path: pathlib.Path) -> Callable[..., RunSetup]:
    def make(rest: str = "pass", deterministic: bool = False, **settings: Any) -> RunSetup:
        path = tmp_path / "number.py"
        rest = rest.strip().replace("{log}", str(tmp_path / "log"))
        path.write_text(textwrap.dedent(FILE).format(name="Number", deterministic=deterministic, rest=rest))
        overrides = {
            "policy.backend": "scripted",
            "policy.options": {"replies": ["0.1", "0.2", "0.1", "0.3"]},
            **{"steps": 2, "groups": 2, "group_size": 4, "sandbox.workers": 1},
            **settings,
        }
        return RunSetup.from_config(configs.load(f"{path}:Number", overrides=overrides))

    return make


def test_a_cascade_is_for_problems_that_tell_a_budget(setup: Any) -> None:
    told = setup(cascade=[0.1, 0.5, 1.0])
    assert told.problem.first_shares == (0.1, 0.5)
    prompt = told.problem.render_prompt(State(), [])[0]["content"]
    assert "`budget_s` is 990 (first 99, then 495; the best go on): return before it is over." in prompt
    assert setup().problem.first_shares == ()
    none = "def arguments(self, state):\n            return {}"
    with pytest.raises(ConfigError, match=r"^cascade = \[0.1, 1.0\]: Number tells its programs no budget"):
        setup(none, cascade=[0.1, 1.0])
    # A transition of its own may have no use for the arguments.
    with pytest.raises(ConfigError, match="tells its programs no budget"):
        setup(NOTES, cascade=[0.1, 1.0])
    broken = "def arguments(self, state):\n            return {}[0]"
    with pytest.raises(PluginError, match=r"number\.py.*tells_budget: KeyError"):
        setup(broken, cascade=[0.1, 1.0])
    fixed = "def __init__(self, options=None):\n            assert options is None or options.budget > 500\n"
    fixed += "            super().__init__(options)"
    with pytest.raises(PluginError, match=r"number\.py.*with_budget: AssertionError"):
        setup(fixed, cascade=[0.1, 1.0])


@pytest.mark.parametrize(
    "shares", [[], [0.0, 1.0], [0.5], [0.5, 0.5, 1.0], [1.0, 0.5], [0.1, 1.5], [-1.0, 1.0]]
)
def test_shares_that_do_not_grow_to_all_are_refused(setup: Any, shares: list[float]) -> None:
    with pytest.raises(ConfigError, match=r"^cascade needs shares of the budget that grow from above 0 to 1"):
        setup(cascade=shares)


@pytest.mark.parametrize("keep", [0.0, -0.5, 1.5])
def test_a_share_that_is_none_is_refused(setup: Any, keep: float) -> None:
    with pytest.raises(ConfigError, match=r"^keep must be (above 0|at most 1)"):
        setup(keep=keep)


def test_a_budget_that_changes_nothing_is_told(setup: Any) -> None:
    def said(rest: str = "pass", **options: Any) -> str:
        made = setup(rest, options=options)
        return budget_warning(made.hooks, made.config)

    assert said() == said(budget_s=5) == said(NOTES, timeout_s=5) == ""
    assert said(NOTES, budget_s=5) == (
        "options.budget_s = 5 changes nothing: Number tells its programs no budget"
    )
    assert said(budget_s=50, timeout_s=20).startswith(
        "options.budget_s = 50 is more than options.timeout_s = 20: programs that use all the time "
    )


def test_only_deterministic_problems_reuse_verdicts_unless_told_to(setup: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"^same_program = 'reuse': Number does not say that .*reuse-anyway"
    ):
        setup(same_program="reuse")
    assert setup(same_program="reuse-anyway").config.same_program == "reuse-anyway"
    assert setup(deterministic=True, same_program="reuse").config.same_program == "reuse"
    with pytest.raises(ConfigError, match=r"^same_program = 'reuse' and cascade exclude each other"):
        setup(deterministic=True, same_program="reuse", cascade=[0.1, 1.0])


def test_a_run_judges_each_program_once_also_after_a_kill(setup: Any, tmp_path: pathlib.Path) -> None:
    """Interrupted in its second step, with the kept rollouts of that step lost as well."""

    def interrupt(event: Any) -> None:
        if event["kind"] == "rollout_evaluated" and event["step"] == 2:
            raise KeyboardInterrupt

    folder = tmp_path / "run"
    choice = {"same_program": "reuse", "search.reuse": "none"}  # every step starts from nothing
    start_run(setup(NOTES, True, **choice), folder, [Watch(interrupt)])
    (folder / PENDING).unlink()
    resume_run(RunSetup.from_folder(folder, {"steps": 3}), folder)
    assert sorted((tmp_path / "log").read_text().split()) == ["0.1", "0.2", "0.3"]
    with RunReader.open(folder) as run:
        metrics = run.metrics()
        rollouts = list(run.rollouts())
    assert [metrics[step]["reused"] for step in (1, 2, 3)] == [5, 8, 8]
    assert [rollout.value for rollout in rollouts if rollout.code == "0.3"] == [0.3] * 6
    assert sum("reused_seconds" in rollout.metrics for rollout in rollouts) == 21
    judged = [event for event in read_log(folder / LOG)[0] if event["kind"] == "rollout_evaluated"]
    assert sum(not event["reused"] for event in judged) == 3
