"""A run that was stopped in the middle of a step goes on with the rollouts that it had, and is the same."""

from __future__ import annotations

import collections
import os
import pathlib
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import numpy as np
import pytest
from tests.policy.chat_server import completion, serving
from tests.run.whole_runs import GROUPS, SIZE, STEPS, Counting, Watch, pending_of, resume, rows

from ttd_core import config as configs
from ttd_core.errors import StorageError
from ttd_core.policy.base import Sample, SamplingParams
from ttd_core.run import loop
from ttd_core.run.loop import resume_run, start_run
from ttd_core.run.missing import sample_missing, usable
from ttd_core.run.pending import PENDING, PendingRollouts, prompt_key
from ttd_core.run.reading import RunReader
from ttd_core.run.setup import RunSetup
from ttd_core.run.store import RunStore
from ttd_core.search.archive import Archive
from ttd_core.types import Completion, Message, Reward, State, Status, Verdict

COUNT = GROUPS * SIZE


class WholeGroups:
    """A policy that samples whole groups only."""

    name = "whole groups"

    def __init__(self, policy: Any) -> None:
        self._policy = policy
        self.sample, self.close = policy.sample, policy.close


def test_from_any_moment_a_killed_run_comes_out_the_same_and_does_nothing_twice(
    setup: Any, policies: list[Counting], judged: list[str], tmp_path: pathlib.Path
) -> None:
    """A copy of the folder at any event is what ``kill -9`` would have left at that moment."""
    moments: list[tuple[pathlib.Path, int]] = []

    def copy(event: Any) -> None:
        copied = tmp_path / f"moment-{len(moments)}"
        shutil.copytree(tmp_path / "whole", copied, symlinks=True)
        moments.append((copied, event.get("step") or 0))

    start_run(setup(), tmp_path / "whole", [Watch(copy)])
    whole, batches = rows(tmp_path / "whole"), policies[0].batches
    assert not (tmp_path / "whole" / PENDING).exists()
    # The step in the middle, event by event.
    in_step_2 = [each for each, step in moments if step == 2]
    assert len(in_step_2) > 2 * GROUPS * SIZE
    seen: collections.Counter[int] = collections.Counter()
    for folder in in_step_2[:-1:2]:
        lines = pending_of(folder)[1:]
        with RunReader.open(folder) as run:
            first = run.last_step() + 1
        replies = {(line["group"], line["index"]) for line in lines if "text" in line}
        verdicts = {(line["group"], line["index"]) for line in lines if "status" in line}
        seen[len(verdicts)] += 1
        judged.clear()
        started: list[Any] = []
        resume(folder, [Watch(lambda event, started=started: started.append(event))])
        assert rows(folder) == whole
        assert not (folder / PENDING).exists()
        steps = STEPS + 1 - first
        if first == 2:
            assert len(policies[-1].asked) == steps * GROUPS * SIZE - len(replies)
            assert not replies & set(policies[-1].asked[: GROUPS * SIZE - len(replies)])
            assert len(judged) == steps * GROUPS * SIZE - len(verdicts)
            (kept,) = [
                each["kept"] for each in started if each["kind"] == "step_started" and each["step"] == 2
            ]
            assert kept == len(replies)
        # What is learned from is the same, to the bit.
        for before, after in zip(batches[first - 1 :], policies[-1].batches, strict=True):
            for one, other in zip(before, after, strict=True):
                assert one.prompt_tokens.tobytes() == other.prompt_tokens.tobytes()
                assert [a.tobytes() for a in one.advantages] == [a.tobytes() for a in other.advantages]
                for first_reply, second_reply in zip(one.completions, other.completions, strict=True):
                    assert first_reply.logprobs.tobytes() == second_reply.logprobs.tobytes()
                    assert first_reply.tokens.tobytes() == second_reply.tokens.tobytes()
    assert len(seen) > 4


@pytest.mark.parametrize("at", ["rollout_sampled", "rollout_evaluated"])
def test_an_interrupt_keeps_what_was_judged(
    setup: Any, policies: list[Counting], judged: list[str], tmp_path: pathlib.Path, at: str
) -> None:
    start_run(setup(), tmp_path / "whole")
    count = 0

    def interrupt(event: Any) -> None:
        nonlocal count
        if event["kind"] == at and event["step"] == 3:
            count += 1
            if count == 5:
                raise KeyboardInterrupt

    result = start_run(setup(), tmp_path / "run", [Watch(interrupt)])
    assert (result.interrupted, result.steps) == (True, 2)
    lines = pending_of(tmp_path / "run")
    assert lines[0] == {"step": 3, "policy": "2"}
    verdicts = sum("status" in line for line in lines)
    assert verdicts >= (at == "rollout_evaluated") * 5
    with RunReader.open(tmp_path / "run") as run:
        # Not counted as long as the step is not committed.
        assert len(list(run.rollouts())) == 2 * GROUPS * SIZE
    judged.clear()
    resume(tmp_path / "run")
    assert len(judged) == GROUPS * SIZE - verdicts
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")


