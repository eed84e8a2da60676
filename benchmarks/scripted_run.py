"""Runs of `erdos` with replies made up: a folder of any size in seconds, or the command of a real run.

`write_run` writes through the run's own store: no model is asked and no program is executed; states and
scores are those of the problem's own verifier. For what has to be measured on a large run:
`benchmarks/ui.py`. Its parts serve `benchmarks/limits.py`, which makes up states and scores too.
"""

from __future__ import annotations

import contextlib
import pathlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ttd_core import config as configs
from ttd_core.metrics import Metric, Timing
from ttd_core.plugin.registry import resolve
from ttd_core.policy.models.tags import answer_within
from ttd_core.problem import Problem
from ttd_core.run import events, rollout_events
from ttd_core.run.problem_record import ProblemRecord
from ttd_core.run.setup import CONFIG_FILE
from ttd_core.run.store import RunStore
from ttd_core.search.archive import Archive, Node
from ttd_core.search.reuse import reuse_from_config
from ttd_core.types import Completion, Group, Message, Reward, Rollout, State, Status, StopReason, Verdict

#: The command ``ttd``.
TTD = [sys.executable, "-m", "ttd_core.cli"]
WORDS = (
    *("lower", "the", "overlap", "where", "two", "neighbours", "meet"),
    *("then", "project", "the", "step", "onto", "its", "mean"),
)
PROGRAM = '''import numpy as np


def smooth(h, width={width}):
    """Average over neighbours."""
    return np.convolve(h, np.ones(width) / width, "same")


def project(h):
    """Bring the mean to one half, within [0, 1]."""
    for _ in range(60):
        h = np.clip(h + 0.5 - h.mean(), 0, 1)
    return h


def run(seed, budget_s, **kwargs):
    rng = np.random.default_rng({seed})
    h = np.asarray(initial_h_values, dtype=float)
    for radius in np.geomspace({radius:.4f}, 1e-4, 200):
        trial = project(h + radius * smooth(rng.normal(size=len(h))))
        if evaluate_erdos_solution(trial) < evaluate_erdos_solution(h):
            h = trial
    return h, evaluate_erdos_solution(h), len(h)
'''
FAILURES = (
    (Status.CRASH, "ValueError: operands could not be broadcast together with shapes (91,) (90,)"),
    (Status.TIMEOUT, "the program used up its 8 s"),
    (Status.INVALID, "h[17] = 1.0031 is not in [0, 1]"),
    (Status.PARSE_ERROR, "no program in the reply"),
)


def run_command(folder: pathlib.Path, name: str, replies: pathlib.Path, *more: str) -> list[str]:
    """The command that makes a real run.

    :param folder: of runs.
    :param replies: a file of JSON, a list of texts.
    :param more: options of ``ttd run``.
    """
    scripted = ["--policy", "scripted", "--set", f"policy.options.file={replies}"]
    return [*TTD, "run", "erdos", *scripted, "--runs-dir", str(folder), "--name", name, "--quiet", *more]


@contextlib.contextmanager
def begun(
    folder: pathlib.Path,
    problem: Problem,
    config: configs.RunConfig,
    seeds: Sequence[tuple[State, Reward]],
) -> Iterator[tuple[RunStore, Archive]]:
    """The store and the archive of a new run: its seeds are committed, its beginning is told."""
    text = configs.to_toml(config)
    with contextlib.closing(RunStore.create(folder, text)) as store:
        (folder / CONFIG_FILE).write_text(text)
        store.note_problem(ProblemRecord.of(problem, config.problem).to_text(), "")
        archive = Archive(config.search)
        archive.add_seeds(seeds)
        store.commit_seeds(archive)
        store.record(
            events.run_started(
                run=str(folder),
                problem=problem.name,
                policy="scripted replies",
                step=0,
                steps=config.steps,
                groups=config.groups,
                group_size=config.group_size,
                sandbox="namespaces",
            )
        )
        yield store, archive


def record_step(
    store: RunStore, step: int, groups: Sequence[Group], metrics: Mapping[str, float], seconds: float
) -> None:
    """The event of a step's end."""
    rewards = [each.verdict.reward for group in groups for each in group]
    valid = [reward for reward in rewards if reward is not None]
    best = max(valid, key=lambda reward: reward.value, default=None)
    store.record(
        events.step_finished(
            step=step,
            rollouts=len(rewards),
            valid=len(valid),
            mean_value=float(np.concatenate([group.rewards for group in groups]).mean()),
            best_value=None if best is None else best.value,
            best_score=None if best is None else best.score,
            metrics=metrics,
            seconds=seconds,
        )
    )


