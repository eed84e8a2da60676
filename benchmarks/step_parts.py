"""Where the time of one decoding step lies: each operation by itself, in a recorded graph, beside its floor.

    python benchmarks/step_parts.py [--size 8b] [--rows 64 512] [--own 64] [--prompt 512]

The operations of one layer, with a rank-32 adapter on every projection, as the lean decoder calls them, and
others in their place: the product without the adapter's rows, the adapter added by a product of its own and
not where the result is read, attention with other numbers of warps and stages. Each is recorded several times
over in a CUDA graph, products with as many weights, so that these come from memory as in a step; microseconds
are of one call. `floor` is what it must move over the copy's rate, or what it must multiply over the
product's.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from command_line import positive_int, require_gpu, require_packages, run_benchmark

require_packages("torch")

import attrs
import models
import torch
from sampling import versions
from sampling_floor import ceilings
from torch.nn import functional

from ttd_core.policy.local.lean.decode_state import DecodeState, StepLayout
from ttd_core.policy.local.lean.paging import PAGE
from ttd_core.policy.local.lean.projection import PartialProduct

RANK = 32
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
#: Different inputs of each operation, so that weights come from memory as they do in a step.
COPIES = 10


@attrs.frozen
class Shape:
    """What the operations' sizes follow from.

    :param own: own tokens of each row; ``prompt``: tokens that a group shares.
    """

    rows: int
    group: int
    own: int
    prompt: int
    hidden: int
    inner: int
    heads: tuple[int, int]
    head: int

    @classmethod
    def of(cls, size: str, rows: int, group: int, own: int, prompt: int) -> Shape:
        """Of a dense model."""
        config = models.SIZES[size]
        heads = config["num_attention_heads"], config["num_key_value_heads"]
        head = config.get("head_dim", 128)
        return cls(rows, group, own, prompt, config["hidden_size"], config["intermediate_size"], heads, head)

    @property
    def products(self) -> dict[str, tuple[int, list[int]]]:
        """Inputs, and outputs of each layer, of the four products."""
        query, key = self.heads[0] * self.head, self.heads[1] * self.head
        return {
            "query, key, value": (self.hidden, [query, key, key]),
            "output": (query, [self.hidden]),
            "gate, up": (self.hidden, [self.inner, self.inner]),
            "down": (self.inner, [self.hidden]),
        }


@attrs.frozen
class Part:
    """One operation.

    :param calls: the same operation on different inputs.
    :param moved: bytes; ``done``: floating-point operations.
    :param counts: whether it is part of today's step; else it is what could take its place.
    """

    name: str
    calls: Sequence[Callable[[], Any]]
    moved: float
    done: float = 0.0
    counts: bool = True


def microseconds(part: Part) -> float:
    """Of one call, from a graph of all of them."""
    for call in part.calls[:1]:
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in part.calls:
            call()
    times: list[float] = []
    for _ in range(5):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        graph.replay()
        start.record()
        for _ in range(5):
            graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) * 1e3 / (5 * len(part.calls)))
    return sorted(times)[2]


def noise(*shape: int) -> torch.Tensor:
    """Random numbers on the device, bfloat16 on a GPU."""
    dtype = torch.bfloat16 if DEVICE.type == "cuda" else torch.float32
    return torch.randn(shape, device=DEVICE, dtype=dtype) * 0.05


def partial(rows: int, outputs: Sequence[int]) -> PartialProduct:
    """As a projection of these layers makes it."""
    ranks = (RANK,) * len(outputs)
    total = sum(ranks)
    return PartialProduct(noise(rows, sum(outputs) + total), noise(total, sum(outputs)), ranks)


def product_parts(shape: Shape) -> Iterator[Part]:
    """The four products, and the adapters' second ones."""
    for name, (inputs, outputs) in shape.products.items():
        total, rank_rows = sum(outputs), RANK * len(outputs)
        x = noise(shape.rows, inputs)
        for extra, title in ((rank_rows, "A beside W, as it is"), (0, "W alone")):
            weights = [noise(total + extra, inputs) for _ in range(COPIES)]
            yield Part(
                f"{name}: {title}",
                [functools.partial(functional.linear, x, weight) for weight in weights],
                2.0 * (weights[0].numel() + x.numel() + shape.rows * (total + extra)),
                2.0 * shape.rows * inputs * (total + extra),
                extra == rank_rows,
            )
            del weights
        one = partial(shape.rows, outputs)
        moved = 2.0 * (2 * shape.rows * total + one.lora_b.numel() + shape.rows * rank_rows)
        # Of the others it is added where their result is read.
        counts = name in {"output", "down"}
        yield Part(f"{name}: B added by a product", [one.complete] * COPIES, moved, counts=counts)


