"""Everything a page says about one run, read once from its folder."""

from __future__ import annotations

import collections
import pathlib
from collections.abc import Mapping, Sequence
from typing import Literal

import attrs
import numpy as np
import numpy.typing as npt

from ttd_core import config as configs
from ttd_core.config import RunConfig
from ttd_core.problem import Problem
from ttd_core.run.browsing import RunBrowser
from ttd_core.run.events import Event
from ttd_core.run.problem_record import problem_of_run
from ttd_core.run.records import HintRecord, StateRecord, StepRecord
from ttd_core.run.summary import RunSummary, summarise
from ttd_core.types import State, Status

#: What a score may be compared against.
Spent = Literal["rollouts", "tokens", "seconds"]


@attrs.frozen
class FailureKind:
    """The failed rollouts of one status.

    :param count: how many there were.
    :param example: the message of the first that has one.
    """

    status: Status
    count: int
    example: str


@attrs.frozen(eq=False)
class RunFacts:
    """One run, as its pages show it.

    :param name: the folder's name.
    :param problem: built as the run built it.
    :param steps: the committed ones, in order.
    :param metrics: numbers by step, then name; timings among them (:mod:`ttd_core.metrics`).
    :param rewards: by step, float64 [valid rollouts].
    :param statuses: by step, how many rollouts ended how.
    :param failures: failed rollouts by status, the most frequent first.
    :param tokens: by step, sampled tokens, forced ones included.
    :param program_seconds: by step, wall seconds that candidates' programs ran, added up.
    :param states: all that entered the archive, oldest first; those off the path to the best without their
        programs and what these printed.
    :param best: the best of them; ``None`` when none is scored.
    :param best_state: that one with its construction.
    :param events: of the run and its committed steps.
    :param problem_changes: of the problem while the run went on, by the step they came after.
    :param hints: of people, that prompts carried.
    """

    folder: pathlib.Path
    name: str
    problem: Problem
    config: RunConfig
    steps: Sequence[StepRecord]
    metrics: Mapping[int, Mapping[str, float]]
    rewards: Mapping[int, npt.NDArray[np.float64]]
    statuses: Mapping[int, Mapping[Status, int]]
    failures: Sequence[FailureKind]
    tokens: Mapping[int, int]
    program_seconds: Mapping[int, float]
    states: Sequence[StateRecord]
    best: StateRecord | None
    best_state: State | None
    events: Sequence[Event]
    problem_changes: Mapping[int, str]
    summary: RunSummary
    hints: Sequence[HintRecord] = ()

    @property
    def best_score(self) -> float | None:
        """In the problem's metric; ``None`` when nothing is scored."""
        return self.summary.best_score

    @property
    def policy(self) -> str:
        """Name of the policy, for people."""
        names = [str(event["policy"]) for event in self.events if event["kind"] == "run_started"]
        return names[-1] if names else self.config.policy.backend

    @property
    def sandbox(self) -> str:
        """The level candidates ran at; empty when nothing says so."""
        levels = [str(event.get("sandbox", "")) for event in self.events if event["kind"] == "run_started"]
        return levels[-1] if levels else ""

    @property
    def seconds(self) -> float:
        """Wall seconds of all finished steps."""
        return float(sum(event["seconds"] for event in self.events if event["kind"] == "step_finished"))

    def best_by_step(self) -> tuple[list[int], list[float]]:
        """Steps from 0 (the seeds) on, and the best score up to each; NaN before there is one."""
        seeds = [s.reward.score for s in self.states if s.seed and s.reward is not None]
        best = self.problem.best_of(seeds) if seeds else float("nan")
        steps, scores = [0], [best]
        for record in self.steps:
            if record.best_score is not None:
                so_far = [] if np.isnan(best) else [best]
                best = self.problem.best_of([*so_far, record.best_score])
            steps.append(record.step)
            scores.append(best)
        return steps, scores

    def spent_by_step(self, what: Spent) -> list[float]:
        """How much was spent up to each step, from step 0 (nothing) on.

        :param what: rollouts judged, tokens sampled, or wall seconds of the steps.
        """
        if what == "rollouts":
            spent = [float(record.rollouts) for record in self.steps]
        elif what == "tokens":
            spent = [float(self.tokens.get(record.step, 0)) for record in self.steps]
        else:
            finished = [event for event in self.events if event["kind"] == "step_finished"]
            seconds = {int(event["step"]): float(event["seconds"]) for event in finished}
            spent = [seconds.get(record.step, 0.0) for record in self.steps]
        return [0.0, *np.cumsum(spent).tolist()]

    def last_mean_reward(self, steps: int = 3) -> float | None:
        """Mean reward of the last steps' rollouts, failures as 0; ``None`` before the first step."""
        last = self.steps[-steps:]
        rollouts = sum(record.rollouts for record in last)
        total = sum(float(self.rewards[record.step].sum()) for record in last if record.step in self.rewards)
        return total / rollouts if rollouts else None

    def series(self, name: str) -> tuple[list[int], list[float]]:
        """The steps that have a metric, and its values.

        :param name: a :class:`~ttd_core.metrics.Metric`, or a name that a policy brings.
        """
        steps = [step for step, values in sorted(self.metrics.items()) if name in values]
        return steps, [self.metrics[step][name] for step in steps]

    def total(self, name: str) -> float:
        """A metric added up over the steps."""
        return float(np.nansum(self.series(name)[1]))

    def path_to_best(self) -> list[StateRecord]:
        """The lineage of the best state, oldest first; empty when nothing is scored."""
        return lineage(self.states, self.best)


