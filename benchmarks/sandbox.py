"""Evaluations a second and added latency of the sandbox, beside a cold interpreter and the paper's evaluator.

Two programs, a short numpy one and a numpy + scipy one, are evaluated with 2 workers (rate) and one at a
time (latency; what the program itself takes, called in a warm interpreter, is subtracted). The peer is the
evaluator of ``ttt-discover`` on Ray, in an environment of its own that this installs. Then thousands of jobs
in a row, and what is left of them: memory, processes, descriptors, files, control groups.

Bars: at least 12 times (numpy) and 20 times (numpy + scipy) the peer's rate at level ``strong``, added
latency under 10 ms in the median, flat memory, nothing left. Exits with 1 when one is missed, with 3 when the
peer cannot be installed; no stored figure is ever printed.

    python benchmarks/sandbox.py [--jobs 5000] [--evaluations 600] [--peer-evaluations 60]
"""

from __future__ import annotations

import argparse
import concurrent.futures
import gc
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import attrs
import psutil
from archive import PEER, install_peer
from command_line import positive_int, run_benchmark
from rich.console import Console
from rich.table import Table

from ttd_core.errors import SandboxUnavailableError
from ttd_core.sandbox.base import MIB, JobResult, Level, Limits, PythonJob
from ttd_core.sandbox.local import LocalExecutor

WORKERS = 2
MOST_ADDED_MS = 10.0
MOST_GROWTH = 16 * MIB

NUMPY = """
import numpy as np

def run():
    rng = np.random.default_rng(7)
    heights = rng.random(200)
    heights *= 100 / heights.sum()
    overlap = np.correlate(heights, 1 - heights, "full")
    return float(overlap.max() / 200 * 2)
"""

SCIPY = """
import numpy as np
from scipy.optimize import minimize

def run():
    rng = np.random.default_rng(7)
    found = minimize(lambda x: ((x - 0.5) ** 2).sum(), rng.random(3), method="L-BFGS-B")
    return float(found.fun)
"""


@attrs.frozen
class Program:
    """What is evaluated.

    :param preload: modules that our servers hold ready.
    :param bar: how many times the peer's rate ours must reach.
    """

    name: str
    source: str
    preload: tuple[str, ...]
    bar: float


PROGRAMS = [
    Program("numpy", NUMPY, ("numpy",), 12.0),
    Program("numpy + scipy", SCIPY, ("numpy", "scipy.optimize"), 20.0),
]


@attrs.frozen
class Figures:
    """Of one way to evaluate one program: evaluations a second, and milliseconds of each one made alone."""

    rate: float
    alone_ms: list[float]

    def added(self, own_ms: float) -> tuple[float, float]:
        """Median and 99th percentile of the milliseconds beyond the program's own."""
        ordered = sorted(value - own_ms for value in self.alone_ms)
        return statistics.median(ordered), ordered[int(0.99 * (len(ordered) - 1))]


def measure(evaluate: Callable[[], float], expected: float, evaluations: int, alone: int) -> Figures:
    """Rate with all workers, then each evaluation on its own; every value is checked."""

    def checked(_: int) -> None:
        value = evaluate()
        if abs(value - expected) > 1e-9:
            raise SystemExit(f"an evaluation gave {value} instead of {expected}")

    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(checked, range(4 * WORKERS)))
        started = time.perf_counter()
        list(pool.map(checked, range(evaluations)))
        rate = evaluations / (time.perf_counter() - started)
    times = []
    for number in range(alone):
        started = time.perf_counter()
        checked(number)
        times.append((time.perf_counter() - started) * 1e3)
    return Figures(rate, times)


def own_time(program: Program) -> tuple[float, float]:
    """The program's value, and its median milliseconds in a warm interpreter."""
    source = (
        f"{program.source}\nimport time\ntimes = []\n"
        "for _ in range(40):\n    started = time.perf_counter()\n    value = run()\n"
        "    times.append(time.perf_counter() - started)\n"
        "print(value, sorted(times)[20] * 1e3)"
    )
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True, env=environment
    )
    value, milliseconds = run.stdout.split()
    return float(value), float(milliseconds)