def small_parts(shape: Shape) -> Iterator[Part]:
    """What lies between the products, as it is and with the adapter added there."""
    from ttd_core.policy.local.lean.kernels import triton_ops as ops

    rows, hidden = shape.rows, shape.hidden
    residual, update, weight = noise(rows, hidden), noise(rows, hidden + RANK)[:, :hidden], noise(hidden)
    norm = lambda: ops.add_norm(residual, update, weight, 1e-6)  # noqa: E731
    yield Part("add and norm (twice a layer)", [norm, norm] * COPIES, 2.0 * 4 * rows * hidden)
    both = partial(rows, [shape.inner, shape.inner])
    moved = 2.0 * 3 * rows * shape.inner
    yield Part("SwiGLU with B added", [lambda: ops.adapted_swiglu(both)] * COPIES, moved)
    yield Part("SwiGLU alone", [lambda: ops.swiglu(both.result)] * COPIES, moved, counts=False)
    outputs = shape.products["query, key, value"][1]
    qkv = partial(rows, outputs)
    cos, sin = noise(rows, shape.head), noise(rows, shape.head)
    norms = (noise(shape.head), noise(shape.head))
    keys, values = (noise(rows + 1, shape.heads[1], PAGE, shape.head) for _ in range(2))
    slots = torch.arange(rows, device=DEVICE) * PAGE
    place = (cos, sin, norms, 1e-6, keys, values, slots, shape.heads)
    moved = 2.0 * rows * (2 * sum(outputs) + outputs[1] + outputs[2])
    adapted = [lambda: ops.adapted_rotate_and_store(qkv, *place)] * COPIES
    yield Part("rotate and store with B added", adapted, moved)
    alone = [lambda: ops.rotate_and_store(qkv.result, *place)] * COPIES
    yield Part("rotate and store alone", alone, moved, counts=False)


