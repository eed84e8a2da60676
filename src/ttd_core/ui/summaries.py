"""One line for each run: as ``ttd list-runs`` has it, with published score, spark line and time left."""

from __future__ import annotations

import math
import os
import pathlib
import threading
import time
from collections.abc import Sequence

import attrs
from markupsafe import Markup

from ttd_core.errors import TtdError, one_line
from ttd_core.problem import Problem
from ttd_core.report.drawing import Drawing, path_of
from ttd_core.report.scales import Scale, domain
from ttd_core.run.files import writing_process
from ttd_core.run.overview import RunOverview, overview
from ttd_core.run.problem_record import recorded_problem
from ttd_core.run.reading import DATABASE, RunReader
from ttd_core.run.records import StepRecord
from ttd_core.run.time_left import seconds_left
from ttd_core.ui.folders import NotFoundError, RunFolders

NOTHING = Markup("")
#: Pixels of a spark line.
SPARK = (96.0, 22.0)
#: Points of a spark line, at most.
_POINTS = 64


@attrs.frozen(eq=False)
class RunLine:
    """One run in a list of runs.

    :param id: its name in addresses.
    :param title: its name for people.
    :param best: its best score as text; empty when nothing is scored.
    :param published: the best published score as text; empty when there is none.
    :param beats: whether the best is better than that.
    :param spark: the best score by step.
    :param step_seconds: wall seconds of its steps.
    :param going_since: when the step under way began, about: the last one was over, or the run went on.
    """

    id: str
    title: str
    overview: RunOverview
    best: str = ""
    published: str = ""
    beats: bool = False
    spark: Markup = NOTHING
    step_seconds: Sequence[float] = ()
    going_since: float = 0.0

    @property
    def seconds_left(self) -> float | None:
        """Estimated wall seconds to the run's end; ``None`` when it does not go on or nothing is known."""
        run = self.overview
        if run.state != "running":
            return None
        return seconds_left(self.step_seconds, run.steps - run.done, time.time() - self.going_since)


class RunLines:
    """The lines of all runs below a folder; a run that has not changed is not read again."""

    def __init__(self, folders: RunFolders) -> None:
        self._folders = folders
        self._lock = threading.Lock()
        self._known: dict[str, tuple[tuple[object, ...], RunLine]] = {}

    def lines(self) -> list[RunLine]:
        """Every run, the newest first, those that cannot be read at the end."""
        with self._lock:
            known: dict[str, tuple[tuple[object, ...], RunLine]] = {}
            for name in self._folders.names():
                try:
                    folder = self._folders.folder(name)
                except NotFoundError:
                    # Removed since it was listed.
                    continue
                changed = _fingerprint(folder)
                before = self._known.get(name)
                if before is None or before[0] != changed:
                    before = (changed, _read(name, self._folders.title(name), folder))
                known[name] = before
            self._known = known
        return sorted((line for _, line in known.values()), key=lambda line: -(line.overview.begun or 0.0))

    def version(self) -> int:
        """A number that changes when any line does."""
        self.lines()
        return hash(tuple((name, changed) for name, (changed, _) in sorted(self._known.items())))


def _fingerprint(folder: pathlib.Path) -> tuple[object, ...]:
    """Changes when the run is written, or its writer comes or goes."""
    stamps: list[object] = []
    for name in (DATABASE, f"{DATABASE}-wal"):
        try:
            found = os.stat(folder / name)
            # Reading makes an empty log beside a database; that is no change.
            stamps.append((found.st_mtime_ns, found.st_size, found.st_ino) if found.st_size else None)
        except OSError:
            stamps.append(None)
    try:
        stamps.append(writing_process(folder))
    except OSError:
        stamps.append(None)
    return tuple(stamps)


def _read(name: str, title: str, folder: pathlib.Path) -> RunLine:
    try:
        run = overview(folder)
        if run.error:
            return RunLine(name, title, run)
        with RunReader.open(folder) as reader:
            steps = reader.steps()
            problem = recorded_problem(reader)
            finished = reader.events(kind="step_finished")
            started = reader.newest_event("run_started") or {}
    except TtdError as error:
        return RunLine(name, title, RunOverview(title, str(folder), "unreadable", error=str(error)))
    except Exception as error:  # noqa: BLE001 - whatever a folder holds, the other runs are listed
        return RunLine(name, title, RunOverview(title, str(folder), "unreadable", error=one_line(error)))
    line = RunLine(
        name,
        title,
        run,
        step_seconds=[float(event["seconds"]) for event in finished],
        going_since=max(steps[-1].finished if steps else 0.0, float(started.get("time", 0.0))),
        best="" if run.best_score is None else f"{run.best_score:.10g}",
    )
    return line if problem is None else _beside_published(line, problem, steps)


def _beside_published(line: RunLine, problem: Problem, steps: list[StepRecord]) -> RunLine:
    published = problem.best_comparable()
    score = line.overview.best_score
    return attrs.evolve(
        line,
        best=line.best if score is None else problem.format_score(score),
        published="" if published is None else problem.format_baseline(published),
        beats=score is not None and published is not None and problem.beats(score, published),
        spark=spark_line([step.best_score for step in steps], problem),
    )


def spark_line(scores: list[float | None], problem: Problem) -> Markup:
    """The best score so far by step, small; empty without two steps.

    :param scores: the best of each step; ``None`` where nothing succeeded.
    """
    best: list[float] = []
    for score in scores:
        known = best[-1:] if score is None else [problem.best_of([score, *best[-1:]])]
        best += known
    if len(best) < 2:
        return NOTHING
    stride = math.ceil(len(best) / _POINTS)
    shown = [*best[:-1:stride], best[-1]]
    drawing = Drawing(*SPARK, f"best score from {best[0]:.6g} to {best[-1]:.6g} over {len(best)} steps")
    x = Scale(0.0, len(shown) - 1.0, 2.0, SPARK[0] - 2.0)
    y = Scale(*domain(shown, 0.05), SPARK[1] - 3.0, 3.0)
    points = [(x(float(index)), y(value)) for index, value in enumerate(shown)]
    drawing.add("path", d=path_of(points), class_="line c1")
    # The drawing escapes every text it is given.
    return Markup(drawing.svg("spark"))