def lineage(states: Sequence[StateRecord], last: StateRecord | None) -> list[StateRecord]:
    """A state and those it descends from, oldest first; empty for ``None``."""
    by_id = {state.id: state for state in states}
    path, state = [], last
    while state is not None:
        path.append(by_id.get(state.id, state))
        state = by_id.get(state.parent) if state.parent is not None else None
    return path[::-1]


def against_published(problem: Problem, score: float) -> str:
    """How a score compares with the best published one, in words that may follow it."""
    published = problem.best_comparable()
    if published is None:
        here = f" on {problem.measured_on()}" if problem.baselines else ""
        return f"nothing published{here} to compare with"
    known = f"{problem.format_baseline(published)} of {published.by}"
    if published.equals(score):
        rounded = published.decimals is not None and score != published.score
        return f"equal to the published {known}{' to all published digits' if rounded else ''}"
    comparison = "better" if problem.better(score, published.score) else "worse"
    return f"{comparison} than the published {known} by {abs(score - published.score):.3g}"


def read_facts(folder: pathlib.Path) -> RunFacts:
    """Read a run, finished or not.

    :raises ResumeError: when the folder holds no run.
    :raises TtdError: when its problem cannot be built.
    """
    with RunBrowser.open(folder) as run:
        config = configs.from_toml(run.config(), where=str(folder))
        problem = problem_of_run(run, config)
        statuses: dict[int, collections.Counter[Status]] = collections.defaultdict(collections.Counter)
        tokens: collections.Counter[int] = collections.Counter()
        seconds: dict[int, float] = collections.defaultdict(float)
        for ended in run.outcomes():
            statuses[ended.step][ended.status] = ended.count
            tokens[ended.step] += ended.tokens
            seconds[ended.step] += ended.seconds
        total = sum(statuses.values(), collections.Counter[Status]())
        rewards = run.rewards()
        best = next(iter(run.best(1)), None)
        states = run.states(text=False)
        # The programs of the path to the best alone are shown.
        path = {state.id for state in lineage(states, best)}
        states = [run.state_record(state.id) if state.id in path else state for state in states]
        return RunFacts(
            folder=folder,
            name=folder.resolve().name,
            problem=problem,
            config=config,
            steps=run.steps(),
            metrics=run.metrics(),
            rewards={step: rewards.get(step, np.zeros(0)) for step in statuses},
            statuses=statuses,
            failures=[
                FailureKind(status, count, run.first_message(status))
                for status, count in total.most_common()
                if status is not Status.OK
            ],
            tokens=tokens,
            program_seconds=seconds,
            states=states,
            best=best,
            best_state=run.state(best.id) if best is not None else None,
            events=run.events(),
            problem_changes=run.problem_changes(),
            summary=summarise(run, problem),
            hints=run.hints(),
        )
