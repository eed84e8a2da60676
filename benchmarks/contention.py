"""Sampling beside busy cores and busy judges: which of the two slows it, and what helps.

    python benchmarks/contention.py [--device cuda] [--size 1.5b] [--seconds 3] [--budget 1] [--reserve 1]

The sampler is timed in this process: with `--device cuda` the lean engine (random weights of 1.5B shape, 4
x 64 rows, prompts of 512 tokens, 256 new ones each; tokens a second), else a loop of what such a sampler
does on the host (filling arrays, small tensor operations, each of which lets go of the interpreter's lock;
rounds a second). Beside it run, one after the other:

- nothing;
- programs: one worker a core, each program spins for `--budget` seconds; in this process hardly anything;
- judges: as many threads as there are cores read replies, check constructions of `erdos` and keep the
  verdicts, at the rate at which such programs end, and without a pause (the most that they can hold the
  lock); no program runs;
- both, as in a run: the programs return constructions, which are judged.

Programs run with ordinary priority on every core, then with lower priority, then so with cores kept for
this process (`sandbox.reserve`). What programs cost is starvation of the processor, what judges cost is the
lock. The lock is also tried with shorter turns (`sys.setswitchinterval`): a thread that waits for the lock
gets it after that time at the earliest, again each time that it has let go. `judge ms` is processor time of
the judging thread for one reply; `lock` is that times the replies a second, at most the share of the time
that they hold it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

from command_line import positive_float, positive_int, require_gpu, require_packages, run_benchmark

require_packages("torch")

import attrs
import numpy as np
import torch

from ttd_core.plugin.hooks import Hooks
from ttd_core.problem import Execute
from ttd_core.run.evaluate import judge_reply
from ttd_core.run.pending import PendingRollouts
from ttd_core.sandbox.base import Job, JobResult, Level, Limits, PythonJob
from ttd_core.sandbox.cores import usable_cores
from ttd_core.sandbox.local import LocalExecutor
from ttd_core.types import Completion, Status
from ttd_math.erdos import Erdos, ErdosOptions, project

PROMPT, NEW, GROUPS, GROUP = 512, 256, 4, 64
#: Heights of the constructions that are judged, as many as good ones have.
HEIGHTS = 512
SPIN = """
import time
def run(budget_s):
    end = time.monotonic() + budget_s
    while time.monotonic() < end:
        pass
"""
#: A reply of usual length: some thinking, then a program that spins for its budget and returns heights.
REPLY = (
    "The overlap is largest where the heights are flat, so I perturb them and keep what is better. " * 60
    + f"""
```python
import time
import numpy as np

def run(seed, budget_s, **kwargs):
    end = time.monotonic() + budget_s
    while time.monotonic() < end:
        pass
    start = initial_h_values
    heights = np.interp(np.linspace(0, 1, {HEIGHTS}), np.linspace(0, 1, len(start)), start)
    low, high = -1.0, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        if np.clip(heights + middle, 0, 1).sum() < {HEIGHTS} / 2:
            low = middle
        else:
            high = middle
    return np.clip(heights + high, 0, 1)
"""
    + "\n".join(f"# a line of a longer program, number {number}" for number in range(150))
    + "\n```\n"
)


class HostLoop:
    """What the host does between two looks of a sampler, without a device; a round is one look."""

    unit = "rounds/s"
    rows, steps = 256, 32

    def __init__(self) -> None:
        self._tensors = [torch.zeros(self.rows, 8) for _ in range(12)]

    def work(self) -> int:
        """One round."""
        host = [np.zeros((self.rows, 8), np.float32) for _ in self._tensors]
        for row in range(self.rows):
            for values in host[:4]:
                values[row, :4] = row
        for tensor, values in zip(self._tensors, host, strict=True):
            tensor.copy_(torch.from_numpy(values))
        for _ in range(self.steps):
            self._tensors[0].add_(1.0)
        return int(self._tensors[0].numpy()[0, 0] > 0)


