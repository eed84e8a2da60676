"""Rates of the contests' generators and scorers, and how steady a program's score is.

    python benchmarks/ahc.py [--cases 20] [--programs]

The first table is about the code in this project, each beside a direct form of the same work: the generator
beside one that makes every draw on its own, the polygon scorer beside pairs of edges and points. The second
(``--programs``, minutes) runs our programs: twice alone, and two at once; their scores differ by no more than
their own randomness explains. It prints the machine's cores, since every program wants one to itself.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import functools
import math
import os
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
from command_line import positive_int, run_benchmark

from ttd_ahc.ahc039 import Fishing, check_polygon
from ttd_ahc.ahc058 import Apples
from ttd_ahc.cases import Answer
from ttd_ahc.contest import Contest
from ttd_ahc.fish import POINTS, SIDE, Integers
from ttd_ahc.normal import normal
from ttd_ahc.stream import Stream, round_half_away, weight_scale
from ttd_core.cli.output import table
from ttd_core.package_files import package_text
from ttd_core.plugin.hooks import Hooks
from ttd_core.problem import Execute
from ttd_core.run.evaluate import evaluate_action
from ttd_core.sandbox.local import LocalExecutor
from ttd_core.types import Action, State


def per_second(work: Callable[[int], object], count: int) -> float:
    """Calls a processor second."""
    work(0)
    start = time.process_time()
    for number in range(count):
        work(number)
    return count / (time.process_time() - start)


def direct_points(seed: int) -> list[tuple[int, int]]:
    """The points of ahc039 with every draw made on its own."""
    stream = Stream(seed)
    taken: set[tuple[int, int]] = set()
    points: list[tuple[int, int]] = []
    for kind in (1, 2):
        count = stream.integer(10, 25)
        weights = [stream.uniform() for _ in range(count)]
        centers = [(stream.integer(20_000, 80_000), stream.integer(20_000, 80_000)) for _ in range(count)]
        sigmas = [stream.integer(1000, 5000) for _ in range(count)]
        sums = np.cumsum(weights).tolist()
        scale = weight_scale(sums[-1])
        while len(points) < POINTS * kind:
            value = stream.unit() * scale
            index = sum(each <= value for each in sums[:-1])
            x, y = (round_half_away(center + sigmas[index] * normal(stream)) for center in centers[index])
            point = x, y
            if min(point) >= 0 and max(point) <= SIDE and point not in taken:
                taken.add(point)
                points.append(point)
    return points


def direct_score(corners: np.ndarray, points: np.ndarray) -> int:
    """The score of a polygon by comparing every edge with every other and with every point, in numpy."""
    after = np.roll(corners, -1, axis=0)
    low, high = np.minimum(corners, after), np.maximum(corners, after)
    apart = (low[:, None] > high[None]).any(axis=2) | (high[:, None] < low[None]).any(axis=2)
    touching = ~apart
    size = len(corners)
    for step in (-1, 0, 1):
        touching[np.arange(size), (np.arange(size) + step) % size] = False
    assert not touching.any()
    x, y = points[:, 0, None], points[:, 1, None]
    on = ((x >= low[:, 0]) & (x <= high[:, 0]) & (y >= low[:, 1]) & (y <= high[:, 1])).any(axis=1)
    upright = low[:, 0] == high[:, 0]
    crossed = (x < low[upright, 0]) & (y >= low[upright, 1]) & (y < high[upright, 1])
    inside = on | (crossed.sum(axis=1) % 2 == 1)
    return max(0, int(inside[:POINTS].sum()) - int(inside[POINTS:].sum()) + 1)


def comb(teeth: int) -> np.ndarray:
    """A valid polygon of ``4 * teeth + 3`` vertices."""
    corners = [(20_000, 49_000)]
    for tooth in range(teeth):
        left = 20_000 + 240 * tooth
        corners += [(left, 50_000), (left, 50_500), (left + 120, 50_500), (left + 120, 50_000)]
    return np.array([*corners, (80_000, 50_000), (80_000, 49_000)])


def rates() -> str:
    """The first table."""
    fishing, apples = Fishing(), Apples()
    case, printed = fishing.case(0), apples.examples().good[2][0].encode()
    plan = apples.read_answer(apples.case(0), printed)

    def score_again(answer: Answer, _: int) -> int:
        return fishing.score_answer(case, answer)

    def score_directly(corners: Integers, _: int) -> int:
        return direct_score(corners, case.input)

    rows = []
    ours, direct = per_second(Fishing.make_case, 20), per_second(direct_points, 3)
    rows.append(("ahc039 inputs", f"{ours:.0f}/s", f"{direct:.1f}/s", f"{ours / direct:.1f}"))
    rows.append(("ahc058 inputs", f"{per_second(Apples.make_case, 200):.0f}/s", "", ""))
    for teeth in (25, 249):
        corners = comb(teeth)
        answer = corners.astype(np.int32)
        score = direct_score(corners, case.input)
        assert fishing.score_answer(case, answer) == score
        assert check_polygon(corners)
        ours = per_second(functools.partial(score_again, answer), 50)
        direct = per_second(functools.partial(score_directly, corners), 5)
        name = f"ahc039 scores, {len(corners)} vertices"
        rows.append((name, f"{ours:.0f}/s", f"{direct:.1f}/s", f"{ours / direct:.1f}"))
    ours = per_second(lambda _: apples.score_answer(apples.case(0), plan), 200)
    rows.append(("ahc058 scores", f"{ours:.0f}/s", "", ""))
    return table(["work, on one core", "ours", "direct form", "ratio"], rows)


def case_scores(problem: Contest, source: str, execute: Execute) -> list[int]:
    """The case scores of a program.

    :raises SystemExit: when it fails.
    """
    verdict = evaluate_action(Hooks(problem), State(), Action(source, "c++"), execute)
    if verdict.state is None:
        raise SystemExit(f"{problem.name}: {verdict.status}: {verdict.message}")
    return problem.scores(verdict.state)


def steadiness(cases: int) -> str:
    """The second table: a program alone, alone again, and two at once on two cores."""
    rows = []
    for kind in (Fishing, Apples):
        problem = kind(kind.options_type(cases=cases, cores=1))
        source = package_text("ttd_ahc", "programs", f"{kind.name}.cpp")
        with LocalExecutor(workers=2) as executor, concurrent.futures.ThreadPoolExecutor(2) as pool:
            alone = [case_scores(problem, source, executor.run) for _ in range(2)]
            both = [pool.submit(case_scores, problem, source, executor.run) for _ in range(2)]
            together = [each.result() for each in both]
        noise = statistics.stdev(np.subtract(alone[0], alone[1]).tolist()) / math.sqrt(cases)
        means = [statistics.mean(scores) for scores in (*alone, *together)]
        rows.append((kind.name, *(f"{mean:.1f}" for mean in means), f"{noise:.1f}"))
    header = ["mean case score", "alone", "again", "two at once", "the other", "noise of a difference"]
    return table(header, rows)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", type=positive_int, default=20, help="cases of each run of a program")
    parser.add_argument("--programs", action="store_true", help="run the programs too (minutes)")
    arguments = parser.parse_args()
    print(rates())
    print(f"\n{len(os.sched_getaffinity(0))} cores")
    if arguments.programs:
        print(f"\n{steadiness(arguments.cases)}")


if __name__ == "__main__":
    sys.exit(run_benchmark(main))
