"""Sampling: ours, transformers' `generate` and vLLM, in one run, beside the floor.

    python benchmarks/sampling.py [--sizes 0.6b 8b] [--rows 64 512] [--peer generate vllm] [--check] [--quick]

bfloat16, random weights, prompts of 512 tokens, 128 new tokens each, no reply ends early. Ours carries a
rank-32 adapter on every projection (of mixtures on attention; --adapt all: experts too), `generate` none,
vLLM is measured with the same adapter and without. gpt-oss's experts are packed, as published, so `generate`
does not run it. Rows come in groups that share a prompt (--group 1: all distinct). Times are whole calls,
reading the prompts included; the first call, which compiles kernels and records graphs, is not the one that
counts. With --quick that first call is short, and vLLM runs with the adapter only. With --launches N ours
stops after N times 32 steps and the rest is extrapolated: for 2,048 new tokens, 12 measure enough.

Every engine and size has a process of its own, which the next one's imports overlap; rows are printed as they
come, and a failure is a line. --variants runs ours once more for each setting of the environment named there;
OWN_WARPS and OWN_STAGES among them are constants of the Triton kernels' module, and IN_FRAGMENTS=0 lays
packed experts by row.

`floor` is the time of one step, at the copy bandwidth and the rate of a large matrix product measured in this
run, of what no decoder can avoid: weights once (of experts those that some row needs, on average: of ours as
counted in a call of up to 64 steps after the one that is timed, else as if all were as likely), each prompt's
keys and values once a group, each reply's own once, as far as a layer's window sees them, and the products'
arithmetic. The larger of the two counts; reading prompts is not in it.

Every engine has the same weights (`random_weights.py`), drawn such that rows are routed about evenly.

With --check, before anything is timed: replies of the lean decoder against one plain forward pass over each
(of dense models), and the learner's log-probabilities against the sampler's, of mixtures replayed too.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from command_line import leave, positive_float, positive_int, require_gpu, require_packages, run_benchmark

require_packages("torch")

import engines
import models
import numpy as np
import torch
import vllm_peer
from experts_read import experts_read
from sampling_floor import ceilings, floor_step, seconds, synchronize
from timed_decoder import TimedDecoder

from ttd_core.policy.local.lean import mxfp4, ops
from ttd_core.policy.local.lean.decode import LeanDecoder
from ttd_core.policy.local.lean.model import LeanModel
from ttd_core.policy.local.lean.routes import RouteMemory
from ttd_core.policy.local.packing import build_pack
from ttd_core.policy.local.plain.decode import PlainDecoder
from ttd_core.policy.local.replies import whole_groups
from ttd_core.policy.local.training import LogprobModel

PROMPT = 512
#: What ours differs in from each peer, for the end of the table.
DIFFERENCES = """ours: start-up is what the first 32 steps take longer in the first call than in the second.
generate: without an adapter; each row reads its prompt by itself.
experts: of a layer, read in a step of ours, counted in a call beside, and as an even draw would; the floor of
  ours takes what was counted. vLLM has the same weights and prompts of the same kind, so the count stands
  for both, up to rounding, the adapter's numbers and the tokens sampled.