def cold(program: Program, expected: float, evaluations: int) -> Figures:
    """A new interpreter for every evaluation: no isolation, no warm imports."""
    command = [sys.executable, "-c", f"{program.source}\nprint(run())"]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

    def evaluate() -> float:
        run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        return float(run.stdout)

    return measure(evaluate, expected, evaluations, max(20, evaluations // 2))


def ours(program: Program, expected: float, evaluations: int, level: Level) -> Figures:
    """The sandbox at one level."""
    job = PythonJob(program.source, "run", preload=program.preload, limits=Limits(wall_s=60.0))
    with LocalExecutor(WORKERS, exactly=level) as executor:

        def evaluate() -> float:
            result = executor.run(job)
            if not result.ok:
                raise SystemExit(f"a job failed: {result.status} {result.message}")
            return float(result.value)

        return measure(evaluate, expected, evaluations, max(200, evaluations // 2))


def peer(program: Program, expected: float, evaluations: int) -> Figures:
    """The evaluator of the paper's package on Ray."""
    python = install_peer()
    script = pathlib.Path(__file__).with_name("sandbox_peer.py")
    has_scipy = subprocess.run([python, "-c", "import scipy"], capture_output=True, check=False)
    if has_scipy.returncode:
        subprocess.run(
            [
                python,
                "-m",
                "pip",
                "install",
                "--quiet",
                f"{PEER.split('==')[0]}[math]=={PEER.split('==')[1]}",
            ],
            check=False,
        )
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(
            [python, script, folder, str(WORKERS), str(evaluations)],
            input=program.source,
            capture_output=True,
            text=True,
            check=False,
        )
    if run.returncode:
        lines = run.stderr.strip().splitlines() or ["no message"]
        print(f"{PEER} failed, so there is nothing to compare with: {lines[-1]}", file=sys.stderr)
        raise SystemExit(3)
    answer = json.loads(run.stdout.splitlines()[-1])
    if not answer["agree"] or abs(answer["value"] - expected) > 1e-9:
        raise SystemExit(f"{PEER} computed {answer['value']} instead of {expected}")
    return Figures(answer["rate"], [seconds * 1e3 for seconds in answer["alone"]])


def left_behind() -> dict[str, int]:
    """Resident bytes of this process and all below it, and how much of everything there is."""
    gc.collect()
    this = psutil.Process()
    below = this.children(recursive=True)
    groups = pathlib.Path("/sys/fs/cgroup").glob(f"**/ttd-{os.getpid()}-*")
    return {
        "memory": sum(process.memory_info().rss for process in (this, *below)),
        "processes": len(below),
        "descriptors": this.num_fds(),
        "files": len(list(pathlib.Path(tempfile.gettempdir()).glob("ttd-*"))),
        "control groups": len(list(groups)),
    }


def endurance(jobs: int, level: Level) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """What there is before, after a warm-up of 500 jobs, after ``jobs`` more with scratch and output."""
    source = (
        "import numpy as np\n"
        "def run(n):\n"
        "    print(n)\n"
        "    open('x', 'w').write('x' * 1000)\n"
        "    return np.arange(n % 100)"
    )
    limits = Limits(wall_s=60.0, scratch=MIB)
    before = left_behind()
    with LocalExecutor(WORKERS, exactly=level) as executor:
        warm: dict[str, int] = {}
        for count in (500, jobs):
            futures = (
                executor.submit(PythonJob(source, "run", args=[n], limits=limits)) for n in range(count)
            )
            waiting: list[concurrent.futures.Future[JobResult]] = []
            for future in futures:
                waiting.append(future)
                if len(waiting) > 2 * WORKERS and not waiting.pop(0).result().ok:
                    raise SystemExit("a job failed")
            if not all(future.result().ok for future in waiting):
                raise SystemExit("a job failed")
            warm = warm or left_behind()
        after = left_behind()
    after |= {name: value for name, value in left_behind().items() if name != "memory"}
    return before, warm, after


def main() -> int:
    """Print the tables; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=positive_int, default=5000, help="jobs in a row")
    parser.add_argument(
        "--evaluations", type=positive_int, default=600, help="evaluations of ours for a rate"
    )
    parser.add_argument(
        "--peer-evaluations", type=positive_int, default=60, help="evaluations of the slower ones"
    )
    chosen = parser.parse_args()
    console = Console(width=110)
    missed: list[str] = []
    for program in PROGRAMS:
        missed += compare(console, program, chosen.evaluations, chosen.peer_evaluations)
    before, warm, after = endurance(chosen.jobs, Level.STRONG)
    growth = after["memory"] - warm["memory"]
    console.print(
        f"{chosen.jobs} jobs in a row at strong: memory of all processes {growth / MIB:+.1f} MiB "
        f"({warm['memory'] / MIB:.0f} to {after['memory'] / MIB:.0f}); left after closing: "
        + ", ".join(f"{name} {after[name] - before[name]:+d}" for name in before if name != "memory")
    )
    if growth > MOST_GROWTH:
        missed.append(f"memory grew by {growth / MIB:.1f} MiB")
    missed += [f"{name} left behind" for name in before if name != "memory" and after[name] > before[name]]
    for line in missed:
        console.print(f"MISSED: {line}")
    return int(bool(missed))


def compare(console: Console, program: Program, evaluations: int, slow_evaluations: int) -> list[str]:
    """One table; the bars that are missed."""
    expected, own_ms = own_time(program)
    figures = {
        f"{PEER} on Ray": peer(program, expected, slow_evaluations),
        "cold python": cold(program, expected, slow_evaluations),
    }
    for level in (Level.STANDARD, Level.STRONG):
        try:
            figures[f"ours, {level}"] = ours(program, expected, evaluations, level)
        except SandboxUnavailableError as error:
            console.print(f"ours, {level}: {error}")
    base = figures[f"{PEER} on Ray"].rate
    table = Table(title=f"{program.name}: {WORKERS} workers; the program itself takes {own_ms:.2f} ms")
    table.add_column("evaluator")
    for name in ("evaluations/s", "to the peer", "added ms, median", "added ms, p99"):
        table.add_column(name, justify="right")
    for name, one in figures.items():
        median, p99 = one.added(own_ms)
        table.add_row(name, f"{one.rate:.1f}", f"{one.rate / base:.1f}x", f"{median:.1f}", f"{p99:.1f}")
    console.print(table)
    strong = figures.get(f"ours, {Level.STRONG}")
    if strong is None:
        return ["strong cannot be formed here"]
    missed = []
    if strong.rate < program.bar * base:
        missed.append(
            f"{program.name}: {strong.rate / base:.1f} times the peer's rate instead of {program.bar:g}"
        )
    if strong.added(own_ms)[0] > MOST_ADDED_MS:
        missed.append(f"{program.name}: {strong.added(own_ms)[0]:.1f} ms added instead of {MOST_ADDED_MS:g}")
    return missed


if __name__ == "__main__":
    sys.exit(run_benchmark(main))
