"""One whole step of the paper's size with random weights: minutes for each part, 50 steps in hours and money.

    python benchmarks/paper_step.py [--size gpt-oss-120b] [--tokens 2048] [--sampled 384] [--packs 2]

8 groups of 64 rollouts of 2,048 tokens after prompts of 1,500; programs cost nothing, and their rewards are
drawn. The parts are those of a step of a run: sampling, the base model's log-probabilities (for the KL), the
gradient and Adam's step, the checkpoint. A rank-32 adapter is on attention (of dense models on every
projection).

Device time is dear: with --sampled N only the first N tokens of each reply are sampled and the rest of the
time is extrapolated, seconds a step being linear in a reply's length; with --packs N only N packs (of random
replies of the full length) are learnt from, and the rest is in proportion. The table says what was measured.

`gap`: how far the learner's log-probabilities are from the sampler's on replies sampled here; of mixtures of
experts with the experts routed anew, and replayed as they were chosen while sampling.
"""

from __future__ import annotations

import argparse
import gc
import pathlib
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from command_line import (
    non_negative_float,
    non_negative_int,
    positive_int,
    require_gpu,
    require_packages,
    run_benchmark,
)

require_packages("torch")

import attrs
import models
import numpy as np
import torch
from sampling import peak_bytes, versions
from sampling_floor import synchronize
from timed_decoder import TimedDecoder
from training import group as random_group

from ttd_core.config import LearnConfig
from ttd_core.learn.learner import shape_with_kl
from ttd_core.learn.objective import group_advantages
from ttd_core.policy.base import Sequences
from ttd_core.policy.local import checkpoint
from ttd_core.policy.local.adapter import Adapter
from ttd_core.policy.local.lean.model import LeanModel
from ttd_core.policy.local.lean.routes import RouteMemory
from ttd_core.policy.local.packing import build_pack
from ttd_core.policy.local.replies import DecodingReply
from ttd_core.policy.local.training import LogprobModel, accumulate_gradients, take_step


@attrs.frozen
class Part:
    """One part of a step.

    :param seconds: of the whole part.
    :param measured: what was run of it, in words.
    :param peak: bytes.
    """

    name: str
    seconds: float
    measured: str
    peak: float


class Setup:
    """A model with its adapter, ready to sample and to learn."""

    def __init__(self, size: str, device: torch.device) -> None:
        self.size = size
        self.model = models.make(size, device)
        models.use_own_attention(self.model)
        self.peft = models.adapt(self.model).eval()
        self.adapter = Adapter(self.peft)
        self.lean = LeanModel(self.model)
        #: Experts chosen while sampling, of mixtures.
        self.routes = RouteMemory() if self.lean.mixtures else None
        self.logprobs = LogprobModel(self.model, "auto", self.lean, self.routes)
        self.optimiser = torch.optim.Adam(list(self.adapter), lr=4e-5, betas=(0.9, 0.95), eps=1e-8)


def sample(setup: Setup, chosen: argparse.Namespace) -> tuple[Part, list[DecodingReply], list[list[int]]]:
    """All groups' replies, of ``--sampled`` tokens each."""
    prompts = models.prompts(chosen.groups, chosen.prompt, models.vocabulary(setup.size))
    rows, length = chosen.groups * chosen.rollouts, min(chosen.sampled or chosen.tokens, chosen.tokens)
    decoder = TimedDecoder(setup.lean, rows, routes=setup.routes)
    ends = models.limits(chosen.groups, length)
    # Kernels are compiled and graphs recorded once a run, not once a step.
    decoder.call(prompts, chosen.rollouts, ends, 0, launches=2)
    peak_bytes(reset=True)
    sampled = decoder.call(prompts, chosen.rollouts, ends, 1, length=chosen.tokens)
    peak = peak_bytes()
    decoder.release()
    measured = "all of it"
    if sampled.launches:
        token = 2 * len(setup.lean.layers) * setup.lean.heads[1] * setup.lean.head_size
        pages = token * setup.lean.dtype.itemsize * (rows * chosen.tokens + chosen.groups * chosen.prompt)
        measured = f"{length} of {chosen.tokens} tokens a reply; all pages would take {pages / 1e9:.1f} GB"
    return Part("sampling", sampled.seconds, measured, peak), sampled.replies, prompts


