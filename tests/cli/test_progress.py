"""What progress says: the arithmetic of its counts, the lines, and the live view drawn for real."""

from __future__ import annotations

import io
import re

import pytest

from ttd_core.cli.output import wrapped
from ttd_core.cli.progress import ProgressView
from ttd_core.cli.run_progress import RunProgress
from ttd_core.cli.wording import compare_with_published, duration, step_line
from ttd_core.metrics import Metric
from ttd_core.policy.local.engine import chosen, machine_lacks
from ttd_core.problem import Baseline, Problem
from ttd_core.run import events
from ttd_core.types import Reward


class Bound(Problem):
    name = "bound"
    title = "A bound"
    metric = "bound"
    direction = "min"
    baselines = (Baseline("humans", 0.381), Baseline("machines", 0.380876))

    def task(self):
        return "x"

    def construct(self, value):
        return {}

    def check(self, state):
        return []

    def reward(self, state):
        return Reward(1.0, 1.0)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def started(step: int = 0) -> dict:
    return events.run_started(
        run="runs/x", problem="bound", policy="a model", step=step, steps=10, groups=2, group_size=4
    )


def sampled(index: int = 0, step: int = 1) -> dict:
    return events.rollout_sampled(step=step, group=0, index=index, tokens=50, stop="stop")


def judged(score: float | None, index: int = 0, step: int = 1) -> dict:
    return events.rollout_evaluated(
        step=step,
        group=0,
        index=index,
        status="ok" if score is not None else "crash",
        message="",
        value=None if score is None else 1 / score,
        score=score,
        seconds=1.0,
    )


def finished(step: int = 1, seconds: float = 20.0, **metrics: float) -> dict:
    return events.step_finished(
        step=step,
        rollouts=8,
        valid=5,
        mean_value=1.25,
        best_value=2.5,
        best_score=0.4,
        metrics=metrics,
        seconds=seconds,
    )


def test_counts_and_estimates() -> None:
    clock = Clock()
    progress = RunProgress(Bound(), clock)
    assert (progress.seconds_left, progress.tokens_per_second) == (None, None)
    assert progress.best_in_words() == "no valid bound yet"
    progress.update(started())
    progress.update(events.step_started(step=1, starts=[0, 1]))
    clock.now += 10
    progress.update(sampled(0))
    progress.update(sampled(1))
    progress.update(judged(0.5, 0))
    progress.update(judged(None, 1))
    step = progress.under_way.current
    assert (step.sampled, step.judged, step.valid, progress.under_way.size) == (2, 2, 1, 8)
    assert progress.tokens_per_second == 10.0
    assert progress.best == 0.5
    assert progress.seconds_left == 10 * 8 / 2 * 10 - 10  # two of eight in 10 s, ten steps to go
    progress.update(finished(step=1, seconds=20.0))
    assert (progress.steps_done, progress.best, progress.seconds_left) == (1, 0.4, 180.0)
    progress.update(events.step_started(step=2, starts=[0, 1]))
    clock.now += 5
    assert progress.seconds_left == 175.0
    step = progress.under_way.current
    assert (step.sampled, step.judged, step.valid, step.tokens) == (0, 0, 0, 0)


def test_a_step_that_is_begun_while_another_is_judged_has_counts_of_its_own() -> None:
    clock = Clock()
    progress = RunProgress(Bound(), clock)
    progress.update(started())
    progress.update(events.step_started(step=1, starts=[0, 1]))
    progress.update(judged(0.5))
    progress.update(events.step_started(step=2, starts=[0, 1], after=0, hints=["more"]))
    clock.now += 10
    progress.update({**sampled(), "step": 2})
    progress.update(judged(None, 1))
    current, ahead = progress.under_way.current, progress.under_way.ahead
    assert ahead is not None
    assert (current.step, current.judged, ahead.step, ahead.sampled) == (1, 2, 2, 1)
    assert (progress.best, current.hints, progress.tokens_per_second) == (0.5, [], 5.0)
    assert progress.phase == "sampling step 2, evaluating step 1"
    progress.update(finished(step=1, seconds=20.0))
    current = progress.under_way.current
    assert (progress.under_way.ahead, current.step, current.sampled, current.hints) == (None, 2, 1, ["more"])
    clock.now += 5
    assert progress.seconds_left == 9 * 20 - 5
    progress.update(events.run_interrupted(step=1, reason="interrupted", resume=""))
    assert progress.best == 0.4


