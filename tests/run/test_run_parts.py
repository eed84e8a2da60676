"""The parts of a run on a real problem and the real sandbox: evaluation, seeds, metrics, best, selection."""

from __future__ import annotations

import concurrent.futures
import contextlib
import gc
import json
import pathlib
import shutil
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import pytest

from ttd_core import config as configs
from ttd_core.errors import PluginError, UsageError
from ttd_core.plugin import registry
from ttd_core.plugin.hooks import Hooks
from ttd_core.policy.scripted import ScriptedPolicy
from ttd_core.run.best import write_best
from ttd_core.run.checkpoints import Checkpoints
from ttd_core.run.deadline import wait_for
from ttd_core.run.evaluate import evaluate_completion
from ttd_core.run.judging import Judging
from ttd_core.run.loop import start_run
from ttd_core.run.novelty import Repeats
from ttd_core.run.pending import PendingRollouts
from ttd_core.run.reading import RunReader
from ttd_core.run.recheck import recheck
from ttd_core.run.rollout import StepRollouts
from ttd_core.run.seeds import score_seeds
from ttd_core.run.setup import RunSetup
from ttd_core.run.step import StepRunner
from ttd_core.run.step_metrics import StepMetrics
from ttd_core.run.summary import summarise
from ttd_core.run.totals import StepTotals
from ttd_core.sandbox.base import Executor, JobResult
from ttd_core.sandbox.local import LocalExecutor
from ttd_core.search.archive import Archive
from ttd_core.types import Completion, Group, Rollout, State, Status, Verdict


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with LocalExecutor(workers=2) as executor:
        yield executor


@pytest.fixture
def reference(tmp_path: pathlib.Path, problem_source: str) -> str:
    """The problem ``Sum`` as one file."""
    path = tmp_path / "sum_problem.py"
    path.write_text(problem_source)
    return f"{path}:Sum"


def program(body: str) -> str:
    return f"def run(seed, budget_s, **kwargs):\n    {body}\n"


def reply(body: str) -> Completion:
    return Completion(f"```python\n{program(body)}```")


def hooks_of(reference: str, **options: Any) -> Hooks:
    return Hooks(registry.load(reference, {"timeout_s": 5.0, **options}))


@pytest.mark.parametrize(
    ("completion", "status", "message"),
    [
        (reply("return [1, 1, 0.5]"), Status.OK, ""),
        (Completion("no code"), Status.PARSE_ERROR, "no fenced python"),
        (Completion("```python\ndef run(:\n```"), Status.SYNTAX_ERROR, "line 1"),
        (reply("return [2, 0, 0]"), Status.INVALID, "number 2.0 is not in"),
        (reply("return ['x']"), Status.INVALID, "could not convert"),
        (reply("return 1 / 0"), Status.CRASH, "ZeroDivisionError"),
        (reply("while True: pass"), Status.TIMEOUT, ""),
    ],
)
def test_verdicts(
    reference: str, executor: Executor, completion: Completion, status: Status, message: str
) -> None:
    hooks = hooks_of(reference, timeout_s=1.5)
    verdict = evaluate_completion(hooks, State(), completion, executor.run)
    assert verdict.status is status
    assert message in verdict.message
    if status is Status.OK:
        assert verdict.value == 2.5
        assert verdict.level == executor.level
        assert verdict.seconds > 0
    if status not in (Status.PARSE_ERROR, Status.SYNTAX_ERROR):
        assert verdict.code.startswith("def run")


