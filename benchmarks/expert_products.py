"""The products of gpt-oss's packed experts, each by itself, with other tiles beside those that are used.

    python benchmarks/expert_products.py [--shapes 20b-512 120b-512 20b-64 20b-8192] [--seconds 75]
        [--products first second gradient]

Of each shape (model and tokens, four experts a token, routed evenly at random) the first product and the
second one, and if asked the first one's gradient: codes as they are published, as a model lays them out, by
row and in fragments (`ttd_core.policy.local.lean.mxfp4`), then with other tiles than those of
`ttd_core.policy.local.lean.kernels.tiles`. `outputs x inputs, warps, stages, rows` is what one program takes
at once; `plain` is without assembly; `decoded` are matrices decoded to memory first and multiplied as
numbers, their decoding in the time. Microseconds are of one call. `floor` is reading what the experts need at
the copy's rate, or multiplying at the product's, whichever takes longer; `error` is the largest difference
from the published codes' result, over its largest number, and `unsteady` stands where 20 calls did not all
give the same bits. A line at the end of each case names the best. What takes longer than --seconds is left
out.
"""

from __future__ import annotations

import argparse
import functools
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

from command_line import positive_float, require_gpu, require_packages, run_benchmark

require_packages("torch")

import attrs
import models
import torch
from sampling import versions
from sampling_floor import ceilings
from torch import Tensor

from ttd_core.policy.local.lean import mxfp4
from ttd_core.policy.local.lean.kernels import reference_expert_ops as reference
from ttd_core.policy.local.lean.kernels import tiles
from ttd_core.policy.local.lean.kernels.reference_expert_ops import ExpertWeights, Groups
from ttd_core.policy.local.lean.kernels.tiles import Tile

#: Tiles to try of codes in fragments, the most promising first.
FRAGMENTS = [
    Tile(256, 64, 8, 3),
    Tile(128, 64, 4, 4),
    Tile(64, 64, 4, 3),
    Tile(128, 128, 4, 3),
    Tile(256, 64, 8, 4),
    Tile(64, 64, 4, 4),
    Tile(64, 128, 4, 3),
]
#: Of numbers.
NUMBERS = [Tile(256, 64, 8, 3), Tile(128, 64, 8, 4), Tile(128, 64, 4, 3)]
PRODUCTS = ["first", "second", "gradient"]
#: Never and always, for ``tiles.DECODED_ROWS``.
NEVER, ALWAYS = 1 << 30, 0


@attrs.frozen
class Case:
    """One product of one shape.

    :param operation: computes it, of tokens routed to experts.
    :param gathered: whether its inputs are the tokens', and not by place.
    :param backward: whether it is the gradient's.
    :param floor: seconds.
    """

    name: str
    operation: Callable[[ExpertWeights, Groups], Tensor]
    gathered: bool
    backward: bool
    floor: float


@attrs.frozen
class Variant:
    """How to compute it.

    :param changes: what ``tiles`` has otherwise.
    :param rows: assignments of a tile; 0: as ``tiles`` says.
    :param lying: how its codes lie, in fragments or by row.
    """

    name: str
    changes: dict[str, Any]
    rows: int = 0
    lying: str = "fragments"


#: One matrix of all experts, by how its codes lie.
Matrices = dict[str, ExpertWeights]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print, a line each, as they come."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=["20b-512", "120b-512", "20b-64", "20b-8192"])
    parser.add_argument("--products", nargs="+", default=["first", "second"], choices=PRODUCTS)
    parser.add_argument("--seconds", type=positive_float, default=75)
    chosen = parser.parse_args(arguments)
    require_gpu()
    begun = time.monotonic()
    device = torch.device("cuda")
    rates = ceilings(device)
    print(f"{versions()}; copy {rates[0] / 1e12:.2f} TB/s, product {rates[1] / 1e12:.0f} TFLOP/s", flush=True)
    for index, name in enumerate(chosen.shapes):
        # Shapes share what time is left.
        left = chosen.seconds - (time.monotonic() - begun)
        until = time.monotonic() + left / (len(chosen.shapes) - index)
        measure_shape(name, chosen.products, device, rates, until)


