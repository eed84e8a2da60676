"""Where each run of an experiment stands, read from the folders alone, so that any process can tell."""

from __future__ import annotations

import enum
import pathlib

import attrs

from ttd_core import config as configs
from ttd_core.errors import ResumeError
from ttd_core.experiment.plan import Plan, PlannedRun
from ttd_core.metrics import Metric
from ttd_core.run.files import writing_process
from ttd_core.run.reading import RunReader
from ttd_core.run.tables import was_begun


class Stage(enum.StrEnum):
    """How far a planned run is."""

    WAITING = "waiting"
    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"
    FINISHED = "finished"


@attrs.frozen
class Folders:
    """The folder of an experiment: ``runs/NAME/``, and for each run its config, its output and its error.

    :param root: the experiment's folder.
    """

    root: pathlib.Path

    @property
    def runs(self) -> pathlib.Path:
        """Holds the run folders."""
        return self.root / "runs"

    def run(self, name: str) -> pathlib.Path:
        """The folder of one run."""
        return self.runs / name

    def config(self, name: str) -> pathlib.Path:
        """The config that one run is begun with."""
        return self.root / "configs" / f"{name}.toml"

    def output(self, name: str) -> pathlib.Path:
        """What one run's process printed."""
        return self.root / "output" / f"{name}.txt"

    def error(self, name: str) -> pathlib.Path:
        """Why one run failed, in a line; absent unless it did."""
        return self.root / "failed" / f"{name}.txt"


@attrs.frozen
class Standing:
    """One run's progress.

    :param stage: how far it is.
    :param step: its last committed step.
    :param seconds: wall seconds of its committed steps.
    :param best_score: best score so far; ``None`` when nothing is scored.
    :param valid_share: share of valid rollouts in its last step; ``None`` before the first.
    :param error: why it failed, in a line; empty unless it did.
    """

    stage: Stage
    step: int = 0
    seconds: float = 0.0
    best_score: float | None = None
    valid_share: float | None = None
    error: str = ""


def standing_of(run: PlannedRun, folders: Folders) -> Standing:
    """Where one run stands.

    :raises ResumeError: when its folder holds a run of another config.
    """
    folder, failed = folders.run(run.name), folders.error(run.name)
    error = failed.read_text(encoding="utf-8").strip() if failed.exists() else ""
    if not was_begun(folder / "run.db"):
        if folder.exists() and writing_process(folder) is not None:
            return Standing(Stage.RUNNING)
        return Standing(Stage.FAILED if error else Stage.WAITING, error=error)
    with RunReader.open(folder) as reader:
        _refuse_another_config(run, reader, folder)
        metrics = reader.metrics()
        step = reader.last_step()
        best = reader.best(1)
        seconds = sum(event["seconds"] for event in reader.events(kind="step_finished"))
    return Standing(
        stage=_stage(run, folder, step, error),
        step=step,
        seconds=float(seconds),
        best_score=best[0].reward.score if best and best[0].reward is not None else None,
        valid_share=metrics[step].get(Metric.VALID_SHARE) if step in metrics else None,
        error=error,
    )


def standings(plan: Plan, folders: Folders) -> dict[str, Standing]:
    """Where each run of the plan stands, by name.

    :raises ResumeError: when a folder holds a run of another config; names it and the keys.
    """
    return {run.name: standing_of(run, folders) for run in plan.runs}


def _stage(run: PlannedRun, folder: pathlib.Path, step: int, error: str) -> Stage:
    if writing_process(folder) is not None:
        return Stage.RUNNING
    if step >= run.config.steps:
        return Stage.FINISHED
    return Stage.FAILED if error else Stage.STOPPED


def _refuse_another_config(run: PlannedRun, reader: RunReader, folder: pathlib.Path) -> None:
    stored = configs.from_toml(reader.config(), where=f"{folder}/run.db")
    differences = configs.diff(stored, run.config)
    if differences:
        keys = "; ".join(str(difference) for difference in differences)
        raise ResumeError(
            f"{folder} holds a run of another config: {keys}. Give the experiment another name, or move the "
            "folder away"
        )
