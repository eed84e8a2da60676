"""A whole run: started or resumed, then step after step, each committed, until done or interrupted.

Whatever happens, the run folder holds whole steps: a step's checkpoint is written first, then its database
transaction is committed, then ``best/`` is switched. A run killed between these resumes from the last commit,
with the rollouts that the step after it had (:mod:`ttd_core.run.pending`).
"""

from __future__ import annotations

import contextlib
import logging
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from ttd_core import config as configs
from ttd_core.config import RunConfig
from ttd_core.errors import StorageError
from ttd_core.metrics import Metric, Timing
from ttd_core.policy.base import Policy, TellsEngine, Trainer
from ttd_core.run import events, requests
from ttd_core.run.backends import date_prompts, open_executor, open_policy
from ttd_core.run.beginning import BegunStep, step_rng
from ttd_core.run.best import write_best
from ttd_core.run.checkpoints import Checkpoints
from ttd_core.run.continuing import require_checkpoint, step_to_resume_at
from ttd_core.run.files import resume_command, storage_errors, write_atomically
from ttd_core.run.interrupts import signals_as_interrupt
from ttd_core.run.judges import open_judging
from ttd_core.run.pending import forget_pending
from ttd_core.run.pipeline import Schedule
from ttd_core.run.problem_record import PROBLEM_FOLDER, ProblemRecord
from ttd_core.run.seeds import score_seeds, starting_codes
from ttd_core.run.setup import CONFIG_FILE, RunSetup, require_comparisons
from ttd_core.run.step import StepRunner
from ttd_core.run.store import RunStore
from ttd_core.run.summary import RunSummary, summarise
from ttd_core.run.tokens import keep_tokens
from ttd_core.sandbox.base import Executor
from ttd_core.search.archive import Archive
from ttd_core.types import Reward

_log = logging.getLogger("ttd_core")


@attrs.frozen
class RunResult:
    """How a run ended.

    :param folder: its folder.
    :param steps: committed steps in all.
    :param summary: totals over all its steps.
    :param adapter: digest of the adapter before and after this process; empty for a policy without one.
    :param interrupted: whether it stopped before its last step.
    :param seconds: wall seconds of this process.
    :param asked: whether it stopped since somebody asked it to (``ttd stop``).
    """

    folder: pathlib.Path
    steps: int
    summary: RunSummary
    adapter: tuple[str, str]
    interrupted: bool
    seconds: float
    asked: bool = False

    @property
    def best_score(self) -> float | None:
        """In the problem's metric; ``None`` when nothing is scored."""
        return self.summary.best_score


def start_run(setup: RunSetup, folder: pathlib.Path, observers: Sequence[Any] = ()) -> RunResult:
    """Begin a run in a folder that holds none.

    Everything that can be refused is refused before the folder is made.

    :param setup: from :meth:`RunSetup.from_config`.
    :param folder: made when missing.
    :param observers: objects implementing ``ttd_event``.
    :raises TtdError: for anything a person can mend; one line, with the exit code.
    """
    setup.problem.require_machine()
    setup.hooks.observe(observers)
    with _open_backends(setup) as (executor, policy):
        require_comparisons(setup.config, isinstance(policy, Trainer))
        text = configs.to_toml(setup.config)
        with contextlib.closing(RunStore.create(folder, text)) as store:
            _write_config(folder, text)
            date_prompts(policy, setup.config, store.created())
            _note_problem(setup, store)
            archive = Archive(setup.config.search)
            _add_seeds(setup, executor, store, archive)
            return _Run(setup, executor, policy, store, archive).go()


def resume_run(
    setup: RunSetup, folder: pathlib.Path, observers: Sequence[Any] = (), *, back_to: int | None = None
) -> RunResult:
    """Continue a run from its last committed step.

    :param setup: from :meth:`RunSetup.from_folder`.
    :param folder: the run's.
    :param observers: objects implementing ``ttd_event``.
    :param back_to: an earlier step to go on from; what came after it is forgotten.
    :raises ResumeError: when there is no run, another process is writing it, or the checkpoint it goes on
        from is missing or changed.
    :raises TtdError: for anything else a person can mend; one line, with the exit code.
    """
    with contextlib.closing(RunStore.open(folder)) as store:
        require_checkpoint(store, setup.config, back_to)
        setup.problem.require_machine()
        setup.hooks.observe(observers)
        with _open_backends(setup) as (executor, policy):
            date_prompts(policy, setup.config, store.created())
            changes = _change_settings(setup, store)
            _rewind(store, policy, setup.config, back_to)
            if changes:
                event = events.settings_changed(step=store.last_step(), changes=changes)
                store.record(event)
                setup.hooks.event(event)
            if setup.problem_change or store.problem_record() is None:
                _note_problem(setup, store)
            archive = store.load_archive(setup.config.search)
            if not archive.nodes:
                _add_seeds(setup, executor, store, archive)
            return _Run(setup, executor, policy, store, archive).go()


