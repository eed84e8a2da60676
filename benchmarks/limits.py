"""Where archive, database, log and driver become the limit: 100,000 states, 1,000,000 rollouts.

    .venv/bin/python benchmarks/limits.py archive [--states 1000 10000 100000]
    .venv/bin/python benchmarks/limits.py database [--rollouts 1000000] [--numbers 40] [--folder /tmp/limits]
    .venv/bin/python benchmarks/limits.py read /tmp/limits
    .venv/bin/python benchmarks/limits.py driver [--tokens 8000]

`archive` times what a step asks of the archive in memory. `database` writes a run through the run's own
store, half of its rows in steps of 8 groups of 64, half in steps of 64 x 64, and prints the rows a second;
`read` then times what people and a resumed run ask of that folder, commands as processes of their own.
`driver` is the work that the run's process does for one rollout, with a sandbox that answers at once and no
model. No program is executed, and no model is asked: replies, rewards and constructions are made up, the
tables and files are real. A million rows take 4.7 GB; the folder is the caller's to remove.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import numpy as np

from ttd_core import config as configs
from ttd_core.config import SearchConfig
from ttd_core.metrics import Metric, Timing
from ttd_core.plugin.registry import resolve
from ttd_core.policy.base import Sample
from ttd_core.run import events
from ttd_core.run.browsing import RunBrowser
from ttd_core.run.pending import PendingRollouts
from ttd_core.run.problem_record import ProblemRecord
from ttd_core.run.reading import LOG, RunReader
from ttd_core.run.rollout import RolloutCollector
from ttd_core.run.rollout_query import RolloutQuery
from ttd_core.run.setup import CONFIG_FILE, RunSetup
from ttd_core.run.store import RunStore
from ttd_core.sandbox.base import JobResult
from ttd_core.search.archive import Archive, Node
from ttd_core.search.reuse import EpsilonGreedyReuse, PuctReuse
from ttd_core.types import Completion, Group, Reward, Rollout, State, Status, StopReason, Verdict

TTD = [sys.executable, "-m", "ttd_core.cli"]
#: Every how many rollouts one fails.
FAILS = 4
FAILURE = "ValueError: operands could not be broadcast together with shapes (91,) (90,)"
#: Steps of each shape that are written in turn: groups, rollouts a group.
SHAPES = ((8, 64), (64, 64))


def show(name: str, value: float, unit: str) -> None:
    """One line of a table."""
    print(f"{name:58}{value:14,.4g} {unit}", flush=True)


@contextlib.contextmanager
def timed(name: str) -> Iterator[None]:
    """Print how long something takes."""
    begun = time.perf_counter()
    yield
    seconds = time.perf_counter() - begun
    show(name, seconds if seconds >= 1 else 1000 * seconds, "s" if seconds >= 1 else "ms")


def median_ms(call: Callable[[], Any], times: int = 5) -> float:
    """Median milliseconds of a call."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - begun))
    return sorted(taken)[times // 2]


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
        prompt = [{"role": "user", "content": self._words[:4000]}]
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
                show(f"  pick {count} starts, {name}", median_ms(pick, 3), "ms")
        for step, (groups, size) in enumerate(SHAPES, 1):
            starts = PuctReuse().pick(archive, groups, rng)
            made = [replies.group(start, size) for start in starts]
            begun = time.perf_counter()
            archive.admit(step, made)
            show(f"  admit {groups} x {size}", 1000 * (time.perf_counter() - begun), "ms")
        show("  the best state", median_ms(archive.best), "ms")


# -- database ---------------------------------------------------------------------------------------


def write_run(folder: pathlib.Path, rollouts: int, replies: Replies, search: SearchConfig) -> None:
    """Write a run and say how quickly its rows were committed."""
    steps = [shape for shape in SHAPES for _ in range(rollouts // len(SHAPES) // (shape[0] * shape[1]))]
    wanted = {"steps": len(steps), "groups": 8, "group_size": 64, "policy.backend": "scripted",
              "policy.options.replies": ["none"], "search.capacity": search.capacity}  # fmt: skip
    problem, config = resolve(configs.load("erdos", overrides=wanted))
    text = configs.to_toml(config)
    with contextlib.closing(RunStore.create(folder, text)) as store:
        (folder / CONFIG_FILE).write_text(text)
        store.note_problem(ProblemRecord.of(problem, config.problem).to_text(), "")
        archive = Archive(config.search)
        seeds = problem.seed_states(np.random.default_rng(0), 8)
        archive.add_seeds([(state, Reward(0.5, 0.5)) for state in seeds])
        store.commit_seeds(archive)
        begun = {"run": str(folder), "problem": "erdos", "policy": "scripted", "step": 0}
        store.record(events.run_started(**begun, steps=len(steps), groups=8, group_size=64))
        spent: dict[tuple[int, int], list[tuple[float, float, float]]] = {shape: [] for shape in SHAPES}
        for step, shape in enumerate(steps, 1):
            spent[shape].append(write_step(store, archive, step, shape, replies))
    for (groups, size), times in spent.items():
        per_step = groups * size
        admit, commit, log = (sum(column) for column in zip(*times, strict=True))
        last = times[-max(1, len(times) // 10) :]
        print(f"steps of {groups} x {size}: {len(times)}")
        show("  rows a second, commit", len(times) * per_step / commit, "")
        show("  rows a second, commit, last tenth", len(last) * per_step / sum(each[1] for each in last), "")
        show("  commit a step", 1000 * commit / len(times), "ms")
        show("  commit a step, the slowest", 1000 * max(each[1] for each in times), "ms")
        show("  admit a step", 1000 * admit / len(times), "ms")
        show("  events of a rollout, log", 1e6 * log / len(times) / per_step, "µs")
    sizes(folder)


def write_step(
    store: RunStore, archive: Archive, step: int, shape: tuple[int, int], replies: Replies
) -> tuple[float, float, float]:
    """One step; seconds to admit, to commit, and to log its events."""
    starts = PuctReuse().pick(archive, shape[0], np.random.default_rng(step))
    groups = [replies.group(start, shape[1]) for start in starts]
    begun = time.perf_counter()
    store.record(events.step_started(step=step, starts=[start.id for start in starts]))
    for number, group in enumerate(groups):
        for index, rollout in enumerate(group):
            record_rollout(store, step, number, index, rollout)
    logged = time.perf_counter()
    archive.admit(step, groups)
    admitted = time.perf_counter()
    numbers = {str(metric): 0.1 for metric in Metric}
    timings = {Timing.SAMPLING: 41.0, Timing.ROLLOUTS: 47.0, Timing.LEARN: 9.0}
    advantages = [np.zeros(shape[1])] * shape[0]
    store.commit_step(step, groups, archive, numbers, timings, advantages=advantages)
    committed = time.perf_counter()
    best = max(group.rewards.max() for group in groups)
    count = shape[0] * shape[1]
    came_to = {"rollouts": count, "valid": 3 * count // 4, "mean_value": 0.5, "metrics": numbers}
    store.record(events.step_finished(step=step, **came_to, best_value=best, best_score=-best, seconds=60.0))
    return admitted - logged, committed - admitted, logged - begun


def record_rollout(store: RunStore, step: int, group: int, index: int, rollout: Rollout) -> None:
    """The two events of a rollout."""
    verdict = rollout.verdict
    place = {"step": step, "group": group, "index": index}
    store.record(events.rollout_sampled(**place, tokens=len(rollout.completion.tokens), stop="stop"))
    reward = verdict.reward
    worth = {"value": reward and reward.value, "score": reward and reward.score}
    ended = {"status": verdict.status.value, "message": verdict.message, "seconds": verdict.seconds}
    store.record(events.rollout_evaluated(**place, **ended, **worth))


def sizes(folder: pathlib.Path) -> None:
    """What the folder takes."""
    arrays = [path.stat().st_size for path in (folder / "arrays").iterdir()]
    show("run.db", (folder / "run.db").stat().st_size / 1e6, "MB")
    show(LOG, (folder / LOG).stat().st_size / 1e6, "MB")
    show(f"arrays/, {len(arrays):,} files", sum(arrays) / 1e6, "MB")


# -- reading ----------------------------------------------------------------------------------------


def command(name: str, *arguments: str, input: str | None = None) -> None:
    """Time a command in a process of its own, with its peak of memory."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    begun = time.perf_counter()
    # GNU time is not everywhere: a small Python says what its only child took.
    wrapper = (
        "import resource, subprocess, sys; code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)"
    )
    wrapper += ".returncode; print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
    done = subprocess.run([sys.executable, "-c", wrapper, *TTD, *arguments], capture_output=True, text=True)
    seconds = time.perf_counter() - begun
    busy = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    if done.returncode:
        print(f"{name}: exit {done.returncode}: {done.stderr.strip()[-300:]}")
    else:
        peak = int(done.stdout.split()[-1]) / 1e3
        print(f"{name:58}{seconds:12.2f} s  {busy:8.2f} s CPU  {peak:8,.0f} MB", flush=True)


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
        show("rollouts: a page of 100", median_ms(lambda: run.short_rollouts(places)), "ms")
        last = run.last_step()
        show("what the archive knew at the last step", median_ms(lambda: run.node_statistics(last), 3), "ms")


# -- driver -----------------------------------------------------------------------------------------


def measure_driver(folder: pathlib.Path, tokens: int) -> None:
    """The run's own work for a rollout."""
    program = "import numpy as np\n\n\ndef run(seed, budget_s, **kwargs):\n    return [0.5] * 200\n"
    thinking = "lower the overlap where two neighbours meet " * (tokens * 4 // 45)
    reply = f"<think>{thinking}</think>\nSo:\n\n```python\n{program}{'# a line of it' * 150}\n```"
    wanted = {"policy.backend": "scripted", "policy.options.replies": [reply]}
    setup = RunSetup.from_config(configs.load("erdos", overrides=wanted))
    rng = np.random.default_rng(0)
    (seed,) = setup.hooks.seed_states(rng, 1)
    node = Node(0, seed, Reward(0.5, 0.5), None, 0, True, seed.digest)
    ids, logprobs = np.arange(tokens), np.zeros(tokens, np.float32)
    answer = reply.partition("</think>")[2]
    done = Completion(reply, ids, logprobs, np.ones(tokens, np.bool_), StopReason.STOP, answer)
    values = np.full(200, 0.5)
    answered = JobResult(Status.OK, value=[values, 0.5, 200], wall_s=0.1)
    hooks = setup.hooks
    parse = functools.partial(hooks.parse_action, done)
    transition = functools.partial(hooks.transition, seed, parse(), lambda _: answered)
    reached = transition()
    assert isinstance(reached, State), reached
    show("parse a reply", 1000 * median_ms(parse, 200), "µs")
    show("transition, without its program", 1000 * median_ms(transition, 200), "µs")
    judge = 1000 * median_ms(lambda: (hooks.check(reached), hooks.reward(reached)), 200)
    show("check and reward of erdos, 200 numbers", judge, "µs")
    samples = Scripted(done)
    count = 512
    with contextlib.closing(RunStore.create(folder, "")) as store:
        pending = PendingRollouts(folder)
        pending.begin(1, "", ["key"])
        collector = RolloutCollector(hooks, samples, lambda _: answered, 16, pending)

        def on_sampled(group: int, index: int, completion: Completion) -> None:
            place = {"step": 1, "group": group, "index": index}
            store.record(events.rollout_sampled(**place, tokens=len(completion.tokens), stop="stop"))

        def on_evaluated(group: int, index: int, verdict: Verdict) -> None:
            place = {"step": 1, "group": group, "index": index}
            ended = {"status": verdict.status.value, "message": "", "seconds": 0.1}
            store.record(events.rollout_evaluated(**place, **ended, value=0.5, score=0.5))

        begun, busy = time.perf_counter(), time.process_time()
        collector.collect([node], [[]], count, None, {}, on_sampled, on_evaluated)
        taken, busy = time.perf_counter() - begun, time.process_time() - busy
        show("all of a rollout: parsed, judged, kept, its events", 1e6 * taken / count, "µs")
        show("   of which processor time", 1e6 * busy / count, "µs")
        kept = (folder / "pending.jsonl").stat().st_size / count
        show("   kept of it while its step is under way", kept / 1e3, "kB")
        pending.clear()


@attrs.frozen
class Scripted:
    """A policy that says the same at once, over and over."""

    done: Completion
    name: str = "scripted"

    def sample(self, prompts: Any, count: int, params: Any) -> Iterator[Any]:
        """``count`` replies to each prompt."""
        for prompt in range(len(prompts)):
            for index in range(count):
                yield Sample(prompt, index, self.done, np.zeros(1000, np.int64))


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="part", required=True)
    archive = parts.add_parser("archive")
    archive.add_argument("--states", type=int, nargs="+", default=[1000, 10_000, 100_000])
    database = parts.add_parser("database")
    database.add_argument("--rollouts", type=int, default=1_000_000)
    database.add_argument("--numbers", type=int, default=40, help="numbers of a construction")
    database.add_argument("--text", type=int, default=2400, help="characters of a reply")
    database.add_argument("--code", type=int, default=800, help="characters of a program")
    database.add_argument("--capacity", type=int, default=1000, help="search.capacity")
    database.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("/tmp/limits"))
    reading = parts.add_parser("read")
    reading.add_argument("folder", type=pathlib.Path)
    driver = parts.add_parser("driver")
    driver.add_argument("--tokens", type=int, default=8000)
    options = parser.parse_args()
    if options.part == "archive":
        measure_archive(options.states)
    elif options.part == "database":
        replies = Replies(options.text, options.code, options.numbers)
        write_run(options.folder, options.rollouts, replies, SearchConfig(capacity=options.capacity))
    elif options.part == "read":
        measure_reading(options.folder)
    else:
        with tempfile.TemporaryDirectory() as name:
            measure_driver(pathlib.Path(name) / "run", options.tokens)


if __name__ == "__main__":
    main()
