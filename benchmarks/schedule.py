"""Seconds a step, one after the other and overlapping: replies and programs that take a given time.

Ours alone stands here: `schedule = "sync"` beside `"pipelined"`, with the same seed, replies and programs.
Replies are scripted and take `--reply` seconds each, one after the other, as on one GPU; programs sleep
in the sandbox for `--program` seconds, one in eight of them for `--slow` times that, on `--workers` workers,
which may be more than there are cores, for they only sleep. Learning takes no time.

    python benchmarks/schedule.py
    python benchmarks/schedule.py --slow 3
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile
import textwrap
from collections.abc import Mapping

from command_line import non_negative_float, positive_float, positive_int, run_benchmark

from ttd_core import config as configs
from ttd_core.metrics import Timing
from ttd_core.run.loop import start_run
from ttd_core.run.reading import RunReader
from ttd_core.run.setup import RunSetup

PROBLEM = """
    from ttd_core import Action, Problem, Reward


    class Sleepers(Problem):
        name = "sleepers"
        title = "Programs that sleep"
        metric = "seconds"
        direction = "max"
        preload = ()

        def task(self):
            return "Sleep."

        def parse_action(self, completion):
            lines = "import time\\n\\n\\ndef run(seed, budget_s, **kwargs):\\n"
            return Action(f"{lines}    time.sleep({completion.text})\\n    return {completion.text}\\n")

        def construct(self, value):
            return {"seconds": float(value)}

        def check(self, state):
            return []

        def reward(self, state):
            return Reward(state.data["seconds"], state.data["seconds"])
"""

#: What the lines of the table differ in.
SETTINGS: tuple[Mapping[str, object], ...] = (
    {"schedule": "sync"},
    {"schedule": "pipelined"},
    {"schedule": "sync", "deadline.share": 0.8},
    {"schedule": "pipelined", "deadline.share": 0.8},
)


def measure(folder: pathlib.Path, arguments: argparse.Namespace, **settings: object) -> str:
    """One run; a line of the table."""
    problem = folder.parent / "sleepers.py"
    problem.write_text(textwrap.dedent(PROBLEM), encoding="utf-8")
    program, slow = arguments.program, arguments.program * arguments.slow
    replies = [str(slow if number % 8 == 3 else program) for number in range(8 * arguments.groups)]
    overrides = {
        "policy.backend": "scripted",
        "policy.options": {"replies": replies, "seconds": arguments.reply},
        "steps": arguments.steps,
        "groups": arguments.groups,
        "group_size": 8,
        "sandbox.workers": arguments.workers,
        **settings,
    }
    setup = RunSetup.from_config(configs.load(f"{problem}:Sleepers", overrides=overrides))
    wall = start_run(setup, folder).seconds
    with RunReader.open(folder) as run:
        metrics = run.metrics().values()
        outcomes = run.outcomes()
    programs = sum(ended.seconds for ended in outcomes)
    rollouts = sum(ended.count for ended in outcomes)
    sampling = sum(numbers[Timing.SAMPLING.key] for numbers in metrics)
    waiting = sum(numbers[Timing.WAITING.key] for numbers in metrics)
    names = ", ".join(f"{key} = {value}" for key, value in settings.items())
    return (
        f"{names:42}  {wall / arguments.steps:8.2f}  {sampling / wall:8.0%}  {1 - sampling / wall:8.0%}  "
        f"{waiting / arguments.steps:9.2f}  {1 - programs / wall / arguments.workers:10.0%}  {rollouts:8}"
    )


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=positive_int, default=8)
    parser.add_argument("--groups", type=positive_int, default=2, help="of eight rollouts each")
    parser.add_argument(
        "--reply", type=non_negative_float, default=0.05, help="seconds that a reply takes to sample"
    )
    parser.add_argument("--program", type=positive_float, default=0.8, help="seconds that most programs run")
    parser.add_argument(
        "--slow", type=positive_float, default=1.0, help="one in eight takes so many times that"
    )
    parser.add_argument("--workers", type=positive_int, default=16)
    arguments = parser.parse_args()
    print(f"{'':42}  s a step  sampling  GPU idle  waiting s  cores idle  rollouts")
    with tempfile.TemporaryDirectory() as temporary:
        for number, settings in enumerate(SETTINGS):
            print(measure(pathlib.Path(temporary) / f"run-{number}", arguments, **settings), flush=True)


if __name__ == "__main__":
    sys.exit(run_benchmark(main))