def attention_parts(shape: Shape) -> Iterator[Part]:
    """Attention to prompts and own tokens: as it is, and own tokens with other settings."""
    from ttd_core.policy.local.lean.kernels import triton_ops as ops

    rows, groups = shape.rows, shape.rows // shape.group
    per_kv = shape.heads[0] // shape.heads[1]
    tile_queries = max(16, min(64, 1 << (per_kv * shape.group - 1).bit_length()))
    tile_rows = tile_queries // per_kv
    tiles = groups * -(-shape.group // tile_rows)
    own_pages, prompt_pages = -(-shape.own // PAGE), -(-shape.prompt // PAGE)
    state = DecodeState.allocate(rows, tiles, tile_rows, max(own_pages, prompt_pages), 1, DEVICE)
    pages = torch.randperm(rows * own_pages + groups * prompt_pages, device=DEVICE).int() + 1
    state.page_table[:, :own_pages] = pages[: rows * own_pages].view(rows, own_pages)
    state.own_lengths.fill_(shape.own - 1)
    per_group = tiles // groups
    for tile in range(tiles):
        group, part = divmod(tile, per_group)
        first = rows * own_pages + group * prompt_pages
        state.tile_page_table[tile, :prompt_pages] = pages[first : first + prompt_pages]
        state.tile_lengths[tile] = shape.prompt - 1
        begin = part * tile_rows
        members = (
            torch.arange(begin, min(begin + tile_rows, shape.group), device=DEVICE) + group * shape.group
        )
        state.tile_rows[tile, : len(members)] = members.int()
    store = noise(int(pages.max()) + 1, 3, 2, shape.heads[1], PAGE, shape.head)
    qkv = noise(rows, sum(shape.products["query, key, value"][1]))
    layout = StepLayout(rows, tiles, tile_queries, max(1, 128 // (tiles * shape.heads[1])), 1)
    token = 2.0 * 2 * shape.heads[1] * shape.head
    moved = token * (rows * shape.own + groups * shape.prompt)
    done = 4.0 * rows * shape.heads[0] * shape.head * (shape.own + shape.prompt)

    def attend(layer: int) -> Callable[[], Any]:
        return lambda: ops.attend(qkv, store[:, layer, 0], store[:, layer, 1], state, layout, shape.heads)

    calls = [attend(layer) for layer in range(3)]
    usual = ops.OWN_WARPS, ops.OWN_STAGES
    yield Part(f"attention, {shape.own} own tokens, {usual[0]} warps, {usual[1]} stages", calls, moved, done)
    for warps, stages in ((1, 1), (1, 2), (2, 1), (2, 2), (4, 1), (4, 2)):
        ops.OWN_WARPS, ops.OWN_STAGES = warps, stages
        yield Part(f"attention, {warps} warps, {stages} stages", calls, moved, done, counts=False)
    ops.OWN_WARPS, ops.OWN_STAGES = usual
    state.tile_lengths.zero_()
    yield Part("attention, to own tokens alone", calls, token * rows * shape.own, counts=False)


def all_parts(shape: Shape) -> Iterator[Part]:
    """Every operation of a layer, and what could take the place of some."""
    yield from product_parts(shape)
    yield from small_parts(shape)
    yield from attention_parts(shape)


@torch.inference_mode()
def main(arguments: Sequence[str] | None = None) -> None:
    """Print the parts of a layer, and their sum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    dense = [size for size, config in models.SIZES.items() if "family" not in config]
    parser.add_argument("--size", default="8b", choices=dense)
    parser.add_argument("--rows", nargs="+", type=positive_int, default=[64, 512])
    parser.add_argument("--group", type=positive_int, default=64)
    parser.add_argument("--own", type=positive_int, default=64)
    parser.add_argument("--prompt", type=positive_int, default=512)
    chosen = parser.parse_args(arguments)
    require_gpu()
    rates = ceilings(DEVICE)
    print(f"{versions()}; copy {rates[0] / 1e12:.2f} TB/s, product {rates[1] / 1e12:.0f} TFLOP/s")
    layers = models.SIZES[chosen.size]["num_hidden_layers"]
    for rows in chosen.rows:
        shape = Shape.of(chosen.size, rows, min(chosen.group, rows), chosen.own, chosen.prompt)
        print(f"\n{chosen.size}, {rows} rows, microseconds a call{'floor':>35}{'':6}in a step", flush=True)
        total = 0.0
        for part in all_parts(shape):
            try:
                took = microseconds(part)
            except Exception as error:
                print(f"  {part.name:52}  {type(error).__name__}: {str(error).splitlines()[0][:100]}")
                continue
            a_layer = took * (2 if "twice" in part.name else 1)
            total += a_layer if part.counts else 0.0
            floor = max(part.moved / rates[0], part.done / rates[1]) * 1e6
            mark = f"{a_layer * layers / 1e3:9.2f} ms" if part.counts else ""
            print(f"  {part.name:52}{took:8.1f}{floor:8.1f}{mark:>16}", flush=True)
        print(f"  {'a step, head and sampling left out':60}{total * layers / 1e3:24.2f} ms")
        torch.cuda.empty_cache()


if __name__ == "__main__":
    sys.exit(run_benchmark(main))