@pytest.fixture
def stopped(setup: Any, tmp_path: pathlib.Path) -> Callable[..., pathlib.Path]:
    """A run interrupted in step 2 at a verdict, when all of its replies were there, and judged but one.

    It is judged as well where the others were judged before the last reply came.
    """

    def stop(**settings: Any) -> pathlib.Path:
        seen: list[str] = []

        def interrupt(event: Any) -> None:
            if event.get("step") != 2:
                return
            seen.append(event["kind"])
            sampled, judged = seen.count("rollout_sampled"), seen.count("rollout_evaluated")
            if event["kind"] == "rollout_evaluated" and sampled == COUNT and judged >= COUNT - 1:
                raise KeyboardInterrupt

        start_run(setup(**settings), tmp_path / "run", [Watch(interrupt)])
        return tmp_path / "run"

    return stop


def kept_in_step_2(folder: pathlib.Path, **changes: Any) -> int:
    """Resume a run; how many rollouts of step 2 it had."""
    kept: list[int] = []

    def note(event: Any) -> None:
        if event["kind"] == "step_started" and event["step"] == 2:
            kept.append(event["kept"])

    resume(folder, [Watch(note)], **changes)
    return kept[-1]


def test_a_server_is_asked_for_the_missing_replies_alone(
    setup: Any, judged: list[str], tmp_path: pathlib.Path
) -> None:
    """Each reply is asked for with the seed that it has among all, so what the run comes to is the same."""

    def answer(body: dict[str, Any]) -> Any:
        return completion(f"0.{body['seed']:010}")

    def stop(event: Any) -> None:
        if event["kind"] == "rollout_evaluated" and event["step"] == 2:
            raise KeyboardInterrupt

    with serving() as chat:
        chat.answer = answer
        options = {"base_url": chat.url, "in_flight": 2}
        settings = {"policy.backend": "openai", "policy.model": "small", "learn.train": False, "steps": 2}
        start_run(setup(**settings, **{"policy.options": options}), tmp_path / "whole")
        asked = sorted(body["seed"] for body in chat.bodies)
        start_run(setup(**settings, **{"policy.options": options}), tmp_path / "run", [Watch(stop)])
        kept = sum("text" in line for line in pending_of(tmp_path / "run"))
        verdicts = sum("status" in line for line in pending_of(tmp_path / "run"))
        chat.bodies.clear()
        judged.clear()
        resume(tmp_path / "run")
    assert 0 < kept < GROUPS * SIZE
    assert len(chat.bodies) == GROUPS * SIZE - kept
    assert {body["seed"] for body in chat.bodies} < set(asked)
    assert len(judged) == GROUPS * SIZE - verdicts
    whole, run = rows(tmp_path / "whole"), rows(tmp_path / "run")
    assert {name: run[name] for name in run if name != "metrics"} == {
        name: whole[name] for name in whole if name != "metrics"
    }


def test_rollouts_of_a_policy_that_learned_something_else_are_dropped(stopped, policies) -> None:
    folder = stopped()
    path = folder / PENDING
    path.write_text(path.read_text().replace('"policy": "1"', '"policy": "other"', 1))
    assert kept_in_step_2(folder) == 0


def test_rollouts_of_another_step_are_dropped(stopped, policies) -> None:
    folder = stopped()
    resume_run(RunSetup.from_folder(folder, {"steps": 1}), folder, back_to=0)
    assert not (folder / PENDING).exists()
    assert kept_in_step_2(folder, steps=STEPS) == 0


def test_rollouts_are_not_kept_where_the_config_says_so(stopped, policies, tmp_path) -> None:
    folder = stopped()
    shutil.copytree(folder, tmp_path / "other", symlinks=True)
    assert kept_in_step_2(folder, keep_rollouts=False) == 0
    assert kept_in_step_2(tmp_path / "other") == GROUPS * SIZE
    shutil.rmtree(folder)
    assert not (stopped(keep_rollouts=False) / PENDING).exists()


