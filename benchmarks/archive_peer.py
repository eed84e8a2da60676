"""The other half of ``archive.py``: one step of ``ttt-discover``'s archive, run by its own Python.

Called as its authors' training loop calls it: ``update_states`` once a rollout without saving, ``flush`` once
a step. Prints seconds as JSON.
"""

from __future__ import annotations

import json
import pathlib
import sys
import time

import numpy as np
from ttt_discover.tinker_utils.sampler import PUCTSampler
from ttt_discover.tinker_utils.state import State


class Environment:
    """What the sampler asks of a problem: the type of its states and how the first is made."""

    env_name = "benchmark"
    state_type = State

    @classmethod
    def create_initial_state(cls, problem_type: str) -> State:
        return State(timestep=0, construction=[], code="", value=0.0)


def main(
    folder: pathlib.Path, states: int, length: int, groups: int, size: int, code: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    sampler = PUCTSampler(
        str(folder / "sampler.json"), Environment, max_buffer_size=states, batch_size=groups, topk_children=2
    )

    def child(parent: State, step: int) -> State:
        value = float(parent.value + rng.normal())
        return State(timestep=step, construction=rng.random(length), code="x" * code, value=value)

    step = 0
    while len(sampler._states) < states:
        step += 1
        for parent in sampler.sample_states(groups):
            for _ in range(2):
                sampler.update_states([child(parent, step)], [parent], save=False)
    sampler.flush(step)

    start = time.perf_counter()
    parents = sampler.sample_states(groups)
    selected = time.perf_counter()
    children = [(child(parent, step + 1), parent) for parent in parents for _ in range(size)]
    sampled = time.perf_counter()
    for state, parent in children:
        sampler.update_states([state], [parent], save=False)
    admitted = time.perf_counter()
    sampler.flush(step + 1)
    saved = time.perf_counter()
    written = max(path.stat().st_size for path in folder.iterdir())
    times = {"select": selected - start, "admit": admitted - sampled, "commit": saved - admitted}
    print(json.dumps({**times, "bytes": written, "states": len(sampler._states)}))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:]))