class LeanSampler:
    """The lean engine on a GPU, random weights."""

    unit = "tokens/s"

    def __init__(self, size: str, device: str) -> None:
        import models

        from ttd_core.policy.local.lean.decode import LeanDecoder
        from ttd_core.policy.local.lean.model import LeanModel
        from ttd_core.policy.local.replies import whole_groups

        model = models.make(size, torch.device(device))
        models.use_own_attention(model)
        models.adapt(model).eval()
        self._decoder = LeanDecoder(LeanModel(model), GROUPS * GROUP)
        self._prompts = models.prompts(GROUPS, PROMPT)
        self._indices = whole_groups(GROUPS, GROUP)
        self._limits = models.limits(GROUPS, NEW)
        self._seed = 0

    def work(self) -> int:
        """One call: every reply, whole."""
        self._seed += 1
        replies = self._decoder.decode(self._prompts, self._indices, 1.0, self._limits, self._seed)
        return sum(len(reply.tokens) for reply in replies)


@attrs.define
class Beside:
    """What runs beside the sampler, and what it has done.

    :param judged: replies.
    :param judge_s: processor seconds that the threads judging them took.
    """

    programs: int = 0
    judged: int = 0
    judge_s: float = 0.0
    failure: str = ""
    _lock: threading.Lock = attrs.field(factory=threading.Lock)

    def add(self, programs: int = 0, judged: int = 0, judge_s: float = 0.0) -> None:
        """Count some."""
        with self._lock:
            self.programs += programs
            self.judged += judged
            self.judge_s += judge_s


@contextlib.contextmanager
def threads(count: int, work: Callable[[Beside], None]) -> Iterator[Beside]:
    """Threads that repeat some work until the end of the block."""
    beside, stop = Beside(), threading.Event()

    def repeat() -> None:
        while not stop.is_set() and not beside.failure:
            work(beside)

    running = [threading.Thread(target=repeat) for _ in range(count)]
    for thread in running:
        thread.start()
    try:
        yield beside
    finally:
        stop.set()
        for thread in running:
            thread.join()


def programs(executor: LocalExecutor, budget: float) -> Callable[[Beside], None]:
    """Runs a program that spins and returns nothing."""
    job = PythonJob(SPIN, "run", [budget], limits=Limits(wall_s=10 * budget + 10))

    def work(beside: Beside) -> None:
        result = executor.run(job)
        beside.failure = "" if result.ok else result.message
        beside.add(programs=1)

    return work


def judges(hooks: Hooks, execute: Execute, pending: PendingRollouts) -> Callable[[Beside], None]:
    """Judges a reply, and keeps the verdict beside the database as a run does."""
    assert hooks.problem is not None
    (start,) = hooks.problem.seed_states(np.random.default_rng(0), 1)
    completion = Completion(REPLY)

    def work(beside: Beside) -> None:
        before = time.thread_time()
        verdict = judge_reply(hooks, start, completion, execute)
        pending.judged((0, 0), verdict)
        beside.failure = "" if verdict.ok else verdict.message
        beside.add(judged=1, judge_s=time.thread_time() - before)

    return work


def without_programs(pause: float) -> Execute:
    """Gives what the program of REPLY would return, after a pause, and runs none."""
    heights = np.random.default_rng(1).uniform(0.2, 0.8, HEIGHTS)
    result = JobResult(Status.OK, value=project(heights), level=Level.STRONG)

    def execute(_job: Job) -> JobResult:
        if pause:
            time.sleep(pause)
        return result

    return execute


def hardware_cores() -> int:
    """How many cores the processors of this process are."""
    folder = pathlib.Path("/sys/devices/system/cpu")
    lists = (folder / f"cpu{core}/topology/thread_siblings_list" for core in os.sched_getaffinity(0))
    return len({path.read_text() if path.exists() else str(path) for path in lists})


def rate(sampler: HostLoop | LeanSampler, seconds: float) -> float:
    """What the sampler does in a second."""
    started, done = time.monotonic(), 0
    while (passed := time.monotonic() - started) < seconds:
        done += sampler.work()
    return done / passed