def write_run(folder: pathlib.Path, *, steps: int = 50, groups: int = 16, size: int = 32, seed: int = 0,
              variant: str = "full", finish: bool = True) -> pathlib.Path:  # fmt: skip
    """Write a run of the problem ``erdos``.

    :param steps: committed ones, out of as many.
    :param groups: of a step.
    :param size: rollouts of a group.
    :param finish: whether it says at the end that it is finished.
    """
    wanted = {
        "steps": steps,
        "groups": groups,
        "group_size": size,
        "seed": seed,
        "policy.backend": "scripted",
    }
    problem, config = resolve(configs.load("erdos", variant=variant, overrides=wanted))
    rng = np.random.default_rng([seed, 7])
    seeds = [(state, problem.reward(state)) for state in problem.seed_states(rng, groups)]
    with begun(folder, problem, config, seeds) as (store, archive):
        for step in range(1, steps + 1):
            _write_step(store, problem, config, archive, step, rng)
        best = archive.best()
        if finish and best is not None and best.reward is not None:
            ending = {"best_value": best.reward.value, "best_score": best.reward.score}
            store.record(events.run_finished(step=steps, seconds=60.0 * steps, **ending))
    return folder


def _write_step(
    store: RunStore,
    problem: Problem,
    config: configs.RunConfig,
    archive: Archive,
    step: int,
    rng: np.random.Generator,
) -> None:
    started = time.monotonic()
    picked = reuse_from_config(config.search).pick(archive, config.groups, rng)
    store.record(events.step_started(step=step, starts=[node.id for node in picked]))
    groups = []
    for index, node in enumerate(picked):
        content = f"{problem.task()}\n\nThe program so far:\n{node.state.code}"
        prompt: list[Message] = [{"role": "user", "content": content}]
        rollouts = [_rollout(problem, node, rng) for _ in range(config.group_size)]
        groups.append(Group(node.id, prompt, np.arange(900), rollouts))
        for place, rollout in enumerate(rollouts):
            store.record(rollout_events.sampled(step, (index, place), rollout.completion))
            store.record(rollout_events.evaluated(step, (index, place), rollout.verdict))
    archive.admit(step, groups)
    rewards = [group.rewards for group in groups]
    advantages = [(each - each.mean()) / (each.std() + 1e-9) for each in rewards]
    everything = np.concatenate(rewards)
    metrics: dict[str, float] = {
        Metric.VALID_SHARE: float((everything > 0).mean()),
        Metric.REWARD_MEAN: float(everything.mean()),
        Metric.KL: 0.002 * step,
        Metric.ADVANTAGE_STD: float(np.concatenate(advantages).std()),
        Metric.TOKENS: float(sum(len(each.completion.tokens) for group in groups for each in group)),
    }
    timings: dict[str, float] = {
        Timing.SAMPLING: 41.0,
        Timing.ROLLOUTS: 47.0,
        Timing.LEARN: 9.0,
        Timing.ADMIT: 0.1,
    }
    store.commit_step(step, groups, archive, metrics, timings, advantages=advantages)
    record_step(store, step, groups, metrics, 56.0 + time.monotonic() - started)


def _rollout(problem: Problem, start: Node, rng: np.random.Generator) -> Rollout:
    """One reply and its verdict: three of four lead to a state beside the start."""
    width, seed = int(rng.choice([3, 5, 7])), int(rng.integers(1_000_000))
    program = PROGRAM.format(width=width, seed=seed, radius=float(rng.uniform(0.01, 0.3)))
    thinking = " ".join(rng.choice(WORDS, size=int(rng.integers(120, 420))))
    text = f"<think>{thinking}</think>\nI {' '.join(rng.choice(WORDS, size=12))}.\n\n```python\n{program}```"
    tokens = np.arange(len(text) // 4)
    done = Completion(
        text,
        tokens,
        np.zeros(len(tokens), np.float32),
        np.ones(len(tokens), np.bool_),
        StopReason.STOP,
        answer_within(text),
    )
    if rng.random() < 0.25:
        status, message = FAILURES[int(rng.integers(len(FAILURES)))]
        code = "" if status is Status.PARSE_ERROR else program
        failed = Verdict.failed(
            status, message, code=code, output="", seconds=float(rng.uniform(0, 3)), level="namespaces"
        )
        return Rollout(done, failed)
    values = np.asarray(start.state.data["h"], dtype=float)
    values = values + 0.5 * (0.55 - values) * rng.uniform(0, 0.2) + rng.normal(0, 0.01, len(values))
    for _ in range(30):
        values = np.clip(values + 0.5 - values.mean(), 0, 1)
    state = State(program, {"h": values}, f"overlap after 40 rounds, width {width}\n")
    reward = problem.reward(state)
    return Rollout(
        done,
        Verdict(
            Status.OK, "", state, reward, program, state.output, float(rng.uniform(0.5, 4)), "namespaces"
        ),
    )
