"""A search whose every step follows from its number, so that what a store should hold can be computed.

As a program: ``replay.py FOLDER`` begins or continues such a run, prints each step it has committed, and
goes on until it is killed.
"""

from __future__ import annotations

import sys

import numpy as np

from ttd_core.config import SearchConfig
from ttd_core.run import events
from ttd_core.run.store import RunStore
from ttd_core.search.archive import Archive
from ttd_core.search.reuse import reuse_from_config
from ttd_core.types import Completion, Group, Reward, Rollout, State, Status, StopReason, Verdict

#: Small enough that eviction, lineage records and forgotten nodes all occur within a few steps.
CONFIG = SearchConfig(capacity=9)
GROUPS, SIZE = 3, 6


def fresh_archive(config=CONFIG):
    archive = Archive(config)
    archive.add_seeds([(State(), None)] * (GROUPS - 1))
    archive.add_seeds([(State(code="seed", data={"h": np.ones(3)}), Reward(0.5, 2.0))])
    return archive


def _failed(status, line):
    return Verdict.failed(status, f"line {line}: it broke", code="bad", output="x" * 20 * line, seconds=0.25)


def rollout(rng, step, parent):
    text = f"reply of step {step}: " + "x" * int(rng.integers(5, 400))
    tokens = np.arange(rng.integers(1, 9))
    completion = Completion(
        text, tokens, np.zeros(len(tokens), np.float32), tokens % 2 == 0, StopReason.LENGTH
    )
    kind = rng.random()
    if kind < 0.3:
        status = Status.TIMEOUT if kind < 0.1 else Status.CRASH
        return Rollout(completion, _failed(status, len(text)))
    if kind < 0.5:  # arrives at its start again
        state, value = parent.state, parent.value
    else:
        name = int(rng.integers(0, 200))
        data = {"h": np.sin(np.arange(40.0) + name), "name": name, "deep": [{"mask": np.arange(3) > 1}]}
        state, value = State(code=f"# {name}\npass", data=data, output="done\n"), name / 7 - 3
    reward = Reward(value, 1 / (1 + value * value), {"name": "found", "gap": 0.1 + 0.2})
    verdict = Verdict(Status.OK, state=state, reward=reward, code=state.code, seconds=1.5, level="strong")
    return Rollout(completion, verdict)


def take_step(archive, step):
    """Pick, sample and admit; returns the groups, to be committed."""
    rng = np.random.default_rng([7, step])
    starts = reuse_from_config(archive.config).pick(archive, GROUPS, rng)
    groups = [
        Group(
            start.id,
            [{"role": "user", "content": f"improve {start.id}"}],
            np.arange(11),
            [rollout(rng, step, start) for _ in range(SIZE)],
        )
        for start in starts
    ]
    archive.admit(step, groups)
    return groups


def commit(store, archive, step):
    groups = take_step(archive, step)
    store.commit_step(step, groups, archive, {"loss": step / 3}, {"sample": 0.5})
    return groups


def archive_after(step, config=CONFIG):
    archive = fresh_archive(config)
    for number in range(1, step + 1):
        take_step(archive, number)
    return archive


def snapshot(archive):
    """Equal exactly when two archives are: arrays are compared by the digests the JSON names."""
    return archive.snapshot()[0]


def main(folder):
    try:
        store = RunStore.open(folder)
    except ValueError:
        store = RunStore.create(folder, "config")
    archive = store.load_archive(CONFIG)
    if not archive.nodes:
        archive = fresh_archive()
        store.commit_seeds(archive)
    step = store.last_step()
    while True:
        step += 1
        store.record(events.step_started(step=step, starts=[]))
        commit(store, archive, step)
        print(step, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