def test_phases() -> None:
    progress = RunProgress(Bound())
    progress.update(started())
    assert progress.phase == "starting"
    progress.update(events.step_started(step=1, starts=[0]))
    assert progress.phase == "sampling and evaluating"
    for index in range(8):
        progress.update(judged(0.5, index))
    assert progress.phase == "learning"
    progress.update(finished(step=10))
    assert progress.phase == "done"


def test_elapsed_and_left_say_of_what() -> None:
    clock = Clock()
    progress = RunProgress(Bound(), clock)
    assert dict(progress.facts())["elapsed"] == dict(progress.facts())["time left"] == "-"
    progress.update(started())
    progress.update(events.step_started(step=1, starts=[0, 1]))
    clock.now += 20
    progress.update(finished(step=1, seconds=20.0))
    clock.now += 3
    assert [name for name, _ in progress.facts()][-2:] == ["elapsed", "time left"]
    assert dict(progress.facts())["elapsed"] == "0:23 since the run began"
    assert dict(progress.facts())["time left"] == "3:00 to the end of the run, 9 steps"
    progress.update(finished(step=9, seconds=20.0))
    assert dict(progress.facts())["time left"] == "0:20 to the end of the run, 1 step"
    clock.now += 100
    progress.update(started(step=9))
    clock.now += 5
    assert dict(progress.facts())["elapsed"] == "0:05 since the run went on after step 9"
    assert progress.seconds_elapsed == 5.0


def test_the_best_of_a_step_that_was_discarded_is_forgotten() -> None:
    progress = RunProgress(Bound())
    for event in (started(), events.step_started(step=1, starts=[0]), judged(0.45), finished(step=1)):
        progress.update(event)
    assert progress.best == 0.4
    progress.update(events.step_started(step=2, starts=[0]))
    progress.update(judged(0.39))
    assert progress.best == 0.39
    progress.update(events.run_interrupted(step=1, reason="interrupted", resume="ttd resume x"))
    assert progress.best == 0.4
    # Killed: nothing says so but the next start, which may go back further.
    progress.update(events.step_started(step=2, starts=[0]))
    progress.update(judged(0.39))
    progress.update(started(step=1))
    assert progress.best == 0.4
    progress.update(started(step=0))
    assert progress.best is None


def test_what_a_finished_run_says_of_its_best_counts() -> None:
    progress = RunProgress(Bound())
    progress.update(started())
    progress.update(events.run_finished(step=0, best_value=2.0, best_score=0.5, seconds=1.0))
    assert progress.best == 0.5


def test_one_step_and_one_rollout_are_no_plural() -> None:
    stream = io.StringIO()
    view = ProgressView(Bound(), stream)
    event = events.run_started(
        run="runs/x", problem="bound", policy="a model", step=0, steps=1, groups=1, group_size=1
    )
    view.ttd_event(event)
    assert stream.getvalue() == "runs/x: bound with a model, 1 step of 1 rollout\n"


def test_which_engine_serves_and_why_is_said_in_a_line_where_a_run_starts() -> None:
    stream = io.StringIO()
    engine = chosen("auto", machine_lacks(on_gpu=False, has_triton=False), "")
    ProgressView(Bound(), stream).ttd_event(started() | {"engine": str(engine)})
    first, second = stream.getvalue().splitlines()
    assert " with " in first
    assert second == f"engine: {engine}"
    assert second.startswith("engine: plain (transformers' own code): the model runs on the CPU, and ")


def test_the_runs_best_is_taken_after_a_resume() -> None:
    progress = RunProgress(Bound())
    progress.update(started(step=3))
    progress.update(finished(step=4, run_score_best=0.39))
    assert progress.best == 0.39


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (0.3808753232, "0.3808753232 (below the published 0.380876 of machines by 6.77e-07: better)"),
        (0.4, "0.4 (above the published 0.380876 of machines by 0.0191: worse)"),
        (0.380876, "0.380876 (equal to the published 0.380876 of machines)"),
    ],
)
def test_compare_with_published(score: float, text: str) -> None:
    assert compare_with_published(Bound(), score) == text


def test_step_line_says_everything() -> None:
    line = step_line(
        Bound(),
        finished(
            score_start=0.42,
            score_gain=0.02,
            score_novel=0.41,
            gain_novel=0.01,
            kl=0.00123,
            advantage_std=1.5,
            repeat_share=0.25,
            tokens_per_s=812.3,
        ),
        50,
    )
    assert line == (
        "step 1/50  valid 5/8 (62%)  reward mean 1.25 best 2.5  score 0.4 "
        "(best start 0.42, largest gain +0.02)  new program 0.41 (gain on its start +0.01)  KL 0.00123  "
        "advantage std 1.5  repeats 25%  tokens/s 812  20.0 s"
    )


