"""A Ray cluster of several nodes on this machine: what a job costs, what crosses, what a lost node costs.

    python benchmarks/cluster.py [--nodes 2] [--cpus 1] [--jobs 200] [--array-mb 8]

Starts a head and further nodes of `--cpus` processors each, all on this machine, so that rates are those of
its cores. Measured are, beside the local executor with as many workers:

- jobs: empty ones, as fast as they go; and what one alone takes longer than its program (median);
- arrays: jobs that are all given the same array of `--array-mb`; how much was sent with jobs, how much was
  put for all nodes once, how much more it would have been with each job;
- a lost node: jobs of half a second, undisturbed, then with a node killed after a quarter of them: how long
  each took, how many jobs were retried, and whether every result is the one of the undisturbed jobs;
- a node added after a quarter of the jobs: when its first job ended, and how many it had.

Exits with 1 when a result differs.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from command_line import positive_float, positive_int, run_benchmark

from ttd_core.sandbox import ray_nodes
from ttd_core.sandbox.base import Executor, JobResult, Limits, PythonJob
from ttd_core.sandbox.local import LocalExecutor
from ttd_core.sandbox.ray import RayExecutor

EMPTY = PythonJob("def run(): return 1", "run")
SUM = "def run(): return float(table.sum())"
SQUARE = "import time\ndef run(number):\n    time.sleep(0.5)\n    return number * number"


@contextlib.contextmanager
def cluster(nodes: int, cpus: int) -> Iterator[Any]:
    """A cluster on this machine, this process connected to its head; the last node is the first to kill."""
    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    import ray
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus, "include_dashboard": False})
    try:
        for _ in range(nodes - 1):
            made.add_node(num_cpus=cpus)
        ray.init(address=made.address, log_to_driver=False, logging_level=logging.ERROR)
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def together(executor: Executor, jobs: Sequence[PythonJob]) -> list[JobResult]:
    """The results of jobs submitted as fast as they are taken."""
    return [future.result() for future in [executor.submit(job) for job in jobs]]


def rates(name: str, executor: Executor, jobs: int) -> None:
    """Print what empty jobs cost."""
    together(executor, [EMPTY] * (4 * executor.workers))  # servers are started
    started = time.monotonic()
    together(executor, [EMPTY] * jobs)
    rate = jobs / (time.monotonic() - started)
    added = []
    for _ in range(max(10, jobs // 10)):
        started = time.monotonic()
        result = executor.run(EMPTY)
        added.append(time.monotonic() - started - result.wall_s)
    print(f"{name:8}{executor.workers:>9}{rate:>12.0f}{statistics.median(added) * 1e3:>16.1f}", flush=True)


def arrays(executor: RayExecutor, jobs: int, megabytes: float) -> bool:
    """Print what crosses when all jobs are given one array; whether every result is right."""
    table = np.random.default_rng(0).random(int(megabytes * 2**20 / 8))
    before = executor.use()
    started = time.monotonic()
    results = together(executor, [PythonJob(SUM, "run", inject={"table": table})] * jobs)
    seconds, after = time.monotonic() - started, executor.use()
    sent, put, saved = (
        (getattr(after, name) - getattr(before, name)) / 2**20
        for name in ("job_bytes", "put_bytes", "saved_bytes")
    )
    print(
        f"{jobs} jobs with one array of {megabytes:g} MiB in {seconds:.1f} s: {sent:.2f} MiB with jobs, "
        f"{put:.1f} MiB put once, {saved:,.0f} MiB spared"
    )
    return all(result.value == float(table.sum()) for result in results)


class Squares:
    """Jobs of half a second, submitted from a thread, so that this one can meddle with the cluster."""

    def __init__(self, executor: RayExecutor, count: int) -> None:
        self.count = count
        self.ended = 0
        self.results: list[JobResult] = []
        self._started = time.monotonic()
        self._thread = threading.Thread(target=self._run, args=(executor,))
        self._thread.start()

    def _run(self, executor: RayExecutor) -> None:
        futures = []
        for number in range(self.count):
            job = PythonJob(SQUARE, "run", [number], limits=Limits(wall_s=20.0))
            futures.append(executor.submit(job))
            futures[-1].add_done_callback(self._count)
        self.results = [future.result() for future in futures]

    def _count(self, _: object) -> None:
        self.ended += 1

    def until(self, ended: int) -> None:
        """Wait until so many jobs have ended."""
        while self.ended < ended:
            time.sleep(0.01)

    def seconds(self) -> float:
        """Wait for all; what they took."""
        self._thread.join()
        return time.monotonic() - self._started

    @property
    def right(self) -> bool:
        """Whether every result is what it should be."""
        return [each.value for each in self.results] == [number * number for number in range(self.count)]


def lost_node(made: Any, executor: RayExecutor, count: int) -> bool:
    """Print what becomes of a killed node's jobs; whether every result is the one of undisturbed jobs."""
    undisturbed = Squares(executor, count)
    undisturbed_s = undisturbed.seconds()
    workers = executor.workers
    disturbed = Squares(executor, count)
    disturbed.until(count // 4)
    killed = time.monotonic()
    made.remove_node(next(iter(made.worker_nodes)), allow_graceful=False)
    while executor.workers == workers and time.monotonic() - killed < 90:
        time.sleep(0.1)
    noticed = time.monotonic() - killed
    seconds = disturbed.seconds()
    retried = sum(result.retries > 0 for result in disturbed.results)
    right = undisturbed.right and disturbed.right
    print(
        f"{count} jobs of 0.5 s: {undisturbed_s:.1f} s undisturbed; {seconds:.1f} s with a node killed after "
        f"{count // 4}: {retried} retried, results {'equal' if right else 'DIFFER'}; Ray called the node "
        f"gone after {noticed:.1f} s"
    )
    return right


def added_node(made: Any, executor: RayExecutor, count: int, cpus: int) -> bool:
    """Print what a node that joins does."""
    known = len(executor.use().nodes)
    jobs = Squares(executor, count)
    jobs.until(count // 4)
    started, first = time.monotonic(), 0.0
    made.add_node(num_cpus=cpus)
    while jobs.ended < count and not first:
        new = executor.use().nodes[:-1] if len(executor.use().nodes) > known else []
        first = time.monotonic() - started if new and new[-1].done else 0.0
        time.sleep(0.02)
    seconds = jobs.seconds()
    done = [each for each in executor.use().nodes if not each.lost][-1].done if first else 0
    print(
        f"{count} jobs of 0.5 s in {seconds:.1f} s, a node of {cpus} processors started after {count // 4}: "
        f"its first job ended {first:.1f} s later, and it ran {done}"
    )
    return jobs.right


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--nodes", type=positive_int, default=2)
    parser.add_argument("--cpus", type=positive_int, default=1, help="processors of each node")
    parser.add_argument("--jobs", type=positive_int, default=200)
    parser.add_argument("--array-mb", type=positive_float, default=8.0)
    chosen = parser.parse_args()
    if chosen.nodes < 2:
        parser.error("one node is killed: --nodes must be 2 at least")
    ray_nodes._LOOK_S = 1.0
    logging.basicConfig(format="  log: %(message)s", level=logging.INFO)
    for name in ("ray", "filelock"):
        logging.getLogger(name).setLevel(logging.ERROR)
    print(f"{'':8}{'workers':>9}{'jobs/s':>12}{'ms added a job':>16}")
    with LocalExecutor(chosen.nodes * chosen.cpus) as executor:
        rates("local", executor, chosen.jobs)
    with cluster(chosen.nodes, chosen.cpus) as made:
        with RayExecutor() as executor:
            rates("ray", executor, chosen.jobs)
            count = 20 * chosen.nodes * chosen.cpus
            right = [
                arrays(executor, chosen.jobs // 4, chosen.array_mb),
                lost_node(made, executor, count),
                added_node(made, executor, 3 * count, chosen.cpus),
            ]
            for each in executor.use().nodes:
                state = "lost" if each.lost else "there"
                print(f"  node {each.address}, {each.workers} workers, {state}: {each.done} jobs")
    return 0 if all(right) else 1


if __name__ == "__main__":
    sys.exit(run_benchmark(main))
