"""Sampling: ours and plain transformers `generate`, in one run, beside the floor.

    python benchmarks/sampling.py [--sizes 0.6b 8b] [--rows 64 512] [--group 64] [--new 128] [--check]

bfloat16, random weights, prompts of 512 tokens, 128 new tokens each, no reply ends early. Ours carries a
rank-32 adapter on every projection (of mixtures of experts on attention; with --adapt all on experts too),
the peer none; gpt-oss, whose experts are packed as published, has no peer here. Rows come in groups that
share a prompt (--group 1: all distinct); `generate` gets one row each, as it must. Times are whole calls,
reading the prompts included; ours is the second call, and the first one's excess (compiling kernels,
recording graphs) is printed as start-up.

`floor` is the time of one step, at the copy bandwidth and the rate of a large matrix product measured in this
run, of what no decoder can avoid: weights once (of experts those that some row needs, on average, if all are
as likely), each prompt's keys and values once a group, each reply's own once, as far as a layer's window sees
them, and the arithmetic of the products. The larger of the two counts.

With --check, before anything is timed: replies of the lean decoder against one plain forward pass over each
(of dense models), and the learner's log-probabilities against the sampler's, of mixtures replayed too.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable, Sequence
from typing import Any

import models
import numpy as np
import torch

from ttd_core.policy.local.lean.decode import LeanDecoder
from ttd_core.policy.local.lean.model import LeanModel
from ttd_core.policy.local.lean.routes import RouteMemory
from ttd_core.policy.local.packing import build_pack
from ttd_core.policy.local.plain.decode import PlainDecoder
from ttd_core.policy.local.replies import DecodeLimits, whole_groups
from ttd_core.policy.local.training import LogprobModel

PROMPT = 512


def limits(groups: int, new: int) -> DecodeLimits:
    """Every reply is ``new`` tokens long."""
    return DecodeLimits(frozenset(), [new] * groups, None, lambda _: [])


def seconds(call: Callable[[], Any]) -> float:
    """How long a call takes, its work on the device included."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def peer(model: Any, rows: int, group: int, tokens: int) -> tuple[float, float]:
    """Tokens a second of `generate`, and the peak in bytes."""
    ids = torch.tensor(models.prompts(rows // group, PROMPT), device=model.device).repeat_interleave(group, 0)
    options = {"do_sample": True, "top_k": 0, "top_p": 1.0, "pad_token_id": 0}

    def call(count: int, new: int) -> None:
        some = ids[:count]
        length = {"min_new_tokens": new, "max_new_tokens": new}
        out = model.generate(some, attention_mask=torch.ones_like(some), **options, **length)
        if out.shape != (count, PROMPT + new):
            raise SystemExit(f"generate returned {tuple(out.shape)}")

    call(min(rows, 8), 4)
    torch.cuda.reset_peak_memory_stats()
    took = seconds(lambda: call(rows, tokens))
    return rows * tokens / took, float(torch.cuda.max_memory_allocated())


def ours(model: LeanModel, rows: int, group: int, new: int) -> tuple[float, float, float]:
    """Tokens a second of the second call, the first one's excess in seconds, and the peak in bytes."""
    decoder = LeanDecoder(model, rows)
    prompts = models.prompts(rows // group, PROMPT)
    torch.cuda.reset_peak_memory_stats()

    def call(seed: int) -> None:
        indices = whole_groups(len(prompts), group)
        replies = decoder.decode(prompts, indices, 1.0, limits(len(prompts), new), seed)
        count = sum(len(reply.tokens) for reply in replies)
        if count != rows * new:
            raise SystemExit(f"{count} tokens were sampled, not {rows * new}")

    first, second = seconds(lambda: call(0)), seconds(lambda: call(1))
    decoder.release()
    return rows * new / second, first - second, float(torch.cuda.max_memory_allocated())


def ceilings(device: torch.device) -> tuple[float, float]:
    """Bytes a second of a large copy, and operations a second of a large bfloat16 product."""
    source = torch.empty(2**31, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    a, b = (torch.randn(8192, 8192, device=device, dtype=torch.bfloat16) for _ in range(2))
    rates = []
    for work, amount in ((lambda: target.copy_(source), 2 * 2**31), (lambda: a @ b, 2 * 8192**3)):
        work()
        rates.append(20 * amount / seconds(lambda work=work: [work() for _ in range(20)]))
    return rates[0], rates[1]


def floor_step(model: Any, rows: int, group: int, new: int, rates: tuple[float, float]) -> float:
    """Seconds of one step at the ceilings, averaged over a reply."""
    work, config = models.Work.of(model), model.config
    token = 2 * config.num_key_value_heads * config.head_dim * model.dtype.itemsize
    own = np.arange(1, new + 1)
    moved = work.step_bytes(rows)
    for layer in model.model.layers:
        window = getattr(layer.self_attn, "sliding_window", None) or PROMPT + new
        of_prompt = np.clip(window - own, 0, PROMPT).mean()
        moved += token * (rows // group * of_prompt + rows * np.minimum(own, window).mean())
    return max(moved / rates[0], 2 * (work.layer_weights + work.head_weights) * rows / rates[1])


def check(model: Any, lean: LeanModel) -> None:
    """Gap to one plain forward pass, of the lean decoder and of the plain one."""
    logprobs = LogprobModel(model, "off")
    prompts = models.prompts(3, PROMPT)
    decoders = {
        "plain": PlainDecoder(logprobs.backbone, logprobs.head, logprobs.layers, model.device, 12),
        "ours": LeanDecoder(lean, 12),
    }
    for name, decoder in decoders.items():
        gaps = []
        for reply in decoder.decode(prompts, whole_groups(3, 4), 1.0, limits(3, 128), 0):
            ids = torch.tensor([prompts[reply.prompt_index] + reply.tokens], device=model.device)
            with torch.inference_mode():
                logits = model(input_ids=ids, use_cache=False).logits[0, PROMPT - 1 : -1].float()
            exact = logits.log_softmax(-1).gather(1, ids[0, PROMPT:, None])[:, 0].cpu()
            gaps.append((exact - torch.tensor(reply.logprobs)).abs())
        joined = torch.cat(gaps)
        gap = f"mean gap {joined.mean():.4f}, max {joined.max():.4f}"
        print(f"  {name} decoder against one forward pass: {gap}")


def check_learner(lean: LeanModel) -> None:
    """Gap of the learner's log-probabilities to the sampler's, with experts routed anew and replayed."""
    routes = RouteMemory() if lean.mixtures else None
    logprobs = LogprobModel(lean.causal, "on", lean, routes)
    prompts = models.prompts(3, PROMPT)
    decoder = LeanDecoder(lean, 24, routes=routes)
    gaps: dict[str, list[torch.Tensor]] = {}
    replies = list(decoder.decode(prompts, whole_groups(3, 8), 1.0, limits(3, 128), 0))
    decoder.release()
    for index, prompt in enumerate(prompts):
        own = [reply for reply in replies if reply.prompt_index == index]
        tokens = [np.array(reply.tokens) for reply in own]
        pack = build_pack(np.array(prompt), tokens, range(len(own)), lean.device)
        packs = {"as the router has it": pack}
        if routes is not None:
            packs["replayed"] = logprobs.replayed(pack, np.array(prompt), tokens)
        sampled = torch.cat([torch.tensor(reply.logprobs) for reply in own])
        for name, one in packs.items():
            with torch.inference_mode():
                found = logprobs.pack_logprobs(one, 1.0).cpu()
            gaps.setdefault(name, []).append((found - sampled).abs())
    for name, parts in gaps.items():
        joined = torch.cat(parts)
        print(f"  learner against sampler, {name}: mean gap {joined.mean():.5f}, max {joined.max():.4f}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["0.6b", "8b"], choices=models.SIZES)
    parser.add_argument("--rows", nargs="+", type=int, default=[64, 512])
    parser.add_argument("--group", type=int, default=64)
    parser.add_argument("--new", type=int, default=128)
    parser.add_argument("--adapt", default="auto", choices=["auto", "attention", "all"])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--without-peer", action="store_true")
    chosen = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks/sampling.py measures a GPU, and torch finds none here")
    device = torch.device("cuda")
    rates = ceilings(device)
    speeds = f"copy {rates[0] / 1e12:.2f} TB/s, product {rates[1] / 1e12:.0f} TFLOP/s"
    print(f"{torch.cuda.get_device_name()}: {speeds}; tokens a second, peaks in GB")
    names = ("generate", "ours", "ratio", "ms a step", "floor", "start-up s", "peak", "ours")
    print(" " * 28 + "".join(f"{name:>11}" for name in names))
    for size in chosen.sizes:
        model = models.make(size, device)
        plain = {}
        if not chosen.without_peer and models.SIZES[size].get("family") != "gpt_oss":
            plain = {r: peer(model, r, min(chosen.group, r), chosen.new) for r in chosen.rows}
        models.use_own_attention(model)
        models.adapt(model, chosen.adapt).eval()
        lean = LeanModel(model)
        if chosen.check:
            if not lean.mixtures:
                check(model, lean)
            check_learner(lean)
        for rows in chosen.rows:
            group = min(chosen.group, rows)
            rate, start, peak = ours(lean, rows, group, chosen.new)
            other, other_peak = plain.get(rows, (float("nan"), float("nan")))
            floor = floor_step(model, rows, group, chosen.new, rates)
            name = f"{size}, {rows // group} x {group} rows"
            print(
                f"{name:28}{other:11,.0f}{rate:11,.0f}{rate / other:11.1f}"
                f"{rows / rate * 1e3:11.2f}{floor * 1e3:11.2f}{start:11.1f}"
                f"{other_peak / 1e9:11.1f}{peak / 1e9:11.1f}",
                flush=True,
            )
        del model, lean
        gc.collect()
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
