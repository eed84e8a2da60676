"""Our kernels beside eager PyTorch and ``torch.compile``, all judged by the same harness in one run on a GPU.

For each problem: the mean time at every timed shape, their geometric mean, and the share of the speed of
light (the floor that memory and matrix units of an H200 allow, over the time). Ours is judged several times,
each in a fresh process on fresh inputs: the spread of its geometric mean is what a difference must exceed.
With ``--cheats``, every cheat of the plugin's tests is judged as well, and must score 0. With ``--peer NAME``
libraries that do the same work are timed too, and ours beside them by the same clock, in this process.

Needs an NVIDIA GPU; exits with 3 where there is none, with 1 when a cheat scores or our kernel is refused.

    python benchmarks/kernels.py [--problem trimul] [--times 5] [--repeats 100] [--warm] [--cheats]
    python benchmarks/kernels.py --problem all --peer all
    python benchmarks/kernels.py --problem trimul --peer cuequivariance --times 0
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from command_line import leave, non_negative_int, positive_int, require_packages, run_benchmark, writable

require_packages("torch")

import kernel_comparison
from kernel_clock import GpuClock
from kernel_peers import PEERS
from kernel_programs import CHEATS, COMPILED, EAGER
from rich.console import Console
from rich.table import Table

from ttd_core.config.settings import fill
from ttd_core.package_files import package_text
from ttd_core.sandbox.local import LocalExecutor
from ttd_core.types import Verdict
from ttd_kernels.dora_norm import DoraNorm
from ttd_kernels.harness import gpus
from ttd_kernels.mla_decode import MlaDecode
from ttd_kernels.problem import KernelProblem
from ttd_kernels.relu2_mlp import Relu2Mlp
from ttd_kernels.rmsnorm import RmsNorm
from ttd_kernels.testing import LargeTriMul, all_cheats, judged
from ttd_kernels.trimul import TriMul

PROBLEMS: dict[str, type[KernelProblem]] = {
    kind.name: kind for kind in (TriMul, MlaDecode, RmsNorm, Relu2Mlp, DoraNorm)
}


#: Timed calls of a peer at a shape.
PEER_REPEATS = 20
#: Names every problem, or every peer.
ALL = "all"


def chosen(named: Sequence[str], every: Iterable[str]) -> list[str]:
    """Those named, each once, in the order of all there are; every one for ``all``."""
    return [name for name in every if name in named or ALL in named]


def ours(name: str) -> str:
    """Our kernel's source."""
    return package_text("ttd_kernels", "programs", f"{name}.py")


def numbers(verdict: Verdict) -> dict[str, Any]:
    """What a verdict says, JSON."""
    if verdict.reward is None:
        return {"status": verdict.status.value, "message": verdict.message}
    return {"status": "ok", "us": verdict.reward.score, **verdict.reward.metrics}


def run_problem(
    name: str, executor: LocalExecutor, arguments: argparse.Namespace
) -> tuple[Table, dict[str, Any]]:
    """Judge ours several times, and its peers once: a table, and all numbers as JSON."""
    kind = PROBLEMS[name]
    options = {"repeats": arguments.repeats, "flush_l2": not arguments.warm, "tests": arguments.tests}
    problem = kind(fill(kind.options_type, options))
    few = {"repeats": min(10, arguments.repeats), "tests": 1, "hidden": 0}
    quick = kind(fill(kind.options_type, options | few))
    measured: dict[str, Any] = {"ours": []}
    for _ in range(arguments.times):
        measured["ours"].append(numbers(judged(problem, ours(name), executor.run)))
        print(json.dumps({name: measured["ours"][-1]}), flush=True)
    for label, sources in () if arguments.alone else (("eager", EAGER), ("torch.compile", COMPILED)):
        measured[label] = numbers(judged(quick, sources[name], executor.run))
        print(json.dumps({name: {label: measured[label]}}), flush=True)
    means = [each["us"] for each in measured["ours"] if each["status"] == "ok"]
    if len(means) > 1:
        measured["spread"] = (max(means) - min(means)) / statistics.fmean(means)
    return table_of(name, measured, arguments), measured


