"""Training one step of a group: ours and plain peft with transformers, in one run, beside the floor.

    python benchmarks/training.py [--size 0.6b] [--rollouts 8] [--length 1024] [--largest 8b]

Rank-32 adapters on every projection (of mixtures of experts on attention; with --adapt all on experts too),
bfloat16, Adam, 8 rollouts of 1,024 tokens: random weights, a warm-up step, then the median of three. gpt-oss,
whose experts are packed as published, has no peer here. Peak statistics are reset before each part and count
everything on the device, weights included. The peer checkpoints every layer and pads nothing; both take the
same policy-gradient loss.
`floor` is the time that the matrix products alone would take at the rate of one large product measured in
this run: forward, backward through frozen weights and, where values are recomputed, forward again.

With --largest: the most rollouts of 16,384 tokens after a shared prompt of 512 that fit in one pack, found by
extrapolating two small packs and then run. A step takes any number of such packs; its memory is one pack's.
"""

from __future__ import annotations

import argparse
import functools
import gc
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

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


def group(prompt: int, replies: int, length: int) -> Sequences:
    """A group of random replies, half of them good."""
    rng = np.random.default_rng(0)
    completions = [
        Completion(
            text="",
            tokens=rng.integers(0, models.VOCABULARY, length),
            logprobs=np.full(length, -np.log(models.VOCABULARY), np.float32),
            trained=np.ones(length, np.bool_),
            stop=StopReason.LENGTH,
            answer="",
        )
        for _ in range(replies)
    ]
    advantages = [np.full(length, (-1.0) ** index) for index in range(replies)]
    return Sequences(rng.integers(0, models.VOCABULARY, prompt), completions, advantages)


def ours(size: str, device: torch.device, item: Sequences, checkpointing: str, adapt: Adapt = "auto") -> Step:
    """One step as the local policy takes it."""
    model = models.make(size, device)
    models.use_own_attention(model)
    adapter = Adapter(models.adapt(model, adapt))
    logprobs = LogprobModel(model, checkpointing, LeanModel(model))
    optimiser = torch.optim.Adam(list(adapter), lr=4e-5)
    tokens = len(item.prompt_tokens) + sum(len(c.tokens) for c in item.completions)
    config = LearnConfig(micro_batch_tokens=tokens)
    return lambda: optimiser_step(logprobs, adapter, optimiser, [item], 1.0, config)


def peer(size: str, device: torch.device, item: Sequences, adapt: Adapt) -> Step:
    """One step as one writes it with transformers and peft alone."""
    model = models.make(size, device)
    adapted = models.adapt(model, adapt)
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


def measure(make: Callable[[], Step], repeats: int = 3) -> tuple[float, float]:
    """Seconds a step, and the peak of device memory in bytes."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    step = make()
    step()
    times = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        start = time.perf_counter()
        step()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times), float(torch.cuda.max_memory_allocated())


def product_rate(device: torch.device) -> float:
    """Floating-point operations a second of one large bfloat16 matrix product."""
    a, b = (torch.randn(8192, 8192, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(10):
        a @ b
    end.record()
    torch.cuda.synchronize()
    return 10 * 2 * 8192**3 / (start.elapsed_time(end) / 1000)


def floor_seconds(work: models.Work, tokens: int, trained: int, rate: float, passes: int) -> float:
    """Time of the products with frozen weights alone, attention left out."""
    return 2 * (passes * work.layer_weights * tokens + 2 * work.head_weights * trained) / rate


def compare(
    size: str, device: torch.device, rate: float, rollouts: int, length: int, with_peer: bool, adapt: Adapt
) -> None:
    """Both ways, without and with a long shared prompt."""
    print(
        f"{size}, {rollouts} rollouts of {length:,} tokens in one pack, rank 32; "
        f"one product {rate / 1e12:.0f} TFLOP/s"
    )
    print(f"{'':42}{'tokens/s':>10}{'peak GB':>9}{'ms':>8}{'floor ms':>10}")
    work = work_of(size)
    for prompt in (1, 512):
        item = group(prompt, rollouts, length - prompt)
        trained = rollouts * (length - prompt)
        computed = prompt + trained
        rows = [
            ("plain peft, checkpointing", functools.partial(peer, size, device, item, adapt)),
            ("ours, checkpointing on", functools.partial(ours, size, device, item, "on", adapt)),
            ("ours, auto", functools.partial(ours, size, device, item, "auto", adapt)),
        ]
        amounts = [(rollouts * length, 3), (computed, 3), (computed, 2)]
        base: tuple[float, float] | None = None
        parts = [*zip(rows, amounts, strict=True)]
        for (name, make), (tokens, passes) in parts if with_peer else parts[1:]:
            seconds, peak = measure(make)
            floor = floor_seconds(work, tokens, trained, rate, passes)
            base = base or (seconds, peak)
            print(
                f"{name + f', prompt {prompt}':42}{rollouts * length / seconds:10,.0f}{peak / 1e9:9.2f}"
                f"{seconds * 1e3:8.1f}{floor * 1e3:10.1f}"
                f"   x{base[0] / seconds:.2f} speed, x{peak / base[1]:.2f} memory",
                flush=True,
            )


def work_of(size: str) -> models.Work:
    """What a model of a size multiplies; it is made without memory."""
    return models.Work.of(models.make(size, torch.device("meta")))


def largest(size: str, device: torch.device, length: int = 16_384) -> None:
    """Find how many long rollouts one pack holds; prints each attempt."""
    total = torch.cuda.get_device_properties(device).total_memory
    fitting: list[tuple[int, float]] = []

    def attempt(count: int) -> bool:
        item = group(512, count, length)
        try:
            seconds, peak = measure(lambda: ours(size, device, item, "on"), repeats=1)
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

    attempt(1)
    attempt(2)
    bytes_per_rollout = fitting[1][1] - fitting[0][1]
    count = int((0.97 * total - fitting[0][1]) / bytes_per_rollout) + 1
    while count > 2 and not attempt(count):
        count -= 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", default="0.6b", choices=models.SIZES)
    parser.add_argument("--rollouts", type=int, default=8)
    parser.add_argument(
        "--length", type=int, default=1024, help="tokens of a rollout, the prompt's among them"
    )
    parser.add_argument("--adapt", default="auto", choices=["auto", "attention", "all"])
    parser.add_argument("--without-peer", action="store_true")
    parser.add_argument("--largest", default="", choices=["", *models.SIZES])
    chosen = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks/training.py measures a GPU, and torch finds none here")
    device = torch.device("cuda")
    with_peer = not chosen.without_peer and models.SIZES[chosen.size].get("family") != "gpt_oss"
    rate = product_rate(device)
    compare(chosen.size, device, rate, chosen.rollouts, chosen.length, with_peer, chosen.adapt)
    if chosen.largest:
        largest(chosen.largest, device)


if __name__ == "__main__":
    main()
