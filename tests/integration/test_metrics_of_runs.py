"""Every number that a real run stores, or hands to observers and trackers, is in the list of metrics."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from ttd_core import config as configs
from ttd_core.metrics import Metric, StepTotal, Timing
from ttd_core.plugin.spec import hookimpl
from ttd_core.report.trackers import numbers_of
from ttd_core.run.loop import start_run
from ttd_core.run.reading import RunReader
from ttd_core.run.setup import RunSetup

TIMINGS = {timing.key for timing in Timing}
#: What only a policy that asks a server counts.
OF_SERVERS = {Metric.REQUESTS, Metric.RETRIES, Metric.TOKENS_PROMPT, Metric.COST}
#: What only a policy that learns measures.
OF_LEARNING = {
    *(Metric.GROUPS_USED, Metric.TOKENS_TRAINED, Metric.ADVANTAGE_STD, Metric.BETA_MEAN, Metric.KL),
    *(Metric.LOSS, Metric.GRAD_NORM, Metric.UPDATE_NORM, Metric.LOGPROB_GAP, Metric.LOGPROB_GAP_MAX),
    *(Metric.RATIO_MAX, Metric.PACKS, Metric.SECONDS_BASE, Metric.SECONDS_TRAIN),
}
#: What only steps that overlap, or that have a deadline, measure.
OF_SCHEDULES = {Metric.STALENESS, Metric.STALENESS_MAX, Metric.LATE, Metric.JOINED}
#: What only short runs first, and equal programs once, count.
OF_JUDGING = {Metric.WENT_ON, Metric.SECONDS_SPARED, Metric.REUSED}


class Listener:
    """Keeps the finished steps."""

    def __init__(self) -> None:
        self.finished: list[Mapping[str, Any]] = []

    @hookimpl
    def ttd_event(self, event: Mapping[str, Any]) -> None:
        if event["kind"] == "step_finished":
            self.finished.append(event)


def names_of_run(folder: pathlib.Path, problem: pathlib.Path, **settings: Any) -> set[str]:
    """Run two steps; the names of the metrics in its database, all of which must be known.

    Those that its events and trackers get must be known as well.
    """
    overrides = {"steps": 2, "groups": 2, "group_size": 4, **settings}
    listener = Listener()
    config = configs.load(f"{problem}:Letters", overrides=overrides)
    start_run(RunSetup.from_config(config), folder, [listener])
    with RunReader.open(folder) as run:
        stored = {name for metrics in run.metrics().values() for name in metrics}
    sent = {name for event in listener.finished for name in event["metrics"]}
    tracked = {name for event in listener.finished for name in numbers_of(event)}
    assert len(listener.finished) == 2
    assert stored - TIMINGS == sent <= set(Metric)
    assert tracked == sent | set(StepTotal)
    return stored


def test_metrics_of_a_scripted_run(tmp_path: pathlib.Path, problem_file: pathlib.Path) -> None:
    stored = names_of_run(
        tmp_path / "run",
        problem_file,
        **{"policy.backend": "scripted", "policy.options": {"replies": ["abc", "abcd", "", "a1"]}},
    )
    assert stored == {*Metric, *TIMINGS} - OF_SERVERS - OF_LEARNING - OF_SCHEDULES - OF_JUDGING


def test_metrics_of_a_run_whose_steps_overlap_and_have_a_deadline(
    tmp_path: pathlib.Path, problem_file: pathlib.Path
) -> None:
    stored = names_of_run(
        tmp_path / "run",
        problem_file,
        **{"policy.backend": "scripted", "policy.options": {"replies": ["abc", "abcd", "", "a1"]}},
        **{"schedule": "pipelined", "deadline.share": 1.0},
    )
    # Both steps start from the seed, which has no score.
    of_scored_starts = {Metric.SCORE_START, Metric.SCORE_GAIN, Metric.GAIN_NOVEL}
    assert stored == {*Metric, *TIMINGS} - OF_SERVERS - OF_LEARNING - OF_JUDGING - of_scored_starts


@pytest.mark.timeout(300)
def test_metrics_of_a_run_that_learns(
    tmp_path: pathlib.Path, problem_file: pathlib.Path, model_folder: pathlib.Path
) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        stored = names_of_run(
            tmp_path / "run",
            problem_file,
            **{
                "policy.model": str(model_folder),
                "policy.device": "cpu",
                "policy.dtype": "float32",
                "policy.lora_rank": 4,
                "policy.max_new_tokens": 16,
            },
        )
    finally:
        torch.set_num_threads(threads)
    assert stored == {*Metric, *TIMINGS} - OF_SERVERS - OF_SCHEDULES - OF_JUDGING
    with RunReader.open(tmp_path / "run") as run:
        (begun,) = run.events(kind="run_started")
    assert begun["engine"].startswith("plain (transformers' own code): ")