def gaps(
    setup: Setup, replies: Sequence[DecodingReply], prompts: Sequence[Sequence[int]], most: int = 16
) -> dict[str, tuple[float, float]]:
    """Mean and largest gap of the learner's log-probabilities to the sampler's on some of a group's replies.

    :param most: how many replies.
    """
    own = [reply for reply in replies if reply.prompt_index == 0][:most]
    tokens, prompt = [np.array(reply.tokens) for reply in own], np.array(prompts[0])
    sampled = np.concatenate([np.array(reply.logprobs) for reply in own])
    pack = build_pack(prompt, tokens, range(len(own)), setup.lean.device)
    packs = {"routed anew" if setup.routes is not None else "": pack}
    if setup.routes is not None:
        packs["replayed"] = setup.logprobs.replayed(pack, prompt, tokens)
    found = {}
    setup.lean.load_adapter()
    for name, one in packs.items():
        with torch.inference_mode():
            gap = np.abs(setup.logprobs.pack_logprobs(one, 1.0).cpu().numpy() - sampled)
        found[name] = float(gap.mean()), float(gap.max())
    return found


def timed(call: Any) -> tuple[float, Any]:
    """Seconds of a call, its work on the device included, and what it returned."""
    synchronize()
    start = time.perf_counter()
    result = call()
    synchronize()
    return time.perf_counter() - start, result