def _change_settings(setup: RunSetup, store: RunStore) -> dict[str, Any]:
    """Store the config that the run goes on with; returns the keys that differ, with their new values."""
    text, stored = configs.to_toml(setup.config), store.config()
    if text == stored:
        return {}
    differences = configs.diff(configs.from_toml(stored, "run.db"), setup.config, ignore=())
    changes = {each.key: each.second for each in differences}
    if any(key.startswith("options.") for key in changes):
        # Judged under the former limits; forgotten first, for once the change is stored nothing tells of it.
        forget_pending(store.folder)
    store.set_config(text)
    _write_config(store.folder, text)
    return changes


def _write_config(folder: pathlib.Path, text: str) -> None:
    with storage_errors(folder):
        write_atomically(folder / CONFIG_FILE, text.encode())


def _note_problem(setup: RunSetup, store: RunStore) -> None:
    """Keep what the run's problem is, and the file of one that is a file."""
    record = ProblemRecord.of(setup.problem, setup.config.problem)
    if record.source:
        kept = store.folder / PROBLEM_FOLDER / pathlib.Path(record.origin).name
        with storage_errors(kept):
            kept.parent.mkdir(exist_ok=True)
            write_atomically(kept, record.source.encode())
    if setup.problem_change:
        # Judged by the problem as it was; forgotten first, for once the change is noted nothing tells of it.
        forget_pending(store.folder)
    store.note_problem(record.to_text(), setup.problem_change)
    if setup.problem_change:
        _log.warning(f"{store.folder}: {setup.problem_change}; accepted after step {store.last_step()}")


def _add_seeds(setup: RunSetup, executor: Executor, store: RunStore, archive: Archive) -> None:
    """Score the states a run starts from, and commit them."""
    config = setup.config
    archive.add_seeds(score_seeds(setup.hooks, step_rng(config, 0), config.groups, executor.run))
    store.commit_seeds(archive)


def _rewind(store: RunStore, policy: Policy, config: RunConfig, back_to: int | None) -> None:
    """Load the policy of the step that the run goes on from, and forget the steps after it."""
    checkpoints = Checkpoints(store.folder)
    trains = config.learn.train and isinstance(policy, Trainer)
    step = step_to_resume_at(store, checkpoints, config, trains, back_to)
    if trains and step:
        assert isinstance(policy, Trainer)
        policy.load(checkpoints.path(step))
    last = store.last_step()
    if step < last:
        forget_pending(store.folder)
        store.rewind(step)
    elif config.schedule == "pipelined":
        # Of a committed step something is left where the run was killed before it could be removed.
        forget_pending(store.folder, keep=[last + 1, last + 2])
    if back_to is not None:
        store.revise_hints(step, _hints_left(store.folder))


def _hints_left(folder: pathlib.Path) -> list[requests.Hint]:
    """What people left for the run; those that cannot be read change nothing, with a warning."""
    try:
        return requests.hints(folder)
    except StorageError as error:
        _log.warning(f"{error}; the run goes on with the hints that it knows")
        return []


@contextlib.contextmanager
def _open_backends(setup: RunSetup) -> Iterator[tuple[Executor, Policy]]:
    """Executor first: it fails fast and forks before a model fills the memory."""
    with open_executor(setup.hooks, setup.config) as executor:
        policy = open_policy(setup.hooks, setup.config)
        try:
            yield executor, policy
        finally:
            policy.close()