@attrs.define
class Table:
    """Measures, and prints a line each."""

    sampler: HostLoop | LeanSampler
    seconds: float
    idle: float = 0.0

    def head(self) -> None:
        """The first line."""
        columns = (self.sampler.unit, "of idle", "programs/s", "judged/s", "judge ms", "lock")
        print(f"{'beside the sampler':56}" + "".join(f"{name:>11}" for name in columns))

    def line(self, name: str, beside: contextlib.AbstractContextManager[Beside], turn: float = 0.005) -> None:
        """Measure beside something.

        :param turn: for how long a thread keeps the lock when others wait.
        """
        before = sys.getswitchinterval()
        sys.setswitchinterval(turn)
        try:
            with beside as did:
                time.sleep(min(1.0, self.seconds / 4))  # until all of it is under way
                programs_before, judged_before, used = did.programs, did.judged, did.judge_s
                started = time.monotonic()
                found = rate(self.sampler, self.seconds)
                passed = time.monotonic() - started
                programs_done, judged = did.programs - programs_before, did.judged - judged_before
                used = did.judge_s - used
        finally:
            sys.setswitchinterval(before)
        if did.failure:
            raise SystemExit(f"{name}: {did.failure}")
        self.idle = self.idle or found
        each = f"{used / judged * 1e3:.2f}" if judged else ""
        lock = f"{used / passed:.0%}" if judged else ""
        print(
            f"{name:56}{found:11,.0f}{found / self.idle:11.0%}{programs_done / passed or '':>11.3}"
            f"{judged / passed or '':>11.4}{each:>11}{lock:>11}",
            flush=True,
        )


def judges_alone(table: Table, hooks: Hooks, pending: PendingRollouts, cores: int, budget: float) -> None:
    """The lines without programs."""
    paced = judges(hooks, without_programs(budget), pending)
    table.line("judges at the rate of programs", threads(cores, paced))
    flat_out = judges(hooks, without_programs(0.0), pending)
    for turn in (5e-3, 5e-4, 1e-4):
        table.line(f"judges without a pause, turns of {turn * 1e3:g} ms", threads(cores, flat_out), turn)


def programs_beside(
    table: Table, hooks: Hooks, pending: PendingRollouts, cores: int, chosen: argparse.Namespace
) -> None:
    """The lines with programs, without judges and with them."""
    arrangements = (
        ("ordinary priority", 0, False),
        ("lower priority", 0, True),
        (f"lower priority, {chosen.reserve} kept", chosen.reserve, True),
    )
    for name, reserve, lower in arrangements:
        workers = max(1, cores - reserve)
        with LocalExecutor(workers, reserve=reserve, lower_priority=lower) as executor:
            for execute in (programs(executor, chosen.budget), judges(hooks, executor.run, pending)):
                with threads(workers, execute):  # every server is started before anything is timed
                    pass
            table.line(f"programs, {name}", threads(workers, programs(executor, chosen.budget)))
            both = judges(hooks, executor.run, pending)
            table.line(f"programs and judges, {name}", threads(workers, both))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--size", default="1.5b", help="of the model, as benchmarks/models.py has it")
    parser.add_argument("--seconds", type=positive_float, default=3.0, help="of each line")
    parser.add_argument("--budget", type=positive_float, default=1.0, help="seconds that each program spins")
    parser.add_argument(
        "--reserve", type=positive_int, default=1, help="cores kept in the last lines of a block"
    )
    chosen = parser.parse_args()
    if chosen.device == "cuda":
        require_gpu("--device cpu stands in for one")
    sampler = LeanSampler(chosen.size, chosen.device) if chosen.device == "cuda" else HostLoop()
    for _ in range(2):
        sampler.work()
    cores = len(os.sched_getaffinity(0))
    print(
        f"{cores} processors ({usable_cores()} by quota), {hardware_cores()} cores in hardware; torch uses "
        f"{torch.get_num_threads()} threads; programs of {chosen.budget:g} s"
    )
    hooks = Hooks(Erdos(ErdosOptions(budget_s=chosen.budget)))
    table = Table(sampler, chosen.seconds)
    table.head()
    table.line("nothing", threads(0, lambda _: None))
    with tempfile.TemporaryDirectory() as folder:
        pending = PendingRollouts(pathlib.Path(folder))
        pending.begin(0, "", ["0"])
        with contextlib.closing(pending):
            judges_alone(table, hooks, pending, cores, chosen.budget)
            programs_beside(table, hooks, pending, cores, chosen)
    table.line("nothing, again", threads(0, lambda _: None))


if __name__ == "__main__":
    sys.exit(run_benchmark(main))