def test_a_plugins_bug_names_the_plugin(reference: str, executor: Executor, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "sum_problem.py"
    path.write_text(path.read_text().replace("total = sum", "total = 1 / 0 + sum"))
    with pytest.raises(PluginError, match=r"sum.*ttd_reward.*ZeroDivisionError"):
        evaluate_completion(hooks_of(reference), State(), reply("return [1, 1, 1]"), executor.run)


def test_parts_are_merged_before_they_run(reference: str, executor: Executor) -> None:
    hooks = hooks_of(reference, reply="parts")
    start = State(code="VALUE = 0.25\n\n" + program("return [VALUE] * 3"))
    verdict = evaluate_completion(hooks, start, Completion("```python\nVALUE = 1\n```"), executor.run)
    assert verdict.value == 3
    assert verdict.code == start.code.replace("0.25", "1")
    assert verdict.state is not None
    assert verdict.state.code == verdict.code
    lost = evaluate_completion(hooks, State(), Completion("```python\nVALUE = 1\n```"), executor.run)
    assert lost.status is Status.PARSE_ERROR


def test_a_seed_program_is_run_once_and_scored(
    reference: str, executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks = hooks_of(reference)
    assert hooks.problem is not None
    code = hooks.problem.starting_program()
    assert code is not None
    monkeypatch.setattr(type(hooks.problem), "seed_states", lambda self, rng, count: [State(code)] * count)
    jobs = []

    def execute(job: Any) -> Any:
        jobs.append(job)
        return executor.run(job)

    seeds = score_seeds(hooks, np.random.default_rng(0), 3, execute)
    assert len(jobs) == 1
    assert [reward.value for _, reward in seeds if reward] == [1.5] * 3
    monkeypatch.setattr(type(hooks.problem), "seed_states", lambda self, rng, count: [State("x = (")] * count)
    with pytest.raises(UsageError, match="seed state 1 is not valid"):
        score_seeds(hooks, np.random.default_rng(0), 1, executor.run)


def test_sampling_and_evaluation_overlap(reference: str, tmp_path: pathlib.Path) -> None:
    """The first reply is judged while the second is still being sampled."""
    judged = threading.Event()

    class Patient(ScriptedPolicy):
        def sample(self, *arguments: Any) -> Iterator[Any]:
            first, second = super().sample(*arguments)
            yield first
            assert judged.wait(20), "the first reply was not judged while the second was awaited"
            yield second

    hooks = hooks_of(reference)

    def execute(job: Any) -> Any:
        judged.set()
        with LocalExecutor(workers=1) as executor:
            return executor.run(job)

    archive = Archive(configs.SearchConfig())
    (start,) = archive.add_seeds([(State(), None)])
    policy = Patient([reply("return [1, 0, 0]").text])
    pending = PendingRollouts(tmp_path, enabled=False)
    events: list[tuple[str, int]] = []
    rollouts = StepRollouts(
        Judging(hooks, execute, workers=1),
        pending,
        [start],
        [[]],
        lambda _group, index, _completion: events.append(("sampled", index)),
        lambda _group, index, _verdict: events.append(("judged", index)),
    )
    rollouts.sample(policy, 2, configs_params(), {})
    wait_for(rollouts)
    (group,) = rollouts.groups()
    assert [rollout.verdict.value for rollout in group] == [1, 1]
    assert sorted(events) == [("judged", 0), ("judged", 1), ("sampled", 0), ("sampled", 1)]


def test_a_step_judges_as_many_replies_at_once_as_there_are_workers_now(
    reference: str, tmp_path: pathlib.Path
) -> None:
    """Nodes of a cluster come and go between steps."""
    together = threading.Barrier(3)

    class Growing:
        workers = 1

        def run(self, job: Any) -> JobResult:
            if self.workers == 3:
                together.wait(10)
            return JobResult(Status.OK, value=[0.25] * 3)

    config = configs.load(reference, overrides={"groups": 1, "group_size": 3})
    hooks, executor = hooks_of(reference), Growing()
    archive = Archive(config.search)
    archive.add_seeds([(State(), None)])
    policy = ScriptedPolicy([reply("return [1, 0, 0]").text])
    runner = StepRunner(
        *(config, hooks, policy, cast(Executor, executor), archive, [], lambda _: None),
        archive_at=lambda _: archive,
        folder=tmp_path,
        policy_step=0,
        judging=Judging(hooks, executor.run, executor.workers),
    )
    with contextlib.closing(runner):
        assert runner.finish(runner.begin(1)).totals.valid == 3
        executor.workers = 3
        assert runner.finish(runner.begin(2)).totals.valid == 3


def configs_params() -> Any:
    from ttd_core.policy.base import SamplingParams

    return SamplingParams()


def test_metrics_of_a_step(reference: str) -> None:
    problem = registry.load(reference)
    hooks = Hooks(problem)
    starting = program("return [0.5, 0.5, 0.5]")
    archive = Archive(configs.SearchConfig())

    def state(numbers: list[float], code: str) -> tuple[State, Any]:
        made = State(code, {"numbers": numbers})
        return made, hooks.reward(made)

    (start,) = archive.add_seeds([state([0.5, 0.5, 0.5], starting)])

    def ok(numbers: list[float], code: str) -> Rollout:
        made, reward = state(numbers, code)
        return Rollout(Completion("x"), Verdict(Status.OK, state=made, reward=reward, code=code))

    group = Group(
        start.id,
        [],
        np.zeros(0, np.int64),
        [
            ok([0.5, 0.5, 0.5], starting + "# again\n"),
            ok([1, 1, 0], program("return [1, 1, 0]")),
            ok([0.1, 0.1, 0.1], program("return [0.1] * 3")),
            Rollout(Completion("x"), Verdict.failed(Status.CRASH, "no", code=program("boom"))),
        ],
    )
    repeats = [Repeats([starting]).among(group, archive[group.start].state.code)]
    metrics = StepMetrics(problem, configs.RunConfig(problem=problem.name))
    found = metrics.compute([group], repeats, StepTotals.of([group]), archive)
    assert found["valid_share"] == 0.75
    assert found["reward_mean"] == pytest.approx((1.5 + 2 + 0.3) / 4)
    assert found["score_start"] == 1.5
    assert found["score_gain"] == 0.5
    assert found["repeat_share"] == 0.25
    assert (found["score_novel"], found["gain_novel"]) == (2, 0.5)


def test_best_is_switched_whole(reference: str, tmp_path: pathlib.Path) -> None:
    problem = registry.load(reference)
    hooks = Hooks(problem)
    archive = Archive(configs.SearchConfig())
    states = [State(f"v = {n}\n", {"numbers": [n, n, n], "h": np.full(3, n)}) for n in (0.5, 1.0)]
    nodes = archive.add_seeds([(state, hooks.reward(state)) for state in states])
    for node in nodes:
        best = write_best(tmp_path, problem, node)
        assert best.is_symlink()
        facts = json.loads((best / "best.json").read_text())
        assert facts["node"] == node.id
        assert (best / "program.py").read_text() == node.state.code
        assert json.loads((best / "construction.json").read_text())["numbers"] == node.state.data["numbers"]
        assert np.load(best / "h.npy").tolist() == node.state.data["h"].tolist()
    assert [path.name for path in (tmp_path / ".best").iterdir()] == ["node-000001"]
    # A copy whose links were followed has a folder in the link's place.
    copy = shutil.copytree(tmp_path, tmp_path / "copy", symlinks=False)
    assert not (copy / "best").is_symlink()
    for node in (nodes[1], nodes[0]):
        best = write_best(copy, problem, node)
        assert best.is_symlink()
        assert json.loads((best / "best.json").read_text())["node"] == node.id
        assert [path.name for path in (copy / ".best").iterdir()] == [f"node-{node.id:06d}"]


def test_best_holds_nested_arrays_and_its_files_stay_inside(reference: str, tmp_path: pathlib.Path) -> None:
    """Names in a state's data may be a candidate's choice."""
    hooks = hooks_of(reference)
    names = ["h", "../../outside", "..", "a/b", ".hidden", "x" * 5000]
    data = {"numbers": [0.5] * 3, "deep": [{"mask": np.arange(2)}], **dict.fromkeys(names, np.ones(2))}
    state = State("pass\n", data)
    (node,) = Archive(configs.SearchConfig()).add_seeds([(state, hooks.reward(state))])
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    assert hooks.problem is not None
    best = write_best(folder, hooks.problem, node)
    construction = json.loads((best / "construction.json").read_text())
    assert construction["deep"] == [{"mask": [0, 1]}]
    assert construction["../../outside"] == [1, 1]
    # The problem was imported from its file, and Python may have kept its bytecode beside it.
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    files = {path.name for path in written} - {"sum_problem.py"}
    assert files == {"best.json", "construction.json", "h.npy", "program.py"}


class _Trainer:
    """Writes its number."""

    def __init__(self, fail: bool = False) -> None:
        self.fail = fail

    def save(self, folder: pathlib.Path) -> None:
        (folder / "weights").write_text("w")
        if self.fail:
            raise RuntimeError("died while writing")


def test_checkpoints_are_whole_and_pruned(tmp_path: pathlib.Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2, 3):
        checkpoints.save(step, _Trainer())  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="died"):
        checkpoints.save(4, _Trainer(fail=True))  # type: ignore[arg-type]
    assert checkpoints.steps() == [1, 2, 3]
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == [
        "step-000001",
        "step-000002",
        "step-000003",
    ]
    assert checkpoints.latest(at_most=2) == 2
    # Step 3 was never committed: it is no checkpoint of this run.
    checkpoints.prune(kept=1, committed=2)
    assert checkpoints.steps() == [2]


def test_recheck_ranks_by_the_mean(tmp_path: pathlib.Path, problem_source: str) -> None:
    """A program whose score is luck loses to one whose score is not."""
    path = tmp_path / "sum_problem.py"
    path.write_text(problem_source)
    lucky = textwrap.dedent(
        """
        import os


        def run(seed, budget_s, **kwargs):
            return [1, 1, os.urandom(1)[0] / 255]
        """
    )
    steady = program("return [1, 1, 0.999]")
    config = configs.load(
        f"{path}:Sum",
        overrides={
            "policy.backend": "scripted",
            "policy.options": {"replies": [f"```python\n{code}```" for code in (lucky, steady)]},
            "steps": 1,
            "groups": 1,
            "group_size": 8,
            "search.keep_children": 8,
            "options": {"timeout_s": 10.0},
        },
    )
    result = start_run(RunSetup.from_config(config), tmp_path / "run")
    assert result.summary.valid == 8
    assert result.summary.novel_score == result.best_score
    ranked = recheck(tmp_path / "run", 4, 5)
    assert [item.rank for item in ranked] == list(range(1, len(ranked) + 1))
    assert ranked[0].code == steady
    assert ranked[0].mean == pytest.approx(2.999)
    assert (ranked[0].valid, ranked[0].spread) == (5, 0)
    means = [item.mean for item in ranked if item.mean is not None]
    assert means == sorted(means, reverse=True)
    with RunReader.open(tmp_path / "run") as run:
        assert summarise(run, registry.load(f"{path}:Sum")).rollouts == 8


def test_nothing_is_left_running(reference: str, tmp_path: pathlib.Path) -> None:
    before = threading.active_count()
    config = configs.load(
        reference,
        overrides={
            "policy.backend": "scripted",
            "policy.options": {"replies": [reply("return [1, 1, 1]").text]},
            "steps": 1,
            "groups": 1,
            "group_size": 2,
        },
    )
    start_run(RunSetup.from_config(config), tmp_path / "run")
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


class CountingFuture(concurrent.futures.Future[Verdict]):
    """Counts how often it is asked whether it is done."""

    asked = 0

    def done(self) -> bool:
        CountingFuture.asked += 1
        return super().done()


class Judge(Judging):
    """Judges nothing by itself: the test gives the verdicts."""

    def __init__(self) -> None:
        self.futures: list[CountingFuture] = []

    def submit(self, *_arguments: Any) -> CountingFuture:
        self.futures.append(CountingFuture())
        return self.futures[-1]

    def end_group(self, group: Any) -> None:
        """No more replies come."""


@pytest.fixture
def sampled(tmp_path: pathlib.Path) -> Callable[..., tuple[StepRollouts, list[CountingFuture]]]:
    """The rollouts of a step, sampled, and their verdicts to come."""

    def sample(count: int, told: list[int]) -> tuple[StepRollouts, list[CountingFuture]]:
        archive, judge = Archive(configs.SearchConfig()), Judge()
        (start,) = archive.add_seeds([(State(), None)])
        rollouts = StepRollouts(
            *(judge, PendingRollouts(tmp_path, enabled=False), [start], [[]]),
            lambda _group, _index, _completion: None,
            lambda _group, index, _verdict: told.append(index),
        )
        rollouts.sample(ScriptedPolicy(["text"]), count, configs_params(), {})
        return rollouts, judge.futures

    return sample


def test_a_verdict_costs_the_same_however_many_are_waited_for(sampled: Any) -> None:
    """With 10,240 rollouts looking at each of them for each verdict took a minute of the processor."""
    count, told = 300, list[int]()
    rollouts, futures = sampled(count, told)
    order = [(7 * index) % count for index in range(count)]

    def judge() -> None:
        for index in order:
            futures[index].set_result(Verdict.failed(Status.CRASH, ""))

    CountingFuture.asked = 0
    thread = threading.Thread(target=judge)
    thread.start()
    wait_for(rollouts)
    thread.join()
    assert told == order  # as they came
    assert rollouts.waiting == 0
    assert CountingFuture.asked <= 2 * count


def test_a_late_rollout_holds_no_other_reply_of_its_step(sampled: Any) -> None:
    rollouts, futures = sampled(3, [])
    for future in futures[:2]:
        future.set_result(Verdict.failed(Status.CRASH, ""))
    rollouts.take_verdicts()
    ((late, verdict),) = rollouts.take_unjudged()
    (group,) = rollouts.groups()
    replies = [weakref.ref(rollout.completion) for rollout in group]
    assert len(replies) == 2
    rollouts.release()
    del group
    gc.collect()
    assert [reply() for reply in replies] == [None, None]
    verdict.set_result(Verdict.failed(Status.CRASH, ""))
    rollouts.take_verdicts()  # it is no longer this step's
    assert (late.index, rollouts.judged) == (2, 0)
