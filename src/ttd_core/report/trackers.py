"""Experiment trackers as observers: TensorBoard, trackio and W&B, each loaded when it is asked for.

A tracker gets the numbers of each committed step. It is a convenience: when it fails in the middle of a run
it is left out with a warning, and the run goes on.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import math
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import attrs

from ttd_core import config as configs
from ttd_core.config import RunConfig
from ttd_core.dialogue.prompting import fenced
from ttd_core.errors import EnvironmentLacksError, UsageError, did_you_mean, one_line
from ttd_core.metrics import StepTotal
from ttd_core.plugin.spec import hookimpl


class Sink(Protocol):
    """Where a tracker writes numbers to."""

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Take a step's numbers."""

    def close(self) -> None:
        """Write out what is left."""


class TensorBoardSink:
    """Event files in the run's folder; ``tensorboard --logdir runs`` shows every run there.

    :param step: the last committed one; whatever was written of later steps is hidden.
    """

    def __init__(self, folder: pathlib.Path, config: RunConfig, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - loads torch and tensorboard

        self._writer: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
        if not step:
            self._writer.add_text("config", fenced(configs.to_toml(config), "toml"))

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """One scalar a number."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


class HostedSink:
    """W&B, or trackio, which has the same calls: project ``ttd-PROBLEM``, a run named after the folder.

    Where the numbers go (a server, or offline) is theirs to say, by login and environment: ``WANDB_MODE``,
    ``TRACKIO_DIR``.

    :param package: the imported module.
    :param extra: arguments that only this one takes.
    """

    def __init__(self, package: Any, folder: pathlib.Path, config: RunConfig, **extra: Any) -> None:
        self._package = package
        place = config.problem.removeprefix("adopted:").partition(":")[0]
        project = f"ttd-{pathlib.PurePath(place).stem}"
        package.init(project=project, name=folder.resolve().name, config=configs.flatten(config), **extra)

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """All numbers of a step at once."""
        self._package.log(dict(numbers), step=step)

    def close(self) -> None:
        """Send what is left."""
        self._package.finish()


def _open_trackio(folder: pathlib.Path, config: RunConfig, _step: int) -> Sink:
    return HostedSink(importlib.import_module("trackio"), folder, config, resume="allow")


def _open_wandb(folder: pathlib.Path, config: RunConfig, _step: int) -> Sink:
    # A resumed run is a second W&B run of the same group: W&B takes no step twice.
    wandb = importlib.import_module("wandb")
    return HostedSink(wandb, folder, config, dir=str(folder), group=folder.resolve().name)


#: Known trackers; each is also the name of the package it needs.
TRACKERS: dict[str, Callable[[pathlib.Path, RunConfig, int], Sink]] = {
    "tensorboard": TensorBoardSink,
    "trackio": _open_trackio,
    "wandb": _open_wandb,
}


@attrs.define(eq=False)
class Tracker:
    """An observer that hands each step's numbers to a tracker. Opened by the run's first event.

    :param name: one of :data:`TRACKERS`.
    :param folder: the run's.
    :param config: the run's.
    :param warn: takes one line when the tracker fails.
    """

    name: str
    folder: pathlib.Path
    config: RunConfig
    warn: Callable[[str], None]
    _sink: Sink | None = attrs.field(default=None, init=False)

    @hookimpl
    def ttd_event(self, event: Mapping[str, Any]) -> None:
        """Open with the run, then log each step."""
        if event["kind"] == "run_started":
            self._try(lambda: self._open(event["step"]))
        elif event["kind"] == "step_finished" and self._sink is not None:
            sink = self._sink
            self._try(lambda: sink.log(event["step"], numbers_of(event)))

    def close(self) -> None:
        """Write out what is left."""
        sink, self._sink = self._sink, None
        if sink is not None:
            self._try(sink.close)

    def _open(self, step: int) -> None:
        self._sink = TRACKERS[self.name](self.folder, self.config, step)

    def _try(self, action: Callable[[], None]) -> None:
        try:
            # Trackers chat on standard output, which belongs to the command's result.
            with contextlib.redirect_stdout(sys.stderr):
                action()
        except Exception as error:  # noqa: BLE001 - the run matters more than its tracker
            self._sink = None
            self.warn(f"tracker {self.name} is left out from here on: {one_line(error)}")


def open_trackers(
    names: Sequence[str], folder: pathlib.Path, config: RunConfig, warn: Callable[[str], None]
) -> list[Tracker]:
    """Trackers by name, each once. Nothing is written before the run starts.

    :raises UsageError: for an unknown name.
    :raises EnvironmentLacksError: when the package is not installed.
    """
    for name in names:
        if name not in TRACKERS:
            known = ", ".join(TRACKERS)
            raise UsageError(f"unknown tracker '{name}'.{did_you_mean(name, TRACKERS)} Known: {known}.")
        if importlib.util.find_spec(name) is None:
            raise EnvironmentLacksError(f"tracker {name} is not installed; pip install 'ttd-core[{name}]'")
    return [Tracker(name, folder, config, warn) for name in dict.fromkeys(names)]


def numbers_of(event: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a ``step_finished`` event by name."""
    numbers = {
        **event["metrics"],
        StepTotal.ROLLOUTS: event["rollouts"],
        StepTotal.VALID: event["valid"],
        StepTotal.REWARD_BEST: event["best_value"],
        StepTotal.SCORE_BEST: event["best_score"],
        StepTotal.STEP_SECONDS: event["seconds"],
    }
    known = {name: value for name, value in numbers.items() if value is not None}
    return {str(name): float(value) for name, value in known.items() if math.isfinite(value)}
