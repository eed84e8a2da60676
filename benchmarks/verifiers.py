"""Verifiers of ttd_math: time against the direct numpy form, and disagreement with the exact value.

    python benchmarks/verifiers.py [--quick]

Times are the best of several repeats, in milliseconds, on this machine and in this process. The direct form
is what one would write with numpy alone: `np.correlate` or `np.convolve` for step functions, two Python
loops for packings. `error` is the largest relative disagreement of our score with the exact rational value
over the functions tried; `bound` is what the docstring promises for the largest of them.
"""

from __future__ import annotations

import argparse
import functools
import sys
import timeit
from collections.abc import Callable, Iterable
from fractions import Fraction

import numpy as np
from command_line import run_benchmark

from ttd_math import exact
from ttd_math.autocorrelation import first_bound, second_bound
from ttd_math.circle_packing import sum_of_radii, violations
from ttd_math.convolution import first_interval, second_interval
from ttd_math.erdos import overlap_bound, overlap_interval, project
from ttd_math.plain import Floats

#: Milliseconds that a verifier may take, by name and size.
BARS = {("erdos", 1000): 1.0, ("ac1", 30_000): 3.0, ("ac1", 100_000): 12.0, ("cp", 32): 0.2}


def direct_overlap(h: Floats) -> float:
    """C5 as the problem states it."""
    return float(np.correlate(h, 1 - h, "full").max() * 2 / len(h))


def direct_first(f: Floats) -> float:
    """C1 as the problem states it."""
    return float(2 * len(f) * np.convolve(f, f).max() / f.sum() ** 2)


def direct_second(f: Floats) -> float:
    """C2 as the problem states it."""
    y = np.convolve(f, f)
    return float((2 * (y @ y) + y[1:] @ y[:-1]) / (3 * y.sum() * y.max()))


def direct_packing(centers: Floats, radii: Floats) -> bool:
    """The rules of a packing, pair by pair."""
    for i in range(len(radii)):
        if radii[i] < 0 or min(*centers[i], *(1 - centers[i])) < radii[i] - 1e-12:
            return False
        for j in range(i):
            if np.hypot(*(centers[i] - centers[j])) < radii[i] + radii[j] - 1e-12:
                return False
    return True


def judge_packing(centers: Floats, radii: Floats) -> float:
    """Ours: its violations, then its sum of radii."""
    violations(centers, radii, len(radii))
    return sum_of_radii(radii)


def functions(size: int) -> Iterable[Floats]:
    """Step functions of a size: noise, many orders of magnitude, mostly zeros, smooth."""
    rng = np.random.default_rng(size)
    yield rng.uniform(0, 1, size)
    yield 10.0 ** rng.uniform(-9, 3, size)
    sparse = np.where(rng.random(size) < 0.05, rng.uniform(0, 1, size), 0.0)
    sparse[size // 2] = 1.0
    yield sparse
    yield np.sin(np.linspace(0, np.pi, size)) + 1e-3


def packing(count: int) -> tuple[Floats, Floats]:
    """A grid of touching circles."""
    side = int(np.ceil(np.sqrt(count)))
    line = (np.arange(side) + 0.5) / side
    return np.array([(x, y) for x in line for y in line])[:count], np.full(count, 0.5 / side)


def milliseconds(call: Callable[[], object], repeats: int) -> float:
    """Best time of one call."""
    single = timeit.timeit(call, number=1)
    number = max(1, min(200, int(0.02 / max(single, 1e-7))))
    return min(timeit.repeat(call, number=number, repeat=repeats)) / number * 1e3


def sequence_rows(quick: bool) -> Iterable[tuple[str, ...]]:
    """Rows of the three problems on step functions."""
    cases = [
        ("erdos", overlap_bound, direct_overlap, exact.overlap_bound, overlap_interval, (50, 200, 600, 1000)),
        ("ac1", first_bound, direct_first, exact.first_bound, first_interval, (1000, 8000, 30_000, 100_000)),
        (
            "ac2",
            second_bound,
            direct_second,
            exact.second_bound,
            second_interval,
            (1000, 8000, 30_000, 100_000),
        ),
    ]
    for name, fast, direct, true, interval, sizes in cases:
        for size in sizes[:2] if quick else sizes:
            tried = [project(f) if name == "erdos" else f for f in functions(size)]
            repeats = 3 if quick else 7
            ours = milliseconds(functools.partial(fast, tried[0]), repeats)
            peer = milliseconds(functools.partial(direct, tried[0]), 1 if size > 8000 else 3)
            errors = [abs(float(Fraction(fast(f)) / true(f) - 1)) for f in tried]
            widths = [(i.high - i.low) / i.low / 2 for i in map(interval, tried)]
            yield (
                name,
                str(size),
                f"{ours:.3f}",
                f"{peer:.3f}",
                f"{peer / ours:.1f}x",
                f"{max(errors):.1e}",
                f"{max(widths):.1e}",
                _bar(name, size, ours),
            )


def packing_rows() -> Iterable[tuple[str, ...]]:
    """Rows of the packings; verdicts are exact, and sums are rounded once."""
    for count in (26, 32):
        centers, radii = packing(count)
        ours = milliseconds(functools.partial(judge_packing, centers, radii), 7)
        peer = milliseconds(functools.partial(direct_packing, centers, radii), 3)
        assert violations(centers, radii, count) == []
        assert direct_packing(centers, radii)
        yield (
            "cp",
            str(count),
            f"{ours:.3f}",
            f"{peer:.3f}",
            f"{peer / ours:.1f}x",
            "0",
            "1.1e-16",
            _bar("cp", count, ours),
        )


def _bar(name: str, size: int, ours: float) -> str:
    bar = BARS.get((name, size))
    return "" if bar is None else f"{bar:g} {'met' if ours <= bar else 'MISSED'}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes only")
    quick = parser.parse_args().quick
    header = ("problem", "size", "ours ms", "direct ms", "ratio", "error", "bound", "bar ms")
    rows = [header, *sequence_rows(quick), *packing_rows()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    sys.exit(run_benchmark(main))