class _Run:
    """A run under way."""

    def __init__(
        self, setup: RunSetup, executor: Executor, policy: Policy, store: RunStore, archive: Archive
    ) -> None:
        self._config = setup.config
        self._problem = setup.problem
        self._hooks = setup.hooks
        self._policy = policy
        self._store = store
        self._archive = archive
        self._checkpoints = Checkpoints(store.folder)
        self._trains = setup.config.learn.train and isinstance(policy, Trainer)
        seeds = [(node.state, node.reward) for node in archive.seeds()]
        self._steps = StepRunner(
            *(setup.config, setup.hooks, policy, executor, archive, starting_codes(seeds), self._emit),
            archive_at=lambda step: store.load_archive(setup.config.search, step),
            folder=store.folder,
            policy_step=store.last_step(),
            judging=open_judging(setup.hooks, setup.config, executor, store.folder),
            late=store.late_rollouts(),
        )
        self._schedule = Schedule(setup.config, self._begin, self._asked_to_stop)
        self._level = str(executor.level)
        self._adapter_before = self._adapter()

    def _emit(self, event: events.Event) -> None:
        self._store.record(event)
        self._hooks.event(event)

    def go(self) -> RunResult:
        """Run to the last step; an interrupt ends the step under way, whose rollouts are kept."""
        started = time.monotonic()
        config = self._config
        try:
            # From here on: late rollouts of before are being judged already.
            with signals_as_interrupt(), contextlib.closing(self._steps):
                self._emit(self._started())
                self._update_best()
                for step in range(self._store.last_step() + 1, config.steps + 1):
                    if self._asked_to_stop():
                        break
                    self._run_step(step)
        except KeyboardInterrupt:
            return self._interrupted(started)
        if self._store.last_step() < config.steps:
            return self._interrupted(started, asked=True)
        self._steps.warn_of_late()
        best = self._best_reward()
        self._emit(
            events.run_finished(
                step=self._store.last_step(),
                best_value=None if best is None else best.value,
                best_score=None if best is None else best.score,
                seconds=time.monotonic() - started,
            )
        )
        return self._result(started, interrupted=False)

    def _started(self) -> events.Event:
        config = self._config
        return events.run_started(
            run=str(self._store.folder),
            problem=self._problem.name,
            policy=self._policy.name,
            step=self._store.last_step(),
            steps=config.steps,
            groups=config.groups,
            group_size=config.group_size,
            sandbox=self._level,
            engine=str(self._policy.engine) if isinstance(self._policy, TellsEngine) else "",
        )

    def _asked_to_stop(self) -> bool:
        return requests.asked_to_stop(self._store.folder)

    def _begin(self, step: int) -> BegunStep:
        """Begin a step, with the hints that stand when its prompts are rendered."""
        return self._steps.begin(step, self._store.note_hints(step, _hints_left(self._store.folder)))

    def _run_step(self, step: int) -> None:
        """One step, committed."""
        started = time.monotonic()
        current, ahead = self._schedule.next(step)
        result = self._steps.finish(current, ahead)
        checkpoint_started = time.monotonic()
        due = step % self._config.checkpoint_every == 0 or step == self._config.steps
        digest = self._write_checkpoint(step) if self._trains and due else None
        timings = {**result.timings, Timing.CHECKPOINT: time.monotonic() - checkpoint_started}
        metrics = dict(result.metrics)
        best = self._best_reward()
        if best is not None:
            metrics[Metric.RUN_SCORE_BEST] = best.score
        self._store.commit_step(
            step,
            result.groups,
            self._archive,
            metrics,
            timings,
            advantages=result.advantages,
            totals=result.totals,
            checkpoint=digest,
            late=result.late,
            joined=result.joined,
            tokens=keep_tokens(result.groups, result.learned, self._policy, self._config.keep_tokens),
        )
        self._steps.committed(current)
        if self._trains:
            self._checkpoints.prune(self._config.checkpoints_kept, committed=step)
        self._update_best()
        self._emit(result.finished(step, metrics, time.monotonic() - started))

    def _write_checkpoint(self, step: int) -> str:
        """Keep the policy after ``step``; returns the checkpoint's digest."""
        assert isinstance(self._policy, Trainer)
        path = self._checkpoints.save(step, self._policy)
        self._emit(events.checkpoint_written(step=step, path=str(path.relative_to(self._store.folder))))
        return self._checkpoints.digest(step)

    def _best_reward(self) -> Reward | None:
        """Of the best state so far; ``None`` when nothing is scored."""
        best = self._archive.best()
        return None if best is None else best.reward

    def _update_best(self) -> None:
        """Make ``best/`` show the best state so far."""
        best = self._archive.best()
        if best is not None:
            write_best(self._store.folder, self._problem, best)

    def _interrupted(self, started: float, *, asked: bool = False) -> RunResult:
        step = self._store.last_step()
        # In the middle of learning the policy is that of no step.
        if (
            self._trains
            and step
            and self._steps.policy_step == step
            and step not in self._checkpoints.steps()
        ):
            self._store.note_checkpoint(step, self._write_checkpoint(step))
        reason = events.ASKED_TO_STOP if asked else "interrupted"
        go_on = resume_command(self._store.folder)
        self._emit(events.run_interrupted(step=step, reason=reason, resume=go_on))
        return self._result(started, interrupted=True, asked=asked)

    def _result(self, started: float, *, interrupted: bool, asked: bool = False) -> RunResult:
        return RunResult(
            folder=self._store.folder,
            steps=self._store.last_step(),
            summary=summarise(self._store, self._problem),
            adapter=(self._adapter_before, self._adapter()),
            interrupted=interrupted,
            seconds=time.monotonic() - started,
            asked=asked,
        )

    def _adapter(self) -> str:
        """Digest of the adapter; empty for a policy without one."""
        return self._policy.adapter_digest() if isinstance(self._policy, Trainer) else ""
