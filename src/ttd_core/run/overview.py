"""The runs of a folder, each in one line: what it is, how far it has come, whether it still goes on.

Read from each run's database alone: no plugin is imported. A run that cannot be read is told, not left out.
"""

from __future__ import annotations

import pathlib

import attrs

from ttd_core import config as configs
from ttd_core.errors import ConfigError, ResumeError, StorageError
from ttd_core.run.files import writing_process
from ttd_core.run.problem_record import ProblemRecord
from ttd_core.run.reading import DATABASE, RunReader
from ttd_core.run.setup import CONFIG_FILE

#: How a run ended that no process writes, by its newest event. Where that is another, the process went
#: without a word: it was killed, or an error ended it.
_ENDINGS = {"run_finished": "finished", "run_interrupted": "interrupted"}


@attrs.frozen
class RunOverview:
    """One run.

    :param name: its folder's name.
    :param folder: its folder.
    :param state: ``running``, ``finished``, ``interrupted``, ``stopped`` (its process is gone without a
        word), or ``unreadable``.
    :param problem: name of the problem; before the run has begun as it was asked for.
    :param policy: name of the policy, for people; the model's name before the run has begun.
    :param variant: named set of search and learning choices.
    :param seed: the run's.
    :param done: committed steps.
    :param steps: how many it shall have.
    :param best_score: in the problem's metric; ``None`` when nothing is scored.
    :param caution: what its scores are where they were made beside the candidate; empty elsewhere.
    :param begun: seconds since the epoch; ``None`` when unreadable.
    :param error: why it cannot be read; empty otherwise.
    """

    name: str
    folder: str
    state: str
    problem: str = ""
    policy: str = ""
    variant: str = ""
    seed: int | None = None
    done: int = 0
    steps: int = 0
    best_score: float | None = None
    caution: str = ""
    begun: float | None = None
    error: str = ""


def runs_in(folder: pathlib.Path) -> list[RunOverview]:
    """The runs in a folder, the newest first, those that cannot be read at the end."""
    if not folder.is_dir():
        return []
    found = [each for each in sorted(folder.iterdir()) if looks_like_a_run(each)]
    return sorted((overview(each) for each in found), key=lambda run: -(run.begun or 0.0))


def overview(folder: pathlib.Path) -> RunOverview:
    """One run, from its folder."""
    name = folder.resolve().name
    try:
        with RunReader.open(folder) as run:
            config = configs.from_toml(run.config(), where=str(folder / DATABASE))
            started = run.newest_event("run_started") or {}
            last = run.newest_event("run_started", *_ENDINGS)
            best = next(iter(run.best(1)), None)
            recorded = ProblemRecord.of_run(run)
            return RunOverview(
                name=name,
                folder=str(folder),
                state=_state(folder, last["kind"] if last else ""),
                problem=str(started.get("problem") or config.problem),
                policy=str(started.get("policy") or config.policy.model),
                variant=config.variant,
                seed=config.seed,
                done=run.last_step(),
                steps=config.steps,
                best_score=best.reward.score if best is not None and best.reward is not None else None,
                caution=recorded.caution if recorded is not None else "",
                begun=run.created(),
            )
    except (ConfigError, ResumeError, StorageError) as error:
        return RunOverview(name=name, folder=str(folder), state="unreadable", error=str(error))


def finished_steps(folder: pathlib.Path) -> int | None:
    """How many steps a run has that is over; ``None`` when it was stopped before its end, or still goes on.

    :raises ResumeError, StorageError: when it cannot be read.
    """
    with RunReader.open(folder) as run:
        last = run.newest_event("run_started", *_ENDINGS)
        return run.last_step() if last is not None and last["kind"] == "run_finished" else None


def _state(folder: pathlib.Path, last_event: str) -> str:
    if writing_process(folder) is not None:
        return "running"
    return _ENDINGS.get(last_event, "stopped")


def looks_like_a_run(folder: pathlib.Path) -> bool:
    """Whether a folder is a run's, be it one that cannot be read."""
    return (folder / DATABASE).is_file() or (folder / CONFIG_FILE).is_file()
