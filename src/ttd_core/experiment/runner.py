"""Making an experiment's runs: each a process of its own, several at a time, whatever becomes of the others.

A run is begun or gone on with by ``ttd`` itself, so its folder is like any other. An interrupt is handed to
all that run; each then ends after the step it has committed.
"""

from __future__ import annotations

import collections
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import attrs

from ttd_core import config as configs
from ttd_core.experiment.plan import Plan, PlannedRun
from ttd_core.experiment.progress import Folders, Stage, standing_of
from ttd_core.experiment.slots import Slot
from ttd_core.run.files import storage_errors, write_atomically, writing_process
from ttd_core.run.tables import was_begun

#: Seconds between two looks at the processes.
_PATIENCE_S = 0.2
#: Seconds that interrupted runs have to end in.
_GRACE_S = 60.0
#: Longest reason kept of a failed run, in characters.
_MOST_REASON_CHARS = 500
_INTERRUPTED = 130


@attrs.frozen(eq=False)
class Ended:
    """One run's process has ended.

    :param run: the run.
    :param error: why it failed, in a line; empty when it did not.
    """

    run: PlannedRun
    error: str


@attrs.frozen(eq=False)
class _Process:
    run: PlannedRun
    slot: Slot
    process: subprocess.Popen[bytes]


class ExperimentRunner:
    """Makes the runs of a plan that are not finished yet.

    :param plan: the experiment.
    :param folders: where it is kept.
    :param slots: what each run at a time has to itself.
    :param retry_failed: whether runs that failed before are tried again.
    """

    def __init__(
        self, plan: Plan, folders: Folders, slots: Sequence[Slot], *, retry_failed: bool = True
    ) -> None:
        self._plan = plan
        self._folders = folders
        self._free = collections.deque(slots)
        self._retry_failed = retry_failed
        self._running: list[_Process] = []

    def owed(self) -> list[PlannedRun]:
        """The runs still to be made, in the plan's order.

        :raises ResumeError: when a folder holds a run of another config, or another process writes it.
        """
        done = {Stage.FINISHED, Stage.RUNNING} if self._retry_failed else {*_ENDED, Stage.RUNNING}
        return [run for run in self._plan.runs if standing_of(run, self._folders).stage not in done]

    def go(self, between: Callable[[], None] = lambda: None) -> Iterator[Ended]:
        """Make all owed runs; yields each as it ends. On an interrupt all end, and the interrupt goes on.

        :param between: called several times a second while runs are under way.
        :raises StorageError: when the experiment's folder cannot be written.
        """
        waiting = collections.deque(self.owed())
        try:
            while waiting or self._running or self._made_elsewhere():
                while waiting and self._free:
                    self._running.append(self._begin(waiting.popleft(), self._free.popleft()))
                time.sleep(_PATIENCE_S)
                between()
                yield from self._collect()
        finally:
            self._end_all()

    def _made_elsewhere(self) -> bool:
        """Whether another process still makes a run of the plan: one that outlived a killed experiment."""
        own = {item.run.name for item in self._running}
        return any(
            writing_process(self._folders.run(run.name)) is not None
            for run in self._plan.runs
            if run.name not in own and self._folders.run(run.name).exists()
        )

    def _begin(self, run: PlannedRun, slot: Slot) -> _Process:
        """Start a run's process, or one that goes on with it."""
        folders = self._folders
        for path in (folders.runs, folders.config("").parent, folders.output("").parent):
            with storage_errors(path):
                path.mkdir(parents=True, exist_ok=True)
        folders.error(run.name).unlink(missing_ok=True)
        if was_begun(folders.run(run.name) / "run.db"):
            words = ["resume", str(folders.run(run.name)), "--steps", str(run.config.steps)]
        else:
            _remove_unbegun(folders.run(run.name))
            with storage_errors(folders.config(run.name)):
                write_atomically(folders.config(run.name), configs.to_toml(run.config).encode())
            words = ["run", "--config", str(folders.config(run.name)), "--name", run.name]
            words += ["--runs-dir", str(folders.runs)]
        command = [sys.executable, "-m", "ttd_core.cli", *words, "--quiet", "--json"]
        with storage_errors(folders.output(run.name)), folders.output(run.name).open("ab") as output:
            # the child takes over the cores that this thread has at the moment it is made
            own = os.sched_getaffinity(0)
            os.sched_setaffinity(0, slot.cores)
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env={**os.environ, **slot.environment()},
                    start_new_session=True,
                )
            finally:
                os.sched_setaffinity(0, own)
        return _Process(run, slot, process)

    def _collect(self) -> Iterator[Ended]:
        """Take out the processes that have ended."""
        for item in [item for item in self._running if item.process.poll() is not None]:
            self._running.remove(item)
            self._free.append(item.slot)
            yield Ended(item.run, self._note_failure(item))

    def _note_failure(self, item: _Process) -> str:
        """Why a run failed, kept beside the experiment; empty when it did not."""
        code = item.process.returncode
        if code in (0, _INTERRUPTED):
            return ""
        reason = _last_words(self._folders.output(item.run.name))
        reason = reason or (f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}")
        path = self._folders.error(item.run.name)
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, f"{reason}\n".encode("utf-8", "replace"))
        return reason

    def _end_all(self) -> None:
        """Interrupt what still runs and wait for it; what does not end in time is killed."""
        for item in self._running:
            # a run takes it like Ctrl-C, also where a script's background job made it ignore that
            item.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_S
        for item in self._running:
            try:
                item.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                item.process.kill()
                item.process.wait()
        self._running = []


_ENDED = frozenset({Stage.FINISHED, Stage.FAILED})


#: What a run folder holds before its run's first write.
_UNBEGUN = frozenset({"arrays", "lock", "run.db", "run.db-journal", "run.db-shm", "run.db-wal"})


def _remove_unbegun(folder: pathlib.Path) -> None:
    """Remove what a process leaves that was killed while it made a run folder; anything else stays."""
    if folder.is_dir() and {each.name for each in folder.iterdir()} <= _UNBEGUN:
        shutil.rmtree(folder, ignore_errors=True)


def _last_words(path: pathlib.Path) -> str:
    """The last line a process printed, without ``error:`` before it."""
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].removeprefix("error: ")[:_MOST_REASON_CHARS] if lines else ""
