"""Our programs of `ttd_math`: the best score by the processor time they are given, several seeds each.

    python benchmarks/budgets.py [--problem ac1 erdos] [--seeds 1 2 3] [--seconds 30 60 120] [--processes 2]

A program plans by its budget (longer functions in the last part of it), so each budget is a run of its own,
from the problem's own start, by processor time. Every result goes through the verifier. The longest runs are
begun first; a row of JSON comes with each one that ends (--json FILE keeps them), the tables at the end.
`last doubling` is what the larger budget improved the mean by: where it has become small, another hour brings
about that much a doubling.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import inspect
import io
import json
import multiprocessing
import os
import statistics
import sys
from typing import Any

from command_line import positive_float, positive_int, run_benchmark, writable
from rich.console import Console
from rich.table import Table

from ttd_core.plugin.registry import load
from ttd_core.types import State
from ttd_math.base import MathProblem
from ttd_math.search import as_module

PROBLEMS = ("ac1", "ac2", "erdos", "cp26", "cp32")


def measured(name: str, seed: int, seconds: float) -> dict[str, Any]:
    """One run of a problem's strong program.

    :param seconds: of processor time.
    :return: a row: problem, seed, seconds, and its score or what broke.
    """
    problem = load(name, {"program": "strong", "start": "program"})
    assert isinstance(problem, MathProblem)
    program = as_module(problem, State())
    entry = getattr(program, problem.entry)
    budget = {"seed": seed, "budget_s": seconds}
    if "budget_s" not in inspect.signature(entry).parameters:  # the packings', which are told by constants
        program.__dict__.update(SEED=seed, SECONDS=seconds)
        budget = {}
    with contextlib.redirect_stdout(io.StringIO()):
        found = State(data=problem.construct(entry(**budget)))
    broken = problem.check(found)
    said = {"broken": broken[0]} if broken else {"score": problem.reward(found).score}
    return {"problem": name, "seed": seed, "seconds": seconds, **said}


def table(name: str, rows: list[dict[str, Any]]) -> Table:
    """A problem's scores by budget."""
    problem = load(name, {})
    seeds = sorted({row["seed"] for row in rows})
    drawn = Table(title=f"{name}, {problem.metric} by processor seconds")
    for head in ("seconds", *(f"seed {seed}" for seed in seeds), "mean", "last doubling"):
        drawn.add_column(head, justify="right")
    before: float | None = None
    for seconds in sorted({row["seconds"] for row in rows}):
        scores = {row["seed"]: row["score"] for row in rows if row["seconds"] == seconds and "score" in row}
        mean = statistics.mean(scores.values()) if len(scores) == len(seeds) else None
        gain = "" if before is None or mean is None else f"{problem.gain(before, mean):+.2g}"
        shown = [problem.format_score(scores[seed]) if seed in scores else "none" for seed in seeds]
        drawn.add_row(f"{seconds:g}", *shown, "none" if mean is None else f"{mean:.8f}", gain)
        before = mean
    return drawn


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problem", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--seeds", nargs="+", type=positive_int, default=[1, 2, 3])
    parser.add_argument("--seconds", nargs="+", type=positive_float, default=[30.0, 60.0, 120.0, 240.0])
    parser.add_argument("--processes", type=positive_int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=writable, help="where each row is appended to as it comes")
    chosen = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # before the processes that compute import a library
    wanted = [
        (name, seed, seconds)
        for seconds in sorted(chosen.seconds, reverse=True)
        for name in chosen.problem
        for seed in chosen.seeds
    ]
    rows = []
    fresh = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(chosen.processes, fresh) as pool:
        running = [pool.submit(measured, *each) for each in wanted]
        for done in concurrent.futures.as_completed(running):
            rows.append(done.result())
            print(json.dumps(rows[-1]), flush=True)
            if chosen.json:
                with chosen.json.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
    for name in chosen.problem:
        Console().print(table(name, [row for row in rows if row["problem"] == name]))


if __name__ == "__main__":
    sys.exit(run_benchmark(main))