def measure_shape(
    name: str, products: Sequence[str], device: torch.device, rates: tuple[float, float], until: float
) -> None:
    """Print some products of a shape."""
    size, _, tokens = name.partition("-")
    settings = models.SIZES[f"gpt-oss-{size}"]
    experts, hidden, choices = settings["num_local_experts"], settings["hidden_size"], 4
    width = settings["intermediate_size"]
    torch.manual_seed(0)
    logits = torch.randn(int(tokens), experts, device=device)
    first, second = (
        packed(experts, outputs, inputs, device) for outputs, inputs in ((2 * width, hidden), (hidden, width))
    )
    found = zip(cases_of(logits, (first, second), choices, rates), (first, second, first), strict=True)
    cases = [(case, weights) for case, weights in found if case.name in products]
    for index, (case, weights) in enumerate(cases):
        share = (until - time.monotonic()) / (len(cases) - index)
        measure_case(f"{name}, {case.name}", case, weights, (logits, choices), time.monotonic() + share)


def packed(experts: int, outputs: int, inputs: int, device: torch.device) -> Matrices:
    """Random codes and scales, in each way that they lie."""
    blocks = torch.randint(0, 256, (experts, outputs, inputs // 32, 16), dtype=torch.uint8, device=device)
    scales = torch.randint(115, 125, (experts, outputs, inputs // 32), dtype=torch.uint8, device=device)
    bias = torch.zeros(experts, outputs, dtype=torch.bfloat16, device=device)
    found = {"as published": ExpertWeights(blocks.flatten(2), scales, bias)}
    for lying in "fragments", "by row":
        with mock.patch.object(mxfp4, "IN_FRAGMENTS", lying == "fragments"):
            parts = [mxfp4.arranged(*matrix) for matrix in zip(blocks, scales, strict=True)]
        codes, by_group = (torch.stack(part) for part in zip(*parts, strict=True))
        found[lying] = ExpertWeights(codes, by_group, bias)
    return found


def cases_of(
    logits: Tensor, matrices: Sequence[Matrices], choices: int, rates: tuple[float, float]
) -> Iterator[Case]:
    """The first product, the second one, and the first one's gradient."""
    from ttd_core.policy.local.lean.kernels import triton_expert_ops as ops

    tokens, device = len(logits), logits.device
    first, second = (matrix["as published"] for matrix in matrices)
    _, _, groups = reference.route(logits, choices, True)
    needed = int((groups.offsets.diff() > 0).sum())

    def floor(weights: ExpertWeights) -> float:
        assert weights.scales is not None
        read = (weights.values.nbytes + weights.scales.nbytes) * needed / len(weights.values)
        operations = 2 * tokens * choices * weights.outputs * weights.inputs
        return max(read / rates[0], operations / rates[1])

    def noise(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, device=device, dtype=torch.bfloat16)

    x, gated = noise(tokens, first.inputs), noise(tokens * choices, second.inputs)
    grad = noise(tokens * choices, first.outputs)

    def of_tokens(weights: ExpertWeights, groups: Groups) -> Tensor:
        return ops.product(x, weights, groups, True)

    def by_place(weights: ExpertWeights, groups: Groups) -> Tensor:
        return ops.product(gated, weights, groups, False)

    def of_gradients(weights: ExpertWeights, groups: Groups) -> Tensor:
        return ops.product_backward(grad, weights, groups)

    yield Case("first", of_tokens, True, False, floor(first))
    yield Case("second", by_place, False, False, floor(second))
    yield Case("gradient", of_gradients, False, True, floor(first))


def variants(case: Case, rows: int) -> Iterator[Variant]:
    """Ways to compute it, the most promising ones first."""

    def of_numbers(tile: Tile, at: int) -> Variant:
        changes = {"DECODED_ROWS": ALWAYS, "TILES": {False: tile, True: tile}}
        return Variant(f"decoded, {described(tile, at)}", changes, at)

    def of_codes(tile: Tile, at: int) -> Variant:
        same = dict.fromkeys((16, 32, 64, 128), tile)
        return Variant(described(tile, at), {"DECODED_ROWS": NEVER, "FRAGMENT_TILES": same}, at)

    yield Variant("fragments, as used", {})
    yield Variant("by row, as used", {}, lying="by row")
    used, others = tiles.FRAGMENT_TILES[rows], (2 * rows, rows // 2)
    if not case.backward:
        yield of_codes(FRAGMENTS[0], rows)
        yield of_codes(FRAGMENTS[1], rows)
        yield from (of_codes(used, at) for at in others if tiles.LEAST_ROWS <= at <= tiles.MOST_ROWS)
        yield from (of_codes(tile, rows) for tile in FRAGMENTS[2:])
        yield Variant("plain, by row", {"DECODED_ROWS": NEVER, "ASSEMBLY": False}, rows, "by row")
        yield Variant("plain, fragments", {"DECODED_ROWS": NEVER, "ASSEMBLY": False}, rows)
    if case.backward or rows == tiles.MOST_ROWS:
        yield from (of_numbers(tile, rows) for tile in NUMBERS)
        for decoded in ((64, 4), (128, 2), (128, 8), (32, 8)):
            name = f"decoded, {decoded[0]} outputs of {decoded[1]} groups"
            yield Variant(name, {"DECODED_ROWS": ALWAYS, "DECODED_TILE": decoded}, rows)


def described(tile: Tile, rows: int) -> str:
    """A tile in a few words."""
    return f"{tile.outputs} x {tile.inputs}, warps {tile.warps}, stages {tile.stages}, rows {rows}"


def measure_case(name: str, case: Case, weights: Matrices, routed: tuple[Tensor, int], until: float) -> None:
    """Print the published codes' product, others while there is time, and which was best."""
    from ttd_core.policy.local.lean.kernels import triton_expert_ops as ops

    logits, choices = routed
    # The order within an expert differs from routing to routing.
    _, _, groups = ops.route(logits, choices, True)
    print(f"{name}: floor {case.floor * 1e6:.0f} us, tiles of {groups.tile_rows}", flush=True)
    published = weights["as published"]
    expected = case.operation(published, groups)
    took = {"as published": report("as published", lambda: case.operation(published, groups))}
    for variant in variants(case, groups.tile_rows):
        if time.monotonic() > until:
            print("   the rest is left out: no time", flush=True)
            break
        at = variant.rows or groups.tile_rows
        with mock.patch.multiple(tiles, **variant.changes, rows_of=lambda _, at=at: at):
            _, _, own = ops.route(logits, choices, True)

            def judge(got: Tensor, own: Groups = own) -> float:
                # Where each token has one input, its results are found by the assignments' places.
                if case.gathered:
                    return error(got[own.places.long()], expected[groups.places.long()])
                return error(got, expected)

            call = functools.partial(case.operation, weights[variant.lying], own)
            took[variant.name] = report(variant.name, call, judge)
    best = min(took, key=lambda name: took[name])
    share = case.floor * 1e6 / took[best]
    print(f"   best: {best}, {took[best]:.0f} us, the floor is {share:.0%} of it", flush=True)


def error(got: Tensor, expected: Tensor) -> float:
    """Largest difference, over the largest number."""
    return float((got.float() - expected.float()).abs().max() / expected.float().abs().max())


def report(name: str, call: Callable[[], Tensor], judge: Callable[[Tensor], float] | None = None) -> float:
    """Time a call and print it, in microseconds; what cannot be launched is a line too, and infinite."""
    try:
        got = call()
        wrong = "" if judge is None else f"  error {judge(got):.4f}"
        if not all(torch.equal(call(), got) for _ in range(19)):
            wrong += "  unsteady"
        del got
        took = microseconds(call)
    except Exception as failure:
        print(f"   {name:48}  {type(failure).__name__}: {str(failure)[:100]}", flush=True)
        return math.inf
    print(f"   {name:48}{took:9.0f} us{wrong}", flush=True)
    return math.inf if "unsteady" in wrong else took


def microseconds(call: Callable[[], Any], times: int = 10) -> float:
    """Of one call, of several in a row; the matrices are larger than the device's cache."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    begin.record()
    for _ in range(times):
        call()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / times * 1e3


if __name__ == "__main__":
    sys.exit(run_benchmark(main))
