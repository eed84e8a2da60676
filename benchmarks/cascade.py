"""Short runs first, beside one run a program: seconds of evaluation a step, and the best score of both.

    python benchmarks/cascade.py [--steps 2] [--cascade-steps 4] [--groups 2] [--size 12] [--budget 8]
        [--workers 2] [--cascade 0.1 1.0] [--keep 0.25] [--seed 0] [--keep-runs FOLDER]

Two runs of `erdos` from its short starting program with one list of scripted replies, so that a step of both
puts the same programs to the sandbox as long as both pick the same starts. The programs search until their
budget is over: the starting program's own method with other sizes, steps and noise, random searches that are
worse, some that break a rule, crash or sleep through their time. No model is asked and nothing is learned.
`programs` is what they ran for in a step, added up; `wall` is the time of sampling and judging up to its end.
The run with a cascade makes more steps, so that both can be compared by the time they took.
"""

from __future__ import annotations

import argparse
import collections
import pathlib
import sys
import tempfile
from collections.abc import Mapping, Sequence

import numpy as np
from command_line import non_negative_int, positive_float, positive_int, run_benchmark, share

from ttd_core import config as configs
from ttd_core.cli.output import table
from ttd_core.metrics import Metric, Timing
from ttd_core.plugin import registry
from ttd_core.run.loop import start_run
from ttd_core.run.reading import RunReader
from ttd_core.run.setup import RunSetup

RANDOM_SEARCH = """
import time
import numpy as np


def run(seed, budget_s, **kwargs):
    start, rng = time.time(), np.random.default_rng(seed + {seed})
    h, n = np.array(initial_h_values), len(initial_h_values)
    best = evaluate_erdos_solution(h)
    while time.time() - start < 0.7 * budget_s:
        new = np.clip(h + {size} * rng.normal(size=n), 0, 1)
        for _ in range(60):
            new = np.clip(new + 0.5 - new.mean(), 0, 1)
        bound = evaluate_erdos_solution(new)
        if bound < best:
            h, best = new, bound
    return h, best, n
"""
CRASH = "def run(seed, budget_s, **kwargs):\n    return 1 / 0\n"
ASLEEP = "import time\n\n\ndef run(seed, budget_s, **kwargs):\n    time.sleep(3600)\n"
INVALID = ASLEEP.replace("3600", "0.7 * budget_s") + "    return [2.0, 0.0]\n"


def replies(starting_program: str, seed: int) -> list[str]:
    """Replies of many kinds in random order."""
    rng = np.random.default_rng(seed)
    programs = [CRASH, ASLEEP, INVALID, INVALID]
    for points in (30, 50, 80, 120):
        for noise in (0.01, 0.05, 0.2):
            shrink = float(rng.choice([0.5, 0.7, 0.9]))
            changed = starting_program.replace("POINTS = 30", f"POINTS = {points}")
            changed = changed.replace("NOISE = 0.1", f"NOISE = {noise}")
            programs.append(changed.replace("SHRINK = 0.5", f"SHRINK = {shrink}"))
    for size in (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003):
        programs += [RANDOM_SEARCH.format(seed=int(rng.integers(1000)), size=size) for _ in range(2)]
    rng.shuffle(programs)
    return [f"```python\n{program}```" for program in programs]


def run(
    folder: pathlib.Path, arguments: argparse.Namespace, steps: int, cascade: Sequence[float] | None
) -> list[dict[str, float]]:
    """Make a run; of each of its steps the metrics, and the seconds that its programs ran."""
    overrides = {
        "options": {"start": "program", "budget_s": arguments.budget, "timeout_s": arguments.budget + 4},
        "variant": "no-training",
        "policy.backend": "scripted",
        "policy.options": {"replies": replies(starting_program(), arguments.seed)},
        "sandbox.workers": arguments.workers,
        "seed": arguments.seed,
        "steps": steps,
        "groups": arguments.groups,
        "group_size": arguments.size,
        "keep": arguments.keep,
        **({} if cascade is None else {"cascade": list(cascade)}),
    }
    start_run(RunSetup.from_config(configs.load("erdos", overrides=overrides)), folder)
    with RunReader.open(folder) as reader:
        metrics = reader.metrics()
        seconds = collections.defaultdict[int, float](float)
        for outcome in reader.outcomes():
            seconds[outcome.step] += outcome.seconds
    return [{**metrics[step], "programs": seconds[step]} for step in sorted(metrics)]


def starting_program() -> str:
    """The problem's short one."""
    program = registry.load("erdos").starting_program()
    assert program is not None
    return program


def columns(run: Sequence[Mapping[str, float]], step: int) -> list[str]:
    """What a table says of a step: seconds of its programs, wall seconds so far, best score so far."""
    if step >= len(run):
        return ["", "", ""]
    wall = sum(each[Timing.ROLLOUTS.key] for each in run[: step + 1])
    return [f"{run[step]['programs']:.1f}", f"{wall:.1f}", f"{run[step][Metric.RUN_SCORE_BEST]:.8f}"]


def main() -> None:
    """Make both runs and print them beside each other."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    numbers = {"steps": 2, "cascade-steps": 4, "groups": 2, "size": 12, "workers": 2}
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=positive_int, default=default)
    parser.add_argument("--seed", type=non_negative_int, default=0)
    parser.add_argument("--budget", type=positive_float, default=8.0)
    parser.add_argument("--keep", type=share, default=0.25)
    parser.add_argument("--cascade", type=share, nargs="+", default=[0.1, 1.0])
    parser.add_argument("--keep-runs", type=pathlib.Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep_runs or pathlib.Path(temporary)
        plain = run(folder / "plain", arguments, arguments.steps, None)
        short = run(folder / "cascade", arguments, arguments.cascade_steps, arguments.cascade)
    rows = []
    for step in range(max(len(plain), len(short))):
        went = [f"{short[step][name]:.0f}" for name in (Metric.WENT_ON, Metric.SECONDS_SPARED)]
        rows.append([str(step + 1), *columns(plain, step), *columns(short, step), *went])
    print(f"erdos, budget {arguments.budget:g} s, cascade {arguments.cascade}, keep {arguments.keep:g}")
    each = ["programs s", "wall s", "best"]
    print(table(["step", *each, *(f"{name} (cascade)" for name in each), "went on", "spared s"], rows))


if __name__ == "__main__":
    sys.exit(run_benchmark(main))
