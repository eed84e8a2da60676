"""Where archive, database, log and driver become the limit: 100,000 states, 1,000,000 rollouts.

    .venv/bin/python benchmarks/limits.py archive [--states 1000 10000 100000]
    .venv/bin/python benchmarks/limits.py database [--rollouts 1000000] [--numbers 40] [--folder /tmp/limits]
    .venv/bin/python benchmarks/limits.py read /tmp/limits

`archive` times what a step asks of the archive in memory. `database` writes a run through the run's own
store, half of its rows in steps of 8 groups of 64, half in steps of 64 x 64, and prints the rows a second;
`read` then times what people and a resumed run ask of that folder, commands as processes of their own.
No program is executed, and no model is asked: replies, rewards and constructions are made up, the tables
and files are real. A million rows take 4.7 GB; the folder is the caller's to remove. The work of the run's
own process is measured by `benchmarks/driver.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import pathlib
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from command_line import non_negative_int, positive_int, run_benchmark
from scripted_run import TTD, begun, record_step

from ttd_core import config as configs
from ttd_core.config import SearchConfig
from ttd_core.metrics import Metric, Timing
from ttd_core.plugin.registry import resolve
from ttd_core.run import events, rollout_events
from ttd_core.run.browsing import RunBrowser
from ttd_core.run.reading import LOG, RunReader
from ttd_core.run.rollout_query import RolloutQuery
from ttd_core.run.store import RunStore
from ttd_core.search.archive import Archive, Node
from ttd_core.search.reuse import EpsilonGreedyReuse, PuctReuse
from ttd_core.types import Completion, Group, Message, Reward, Rollout, State, Status, StopReason, Verdict

#: Every how many rollouts one fails.
FAILS = 4
FAILURE = "ValueError: operands could not be broadcast together with shapes (91,) (90,)"
#: Steps of each shape that are written in turn: groups, rollouts a group.
SHAPES = ((8, 64), (64, 64))


def show(name: str, value: float, unit: str) -> None:
    """One line of a table."""
    print(f"{name:58}{value:14,.4g} {unit}", flush=True)


def show_times(name: str, seconds: float, busy: float, more: str = "") -> None:
    """One line: wall time, and processor time, which says more where others use the machine."""
    print(f"{name:52}{1000 * seconds:12,.2f} ms {1000 * busy:12,.2f} ms CPU{more}", flush=True)


@contextlib.contextmanager
def timed(name: str) -> Iterator[None]:
    """Print how long something takes."""
    begun, busy = time.perf_counter(), time.process_time()
    yield
    show_times(name, time.perf_counter() - begun, time.process_time() - busy)


def measure(name: str, call: Callable[[], Any], times: int = 5) -> None:
    """Print the median times of a call."""
    walls, busies = [], []
    for _ in range(times):
        begun, busy = time.perf_counter(), time.process_time()
        call()
        walls.append(time.perf_counter() - begun)
        busies.append(time.process_time() - busy)
    show_times(name, sorted(walls)[times // 2], sorted(busies)[times // 2])


class Replies:
    """Rollouts made up: texts of a fixed length, a new construction each, every fourth a failure.

    :param text: characters of a reply, :param code: of its program, :param numbers: of a construction.
    """

    def __init__(self, text: int, code: int, numbers: int, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz =+\n", np.uint8)
        self._words = letters[self._rng.integers(len(letters), size=1 << 20)].tobytes().decode()
        self._text, self._code, self._numbers = text, code, numbers
        self._tokens = np.zeros(text // 4, np.int64)
        self._logprobs = np.zeros(text // 4, np.float32)
        self._trained = np.ones(text // 4, np.bool_)
        self._base = self._rng.random(numbers)
        self._made = 0

    def rollout(self, start: Node) -> Rollout:
        """One rollout from a start."""
        self._made += 1
        at = int(self._rng.integers(len(self._words) - self._text))
        text = f"# {self._made}\n{self._words[at : at + self._text]}"
        code = text[: self._code]
        done = Completion(text, self._tokens, self._logprobs, self._trained, StopReason.STOP, text)
        if self._made % FAILS == 0:
            failed = Verdict.failed(Status.CRASH, FAILURE, code=code, output=FAILURE, seconds=0.5, level="3")
            return Rollout(done, failed)
        values = self._base.copy()
        values[self._made % self._numbers] = self._made
        value = start.value + float(self._rng.normal(0.0, 1e-3))
        state = State(code, {"h": values}, "overlap after 40 rounds\n")
        valid = Verdict(Status.OK, "", state, Reward(value, -value), code, state.output, 1.5, "3")
        return Rollout(done, valid)

    def group(self, start: Node, size: int) -> Group:
        """A group of them."""
        prompt: list[Message] = [{"role": "user", "content": self._words[:4000]}]
        rollouts = [self.rollout(start) for _ in range(size)]
        return Group(start.id, prompt, np.zeros(1000, np.int64), rollouts)


# -- archive ----------------------------------------------------------------------------------------


def grown_archive(states: int, replies: Replies) -> Archive:
    """An archive of so many held states, each found from one of the newest two thousand before it."""
    archive = Archive(SearchConfig(capacity=states))
    seeds = archive.add_seeds([(State(code="seed"), Reward(0.0, 0.0))] * 8)
    rng = np.random.default_rng(1)
    nodes = list(seeds)
    for number in range(states - len(nodes)):
        parent = nodes[int(rng.integers(max(0, len(nodes) - 2000), len(nodes)))]
        value = parent.value + float(rng.normal(0.0, 1e-3))
        state = State(code=f"# {number}")
        # Straight into the table: to admit a hundred thousand one by one is not what is measured.
        node = Node(archive.next_id, state, Reward(value, -value), parent.id, 1, False, f"{number:064x}")
        archive.nodes[node.id] = node
        archive.next_id += 1
        nodes.append(node)
    return archive


def measure_archive(sizes: list[int]) -> None:
    """Picks and admissions at several sizes."""
    for states in sizes:
        replies = Replies(400, 200, 40)
        archive = grown_archive(states, replies)
        depth = max(len(list(archive.ancestors(node.id))) for node in archive.held()[-2000:])
        print(f"archive of {states:,} states, lineages of up to {depth}")
        rng = np.random.default_rng(2)
        for count in (8, 64):
            for name, reuse in (("PUCT", PuctReuse()), ("epsilon-greedy", EpsilonGreedyReuse(0.1))):
                pick = functools.partial(reuse.pick, archive, count, rng)
                measure(f"  pick {count} starts, {name}", pick, 3)
        for step, (groups, size) in enumerate(SHAPES, 1):
            starts = PuctReuse().pick(archive, groups, rng)
            made = [replies.group(start, size) for start in starts]
            with timed(f"  admit {groups} x {size}"):
                archive.admit(step, made)
        measure("  the best state", archive.best)


# -- database ---------------------------------------------------------------------------------------


def write_run(folder: pathlib.Path, rollouts: int, replies: Replies, search: SearchConfig) -> None:
    """Write a run and say how quickly its rows were committed."""
    steps = [
        shape for shape in SHAPES for _ in range(max(1, rollouts // len(SHAPES) // (shape[0] * shape[1])))
    ]
    wanted = {"steps": len(steps), "groups": 8, "group_size": 64, "policy.backend": "scripted",
              "policy.options.replies": ["none"], "search.capacity": search.capacity}  # fmt: skip
    problem, config = resolve(configs.load("erdos", overrides=wanted))
    seeds = [(state, Reward(0.5, 0.5)) for state in problem.seed_states(np.random.default_rng(0), 8)]
    with begun(folder, problem, config, seeds) as (store, archive):
        spent: dict[tuple[int, int], list[Spent]] = {shape: [] for shape in SHAPES}
        for step, shape in enumerate(steps, 1):
            spent[shape].append(write_step(store, archive, step, shape, replies))
    for (groups, size), times in spent.items():
        rows = len(times) * groups * size
        admit, commit, busy, log = (sum(column) for column in zip(*times, strict=True))
        last = times[-max(1, len(times) // 10) :]
        share = len(last) / len(times)
        print(f"steps of {groups} x {size}: {len(times)}")
        show("  rows a second, commit", rows / commit, "")
        show("  rows a second of processor time, commit", rows / busy, "")
        show("  the same, last tenth of the steps", share * rows / sum(each[2] for each in last), "")
        show("  commit a step", 1000 * commit / len(times), "ms")
        show("  commit a step, the slowest", 1000 * max(each[1] for each in times), "ms")
        show("  admit a step, processor time", 1000 * admit / len(times), "ms")
        show("  events of a rollout, processor time", 1e6 * log / rows, "µs")
    sizes(folder)


#: Seconds of a step: to admit and to commit, to commit in processor time, to log its events.
Spent = tuple[float, float, float, float]


def write_step(
    store: RunStore, archive: Archive, step: int, shape: tuple[int, int], replies: Replies
) -> Spent:
    """One step."""
    starts = PuctReuse().pick(archive, shape[0], np.random.default_rng(step))
    groups = [replies.group(start, shape[1]) for start in starts]
    begun = time.process_time()
    store.record(events.step_started(step=step, starts=[start.id for start in starts]))
    for number, group in enumerate(groups):
        for index, rollout in enumerate(group):
            store.record(rollout_events.sampled(step, (number, index), rollout.completion))
            store.record(rollout_events.evaluated(step, (number, index), rollout.verdict))
    logged = time.process_time()
    archive.admit(step, groups)
    admitted, wall = time.process_time(), time.perf_counter()
    numbers = {str(metric): 0.1 for metric in Metric}
    timings: dict[str, float] = {Timing.SAMPLING: 41.0, Timing.ROLLOUTS: 47.0, Timing.LEARN: 9.0}
    advantages = [np.zeros(shape[1])] * shape[0]
    store.commit_step(step, groups, archive, numbers, timings, advantages=advantages)
    committed, wall = time.process_time(), time.perf_counter() - wall
    record_step(store, step, groups, numbers, 60.0)
    return admitted - logged, wall, committed - admitted, logged - begun


def sizes(folder: pathlib.Path) -> None:
    """What the folder takes."""
    arrays = [path.stat().st_size for path in (folder / "arrays").iterdir()]
    show("run.db", (folder / "run.db").stat().st_size / 1e6, "MB")
    show(LOG, (folder / LOG).stat().st_size / 1e6, "MB")
    show(f"arrays/, {len(arrays):,} files", sum(arrays) / 1e6, "MB")


# -- reading ----------------------------------------------------------------------------------------


def command(name: str, *arguments: str) -> None:
    """Time a command in a process of its own, with its peak of memory."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    # GNU time is not everywhere: a small Python says what its only child took.
    wrapper = (
        "import resource, subprocess, sys; c = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL); "
    )
    wrapper += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(c.returncode)"
    done = subprocess.run([sys.executable, "-c", wrapper, *TTD, *arguments], capture_output=True, text=True)
    seconds = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    if done.returncode:
        print(f"{name}: exit {done.returncode}: {done.stderr.strip()[-300:]}")
    else:
        show_times(name, seconds, busy, f" {int(done.stdout.split()[-1]) / 1e3:8,.0f} MB")