def learn(setup: Setup, chosen: argparse.Namespace) -> list[Part]:
    """The base model's log-probabilities and the gradient over ``--packs`` packs, and one step of Adam."""
    config = LearnConfig(micro_batch_tokens=chosen.pack_tokens)
    per_pack = max(1, (chosen.pack_tokens - chosen.prompt) // chosen.tokens)
    rollouts = chosen.groups * chosen.rollouts
    count = min(chosen.rollouts, per_pack * chosen.packs) if chosen.packs else chosen.rollouts
    groups = 1 if chosen.packs else chosen.groups
    known = models.vocabulary(setup.size)
    items = [random_group(chosen.prompt, count, chosen.tokens, known) for _ in range(groups)]
    scale = rollouts / (groups * count)
    words = "all of it" if scale == 1 else f"{groups * count} of {rollouts} rollouts"

    def base(item: Sequences) -> list[Any]:
        with setup.peft.disable_adapter(), torch.inference_mode():
            return setup.logprobs.reply_logprobs(
                item.prompt_tokens, item.completions, 1.0, chosen.pack_tokens
            )

    small = random_group(chosen.prompt, min(count, per_pack), chosen.tokens, known)
    base(small)
    accumulate_gradients(setup.logprobs, setup.adapter, [small], 1.0, config)
    peak_bytes(reset=True)
    base_seconds, base_logprobs = timed(lambda: [base(item) for item in items])
    parts = [Part("base log-probabilities", base_seconds * scale, words, peak_bytes(reset=True))]
    batch = [_with_advantages(*pair, config) for pair in zip(items, base_logprobs, strict=True)]
    seconds, totals = timed(lambda: accumulate_gradients(setup.logprobs, setup.adapter, batch, 1.0, config))
    parts.append(Part("gradient", seconds * scale, words, peak_bytes(reset=True)))
    seconds, _ = timed(lambda: take_step(setup.adapter, setup.optimiser, totals))
    parts.append(Part("Adam's step", seconds, "all of it", peak_bytes()))
    return parts


def _with_advantages(item: Sequences, base: Sequence[Any], config: LearnConfig) -> Sequences:
    """The group with the advantages of drawn rewards, shaped by the KL to the base model."""
    rewards = np.random.default_rng(0).random(len(item.completions))
    values = group_advantages(rewards, config).values
    replies = item.completions
    shaped, _ = shape_with_kl(
        [np.full(len(reply.tokens), value) for reply, value in zip(replies, values, strict=True)],
        [reply.logprobs.astype(float) - one for reply, one in zip(replies, base, strict=True)],
        [reply.trained for reply in replies],
        config,
    )
    return attrs.evolve(item, advantages=shaped)


def save(setup: Setup) -> Part:
    """The checkpoint, in a folder of the temporary directory."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        seconds, _ = timed(lambda: checkpoint.save(folder, setup.peft, setup.adapter, setup.optimiser))
        written = sum(file.stat().st_size for file in folder.iterdir())
    return Part("checkpoint", seconds, f"all of it, {written / 1e6:,.0f} MB", peak_bytes())


def show(part: Part) -> None:
    """Print a part's line."""
    print(f"{part.name:26}{part.seconds / 60:9.2f}{part.peak / 1e9:9.1f}   {part.measured}", flush=True)


def step(chosen: argparse.Namespace) -> list[Part]:
    """Run one step's parts; each is printed when it is done."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    made, setup = timed(lambda: Setup(chosen.size, device))
    print(f"model made in {made:.1f} s, {peak_bytes() / 1e9:.1f} GB", flush=True)
    print(f"{'':26}{'minutes':>9}{'peak GB':>9}   measured", flush=True)
    sampling, replies, prompts = sample(setup, chosen)
    show(sampling)
    parts = [sampling]
    for name, (mean, largest) in gaps(setup, replies, prompts).items():
        print(f"gap {name:22}  mean {mean:.5f}, largest {largest:.4f}", flush=True)
    del replies
    gc.collect()
    for part in learn(setup, chosen):
        show(part)
        parts.append(part)
    parts.append(save(setup))
    show(parts[-1])
    return parts


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    made.add_argument("--size", default="0.6b", choices=models.SIZES)
    made.add_argument("--groups", type=positive_int, default=8)
    made.add_argument("--rollouts", type=positive_int, default=64, help="of a group")
    made.add_argument("--tokens", type=positive_int, default=2048, help="of a reply")
    made.add_argument("--prompt", type=positive_int, default=1500, help="tokens of a prompt")
    made.add_argument("--pack-tokens", type=positive_int, default=16_384, help="learn.micro_batch_tokens")
    made.add_argument(
        "--sampled", type=non_negative_int, default=0, help="tokens of a reply that are sampled; 0 is all"
    )
    made.add_argument(
        "--packs", type=non_negative_int, default=0, help="packs that are learnt from; 0 is all"
    )
    made.add_argument("--steps", type=positive_int, default=50)
    made.add_argument(
        "--price", type=non_negative_float, default=4.0, help="of the device, in dollars an hour"
    )
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    chosen = parser().parse_args(arguments)
    if not chosen.size.startswith("tiny"):
        require_gpu("try --size tiny-oss")
    print(
        f"{versions()}\n{chosen.size}, one step of {chosen.groups} x {chosen.rollouts} rollouts of "
        f"{chosen.tokens:,} tokens, prompts of {chosen.prompt:,}, packs of {chosen.pack_tokens:,}",
        flush=True,
    )
    try:
        parts = step(chosen)
    except torch.OutOfMemoryError as error:
        raise SystemExit(f"out of memory: {str(error).splitlines()[0][:200]}") from error
    total = sum(part.seconds for part in parts)
    hours = total * chosen.steps / 3600
    estimated = any(not part.measured.startswith("all") for part in parts)
    print(f"{'a step':26}{total / 60:9.2f}{max(part.peak for part in parts) / 1e9:9.1f}")
    money = f"{hours * chosen.price:,.0f} dollars at {chosen.price:.2f} an hour"
    how = ", by extrapolation" if estimated else ""
    print(f"{chosen.steps} steps: {hours:.1f} hours, {money}{how}; programs cost nothing here")


if __name__ == "__main__":
    sys.exit(run_benchmark(main))
