"""Training one step of a group: ours and plain peft with transformers, in one run, beside the floor.

    python benchmarks/training.py [--sizes 0.6b] [--rollouts 8] [--length 1024] [--largest 8b] [--quick]

Rank-32 adapters on every projection (of mixtures on attention; --adapt all: experts too), bfloat16, Adam, 8
rollouts of 1,024 tokens in one pack: random weights, a warm-up step, then the median of three. With --quick
that is one, of ours with a shared prompt alone, as `auto` chooses between keeping and recomputing. gpt-oss,
whose experts are packed as published, has no peer here. Each size and way has a process of its own, rows are
printed as they come, and a failure is a line.

Peak statistics are reset before each part and count everything on the device, weights included. The peer
checkpoints every layer and pads nothing; both take the same policy-gradient loss. `floor` is the time that
the matrix products alone would take at the rate of one large product measured in this run: forward, backward
through frozen weights and, where values are recomputed, forward again.

With --largest: the most rollouts of 16,384 tokens after a shared prompt of 512 that fit in one pack, found by
extrapolating two small packs and then run. A step takes any number of such packs; its memory is one pack's.
"""

from __future__ import annotations

import argparse
import functools
import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from command_line import positive_float, positive_int, require_gpu, require_packages, run_benchmark

require_packages("torch")

import engines
import models
import numpy as np
import torch

from ttd_core.config import LearnConfig
from ttd_core.policy.base import Sequences
from ttd_core.policy.local.adapter import Adapt, Adapter
from ttd_core.policy.local.lean.model import LeanModel
from ttd_core.policy.local.training import LogprobModel, optimiser_step
from ttd_core.types import Completion, StopReason

Step = Callable[[], Any]


def group(prompt: int, replies: int, length: int, known: int = models.VOCABULARY) -> Sequences:
    """A group of random replies, half of them good.

    :param known: tokens that the model knows.
    """
    rng = np.random.default_rng(0)
    completions = [
        Completion(
            text="",
            tokens=rng.integers(0, known, length),
            logprobs=np.full(length, -np.log(known), np.float32),
            trained=np.ones(length, np.bool_),
            stop=StopReason.LENGTH,
            answer="",
        )
        for _ in range(replies)
    ]
    advantages = [np.full(length, (-1.0) ** index) for index in range(replies)]
    return Sequences(rng.integers(0, known, prompt), completions, advantages)


class Ours:
    """A model made once, and its steps as the local policy takes them."""

    def __init__(self, size: str, device: torch.device, adapt: Adapt = "auto") -> None:
        self._model = models.make(size, device)
        models.use_own_attention(self._model)
        self._adapter = Adapter(models.adapt(self._model, adapt))
        self._lean = LeanModel(self._model)

    def step(self, item: Sequences, checkpointing: str) -> Step:
        """One step on one pack."""
        logprobs = LogprobModel(self._model, checkpointing, self._lean)
        optimiser = torch.optim.Adam(list(self._adapter), lr=4e-5)
        tokens = len(item.prompt_tokens) + sum(len(c.tokens) for c in item.completions)
        config = LearnConfig(micro_batch_tokens=tokens)
        return lambda: optimiser_step(logprobs, self._adapter, optimiser, [item], 1.0, config)


def peer(size: str, device: torch.device, item: Sequences) -> Step:
    """One step as one writes it with transformers and peft alone."""
    model = models.make(size, device)
    adapted = models.adapt(model)
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    adapted.train()
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=4e-5)
    ids = np.stack([np.concatenate([item.prompt_tokens, c.tokens]) for c in item.completions])
    inputs = torch.from_numpy(ids).to(device)
    first = len(item.prompt_tokens)
    sampler = torch.from_numpy(np.stack([c.logprobs for c in item.completions])).to(device)
    advantages = torch.from_numpy(np.stack(item.advantages)).float().to(device)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        logits = adapted(input_ids=inputs, use_cache=False).logits[:, first - 1 : -1].float()
        logprobs = logits.log_softmax(-1).gather(-1, inputs[:, first:, None])[..., 0]
        (-advantages * (logprobs - sampler).exp()).sum().backward()
        optimiser.step()

    return step