def measure_reading(folder: pathlib.Path) -> None:
    """What is asked of a run's folder."""
    sizes(folder)
    with RunReader.open(folder) as run:
        config = configs.from_toml(run.config(), where=str(folder))
        print(f"{sum(step.rollouts for step in run.steps()):,} rollouts, {run.last_step():,} steps")
    with timed("open for reading, and its steps"), RunReader.open(folder) as run:
        run.steps()
    with RunReader.open(folder) as run:
        with timed("its archive after the last step"):
            archive = run.load_archive(config.search)
        with timed("its archive after half of the steps"):
            run.load_archive(config.search, run.last_step() // 2)
        with timed("its best five states"):
            run.best(5)
    print(f"   the archive holds {len(archive):,} states, {len(archive.nodes):,} with their lineage")
    with timed("open for writing (resume)"):
        RunStore.open(folder).close()
    measure_queries(folder)
    page = folder / "page.html"
    command("ttd --version, to compare with", "--version")
    command("ttd best", "best", str(folder))
    command("ttd watch --once", "watch", str(folder), "--once")
    command("ttd list-runs", "list-runs", "--runs-dir", str(folder.parent))
    command("ttd compare, with itself", "compare", str(folder), str(folder))
    command("ttd report", "report", str(folder), "--output", str(page))
    if page.exists():
        show("   the page", page.stat().st_size / 1e3, "kB")
    command("ttd resume, nothing left to do", "resume", str(folder))


def measure_queries(folder: pathlib.Path) -> None:
    """What the rollouts' page of ``ttd ui`` asks for."""
    queries = {
        "all of them": RolloutQuery(),
        "one step": RolloutQuery(step=3),
        "a verdict": RolloutQuery(status=Status.CRASH),
        "a verdict that none has": RolloutQuery(status=Status.TIMEOUT),
        "sorted by reward": RolloutQuery(sort="reward", descending=True),
        "a text in messages": RolloutQuery(text="broadcast", within="message"),
        "a text anywhere": RolloutQuery(text="no such words", within="anything"),
    }
    for name, query in queries.items():
        with RunBrowser.open(folder) as run, timed(f"rollouts: {name}"):
            run.find_rollouts(query)
    with RunBrowser.open(folder) as run:
        places = run.find_rollouts(RolloutQuery(step=3))[:100]
        measure("rollouts: a page of 100", lambda: run.short_rollouts(places))
        last = run.last_step()
        measure("what the archive knew at the last step", lambda: run.node_statistics(last), 3)


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="part", required=True)
    archive = parts.add_parser("archive")
    archive.add_argument("--states", type=positive_int, nargs="+", default=[1000, 10_000, 100_000])
    database = parts.add_parser("database")
    database.add_argument("--rollouts", type=positive_int, default=1_000_000)
    database.add_argument("--numbers", type=positive_int, default=40, help="numbers of a construction")
    database.add_argument("--text", type=non_negative_int, default=2400, help="characters of a reply")
    database.add_argument("--code", type=non_negative_int, default=800, help="characters of a program")
    database.add_argument("--capacity", type=positive_int, default=1000, help="search.capacity")
    database.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("/tmp/limits"))
    reading = parts.add_parser("read")
    reading.add_argument("folder", type=pathlib.Path)
    options = parser.parse_args()
    if options.part == "archive":
        measure_archive(options.states)
    elif options.part == "database":
        replies = Replies(options.text, options.code, options.numbers)
        write_run(options.folder, options.rollouts, replies, SearchConfig(capacity=options.capacity))
    else:
        measure_reading(options.folder)


if __name__ == "__main__":
    sys.exit(run_benchmark(main))
