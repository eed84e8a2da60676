"""How long a run takes and what it costs, by cores and schedule: a discrete-event model of its steps.

    .venv/bin/python benchmarks/scale.py [--model 8b gpt-oss-120b] [--cores 16 64 256 1024] [--reply 8000]
        [--schedules sync pipelined pipelined+cascade pipelined+cascade+deadline] [--gpu-price 3.5] ...

A step samples replies on the GPU, runs the program of each as soon as that reply is complete, and learns
from all of them on the GPU. Events are the ends of replies, of programs and of the GPU's work; nothing is
averaged. Prints, for every number of cores and every schedule, hours, idle shares and money, and where more
cores stop to help. What is measured, computed and assumed is told in `docs/scale.md` and above each table.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Callable, Sequence

import attrs
import numpy as np
from command_line import non_negative_float, non_negative_int, positive_float, positive_int, run_benchmark
from scale_model import CHUNK, Programs, Sampler, Schedule, Work, simulate


@attrs.frozen
class Model:
    """A model's rates on one H200.

    :param source: where they are from, a sentence.
    """

    sampler: Sampler
    learn_rate: float
    source: str


#: Copies a second on an H200, bytes (docs/learner.md).
BANDWIDTH = 4.27e12
#: The device's memory less 12 GB for what is neither weights nor keys and values, bytes.
MEMORY = 141e9 - 12e9


def _line(few: tuple[int, float], many: tuple[int, float]) -> tuple[float, float]:
    """Seconds of a step without rows, and for each row, from two measured (rows, milliseconds)."""
    row = (many[1] - few[1]) / (many[0] - few[0]) / 1e3
    return few[1] / 1e3 - few[0] * row, row


def _eight_billion() -> Model:
    # A step of 64 and of 512 rows took 6.41 and 18.02 ms (docs/learner.md): 36 layers, 8 heads of 128.
    step_s, row_s = _line((64, 6.41), (512, 18.02))
    per_token = 36 * 8 * 128 * 2 * 2
    sampler = Sampler(step_s, row_s, per_token / BANDWIDTH, (MEMORY - 16.4e9) / per_token)
    source = "rates as measured (docs/learner.md), of long replies' keys and values from the copy rate"
    return Model(sampler, 6300.0, source)


def _gpt_oss() -> Model:
    # Assumed: all experts read once a step, 61 GB, at the share of its floor that the 8B model reaches at 512
    # rows; half of its 36 layers see all tokens, with 8 heads of 64.
    per_token = 18 * 8 * 64 * 2 * 2
    step_s = 61e9 / BANDWIDTH * 18.02 / 9.79
    sampler = Sampler(step_s, 0.0, per_token / BANDWIDTH, (MEMORY - 63e9) / per_token)
    source = "ASSUMED: weights read once a step at the 8B model's share of its floor, learning at its rate"
    return Model(sampler, 6300.0, source)


MODELS: dict[str, Callable[[], Model]] = {"8b": _eight_billion, "gpt-oss-120b": _gpt_oss}
#: The paper (3.3): 50 steps of 512 rollouts, prompts of 3,000 and replies of 16,000 tokens, for about $500.
PAPER_DOLLARS_A_MILLION = 500 / (50 * 512 * (3000 + 16_000) / 1e6)
LONGEST_REPLY = 32_768 - 3000


def reply_lengths(step: int, count: int, mean: float, spread: float, seed: int) -> list[int]:
    """Tokens of a step's replies: log-normal about a mean, cut at the context's end."""
    rng = np.random.default_rng([seed, step, 1])
    drawn = rng.lognormal(math.log(mean) - spread**2 / 2, spread, count)
    lengths: list[int] = np.clip(drawn, CHUNK, LONGEST_REPLY).astype(int).tolist()
    return lengths


def paper_work(model: Model, cores: int, options: argparse.Namespace) -> Work:
    """The paper's settings on one GPU and some cores."""
    programs = Programs(limit_s=options.limit)

    def seconds(step: int) -> tuple[Sequence[float], Sequence[bool]]:
        rng = np.random.default_rng([options.seed, step, 2])
        drawn, early = programs.draw(options.groups * options.size, rng)
        return drawn.tolist(), early.tolist()

    count = options.groups * options.size
    return Work(
        steps=options.steps,
        groups=options.groups,
        size=options.size,
        sampler=model.sampler,
        lengths=lambda step: reply_lengths(step, count, options.reply, options.spread, options.seed),
        seconds=seconds,
        slots=cores // options.cores_each,
        cores=options.cores_each,
        learn_rate=model.learn_rate,
        job_s=options.job_s,
        step_s=options.step_s,
    )


