"""Where a resumed run goes on: at its last committed step if the policy after it was kept, else before.

A run that learns needs the checkpoint of the step it goes on from. The newest one that it wrote must be there
as it was written: a missing one would silently cost the steps since the one before, and one put in its place
would make another run of it. Who wants to go back all the same says to which step.
"""

from __future__ import annotations

import logging
import pathlib

from ttd_core.config import RunConfig
from ttd_core.errors import ResumeError
from ttd_core.run.checkpoints import Checkpoints
from ttd_core.run.files import resume_command
from ttd_core.run.reading import RunReader

_log = logging.getLogger("ttd_core")


def step_to_resume_at(
    run: RunReader, checkpoints: Checkpoints, config: RunConfig, trains: bool, back_to: int | None
) -> int:
    """The committed step that a run goes on from; steps after it are to be forgotten.

    Warns where steps will be repeated that nobody asked to give up.

    :param trains: whether the policy learns, and so needs a checkpoint.
    :param back_to: a committed step to go back to, 0 for the start; ``None`` to lose as little as may be.
    :raises ResumeError: when a checkpoint that is needed is missing, or there is no such step. Whether it was
        changed is for :func:`require_checkpoint`.
    """
    last, step = run.last_step(), _step(run, checkpoints, config, trains, back_to)
    if back_to is None and step < last:
        repeated = f"step {last} is" if step + 1 == last else f"steps {step + 1} to {last} are"
        _log.warning(
            f"{run.folder}: the run was stopped with no checkpoint after step {step}, so {repeated} "
            f"repeated (checkpoint_every = {config.checkpoint_every})"
        )
    return step


def require_checkpoint(run: RunReader, config: RunConfig, back_to: int | None) -> None:
    """Refuse what :func:`step_to_resume_at` refuses of a run that learned, before a model is fetched.

    A changed checkpoint is refused as well: it is read here, all of it, and nowhere else for that.

    :raises ResumeError: when a checkpoint that is needed is missing or changed, or there is no such step.
    """
    if config.learn.train and run.checkpoint_digests():
        checkpoints = Checkpoints(run.folder)
        step = _step(run, checkpoints, config, True, back_to)
        if step:
            _require_unchanged(run, checkpoints, step)


def _step(
    run: RunReader, checkpoints: Checkpoints, config: RunConfig, trains: bool, back_to: int | None
) -> int:
    last = run.last_step()
    if back_to is not None:
        return _asked_for(run.folder, checkpoints, last, trains, back_to)
    return _newest_checkpoint(run, checkpoints, config, last) if trains else last


def _newest_checkpoint(run: RunReader, checkpoints: Checkpoints, config: RunConfig, last: int) -> int:
    """The newest step up to ``last`` with a checkpoint, which must be the newest that the run wrote."""
    written = [step for step in run.checkpoint_digests() if step <= last]
    # Runs of versions that did not note their checkpoints wrote one every so many steps at least.
    expected = max(written) if written else last - last % config.checkpoint_every
    there = checkpoints.latest(last)
    if there < expected:
        raise ResumeError(
            f"{checkpoints.path(expected)} is missing: the run's policy after step {expected}. Bring it back "
            f"from a copy; or go back, and lose the steps after it, with: {_resume(run.folder, there)}"
        )
    return there


def _asked_for(folder: pathlib.Path, checkpoints: Checkpoints, last: int, trains: bool, step: int) -> int:
    if not 0 <= step <= last:
        raise ResumeError(f"{folder}: --back-to {step}: the run has steps 0 (its start) to {last}")
    if trains and step and step not in checkpoints.steps():
        kept = ", ".join(str(each) for each in [0, *checkpoints.steps()] if each <= last)
        raise ResumeError(
            f"{folder}: --back-to {step}: that step has no checkpoint; those that can be gone back to: {kept}"
        )
    return step


def _require_unchanged(run: RunReader, checkpoints: Checkpoints, step: int) -> None:
    """Refuse a checkpoint that is not, byte for byte, the one written after its step."""
    noted = run.checkpoint_digests().get(step)
    if noted is not None and checkpoints.digest(step) != noted:
        before = max((each for each in checkpoints.steps() if each < step), default=0)
        raise ResumeError(
            f"{checkpoints.path(step)} is not what the run wrote after step {step}: its files were changed, "
            f"cut or replaced. Bring it back from a copy; or go back with: {_resume(run.folder, before)}"
        )


def _resume(folder: pathlib.Path, step: int) -> str:
    return f"{resume_command(folder)} --back-to {step}"