def synchronize() -> None:
    """Wait for the device, if there is one beside the CPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure(make: Callable[[], Step], repeats: int = 3) -> tuple[float, float]:
    """Seconds a step, and the peak of device memory in bytes."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    step = make()
    step()
    times = []
    for _ in range(repeats):
        synchronize()
        start = time.perf_counter()
        step()
        synchronize()
        times.append(time.perf_counter() - start)
    peak = float(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else 0.0
    return statistics.median(times), peak


def product_rate(device: torch.device) -> float:
    """Floating-point operations a second of one large bfloat16 matrix product (on a CPU a small one)."""
    width, dtype = (8192, torch.bfloat16) if device.type == "cuda" else (512, torch.float32)
    a, b = (torch.randn(width, width, device=device, dtype=dtype) for _ in range(2))
    for _ in range(3):
        a @ b
    synchronize()
    start = time.perf_counter()
    for _ in range(10):
        a @ b
    synchronize()
    return 10 * 2 * width**3 / (time.perf_counter() - start)


def floor_seconds(work: models.Work, tokens: int, trained: int, rate: float, passes: int) -> float:
    """Time of the products with frozen weights alone, attention left out."""
    return 2 * (passes * work.layer_weights * tokens + 2 * work.head_weights * trained) / rate


def work_of(size: str) -> models.Work:
    """What a model of a size multiplies; it is made without memory."""
    return models.Work.of(models.make(size, torch.device("meta")))


def ways(
    chosen: argparse.Namespace, device: torch.device
) -> Iterator[tuple[str, int, int, int, Callable[[], Step]]]:
    """What a child measures: name, prompt, tokens of the floor, passes of the floor, how the step is made."""
    size, rollouts, length = chosen.sizes[0], chosen.rollouts, chosen.length
    model = Ours(size, device, chosen.adapt) if chosen.child == "ours" else None
    for prompt in (512,) if chosen.quick else (1, 512):
        item = group(prompt, rollouts, length - prompt, models.vocabulary(size))
        computed = prompt + rollouts * (length - prompt)
        if model is None:
            name = "plain peft, checkpointing"
            yield name, prompt, rollouts * length, 3, functools.partial(peer, size, device, item)
            continue
        for how in ("auto",) if chosen.quick else ("on", "auto"):
            name = "ours, checkpointing on" if how == "on" else "ours, auto"
            passes = 3 if how == "on" else 2
            yield name, prompt, computed, passes, functools.partial(model.step, item, how)


def serve(chosen: argparse.Namespace) -> None:
    """In a child: measure one size in one way; see :mod:`engines`."""
    engines.wait_for_turn()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size = chosen.sizes[0]
    with engines.guarded(size=size, name=chosen.child):
        if chosen.child == "largest":
            largest(size, device)
            engines.finish()
        rate = product_rate(device)
        work = work_of(size)
        for name, prompt, tokens, passes, make in ways(chosen, device):
            with engines.guarded(size=size, name=name, prompt=prompt):
                seconds, peak = measure(make, 1 if chosen.quick else 3)
                trained = chosen.rollouts * (chosen.length - prompt)
                floor = floor_seconds(work, tokens, trained, rate, passes)
                engines.send(
                    size=size,
                    name=name,
                    prompt=prompt,
                    seconds=seconds,
                    rate=chosen.rollouts * chosen.length / seconds,
                    floor=floor,
                    peak=peak,
                )
    engines.finish()


def largest(size: str, device: torch.device, length: int = 16_384) -> None:
    """Find how many long rollouts one pack holds; prints each attempt."""
    total = torch.cuda.get_device_properties(device).total_memory
    model = Ours(size, device)
    fitting: list[tuple[int, float]] = []

    def attempt(count: int) -> bool:
        item = group(512, count, length, models.vocabulary(size))
        try:
            seconds, peak = measure(lambda: model.step(item, "on"), repeats=1)
        except torch.cuda.OutOfMemoryError:
            print(f"{size}, {count} x {length}: out of memory", flush=True)
            return False
        fitting.append((count, peak))
        print(
            f"{size}, {count} x {length} tokens in one pack: {count * length / seconds:,.0f} tokens/s, "
            f"{seconds:.1f} s, peak {peak / 1e9:.1f} GB of {total / 1e9:.0f}",
            flush=True,
        )
        return True

    if not attempt(1) or not attempt(2):
        return
    bytes_per_rollout = fitting[1][1] - fitting[0][1]
    count = int((0.97 * total - fitting[0][1]) / bytes_per_rollout) + 1
    while count > 2 and not attempt(count):
        count -= 1


def show(row: engines.Row) -> None:
    """Print one row of the table."""
    prompt = f", prompt {row['prompt']}" if "prompt" in row else ""
    line = f"{row['size']:14}{row['name'] + prompt:42}"
    if "failed" in row:
        print(f"{line}  {row['failed']}", flush=True)
        return
    print(
        f"{line}{row['rate']:10,.0f}{row['peak'] / 1e9:9.2f}{row['seconds'] * 1e3:10.1f}"
        f"{row['floor'] * 1e3:10.1f}",
        flush=True,
    )


def show_ratios(rows: Sequence[engines.Row]) -> None:
    """Ours beside the peer, by size and prompt."""
    whole = [row for row in rows if "rate" in row]
    for row in whole:
        for peer_row in whole:
            same = (row["size"], row["prompt"]) == (peer_row["size"], peer_row["prompt"])
            if same and "ours" in row["name"] and "peft" in peer_row["name"]:
                speed = peer_row["seconds"] / row["seconds"]
                memory = row["peak"] / max(peer_row["peak"], 1.0)
                print(
                    f"{row['size']}, {row['name']}, prompt {row['prompt']}: x{speed:.2f} speed, "
                    f"x{memory:.2f} memory of {peer_row['name']}"
                )


def jobs(chosen: argparse.Namespace) -> list[engines.Job]:
    """Ours of every size first, so that its rows are there when time ends early."""
    shape = ["--rollouts", str(chosen.rollouts), "--length", str(chosen.length)]
    shape += ["--adapt", chosen.adapt, *(["--quick"] if chosen.quick else [])]
    made = [
        engines.Job(f"{size}, ours", [__file__, "--sizes", size, *shape, "--child", "ours"])
        for size in chosen.sizes
    ]
    for size in chosen.sizes:
        if not (chosen.without_peer or chosen.quick or models.SIZES[size].get("family") == "gpt_oss"):
            made.append(engines.Job(f"{size}, peer", [__file__, "--sizes", size, *shape, "--child", "peer"]))
    if chosen.largest:
        command = [__file__, "--sizes", chosen.largest, "--child", "largest"]
        made.append(engines.Job(f"{chosen.largest}, largest", command))
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["0.6b"], choices=models.SIZES)
    parser.add_argument("--rollouts", type=positive_int, default=8)
    parser.add_argument(
        "--length", type=positive_int, default=1024, help="tokens of a rollout, the prompt's among them"
    )
    parser.add_argument("--adapt", default="auto", choices=["auto", "attention", "all"], help="of ours")
    parser.add_argument("--without-peer", action="store_true")
    parser.add_argument("--largest", default="", choices=["", *models.SIZES])
    parser.add_argument("--quick", action="store_true", help="ours, shared prompt, one step after a warm-up")
    parser.add_argument("--seconds", type=positive_float, default=570, help="for everything")
    parser.add_argument(
        "--each", type=positive_float, default=240, help="seconds, the most that one part may take"
    )
    parser.add_argument(
        "--child", choices=["", "ours", "peer", "largest"], default="", help=argparse.SUPPRESS
    )
    chosen = parser.parse_args(arguments)
    if chosen.length <= 512:
        parser.error("--length must be above 512, the tokens of the shared prompt")
    sizes = [*chosen.sizes, *([chosen.largest] if chosen.largest else [])]
    if chosen.largest or not all(s.startswith("tiny") for s in sizes):
        require_gpu("try --sizes tiny")
    if chosen.child:
        serve(chosen)
    began = time.monotonic()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU, for trying out"
    print(
        f"{device}, torch {torch.__version__}; {chosen.rollouts} rollouts of {chosen.length:,} tokens in one "
        "pack, rank 32"
    )
    print(f"{'':56}{'tokens/s':>10}{'peak GB':>9}{'ms':>10}{'floor ms':>10}", flush=True)
    rows = engines.run(jobs(chosen), chosen.seconds, chosen.each, show)
    show_ratios(rows)
    print(f"{time.monotonic() - began:.0f} s in all")
    if not chosen.largest and not any("rate" in row for row in rows):
        sys.exit("nothing was measured")


if __name__ == "__main__":
    sys.exit(run_benchmark(main))