def show_model(name: str, options: argparse.Namespace) -> None:
    """One model's table."""
    model = MODELS[name]()
    work = paper_work(model, 1024, options)
    lengths = work.lengths(1)
    sampling = float(model.sampler.ends(lengths).max())
    print(f"\n{name}: {model.source}")
    tokens = sum(lengths)
    core_hours = sum(work.seconds(1)[0]) * options.cores_each / 3600
    rate = tokens / sampling
    print(
        f"a step samples {tokens:,} tokens in {sampling:,.0f} s ({rate:,.0f} a second), learns from them in"
    )
    print(f"{tokens / model.learn_rate:,.0f} s, and its programs take {core_hours:,.0f} core hours")
    names = f"{'cores':>7}{'hours':>8}{'GPU idle':>10}{'cores idle':>12}{'dollars':>9}{'late':>7}"
    print(f"{'schedule':28}{names}")
    for schedule in options.schedules:
        hours_at: dict[int, float] = {}
        dollars_at: dict[int, float] = {}
        for cores in options.cores:
            work = paper_work(model, cores, options)
            result = simulate(work, Schedule.named(schedule), options.seed)
            hours = result.seconds / 3600
            hours_at[cores] = hours
            dollars_at[cores] = hours * (options.gpu_price + cores * options.core_price)
            idle = f"{result.gpu_idle():10.0%}{result.slots_idle(work.slots):12.0%}"
            print(f"{schedule:28}{cores:7,}{hours:8.1f}{idle}{dollars_at[cores]:9,.0f}{result.late:7,}")
        cheapest = min((dollars, cores) for cores, dollars in dollars_at.items())[1]
        print(f"   cheapest: {cheapest:,} cores; {knee(hours_at)}")


def knee(hours: dict[int, float]) -> str:
    """Up to where twice the time is won with twice the cores, or nearly, in words.

    :param hours: by cores.
    """
    cores = sorted(hours)
    for few, many in itertools.pairwise(cores):
        won, paid = hours[few] / hours[many], many / few
        if math.log(won) < 0.5 * math.log(paid):
            return f"beyond {few:,} cores, {paid:g} times as many make it {won:.2f} times as fast"
    return f"no knee up to {cores[-1]:,} cores"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--cores", nargs="+", type=positive_int, default=[16, 64, 256, 1024])
    parser.add_argument(
        "--schedules",
        nargs="+",
        default=["sync", "pipelined", "pipelined+cascade", "pipelined+cascade+deadline"],
    )
    parser.add_argument("--steps", type=positive_int, default=50)
    parser.add_argument("--groups", type=positive_int, default=8)
    parser.add_argument("--size", type=positive_int, default=64, help="rollouts of a group")
    parser.add_argument("--reply", type=positive_float, default=8000, help="mean tokens of a reply")
    parser.add_argument("--spread", type=non_negative_float, default=0.5, help="of their logarithm")
    parser.add_argument("--limit", type=positive_float, default=1100, help="seconds that a program may take")
    parser.add_argument("--cores-each", type=positive_int, default=2, help="cores of a program")
    parser.add_argument("--job-s", type=non_negative_float, default=0.05, help="seconds of its sandbox")
    parser.add_argument(
        "--step-s", type=non_negative_float, default=1.0, help="seconds to admit, commit, checkpoint"
    )
    parser.add_argument("--gpu-price", type=non_negative_float, default=3.5, help="dollars an hour")
    parser.add_argument("--core-price", type=non_negative_float, default=0.04, help="dollars an hour")
    parser.add_argument("--seed", type=non_negative_int, default=0)
    options = parser.parse_args()
    shape = f"{options.groups} x {options.size}"
    print(f"{options.steps} steps of {shape} replies of {options.reply:,.0f} tokens;")
    print(f"programs of up to {options.limit:,.0f} s on {options.cores_each} cores each;")
    print(f"${options.gpu_price} a GPU hour, ${options.core_price} a core hour")
    for name in options.model:
        show_model(name, options)
    rollouts = options.steps * options.groups * options.size
    tokens = rollouts * (3000 + options.reply)
    dollars = tokens / 1e6 * PAPER_DOLLARS_A_MILLION
    price = f"${PAPER_DOLLARS_A_MILLION:.2f}"
    print(f"\nthe paper's service at its own figure, {price} a million tokens of prompt and reply:")
    print(f"${dollars:,.0f}, without the cores")


if __name__ == "__main__":
    sys.exit(run_benchmark(main))
