"""The work of a run's own process for one rollout, without a sandbox and without a model.

    .venv/bin/python benchmarks/driver.py [--tokens 8000] [--sizes 64 512] [--wait 0.05]

Makes runs of `erdos` through the run's own loop, with a policy that says the same at once and an executor
that answers every job after a while without running it, both brought by a plugin like any third party's.
What is left is processor time of the run's process: parsing, checking, scoring, events, what is kept of the
step under way, admission, metrics, the commit. Then the parts that can be called alone.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import pathlib
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from command_line import non_negative_float, positive_int, run_benchmark
from limits import measure, show

from ttd_core import config as configs
from ttd_core.plugin.spec import hookimpl
from ttd_core.policy.base import Sample
from ttd_core.run.loop import start_run
from ttd_core.run.pending import PendingRollouts
from ttd_core.run.setup import RunSetup
from ttd_core.sandbox.base import Job, JobResult, Level
from ttd_core.types import Action, Completion, State, Status, StopReason


class AtOnce:
    """A plugin: a policy that says the same at once, an executor that answers at once, and a clock for steps.

    :param done: the reply, :param answered: what its program comes to, :param wait_s: how late that is.
    """

    name = "at-once"
    level = Level.STRONG
    workers = 16

    def __init__(self, done: Completion, answered: JobResult, wait_s: float) -> None:
        self._done, self._answered, self._wait_s = done, answered, wait_s
        self.busy: list[float] = []

    @hookimpl
    def ttd_policies(self) -> Mapping[str, Any]:
        """Itself."""
        return {self.name: lambda config: self}

    @hookimpl
    def ttd_executors(self) -> Mapping[str, Any]:
        """Itself."""
        return {self.name: lambda config: self}

    @hookimpl
    def ttd_event(self, event: Mapping[str, Any]) -> None:
        """Note the processor time at which steps end."""
        if event["kind"] in ("run_started", "step_finished"):
            self.busy.append(time.process_time())

    def sample(self, prompts: Any, count: int, params: Any) -> Iterator[Sample]:
        """``count`` replies to each prompt."""
        for prompt, index in itertools.product(range(len(prompts)), range(count)):
            yield Sample(prompt, index, self._done, np.zeros(1000, np.int64))

    def run(self, job: Job) -> JobResult:
        """The same for every program."""
        time.sleep(self._wait_s)
        return self._answered

    def close(self) -> None:
        """Nothing to close."""

    def __enter__(self) -> AtOnce:
        return self

    def __exit__(self, *ending: object) -> None:
        pass


def measure_driver(folder: pathlib.Path, options: argparse.Namespace) -> None:
    """The run's own work for a rollout."""
    tokens, sizes = options.tokens, options.sizes
    program = "import numpy as np\n\n\ndef run(seed, budget_s, **kwargs):\n    return [0.5] * 200\n"
    thinking = "lower the overlap where two neighbours meet " * (tokens * 4 // 45)
    reply = f"<think>{thinking}</think>\nSo:\n\n```python\n{program}{'# a line of it' * 150}\n```"
    answer = reply.partition("</think>")[2]
    ids, logprobs = np.arange(tokens), np.zeros(tokens, np.float32)
    done = Completion(reply, ids, logprobs, np.ones(tokens, np.bool_), StopReason.STOP, answer)
    answered = JobResult(Status.OK, value=[np.full(200, 0.5), 0.5, 200], wall_s=0.1)
    for size, wait_s in ((sizes[0], 0.0), *((size, options.wait) for size in sizes)):
        plugin = AtOnce(done, answered, wait_s)
        shape = {"steps": 2, "groups": 8, "group_size": size}
        wanted = {"policy.backend": "at-once", "sandbox.executor": "at-once", **shape}
        setup = RunSetup.from_config(configs.load("erdos", overrides=wanted))
        start_run(setup, folder / f"{size}-{wait_s}", [plugin])
        busy = plugin.busy[-1] - plugin.busy[-2]
        name = f"a rollout of 8 x {size}, 16 programs at once of {wait_s} s"
        show(name, 1000 * busy / (8 * size), "ms CPU")
    hooks = setup.hooks
    parse = functools.partial(hooks.parse_action, done)
    (seed,) = hooks.seed_states(np.random.default_rng(0), 1)
    action = parse()
    assert isinstance(action, Action), action
    transition = functools.partial(hooks.transition, seed, action, lambda _: answered)
    reached = transition()
    assert isinstance(reached, State), reached
    measure("   of which: parse the reply", parse, 200)
    measure("   transition, without its program", transition, 200)
    measure("   check and reward of erdos", lambda: (hooks.check(reached), hooks.reward(reached)), 200)
    pending = PendingRollouts(folder)
    pending.begin(1, "", ["key"])
    sample = Sample(0, 0, done, np.zeros(1000, np.int64))
    pending.sampled(sample)
    before = (folder / "pending.jsonl").stat().st_size
    measure("   keep the reply while its step is under way", lambda: pending.sampled(sample), 99)
    kept = ((folder / "pending.jsonl").stat().st_size - before) / 99
    show("   its size there", kept / 1e3, "kB")
    pending.clear()


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=positive_int, default=8000, help="of a reply")
    parser.add_argument(
        "--sizes", type=positive_int, nargs="+", default=[64, 512], help="rollouts of a group"
    )
    parser.add_argument("--wait", type=non_negative_float, default=0.05, help="seconds that a program takes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        measure_driver(pathlib.Path(name), options)


if __name__ == "__main__":
    sys.exit(run_benchmark(main))