def test_step_line_of_a_step_without_success() -> None:
    event = finished() | {"best_value": None, "best_score": None, "valid": 0, "mean_value": 0.0}
    assert step_line(Bound(), event, 3) == "step 1/3  valid 0/8 (0%)  reward mean 0  20.0 s"


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (0.4, "0:00"), (59.6, "1:00"), (125, "2:05"), (3723, "1:02:03")]
)
def test_duration(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def play(view: ProgressView) -> None:
    with view:
        for event in (
            started(),
            events.step_started(step=1, starts=[0]),
            sampled(),
            judged(0.5),
            finished(),
            events.run_finished(step=1, best_value=2.5, best_score=0.4, seconds=1.0),
        ):
            view.ttd_event(event)


def test_plain_lines() -> None:
    stream = io.StringIO()
    play(ProgressView(Bound(), stream))
    assert stream.getvalue().splitlines() == [
        "runs/x: bound with a model, 10 steps of 8 rollouts",
        "step 1/10  valid 5/8 (62%)  reward mean 1.25 best 2.5  score 0.4  20.0 s",
    ]


def test_rollouts_from_before_a_stop_are_told_and_are_no_work_of_this_process() -> None:
    stream = io.StringIO()
    clock = iter([0.0, 0.0, *[10.0] * 20])
    view = ProgressView(Bound(), stream, clock=lambda: next(clock))
    kept = [make for index in range(2) for make in (sampled(index, 3), judged(0.5, index, 3))]
    for event in (started(step=2), events.step_started(step=3, starts=[0], kept=2), *kept):
        view.ttd_event(event)
    assert stream.getvalue().splitlines()[-1] == "step 3: 2 of 8 replies are there from before the stop"
    run = view.progress
    assert (run.under_way.current.sampled, run.under_way.current.judged) == (2, 2)
    assert (run.tokens_per_second, run.seconds_left) == (None, None)
    for event in (sampled(2, 3), judged(0.5, 2, 3)):
        view.ttd_event(event)
    assert (run.under_way.current.sampled, run.tokens_per_second) == (3, 5.0)
    assert run.seconds_left == 10 * 8 * 8 - 10


def test_quiet() -> None:
    stream = io.StringIO()
    view = ProgressView(Bound(), stream, quiet=True)
    play(view)
    assert stream.getvalue() == ""
    assert view.progress.best == 0.4


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_live_view_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    play(ProgressView(Bound(), stream))
    text = stream.getvalue()
    for piece in ("sampled", "evaluated", "1/8", "elapsed", "time left", "tokens/s"):
        assert piece in text
    assert "step 1/10  valid 5/8 (62%)" in text
    assert "0.4 (above the published 0.380876 of machines by 0.0191: worse)" in text
    assert "\x1b[?25h" in text  # the cursor is shown again


LEARNED = {Metric.KL: 0.0123, Metric.ADVANTAGE_STD: 0.5, Metric.REPEAT_SHARE: 0.1}


def test_no_word_is_broken_at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    stream = Terminal()
    view = ProgressView(Bound(), stream)
    hint = "Try a gradient step on the Fourier coefficients, then round to the nearest vertex."
    with view:
        view.ttd_event(started() | {"run": "runs/a-run-with-a-name", "policy": "a model of a long name"})
        view.ttd_event(events.step_started(step=1, starts=[0], hints=[hint]))
        view.ttd_event(judged(0.4))
        view.ttd_event(finished(**LEARNED))
        view._live.refresh()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue()).replace("\r", "\n")
    assert max(len(line.rstrip()) for line in text.split("\n")) <= 80
    said = set(text.split())
    line = step_line(Bound(), finished(**LEARNED), 10)
    assert len(line) > 80
    for words in (
        view.title(),
        line,
        hint,
        "0.4 (above the published 0.380876 of machines by 0.0191: worse)",
    ):
        assert set(words.split()) <= said
    assert "\n  " in wrapped(line, 80)


def test_lines_are_wrapped_at_blanks_alone() -> None:
    text = "first-line of some-hyphenated words/and/a/path/that/is/longer/than/the/line\n\nsecond"
    assert wrapped(text, 24) == (
        "first-line of\n  some-hyphenated\n  words/and/a/path/that/is/longer/than/the/line\n\nsecond"
    )