def table_of(name: str, measured: dict[str, Any], arguments: argparse.Namespace) -> Table:
    """Shape by shape, ours beside its peers; our median run."""
    good = sorted((each for each in measured["ours"] if each["status"] == "ok"), key=lambda each: each["us"])
    columns = {"ours": good[len(good) // 2] if good else measured["ours"][0]}
    columns |= {label: measured[label] for label in ("eager", "torch.compile") if label in measured}
    cache = "cache warm" if arguments.warm else "cache emptied before each call"
    table = Table(title=f"{name}, microseconds, {cache}", title_justify="left")
    table.add_column("shape")
    table.add_column("floor", justify="right")
    for label in columns:
        table.add_column(label, justify="right")
    for shape, row in columns["ours"].get("shapes", {}).items():
        times = [
            f"{each['shapes'][shape]['us']:.1f}" if "shapes" in each else "-" for each in columns.values()
        ]
        table.add_row(shape, f"{row['floor_us']:.0f}", *times)
    table.add_row(
        "geometric mean", "", *(f"{each['us']:.1f}" if "us" in each else "-" for each in columns.values())
    )
    light = [
        f"{each['speed_of_light']:.0%}" if "us" in each else each["message"][:60] for each in columns.values()
    ]
    table.add_row("speed of light", "", *light)
    table.add_row("generalises", "", *(str(each.get("generalises", "-")) for each in columns.values()))
    if "spread" in measured:
        table.caption = (
            f"ours judged {len(good)} times: spread of the geometric mean {measured['spread']:.2%}"
        )
    return table


def run_cheats(executor: LocalExecutor) -> tuple[Table, dict[str, Any]]:
    """Judge every cheat on the GPU: a table, and all numbers as JSON."""
    table = Table(title="cheats on the GPU", title_justify="left")
    for column in ("cheat", "score", "caught", "verdict"):
        table.add_column(column)
    outcomes = {}
    options = {"tests": 4, "hidden": 3, "repeats": 10, "timeout_s": 60.0}
    for cheat in all_cheats(CHEATS):
        if "gpu" not in cheat.where:
            continue
        problem = LargeTriMul(fill(LargeTriMul.options_type, options | cheat.options))
        verdict = judged(problem, cheat.source, executor.run)
        score = f"{verdict.reward.score:.1f}" if verdict.reward else "0"
        caught = cheat.caught_by(verdict)
        outcomes[cheat.name] = {"caught": caught, **numbers(verdict)}
        reason = f"{verdict.status.value}: {verdict.message}"
        print(f"{cheat.name}: {caught}: {reason}", flush=True)
        table.add_row(cheat.name, score, "yes" if caught else "NO", reason)
    return table, outcomes


def main() -> int:
    """Judge, and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--problem", action="append", choices=[*PROBLEMS, ALL], help="may be repeated; all is the default"
    )
    parser.add_argument(
        "--peer", action="append", choices=[*PEERS, ALL], default=[], help="a library to time beside ours"
    )
    parser.add_argument(
        "--times", type=non_negative_int, default=5, help="how often ours is judged; 0 for peers alone"
    )
    parser.add_argument("--alone", action="store_true", help="judge ours without PyTorch's beside it")
    parser.add_argument("--repeats", type=positive_int, default=100, help="most timed calls of a shape")
    parser.add_argument("--tests", type=positive_int, default=18, help="shapes ours is tested on")
    parser.add_argument("--warm", action="store_true", help="leave the GPU's cache as it is between calls")
    parser.add_argument("--cheats", action="store_true", help="judge the cheats too")
    parser.add_argument("--json", type=writable, help="write all numbers into this file")
    arguments = parser.parse_args()
    if not gpus.count():
        leave("no GPU was found: kernels are timed on one")
    console = Console(width=160)
    whole: dict[str, Any] = {}
    tables: list[Table] = []
    started = time.monotonic()
    names, peers = chosen(arguments.problem or [ALL], PROBLEMS), chosen(arguments.peer, PEERS)
    with contextlib.ExitStack() as stack:
        if arguments.times or arguments.cheats:
            executor = stack.enter_context(LocalExecutor(1))
        for name in names:
            whole[name] = {"ours": []}
            if arguments.times:
                table, whole[name] = run_problem(name, executor, arguments)
                tables.append(table)
            if any(peer.problem == name for each in peers for peer in PEERS[each]):
                problem = PROBLEMS[name]()
                table, whole[name]["peers"] = kernel_comparison.compare(
                    problem, peers, GpuClock(PEER_REPEATS)
                )
                tables.append(table)
        if arguments.cheats:
            table, whole["cheats"] = run_cheats(executor)
            tables.append(table)
    for table in tables:
        console.print(table)
    console.print(f"{time.monotonic() - started:.0f} s in all")
    if arguments.json:
        arguments.json.write_text(json.dumps(whole, indent=1))
    refused = [
        each for name in PROBLEMS for each in whole.get(name, {}).get("ours", ()) if each["status"] != "ok"
    ]
    scored = [name for name, each in whole.get("cheats", {}).items() if not each["caught"]]
    return 1 if refused or scored else 0


if __name__ == "__main__":
    sys.exit(run_benchmark(main))
