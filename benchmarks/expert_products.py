"""The products of gpt-oss's packed experts, each by itself, with other tiles beside those that are used.

    python benchmarks/expert_products.py [--shapes 20b-512 20b-64 120b-512 20b-8192] [--seconds 80]

Of each shape (model and tokens, four experts a token, routed evenly at random) the first product, the second
one, and the first one's gradient: codes as they are published (`published`), then arranged, with the tiles of
`ttd_core.policy.local.lean.kernels.tiles` (`as used`), then with others. `outputs x inputs, warps, stages,
rows` is what one program takes at once; `assembly` is ``tiles.ASSEMBLY``; `decoded` are matrices decoded to
memory first and multiplied as numbers, their decoding in the time. Microseconds are of one call. `floor` is
reading what the experts need at the copy's rate, or multiplying at the product's, whichever takes longer;
`error` is the largest difference from the published codes' result, over its largest number. What takes longer
than --seconds is left out.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import attrs
import models
import torch
from sampling import ceilings, versions
from torch import Tensor

from ttd_core.policy.local.lean.kernels import reference_expert_ops as reference
from ttd_core.policy.local.lean.kernels import tiles
from ttd_core.policy.local.lean.kernels.reference_expert_ops import ExpertWeights, Groups
from ttd_core.policy.local.lean.kernels.tiles import Tile
from ttd_core.policy.local.lean.mxfp4 import arrange

#: Tiles to try of arranged codes, and of numbers.
ARRANGED = [
    Tile(128, 64, 4, 4),
    Tile(128, 128, 4, 3),
    Tile(128, 64, 8, 3),
    Tile(64, 64, 4, 3),
    Tile(128, 64, 4, 2),
    Tile(256, 64, 8, 3),
    Tile(64, 128, 4, 3),
    Tile(128, 128, 8, 3),
]
NUMBERS = [
    Tile(256, 64, 8, 3),
    Tile(128, 64, 8, 4),
    Tile(128, 64, 4, 3),
    Tile(256, 64, 8, 4),
    Tile(128, 128, 8, 2),
]
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
    """

    name: str
    changes: dict[str, Any]
    rows: int = 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print, a line each, as they come."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=["20b-512", "20b-64", "120b-512", "20b-8192"])
    parser.add_argument("--seconds", type=float, default=80)
    chosen = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks/expert_products.py measures a GPU, and torch finds none here")
    begun = time.monotonic()
    device = torch.device("cuda")
    rates = ceilings(device)
    print(f"{versions()}; copy {rates[0] / 1e12:.2f} TB/s, product {rates[1] / 1e12:.0f} TFLOP/s", flush=True)
    for index, name in enumerate(chosen.shapes):
        # Shapes share what time is left.
        left = chosen.seconds - (time.monotonic() - begun)
        measure_shape(name, device, rates, time.monotonic() + left / (len(chosen.shapes) - index))


def measure_shape(name: str, device: torch.device, rates: tuple[float, float], until: float) -> None:
    """Print every product of a shape."""
    size, _, tokens = name.partition("-")
    settings = models.SIZES[f"gpt-oss-{size}"]
    experts, hidden, choices = settings["num_local_experts"], settings["hidden_size"], 4
    width = settings["intermediate_size"]
    torch.manual_seed(0)
    logits = torch.randn(int(tokens), experts, device=device)
    first, second = (
        packed(experts, outputs, inputs, device) for outputs, inputs in ((2 * width, hidden), (hidden, width))
    )
    cases = [*cases_of(logits, (first[0], second[0]), choices, rates)]
    for index, (case, weights) in enumerate(zip(cases, (first, second, first), strict=True)):
        share = (until - time.monotonic()) / (len(cases) - index)
        measure_case(f"{name}, {case.name}", case, weights, (logits, choices), time.monotonic() + share)