def test_rollouts_that_another_verifier_judged_are_dropped(stopped, policies, tmp_path) -> None:
    folder = stopped()
    problem = tmp_path / "numbers.py"
    problem.write_text(problem.read_text().replace("no number", "no number at all"))
    kept: list[int] = []
    watch = Watch(lambda event: kept.append(event.get("kept", 0)))
    resume_run(RunSetup.from_folder(folder, {}, accept_problem=True), folder, [watch])
    assert max(kept) == 0


def test_a_kill_while_another_verifier_is_accepted_keeps_no_verdict_of_the_former(
    stopped, policies, tmp_path, monkeypatch
) -> None:
    folder = stopped()
    problem = tmp_path / "numbers.py"
    problem.write_text(problem.read_text().replace("no number", "no number at all"))
    note = RunStore.note_problem

    def killed(store: RunStore, *arguments: str) -> None:
        note(store, *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunStore, "note_problem", killed)
    setup = RunSetup.from_folder(folder, {}, accept_problem=True)
    with pytest.raises(KeyboardInterrupt):
        resume_run(setup, folder)
    monkeypatch.setattr(RunStore, "note_problem", note)
    assert kept_in_step_2(folder) == 0


def test_torn_and_damaged_lines_are_owed_again(stopped, policies, tmp_path) -> None:
    start_run(RunSetup.from_folder(stopped(), {}), tmp_path / "whole")
    folder = tmp_path / "run"
    lines = (folder / PENDING).read_bytes().splitlines()
    replies = [number for number, line in enumerate(lines) if b'"text"' in line]
    lines[replies[0]] = lines[replies[0]][:40]
    lines[replies[1]] = lines[replies[1]].replace(b'"tokens"', b'"other"')
    lines[replies[2]] = b"[1, 2]"
    lines.insert(2, b"\xff\x00")
    (folder / PENDING).write_bytes(b"\n".join(lines)[:-7])
    assert kept_in_step_2(folder) == GROUPS * SIZE - 3
    assert rows(folder) == rows(tmp_path / "whole")


def test_lines_of_any_form_end_no_run(stopped, policies) -> None:
    folder = stopped()
    lines = (folder / PENDING).read_bytes().splitlines()
    last = max(number for number, line in enumerate(lines) if b'"arrays": {' in line)
    lines[last] = lines[last].replace(b'"arrays": {', b'"arrays": [], "other": {')
    lines.insert(3, b"[" * 100_000)
    (folder / PENDING).write_bytes(b"\n".join(lines) + b"\n")
    assert kept_in_step_2(folder) == GROUPS * SIZE - 1


def test_a_line_without_an_end_is_not_read_into_memory(stopped, policies, monkeypatch) -> None:
    monkeypatch.setattr("ttd_core.run.pending.LARGEST_LINE", 1_000_000)
    folder = stopped()
    with (folder / PENDING).open("ab") as file:
        # Holes: they are read as zeros and take no room on the disk.
        file.truncate(file.seek(0, os.SEEK_END) + 200_000_000)
    tracemalloc.start()
    try:
        assert kept_in_step_2(folder) == GROUPS * SIZE
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


def test_a_file_that_is_one_line_without_an_end_keeps_nothing(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("ttd_core.run.pending.LARGEST_LINE", 1_000_000)
    for name in (PENDING, "pending-000003.jsonl"):
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, 200_000_000)
    tracemalloc.start()
    try:
        assert PendingRollouts(tmp_path, overlapping=3).begun(3) is None
        pending = PendingRollouts(tmp_path)
        pending.begin(4, "digest", ["key"])
        assert pending.kept(8) == {}
        pending.close()
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()
    assert (tmp_path / PENDING).stat().st_size < 1000


def test_a_pipe_in_the_place_of_the_file_keeps_nobody_waiting(stopped, policies) -> None:
    folder = stopped()
    (folder / PENDING).unlink()
    os.mkfifo(folder / PENDING)
    with pytest.raises(
        StorageError, match=r"pending\.jsonl cannot be read: a pipe or a device is in its place"
    ):
        resume(folder)


def test_where_a_backend_samples_whole_groups_complete_ones_are_kept(
    stopped, policies, monkeypatch, caplog
) -> None:
    folder = stopped(**{"learn.train": False})
    lines = (folder / PENDING).read_text().splitlines(keepends=True)
    gone = [line for line in lines if '"group": 1, "index": 2' in line]
    (folder / PENDING).write_text("".join(line for line in lines if line not in gone))
    # Of a policy that does not learn there is no digest.
    text = (folder / PENDING).read_text().replace('"policy": "0"', '"policy": ""')
    (folder / PENDING).write_text(text)
    monkeypatch.setattr(loop, "open_policy", lambda hooks, config: WholeGroups(Counting()))
    assert kept_in_step_2(folder) == SIZE
    assert (
        f"step 2: {SIZE - 1} rollouts of groups that were not complete when the run was stopped must be "
        "sampled again: whole groups samples whole groups only"
    ) in caplog.text
    with RunReader.open(folder) as run:
        assert [len(list(run.rollouts(step))) for step in (1, 2, 3)] == [GROUPS * SIZE] * 3


