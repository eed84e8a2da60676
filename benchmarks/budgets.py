"""Our programs of `ttd_math`: the best score by the processor time they are given, several seeds each.

    python benchmarks/budgets.py [--problem ac1 erdos] [--seeds 1 2 3] [--seconds 30 60 120] [--processes 2]
    python benchmarks/budgets.py --problem ac2 --set FIRST=450 --set LAST=2.5e4 --seconds 6 --calls 5

A program plans by its budget (longer functions in the last part of it), so each budget is a run of its own,
from the problem's own start, by processor time. Every result goes through the verifier. The longest runs are
begun first; a row of JSON comes with each one that ends (--json FILE keeps them), the tables at the end.
`last doubling` is what the larger budget improved the mean by: where it has become small, another hour brings
about that much a doubling.

`--set` gives a constant of the program another value: is an edit that did well in a run better, or was it
lucky? `--calls` calls the program as often, each time from what it had found, as steps of a run do; `--begin`
has the first call begin with a construction, such as an array of a run's folder. With `--set-from 2` the
first call is the program's own, and only what goes on from it has the other values.
"""

from __future__ import annotations

import argparse
import ast
import concurrent.futures
import contextlib
import inspect
import io
import json
import multiprocessing
import os
import statistics
import sys
import time
from typing import Any

from command_line import positive_float, positive_int, run_benchmark, writable
from rich.console import Console
from rich.table import Table

from ttd_core.errors import UsageError
from ttd_core.plugin.registry import load
from ttd_core.types import State
from ttd_math.base import MathProblem
from ttd_math.search import as_module, start_of

PROBLEMS = ("ac1", "ac2", "erdos", "cp26", "cp32")


def assignment(text: str) -> tuple[str, Any]:
    """A constant of a program and another value for it, of ``NAME=VALUE``.

    :raises argparse.ArgumentTypeError: when it is none, or the value no literal of Python.
    """
    name, _, value = text.partition("=")
    try:
        return name.strip(), ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE with a literal of Python") from error


def measured(
    name: str, seed: int, seconds: float, calls: int, values: dict[str, Any], begin: str, set_from: int
) -> dict[str, Any]:
    """Calls of a problem's strong program, one after another.

    :param seconds: of processor time, of each call.
    :param calls: how many; all but the first begin from what the one before found.
    :param values: of constants of the program, in place of its own.
    :param set_from: the first call, from 1, that has them.
    :param begin: what the first call begins with, as for :func:`ttd_math.search.start_of`.
    :return: a row: problem, seed, seconds, the score of every valid call, the processor seconds of every
        call, and the last score or what broke.
    :raises UsageError: when the program has no such constant, or ``begin`` is no valid construction.
    """
    problem = load(name, {"program": "strong", "start": "program"})
    assert isinstance(problem, MathProblem)
    found, _ = start_of(problem, begin)
    scores: list[float] = []
    took: list[float] = []
    row: dict[str, Any] = {"problem": name, "seed": seed, "seconds": seconds, "scores": scores, "took": took}
    for call in range(1, calls + 1):
        program = as_module(problem, found)
        strange = sorted(values.keys() - program.__dict__.keys())
        if strange:
            raise UsageError(f"the strong program of {name} has no {strange[0]}")
        program.__dict__.update(values if call >= set_from else {})
        entry = getattr(program, problem.entry)
        budget = {"seed": seed, "budget_s": seconds}
        if "budget_s" not in inspect.signature(entry).parameters:
            # The packings', which are told by constants.
            program.__dict__.update(SEED=seed, SECONDS=seconds)
            budget = {}
        began = time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            found = State(data=problem.construct(entry(**budget)))
        took.append(round(time.process_time() - began, 2))
        broken = problem.check(found)
        if broken:
            return {**row, "broken": broken[0]}
        scores.append(problem.reward(found).score)
    return {**row, "score": scores[-1]}


def table(name: str, rows: list[dict[str, Any]]) -> Table:
    """A problem's scores by budget."""
    problem = load(name, {})
    seeds = sorted({row["seed"] for row in rows})
    drawn = Table(title=f"{name}, {problem.metric} by processor seconds")
    for head in ("seconds", *(f"seed {seed}" for seed in seeds), "mean", "spread", "last doubling"):
        drawn.add_column(head, justify="right")
    before: float | None = None
    for seconds in sorted({row["seconds"] for row in rows}):
        scores = {row["seed"]: row["score"] for row in rows if row["seconds"] == seconds and "score" in row}
        mean = statistics.mean(scores.values()) if len(scores) == len(seeds) else None
        gain = "" if before is None or mean is None else f"{problem.gain(before, mean):+.2g}"
        shown = [problem.format_score(scores[seed]) if seed in scores else "none" for seed in seeds]
        spread = f"{statistics.stdev(scores.values()):.1e}" if len(scores) > 1 else ""
        drawn.add_row(f"{seconds:g}", *shown, "none" if mean is None else f"{mean:.8f}", spread, gain)
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
    parser.add_argument("--calls", type=positive_int, default=1, help="each from what the one before found")
    parser.add_argument("--begin", default="program", metavar="program|best|FILE")
    parser.add_argument("--set", type=assignment, action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--set-from", type=positive_int, default=1, metavar="CALL")
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
        running = [
            pool.submit(measured, *each, chosen.calls, dict(chosen.set), chosen.begin, chosen.set_from)
            for each in wanted
        ]
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