vLLM: start-up is import and engine (torch.compile, graphs); with pages it takes 85 % of the device, whatever
  it needs; the engine runs in the process that measures; log-probabilities of sampled tokens are returned, as
  ours are."""


def peak_bytes(reset: bool = False) -> float:
    """The most memory that the device held since the last reset; 0 on a CPU."""
    if not torch.cuda.is_available():
        return 0.0
    peak = float(torch.cuda.max_memory_allocated())
    if reset:
        torch.cuda.reset_peak_memory_stats()
    return peak


def peer(model: Any, rows: int, group: int, tokens: int) -> tuple[float, float]:
    """Tokens a second of `generate`, and the peak in bytes."""
    ids = torch.tensor(
        models.prompts(rows // group, PROMPT, model.config.vocab_size), device=model.device
    ).repeat_interleave(group, 0)
    options = {"do_sample": True, "top_k": 0, "top_p": 1.0, "pad_token_id": 0}

    def call(count: int, new: int) -> None:
        some = ids[:count]
        length = {"min_new_tokens": new, "max_new_tokens": new}
        out = model.generate(some, attention_mask=torch.ones_like(some), **options, **length)
        if out.shape != (count, PROMPT + new):
            raise RuntimeError(f"generate returned {tuple(out.shape)}")

    call(min(rows, 8), 4)
    peak_bytes(reset=True)
    took = seconds(lambda: call(rows, tokens))
    return rows * tokens / took, peak_bytes()


def ours(
    lean: LeanModel, rows: int, group: int, new: int, quick: bool, launches: int | None
) -> tuple[float, float, float]:
    """Tokens a second of the second call, the first one's excess in seconds, and the peak in bytes.

    :param quick: the first call ends after two launches of steps, in which every shape occurs.
    :param launches: the second call ends after so many, and the rest is extrapolated.
    """
    decoder = TimedDecoder(lean, rows)
    prompts = models.prompts(rows // group, PROMPT, lean.causal.config.vocab_size)
    peak_bytes(reset=True)
    ends = models.limits(len(prompts), new)
    first = decoder.call(prompts, group, ends, 0, 2 if quick else launches)
    second = decoder.call(prompts, group, ends, 1, launches)
    count = sum(len(reply.tokens) for reply in second.replies)
    if not second.launches and count != rows * new:
        raise RuntimeError(f"{count} tokens were sampled, not {rows * new}")
    decoder.release()
    return rows * new / second.seconds, first.first - second.first, peak_bytes()


def count_experts(lean: LeanModel, rows: int, group: int, new: int) -> float:
    """Experts of a layer that a step read on average; says which layer read the fewest."""
    prompts = models.prompts(rows // group, PROMPT, lean.causal.config.vocab_size)
    layers = experts_read(lean, models.Work.of(lean.causal).experts, prompts, group, new)
    fewest = int(layers.argmin())
    least = f"the fewest in mixture {fewest}: {layers[fewest]:.1f}"
    print(f"  {rows} rows read {layers.mean():.1f} experts of a layer in a step, {least}", flush=True)
    return float(layers.mean())


def check(model: Any, lean: LeanModel) -> None:
    """Gap to one plain forward pass, of the lean decoder and of the plain one."""
    logprobs = LogprobModel(model, "off")
    prompts = models.prompts(3, PROMPT, model.config.vocab_size)
    decoders: dict[str, PlainDecoder | LeanDecoder] = {
        "plain": PlainDecoder(logprobs.backbone, logprobs.head, logprobs.layers, model.device, 12),
        "ours": LeanDecoder(lean, 12),
    }
    for name, decoder in decoders.items():
        gaps = []
        for reply in decoder.decode(prompts, whole_groups(3, 4), 1.0, models.limits(3, 128), 0):
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
    prompts = models.prompts(3, PROMPT, lean.causal.config.vocab_size)
    decoder = LeanDecoder(lean, 24, routes=routes)
    gaps: dict[str, list[torch.Tensor]] = {}
    replies = list(decoder.decode(prompts, whole_groups(3, 8), 1.0, models.limits(3, 128), 0))
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


def serve(chosen: argparse.Namespace) -> None:
    """In a child: measure one engine and size; see :mod:`engines`."""
    engines.wait_for_turn()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    operations = ops.decoding_ops(device)
    for constant in {"OWN_WARPS", "OWN_STAGES"} & os.environ.keys():
        if hasattr(operations, constant):
            setattr(operations, constant, int(os.environ[constant]))
    mxfp4.IN_FRAGMENTS = os.environ.get("IN_FRAGMENTS", "1") == "1"
    size, kind = chosen.sizes[0], chosen.child
    name = "generate" if kind == "generate" else "ours" + chosen.label
    rates = ceilings(device)
    began = time.perf_counter()
    with engines.guarded(size=size, engine=name):
        model = models.make(size, device)
        synchronize()
        if kind == "ours":
            models.use_own_attention(model)
            models.adapt(model, chosen.adapt).eval()
            lean = LeanModel(model)
        synchronize()
        speeds = f"copy {rates[0] / 1e12:.2f} TB/s, product {rates[1] / 1e12:.0f} TFLOP/s"
        print(f"  {size}, {name}: {speeds}; model made in {time.perf_counter() - began:.1f} s", flush=True)
        if kind == "ours" and chosen.check:
            with engines.guarded(size=size, engine="check"):
                if not lean.mixtures:
                    check(model, lean)
                check_learner(lean)
        for rows in chosen.rows:
            group = min(chosen.group, rows)
            names = {"size": size, "rows": rows, "group": group, "engine": name}
            with engines.guarded(**names):
                start = None
                if kind == "ours":
                    rate, start, peak = ours(lean, rows, group, chosen.new, chosen.quick, chosen.launches)
                else:
                    rate, peak = peer(model, rows, group, chosen.new)
                read, evenly = None, models.Work.of(model).evenly_read(rows)
                if kind == "ours" and lean.mixtures:
                    with engines.guarded(**names | {"engine": f"{name}, counting"}):
                        read = count_experts(lean, rows, group, chosen.new)
                floor = floor_step(model, rows, group, PROMPT, chosen.new, rates, read)
                took = {"ms": rows / rate * 1e3, "floor": floor * 1e3, "start": start, "peak": peak}
                engines.send(**names, rate=rate, **took, read=read, evenly=evenly)
    engines.finish()


#: Heading and width of the columns.
COLUMNS = {
    "tokens/s": 11,
    "ms a step": 11,
    "floor": 9,
    "of floor": 10,
    "start-up s": 12,
    "peak GB": 9,
    "experts, even": 15,
}


def show(row: engines.Row) -> None:
    """Print one row of the table."""
    what = row["size"] + (f", {row['rows'] // row['group']} x {row['group']}" if "rows" in row else "")
    line = f"{what:24}{row['engine']:22}"
    if "failed" in row:
        print(f"{line}  {row['failed']}", flush=True)
        return
    floor, start, read = (row.get(key) for key in ("floor", "start", "read"))
    fields = [
        f"{row['rate']:,.0f}",
        f"{row['ms']:.2f}",
        "" if floor is None else f"{floor:.2f}",
        "" if floor is None else f"{floor / row['ms']:.0%}",
        "" if start is None else f"{start:.1f}",
        f"{row['peak'] / 1e9:.1f}",
        "" if read is None else f"{read:.1f}, {row['evenly']:.1f}",
    ]
    widths = COLUMNS.values()
    print(
        line + "".join(f"{field:>{width}}" for field, width in zip(fields, widths, strict=True)), flush=True
    )


def show_ratios(rows: Sequence[engines.Row]) -> None:
    """Ours over each peer, by size and rows."""
    rates = {(row["size"], row.get("rows"), row["engine"]): row["rate"] for row in rows if "rate" in row}
    for (size, count, engine), rate in rates.items():
        mine = rates.get((size, count, "ours"))
        if mine and engine != "ours":
            print(f"{size}, {count} rows: ours is {mine / rate:.2f} x {engine}", flush=True)


def jobs(chosen: argparse.Namespace) -> list[engines.Job]:
    """Ours first, so that its rows are there when time ends early; then the peers."""
    shape = ["--group", str(chosen.group), "--new", str(chosen.new), "--rows", *map(str, chosen.rows)]
    own = [
        *shape,
        "--adapt",
        chosen.adapt,
        *(f"--{flag}" for flag in ("check", "quick") if getattr(chosen, flag)),
    ]
    if chosen.launches is not None:
        own += ["--launches", str(chosen.launches)]
    made = []
    for size in chosen.sizes:
        command = [__file__, "--sizes", size, *own, "--child"]
        if not chosen.without_ours:
            made.append(engines.Job(f"{size}, ours", [*command, "ours"]))
        for variant in chosen.variants:
            settings = dict(part.split("=", 1) for part in variant.split(","))
            label = ["--label", f", {variant}"]
            made.append(engines.Job(f"{size}, {variant}", [*command, "ours", *label], settings))
    for size in chosen.sizes:
        if "generate" in chosen.peer and models.SIZES[size].get("family") != "gpt_oss":
            made.append(
                engines.Job(f"{size}, generate", [__file__, "--sizes", size, *shape, "--child", "generate"])
            )
    if "vllm" in chosen.peer:
        modes = ["lora"] if chosen.quick else ["lora", "base"]
        made += vllm_peer.jobs(chosen.sizes, modes, [*shape, "--prompt", str(PROMPT)])
    return made


def versions() -> str:
    """Device and libraries, for the head of a table."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU, for trying out"
    found = []
    for name in ("torch", "triton", "transformers", "peft", "vllm"):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return f"{device}; {', '.join(found)}"


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    made.add_argument("--sizes", nargs="+", default=["0.6b", "8b"], choices=models.SIZES)
    made.add_argument("--rows", nargs="+", type=positive_int, default=[64, 512])
    made.add_argument("--group", type=positive_int, default=64)
    made.add_argument("--new", type=positive_int, default=128)
    made.add_argument(
        "--launches", type=positive_int, help="of ours, 32 steps each; the rest is extrapolated"
    )
    made.add_argument("--adapt", default="auto", choices=["auto", "attention", "all"], help="of ours")
    made.add_argument("--check", action="store_true")
    made.add_argument("--quick", action="store_true", help="a short first call; vLLM with the adapter only")
    made.add_argument("--peer", nargs="*", default=["generate"], choices=["generate", "vllm"])
    made.add_argument("--without-ours", action="store_true")
    made.add_argument("--variants", nargs="*", default=[], help="VARIABLE=VALUE[,...]: ours again with these")
    made.add_argument("--seconds", type=positive_float, default=570, help="for everything")
    made.add_argument(
        "--each", type=positive_float, default=240, help="seconds, the most that one engine may take"
    )
    made.add_argument("--child", choices=["", "ours", "generate"], default="", help=argparse.SUPPRESS)
    made.add_argument("--label", default="", help=argparse.SUPPRESS)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    made = parser()
    chosen = made.parse_args(arguments)
    for group in {min(chosen.group, rows) for rows in chosen.rows}:
        if any(rows % group for rows in chosen.rows if min(chosen.group, rows) == group):
            made.error(f"--rows must be multiples of --group {chosen.group}")
    if not all(size.startswith("tiny") for size in chosen.sizes):
        require_gpu("try --sizes tiny")
    if "vllm" in chosen.peer and (reason := vllm_peer.why_missing()):
        leave(f"--peer vllm: {reason}")
    if chosen.child:
        serve(chosen)
    began = time.monotonic()
    print(f"{versions()}; prompts of {PROMPT}, {chosen.new} new tokens", flush=True)
    print(f"{'':46}" + "".join(f"{name:>{width}}" for name, width in COLUMNS.items()), flush=True)
    rows = engines.run(jobs(chosen), chosen.seconds, chosen.each, show)
    show_ratios(rows)
    print(DIFFERENCES)
    print(f"{time.monotonic() - began:.0f} s in all")
    if not any("rate" in row for row in rows):
        sys.exit("nothing was measured")


if __name__ == "__main__":
    sys.exit(run_benchmark(main))