def packed(
    experts: int, outputs: int, inputs: int, device: torch.device
) -> tuple[ExpertWeights, ExpertWeights]:
    """Random codes and scales: as they are published, and the same ones arranged."""
    blocks = torch.randint(0, 256, (experts, outputs, inputs // 32, 16), dtype=torch.uint8, device=device)
    scales = torch.randint(115, 125, (experts, outputs, inputs // 32), dtype=torch.uint8, device=device)
    codes = torch.empty(experts, inputs // 32, outputs, 16, dtype=torch.uint8, device=device)
    for expert in range(experts):
        codes[expert] = arrange(blocks[expert])
    bias = torch.zeros(experts, outputs, dtype=torch.bfloat16, device=device)
    published = ExpertWeights(blocks.flatten(2), scales, bias)
    return published, ExpertWeights(codes, scales.transpose(1, 2).contiguous(), bias)


def cases_of(
    logits: Tensor, matrices: Sequence[ExpertWeights], choices: int, rates: tuple[float, float]
) -> Iterator[Case]:
    """The first product, the second one, and the first one's gradient."""
    from ttd_core.policy.local.lean.kernels import triton_expert_ops as ops

    tokens, device = len(logits), logits.device
    first, second = matrices
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
    """Others than what is used, the most promising ones first."""

    def of_numbers(tile: Tile, at: int) -> Variant:
        changes = {"DECODED_ROWS": ALWAYS, "TILES": {False: tile, True: tile}}
        return Variant(f"decoded, {described(tile, at)}", changes, at)

    def of_codes(tile: Tile, at: int, assembly: bool = False) -> Variant:
        same = dict.fromkeys((16, 32, 64, 128), tile)
        changes = {"DECODED_ROWS": NEVER, "ARRANGED_TILES": same, "ASSEMBLY": assembly}
        return Variant(f"{'assembly, ' if assembly else ''}{described(tile, at)}", changes, at)

    others = [at for at in (2 * rows, rows // 2) if tiles.LEAST_ROWS <= at <= tiles.MOST_ROWS]
    used = tiles.ARRANGED_TILES[rows]
    if not case.backward:
        yield of_codes(used, rows)
        yield of_codes(used, rows, assembly=True)
        yield of_numbers(tiles.TILES[rows >= 64], rows)
        for at in others:
            yield of_codes(tiles.ARRANGED_TILES[at], at)
        for tile in ARRANGED:
            yield of_codes(tile, rows)
        for tile in ARRANGED[:4]:
            yield of_codes(tile, rows, assembly=True)
        if others:
            yield from (of_codes(tile, others[0]) for tile in ARRANGED[:4])
    if case.backward or rows == tiles.MOST_ROWS:
        for tile in NUMBERS:
            yield of_numbers(tile, rows)
        for decoded in ((64, 4), (128, 2), (128, 8), (32, 8)):
            yield Variant(
                f"decoded, {decoded[0]} outputs of {decoded[1]} groups",
                {"DECODED_ROWS": ALWAYS, "DECODED_TILE": decoded},
                rows,
            )


def described(tile: Tile, rows: int) -> str:
    """A tile in a few words."""
    return f"{tile.outputs} x {tile.inputs}, warps {tile.warps}, stages {tile.stages}, rows {rows}"


def measure_case(
    name: str,
    case: Case,
    weights: tuple[ExpertWeights, ExpertWeights],
    routed: tuple[Tensor, int],
    until: float,
) -> None:
    """Print the published codes' product, what is used, and others while there is time."""
    from ttd_core.policy.local.lean.kernels import triton_expert_ops as ops

    logits, choices = routed
    # The order within an expert differs from routing to routing.
    _, _, groups = ops.route(logits, choices, True)
    print(f"{name}: floor {case.floor * 1e6:.0f} us, tiles of {groups.tile_rows}", flush=True)
    expected = case.operation(weights[0], groups)
    report("published", lambda: case.operation(weights[0], groups))
    report("as used", lambda: case.operation(weights[1], groups), lambda got: error(got, expected))
    for variant in variants(case, groups.tile_rows):
        if time.monotonic() > until:
            print("   the rest is left out: no time", flush=True)
            return
        at = variant.rows or groups.tile_rows
        with mock.patch.multiple(tiles, **variant.changes, rows_of=lambda _, at=at: at):
            _, _, own = ops.route(logits, choices, True)

            def judge(got: Tensor, own: Groups = own) -> float:
                # Where each token has one input, its results are found by the assignments' places.
                if case.gathered:
                    return error(got[own.places.long()], expected[groups.places.long()])
                return error(got, expected)

            report(variant.name, functools.partial(case.operation, weights[1], own), judge)


def error(got: Tensor, expected: Tensor) -> float:
    """Largest difference, over the largest number."""
    return float((got.float() - expected.float()).abs().max() / expected.float().abs().max())


def report(name: str, call: Callable[[], Tensor], judge: Callable[[Tensor], float] | None = None) -> None:
    """Time a call and print it; what cannot be launched is a line too."""
    try:
        got = call()
        wrong = "" if judge is None else f"  error {judge(got):.4f}"
        del got
        print(f"   {name:48}{microseconds(call):9.0f} us{wrong}", flush=True)
    except Exception as failure:
        print(f"   {name:48}  {type(failure).__name__}: {str(failure)[:100]}", flush=True)


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
    main()
