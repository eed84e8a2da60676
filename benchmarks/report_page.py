"""Size and opening time of `ttd report` on a run of 50 steps: real verifier, scripted replies, no model.

    .venv/bin/python benchmarks/report_page.py [--steps 50] [--keep FOLDER]

Makes the run (about three minutes on two cores), writes its report, opens it in a headless Chromium and
prints one table. Without Chromium the opening time is left out, saying so.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import browser
from command_line import positive_int, run_benchmark
from scripted_run import TTD, run_command

IMPROVE = """import time
import numpy as np
from scipy.optimize import linprog

POINTS = {points}
RADIUS = {radius}
NOISE = {noise}


def project(h):
    for _ in range(60):
        h = np.clip(h + 0.5 - h.mean(), 0, 1)
    return h


def step(h, radius):
    n = len(h)
    lag, i = np.arange(1 - n, n)[:, None], np.arange(n, 2 * n)
    slope = np.pad(1 - h, n)[i - lag] - np.pad(h, n)[i + lag]
    rows = np.c_[slope, -np.ones(2 * n - 1)]
    overlap = np.correlate(h, 1 - h, "full")
    bounds = [(max(-radius, -x), min(radius, 1 - x)) for x in h] + [(0, n)]
    cost = np.r_[np.zeros(n), 1]
    result = linprog(cost, rows, -overlap, [1 - cost], [0], bounds)
    return project(h + result.x[:n]) if result.success else h


def run(seed, budget_s, **kwargs):
    start, radius = time.time(), RADIUS
    rng = np.random.default_rng({seed})
    old = np.linspace(0, 1, len(initial_h_values))
    h = np.interp(np.linspace(0, 1, POINTS), old, initial_h_values)
    h = project(h + NOISE * rng.normal(size=POINTS))
    while radius > 1e-5 and time.time() - start < 0.6 * budget_s:
        new = step(h, radius)
        if evaluate_erdos_solution(new) < evaluate_erdos_solution(h):
            h = new
        else:
            radius *= 0.5
    return h, evaluate_erdos_solution(h), POINTS
"""
CLIMB = """import numpy as np


def run(seed, budget_s, **kwargs):
    rng = np.random.default_rng({seed})
    best = np.asarray(initial_h_values, dtype=float)
    for _ in range({tries}):
        new = np.clip(best + {scale} * rng.normal(size=best.size), 0, 1)
        new = np.clip(new + 0.5 - new.mean(), 0, 1)
        valid = abs(new.sum() - new.size / 2) < 1e-10
        if valid and evaluate_erdos_solution(new) < evaluate_erdos_solution(best):
            best = new
    return best
"""
FAILURES = [
    "I would try a smoother function, but I am not sure how.",
    "```python\ndef run(seed, budget_s, **kwargs)\n    return [0.5] * 40\n```",
    "```python\ndef run(seed, budget_s, **kwargs):\n    return [1.5] * 20 + [-0.5] * 20\n```",
    "```python\ndef run(seed, budget_s, **kwargs):\n    return [undefined_name]\n```",
    "```python\ndef run(seed, budget_s, **kwargs):\n    while True:\n        pass\n```",
    "```python\ndef run(seed, budget_s, **kwargs):\n    return [0.6] * 50\n```",
]


def replies() -> list[str]:
    """Programs that improve what they start from, small and large steps, among replies that fail."""
    programs = [
        IMPROVE.format(points=points, radius=radius, noise=noise, seed=points)
        for points in (30, 36, 40, 45, 51, 56)
        for radius, noise in ((0.1, 0.05), (0.02, 0.005))
    ]
    programs += [
        CLIMB.format(tries=400, scale=scale, seed=seed)
        for seed, scale in enumerate((0.05, 0.02, 0.01, 0.005, 0.002))
    ]
    texts = [f"This program goes on from the last construction.\n\n```python\n{code}```" for code in programs]
    for number, failure in enumerate(FAILURES):
        texts.insert(1 + 4 * number, failure)
    return texts


def make_run(folder: pathlib.Path, steps: int) -> pathlib.Path:
    """Make the run in ``folder``; its path."""
    script = folder / "replies.json"
    script.write_text(json.dumps(replies()))
    options = ["-o", "start=program", "-o", "budget_s=1", "-o", "timeout_s=3"]
    sizes = ["--steps", str(steps), "--groups", "2", "--group-size", "4"]
    subprocess.run(run_command(folder, "erdos-50", script, *sizes, *options), check=True)
    return folder / "erdos-50"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=positive_int, default=50)
    parser.add_argument("--keep", type=pathlib.Path, help="keep run and report in this folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        run = folder / "erdos-50"
        if not run.exists():
            run = make_run(folder, arguments.steps)
        page = folder / "report.html"
        started = time.perf_counter()
        subprocess.run(
            [*TTD, "report", str(run), "--output", str(page)], check=True, stdout=subprocess.DEVNULL
        )
        print(f"written in   {time.perf_counter() - started:.2f} s")
        print(f"size         {page.stat().st_size / 1e3:.0f} kB (limit 3000)")
        missing = browser.lacking()
        if missing:
            print(f"opened in    not measured: {missing}")
            return
        with browser.chromium() as chromium:
            opened = sorted(browser.opening_seconds(chromium, page) for _ in range(5))[2]
        print(f"opened in    {opened[0]:.2f} s, first painted after {opened[1]:.2f} s (limit 2; median of 5)")


if __name__ == "__main__":
    sys.exit(run_benchmark(main))
