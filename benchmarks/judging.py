"""Seconds that judging one candidate after another takes, by stage and part: right, wrong and slow ones.

For each problem and kind of program: that program judged several times in a row by one judge, as in a
run. The first judgement starts the judge's process and makes its context; the later ones are what a
candidate costs. A table gives the first and the median of the later ones (``ttd_kernels.harness.stopwatch``
names the rows and columns), and the verdict. It is compared with itself, before a change.

Needs an NVIDIA GPU, or ``--devices cpu``, where small shapes are checked and no time is taken; exits with 3
where there is none.

    python benchmarks/judging.py [--problem trimul mla_decode] [--program ours wrong start] [--candidates 3]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from typing import Any

from command_line import leave, positive_float, positive_int, require_packages, run_benchmark, writable

require_packages("torch")

from rich.console import Console
from rich.table import Table

from ttd_core.config.settings import fill
from ttd_core.package_files import package_text
from ttd_core.sandbox.local import LocalExecutor
from ttd_kernels.harness import gpus, launch
from ttd_kernels.harness.judge_client import judge_pool
from ttd_kernels.harness.stopwatch import PARTS, STAGES, Seconds, total
from ttd_kernels.mla_decode import MlaDecode
from ttd_kernels.problem import KernelProblem
from ttd_kernels.rmsnorm import RmsNorm
from ttd_kernels.testing import judged
from ttd_kernels.trimul import TriMul

PROBLEMS: dict[str, type[KernelProblem]] = {"trimul": TriMul, "mla_decode": MlaDecode, "rmsnorm": RmsNorm}
#: Put after a right program, makes a wrong one that looks right but for one factor.
WRONG = """

_right = custom_kernel


def custom_kernel(data):
    returned = _right(data)
    if isinstance(returned, (tuple, list)):
        return (returned[0] * 1.25, *returned[1:])
    return returned * 1.25
"""


def program(problem: str, kind: str) -> str:
    """Source of a program: ``ours``, ``wrong`` (ours but for a factor), or ``start`` (right and slow).

    Where we have no kernel of our own, the start program stands for it.
    """
    start = package_text("ttd_kernels", "programs", f"{problem}_start.py")
    try:
        ours = package_text("ttd_kernels", "programs", f"{problem}.py")
    except FileNotFoundError:
        ours = start
    return {"ours": ours, "wrong": ours + WRONG, "start": start}[kind]


def one(problem: KernelProblem, source: str, executor: LocalExecutor) -> dict[str, Any]:
    """One judgement: wall seconds, those by stage and part, and the verdict. JSON."""
    began = time.monotonic()
    verdict = judged(problem, source, executor.run)
    whole_s = time.monotonic() - began
    facts = verdict.reward.metrics if verdict.reward else verdict.metrics
    outcome = f"{verdict.reward.score:.1f} us" if verdict.reward else f"{verdict.status}: {verdict.message}"
    repeats = verdict.state.data["repeats"].tolist() if verdict.state else []
    errors = verdict.state.data["errors_us"].tolist() if verdict.state else []
    shapes = {
        name: [round(row["us"], 2), round(error, 3)]
        for (name, row), error in zip(facts.get("shapes", {}).items(), errors, strict=True)
    }
    return {
        "wall_s": whole_s,
        "seconds": facts.get("seconds", {}),
        "verdict": outcome,
        "repeats": repeats,
        "shapes": shapes,
        "unseen_us": facts.get("unseen_us"),
    }


def table_of(title: str, first: Seconds, later: Seconds, wall: tuple[float, float]) -> Table:
    """Stages down, parts across; ``first / later`` in seconds, a dash where there is none."""
    parts = [part for part in PARTS if any(part in row for row in (*first.values(), *later.values()))]
    table = Table(title=f"{title}: seconds, first judgement / later ones", title_justify="left")
    table.add_column("stage")
    for column in (*parts, "all"):
        table.add_column(column, justify="right")
    for stage in STAGES:
        rows = first.get(stage, {}), later.get(stage, {})
        if any(rows):
            cells = [_cell(rows[0].get(part), rows[1].get(part)) for part in parts]
            table.add_row(stage, *cells, _cell(sum(rows[0].values()), sum(rows[1].values())))
    sums = [[sum(row.get(part, 0.0) for row in each.values()) for each in (first, later)] for part in parts]
    table.add_row("all", *(_cell(*each) for each in sums), _cell(total(first), total(later)))
    table.caption = f"wall seconds as the run sees them: {wall[0]:.1f} / {wall[1]:.1f}"
    return table


def _cell(first: float | None, later: float | None) -> str:
    return "-" if not first and not later else f"{first or 0:.2f} / {later or 0:.2f}"


def middle(judgements: list[dict[str, Any]]) -> Seconds:
    """The median of each part over judgements."""
    keys = {(stage, part) for each in judgements for stage, row in each["seconds"].items() for part in row}
    found: dict[str, dict[str, float]] = {}
    for stage, part in keys:
        values = [each["seconds"].get(stage, {}).get(part, 0.0) for each in judgements]
        found.setdefault(stage, {})[part] = statistics.median(values)
    return found


def main() -> int:
    """Judge, and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--problem", nargs="+", choices=list(PROBLEMS), default=["trimul", "mla_decode"])
    parser.add_argument(
        "--program", nargs="+", choices=["ours", "wrong", "start"], default=["ours", "wrong", "start"]
    )
    parser.add_argument(
        "--candidates", type=positive_int, default=3, help="judgements in a row of each program"
    )
    parser.add_argument("--devices", default="auto", help="as the option of the problems")
    parser.add_argument(
        "--seconds", type=positive_float, default=1e9, help="begin no judgement after so many"
    )
    parser.add_argument("--json", type=writable, help="write all numbers into this file")
    arguments = parser.parse_args()
    if arguments.devices != gpus.CPU and not gpus.count():
        leave("no GPU was found: times are taken on one; --devices cpu checks small shapes")
    if arguments.devices == gpus.CPU:
        # a judge of its own process, as on a GPU
        launch.evaluate_here = judge_pool().evaluate
    console, whole, began = Console(width=170), {}, time.monotonic()
    with LocalExecutor(1) as executor:
        for name in arguments.problem:
            kind = PROBLEMS[name]
            problem = kind(fill(kind.options_type, {"devices": arguments.devices}))
            for which in arguments.program:
                judgements: list[dict[str, Any]] = []
                while len(judgements) < arguments.candidates and time.monotonic() - began < arguments.seconds:
                    judgements.append(one(problem, program(name, which), executor))
                    print(json.dumps({f"{name} {which}": judgements[-1]}), flush=True)
                if not judgements:
                    continue
                whole[f"{name} {which}"] = judgements
                later = judgements[1:] or judgements
                walls = judgements[0]["wall_s"], statistics.median(each["wall_s"] for each in later)
                console.print(table_of(f"{name}, {which}", judgements[0]["seconds"], middle(later), walls))
                console.print(f"verdicts: {'; '.join(each['verdict'] for each in judgements)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(whole, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(run_benchmark(main))