def test_whole_groups_alone_are_drawn_anew() -> None:
    """With the step's seed, group 1 asked alone would say what group 0 has."""

    @attrs.define
    class Drawing:
        name: str = "drawing"

        def sample(self, prompts: Any, count: int, params: SamplingParams) -> Iterator[Sample]:
            rng = np.random.default_rng(params.seed)
            for prompt in range(len(prompts)):
                for index in range(count):
                    yield Sample(prompt, index, Completion(str(rng.integers(10**9))), np.zeros(0, np.int64))

        def close(self) -> None:
            pass

    policy: Any = Drawing()
    prompt: list[Message] = [{"role": "user", "content": "x"}]
    params = SamplingParams(seed=5)
    whole = list(sample_missing(policy, [prompt] * 3, 2, params, {}))
    kept = {(one.prompt, one.index): one for one in whole if one.prompt != 1}
    kept[1, 0] = whole[2]
    assert set(usable(policy, kept, 2)) == {(0, 0), (0, 1), (2, 0), (2, 1)}
    again = list(sample_missing(policy, [prompt] * 3, 2, params, usable(policy, kept, 2)))
    assert [(one.prompt, one.index) for one in again] == [(1, 0), (1, 1)]
    assert not {one.completion.text for one in again} & {one.completion.text for one in whole}
    (_, extra) = again
    assert list(sample_missing(policy, [prompt] * 2, 1, params, {(0, 0): extra, (1, 0): extra})) == []


def test_verdicts_in_which_the_reply_had_no_part_are_not_kept(tmp_path: pathlib.Path) -> None:
    archive = Archive(configs.SearchConfig())
    (start,) = archive.add_seeds([(State(), None)])
    prompt: list[Message] = [{"role": "user", "content": "ü \ud800"}]
    keys = [prompt_key(start, prompt, SamplingParams())]
    pending = PendingRollouts(tmp_path)
    pending.begin(4, "digest", keys)
    verdicts = {
        0: Verdict.failed(Status.INFRASTRUCTURE, "the sandbox failed"),
        1: Verdict.failed(Status.PROBLEM_ERROR, "the problem failed"),
        2: Verdict.failed(
            Status.CRASH, "it crashed", code="x", output="ö", seconds=0.1 + 0.2, level="strong"
        ),
        3: Verdict(
            Status.OK,
            state=State("code", {"a": np.arange(6, dtype=np.uint8).reshape(2, 3), "b": [None, 1e300]}),
            reward=Reward(np.float64(1) / 3, 2, {"nan": float("nan"), "numpy": np.float32(0.1)}),
            metrics={"peak_memory": np.int64(5)},
        ),
    }
    completion = Completion("te\nxt", np.array([7, 2**31]), np.array([-0.1, 0], np.float32), np.ones(2, bool))
    for index, verdict in verdicts.items():
        pending.sampled(Sample(0, index, completion, np.arange(3)))
        pending.judged((0, index), verdict)
    pending.close()
    pending.judged((0, 0), verdicts[2])  # too late: the executor's close may have ended the program
    again = PendingRollouts(tmp_path)
    again.begin(4, "digest", keys)
    kept = again.kept(4)
    again.close()
    assert [kept[0, index].verdict is None for index in range(4)] == [True, True, False, False]
    for each in kept.values():
        reply = each.sample.completion
        assert (reply.text, reply.answer, reply.stop) == (completion.text, completion.answer, completion.stop)
        for name in ("tokens", "logprobs", "trained"):
            first, second = getattr(reply, name), getattr(completion, name)
            assert (first.dtype, first.tobytes()) == (second.dtype, second.tobytes())
    assert kept[0, 2].verdict == verdicts[2]
    ok = kept[0, 3].verdict
    assert ok is not None
    assert ok.state == verdicts[3].state
    assert ok.reward is not None
    assert ok.reward.value == 1 / 3
    assert np.isnan(ok.reward.metrics["nan"])
    assert ok.metrics == {"peak_memory": 5}
    other = PendingRollouts(tmp_path)
    other.begin(4, "digest", [prompt_key(start, prompt, SamplingParams(temperature=0.5))])
    assert other.kept(4) == {}
    other.close()
