"""Random cases for the kernels of mixtures of experts against the reference; run as `kernel_cases.py` is."""

from __future__ import annotations

import inspect
import itertools
import math
import os
import re
from typing import Any

import attrs
import pytest
import torch

from ttd_core.policy.local.lean.kernels import reference_expert_ops as reference
from ttd_core.policy.local.lean.kernels.reference_expert_ops import ExpertWeights, Groups
from ttd_core.policy.local.lean.mxfp4 import (
    LARGEST_ARRANGED_SCALE,
    VALUES,
    arrange,
    arrange_fragments,
    arrange_scales,
    unpack,
)

triton = pytest.importorskip("triton", reason="Triton is not installed here")
tl = pytest.importorskip("triton.language")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if not INTERPRETED and not torch.cuda.is_available():
    pytest.skip("needs a CUDA device, or TRITON_INTERPRET=1", allow_module_level=True)

from ttd_core.policy.local.lean.kernels import arranged as arranged_kernels  # noqa: E402 - after the skip
from ttd_core.policy.local.lean.kernels import fragments as fragment_kernels  # noqa: E402 - after the skip
from ttd_core.policy.local.lean.kernels import tiles  # noqa: E402 - after the skip
from ttd_core.policy.local.lean.kernels import triton_expert_ops as kernels  # noqa: E402 - after the skip
from ttd_core.policy.local.lean.kernels.tiles import Tile  # noqa: E402 - after the skip

DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
#: NumPy, which the interpreter runs on, has no bfloat16.
DTYPES = [torch.float32] if INTERPRETED else [torch.float32, torch.bfloat16]
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}
EXPERTS = 6
#: Tokens, experts each of them gets; what the routers prefer.
LOADS = {
    "one token": (1, 2, []),
    "as it comes": (13, 3, []),
    "a hot expert": (24, 1, [(4, 50.0)]),
    "experts without tokens": (11, 2, [(0, -50.0), (2, -50.0), (5, -50.0)]),
    "every expert": (5, EXPERTS, []),
}


def noise(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator).to(DEVICE, dtype)


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.dtype == expected.dtype
    tolerance = TOLERANCE.get(found.dtype, 0.0)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def logits_of(load: str) -> tuple[torch.Tensor, int]:
    tokens, choices, preferred = LOADS[load]
    logits = noise(tokens, EXPERTS)
    for expert, weight in preferred:
        logits[:, expert] += weight
    return logits, choices


def grouped(load: str) -> tuple[Groups, torch.Tensor, int]:
    logits, choices = logits_of(load)
    _, shares, groups = kernels.route(logits, choices, True)
    return groups, shares, len(logits)


def packed(outputs: int, inputs: int) -> ExpertWeights:
    generator = torch.Generator().manual_seed(7)
    codes = torch.randint(0, 256, (EXPERTS, outputs, inputs // 2), generator=generator, dtype=torch.uint8)
    scales = torch.randint(122, 128, (EXPERTS, outputs, inputs // 32), generator=generator, dtype=torch.uint8)
    return ExpertWeights(codes.to(DEVICE), scales.to(DEVICE), noise(EXPERTS, outputs))


def arranged(weights: ExpertWeights) -> ExpertWeights:
    """The same matrices, arranged."""
    assert weights.scales is not None
    blocks = weights.values.unflatten(2, (-1, 16))
    return ExpertWeights(arrange(blocks), weights.scales.transpose(1, 2).contiguous(), weights.bias)


def in_fragments(weights: ExpertWeights) -> ExpertWeights:
    """The same matrices in fragments."""
    assert weights.scales is not None
    codes = [arrange_fragments(matrix.unflatten(1, (-1, 16))) for matrix in weights.values]
    scales = [arrange_scales(matrix) for matrix in weights.scales]
    return ExpertWeights(torch.stack(codes), torch.stack(scales), weights.bias)


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("normalised", [True, False])
def test_route(load: str, normalised: bool) -> None:
    logits, choices = logits_of(load)
    experts, shares, groups = kernels.route(logits, choices, normalised)
    wanted_experts, wanted_shares, wanted = reference.route(logits, choices, normalised)
    close(experts, wanted_experts)
    close(shares, wanted_shares)
    close(groups.offsets, wanted.offsets)
    flat = experts.flatten()
    # Any order within an expert is right; every assignment has one place, and it lies in its expert's part.
    assert groups.order.sort().values.tolist() == list(range(len(flat)))
    assert torch.equal(groups.order[groups.places.long()].cpu(), torch.arange(len(flat), dtype=torch.int32))
    assert torch.equal(flat[groups.order.long()], flat.sort().values)
    covered: list[int] = []
    for expert, start in zip(groups.tile_experts.tolist(), groups.tile_starts.tolist(), strict=True):
        if expert >= 0:
            covered += range(start, min(start + groups.tile_rows, int(groups.offsets[expert + 1])))
            assert start >= int(groups.offsets[expert])
    assert sorted(covered) == list(range(len(flat)))


def test_given_experts_are_taken() -> None:
    logits = noise(9, EXPERTS)
    given = torch.tensor([[5, 1], [0, 3], [2, 4]] * 3, dtype=torch.int32, device=DEVICE)
    for normalised in True, False:
        experts, shares, groups = kernels.route(logits, 2, normalised, given)
        wanted = reference.route(logits, 2, normalised, given)
        close(experts, given)
        close(shares, wanted[1])
        close(groups.offsets, wanted[2].offsets)


@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_rows_that_hold_no_numbers_choose_experts_that_there_are() -> None:
    # A row that is not in use holds anything; assignments beyond the last expert would write anywhere.
    logits = noise(7, EXPERTS)
    logits[1], logits[2, ::2], logits[3] = math.nan, math.nan, -math.inf
    for normalised in True, False:
        experts, _, groups = kernels.route(logits, 3, normalised)
        assert all(len({*row}) == 3 and max(row) < EXPERTS for row in experts.tolist())
        assert groups.order.sort().values.tolist() == list(range(21))
        assert int(groups.offsets[-1]) == 21


def test_many_tokens_fill_large_tiles() -> None:
    _, _, groups = kernels.route(noise(150, 2), 1, True)
    assert groups.tile_rows == 128
    weights = ExpertWeights(noise(2, 5, 8))
    x = noise(150, 8)
    close(kernels.product(x, weights, groups, True), reference.product(x, weights, groups, True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("load", "order"), [*zip(LOADS, ["by output", "by input"] * 3, strict=False)])
def test_products_of_numbers(load: str, order: str, dtype: torch.dtype) -> None:
    groups, _, tokens = grouped(load)
    values = noise(EXPERTS, 150, 70, dtype=dtype)
    if order == "by input":
        values = values.transpose(1, 2).contiguous().transpose(1, 2)
    weights = ExpertWeights(values, bias=noise(EXPERTS, 150, dtype=dtype) if order == "by input" else None)
    x = noise(tokens, 70, dtype=dtype)
    found = kernels.product(x, weights, groups, True)
    close(found, reference.product(x, weights, groups, True))
    grad = noise(len(groups.order), 150, dtype=dtype) / 10
    close(kernels.product_backward(grad, weights, groups), reference.product_backward(grad, weights, groups))
    own = noise(len(groups.order), 70, dtype=dtype)
    close(kernels.product(own, weights, groups, False), reference.product(own, weights, groups, False))


@pytest.mark.parametrize("load", ["one token", "experts without tokens"])
@pytest.mark.parametrize("dtype", [*DTYPES, torch.float16])
def test_packed_products(load: str, dtype: torch.dtype) -> None:
    groups, _, tokens = grouped(load)
    weights = packed(136, 96)
    weights = ExpertWeights(weights.values, weights.scales, noise(EXPERTS, 136, dtype=dtype))
    x = noise(tokens, 96, dtype=dtype)
    close(kernels.product(x, weights, groups, True) / 30, reference.product(x, weights, groups, True) / 30)
    grad = noise(len(groups.order), 136, dtype=dtype)
    close(
        kernels.product_backward(grad, weights, groups) / 30,
        reference.product_backward(grad, weights, groups) / 30,
    )


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float16])
@pytest.mark.parametrize(
    ("load", "decoded"), [("one token", 256), ("experts without tokens", 256), ("as it comes", 1)]
)
@pytest.mark.parametrize(("outputs", "inputs"), [(136, 96), (144, 192)])
def test_arranged_products_are_those_of_the_published_codes(
    outputs: int, inputs: int, load: str, decoded: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "DECODED_ROWS", decoded)
    # Four experts, then the other two.
    monkeypatch.setattr(tiles, "decoded_bytes", lambda _: 4 * outputs * inputs * dtype.itemsize)
    groups, _, tokens = grouped(load)
    published = packed(outputs, inputs)
    published = ExpertWeights(published.values, published.scales, noise(EXPERTS, outputs, dtype=dtype))
    # The second sizes are whole fragments, of which the last block of outputs and of inputs is not full.
    weights = (in_fragments if inputs == 192 else arranged)(published)
    assert weights.fragments == (inputs == 192)
    assert (weights.outputs, weights.inputs) == (published.outputs, published.inputs)
    assert torch.equal(weights.of(3, dtype), published.of(3, dtype))
    x, own = noise(tokens, inputs, dtype=dtype), noise(len(groups.order), inputs, dtype=dtype)
    close(kernels.product(x, weights, groups, True) / 30, reference.product(x, published, groups, True) / 30)
    close(
        kernels.product(own, weights, groups, False) / 30,
        reference.product(own, published, groups, False) / 30,
    )
    grad = noise(len(groups.order), outputs, dtype=dtype)
    close(
        kernels.product_backward(grad, weights, groups) / 30,
        reference.product_backward(grad, published, groups) / 30,
    )


@pytest.mark.parametrize("tile", [Tile(128, 128, 4, 3), Tile(64, 64, 4, 3), Tile(256, 64, 8, 3)])
def test_fragments_by_other_tiles(tile: Tile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "FRAGMENT_TILES", dict.fromkeys((16, 32, 64, 128), tile))
    groups, _, tokens = grouped("experts without tokens")
    published = packed(144, 192)
    published = attrs.evolve(published, bias=noise(EXPERTS, 144, dtype=DTYPES[-1]))
    x = noise(tokens, 192, dtype=DTYPES[-1])
    found = kernels.product(x, in_fragments(published), groups, True)
    close(found / 30, reference.product(x, published, groups, True) / 30)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rank", [3, 20])
@pytest.mark.parametrize(
    ("load", "kind"),
    [
        ("as it comes", "packed"),
        ("as it comes", "arranged"),
        ("one token", "fragments"),
        ("experts without tokens", "numbers"),
    ],
)
def test_adapted_products(load: str, kind: str, rank: int, dtype: torch.dtype) -> None:
    groups, _, tokens = grouped(load)
    outputs, inputs = (144, 128) if kind == "fragments" else (136, 96)
    numbers = ExpertWeights(noise(EXPERTS, outputs, inputs, dtype=dtype))
    weights = numbers if kind == "numbers" else packed(outputs, inputs)
    weights = ExpertWeights(weights.values, weights.scales)
    weights = {"arranged": arranged, "fragments": in_fragments}.get(kind, lambda same: same)(weights)
    count = len(groups.order)
    shapes = (tokens, inputs), (count, outputs), (count, rank)
    x, grad, hidden = (noise(*shape, dtype=dtype) for shape in shapes)
    # As B lies, and as A is met in the backward pass.
    added = (noise(EXPERTS, outputs, rank, dtype=dtype), hidden)
    close(
        kernels.product(x, weights, groups, True, added) / 30,
        reference.product(x, weights, groups, True, added) / 30,
    )
    added = (noise(EXPERTS, rank, inputs, dtype=dtype).transpose(1, 2), hidden)
    close(
        kernels.product_backward(grad, weights, groups, added) / 30,
        reference.product_backward(grad, weights, groups, added) / 30,
    )
    for right, gathered in (x, True), (grad, False):
        found = kernels.adapter_grads(hidden, right, groups, gathered)
        close(found / 10, reference.adapter_grads(hidden, right, groups, gathered) / 10)


def codes_at(scales: torch.Tensor) -> ExpertWeights:
    """One expert whose rows are every code in every place of two groups of inputs, a row a scale."""
    codes = torch.arange(16, dtype=torch.uint8)
    # Low halves hold each code, high halves others, so that a byte's halves are told apart.
    row = torch.cat([codes | codes.flip(0) << 4, codes.flip(0) | codes.roll(5) << 4])
    stored = scales.view(1, -1, 1).expand(1, -1, 2).contiguous()
    return ExpertWeights(row.repeat(1, len(scales), 1).to(DEVICE), stored.to(DEVICE))


@pytest.mark.parametrize("kind", ["published", "arranged", "fragments"])
@pytest.mark.parametrize("backward", [False, True])
def test_every_code_at_every_scale_to_the_bit(kind: str, backward: bool) -> None:
    # Products with the identity are the weights themselves, if none is infinite (6 * 2**(253 - 127)).
    most = 252 if kind == "published" else LARGEST_ARRANGED_SCALE
    # Fragments have 16 outputs.
    scales = torch.arange((most + 16) // 16 * 16 if kind == "fragments" else most + 1).clamp(max=most)
    published = codes_at(scales.to(torch.uint8))
    weights = {"arranged": arranged, "fragments": in_fragments}.get(kind, lambda same: same)(published)
    size = weights.outputs if backward else weights.inputs
    _, _, groups = kernels.route(torch.zeros(size, 1, device=DEVICE), 1, True)
    identity = torch.eye(size, device=DEVICE)[groups.order.long()]
    if backward:
        by_place = kernels.product_backward(identity, weights, groups)
    else:
        by_place = kernels.product(identity, weights, groups, False)
    found = by_place[groups.places.long()]
    expected = unpack(published.values[0], published.scales[0], torch.float32)
    assert torch.equal(found, expected if backward else expected.T)
    row = published.values[0, 0].tolist()
    table = torch.tensor([VALUES[code] for byte in row for code in (byte & 15, byte >> 4)])
    assert torch.equal(expected[127].cpu(), table)
    assert torch.equal(expected[100].cpu(), table * 2.0**-27)


@pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value encountered")
def test_the_largest_scales_of_published_codes() -> None:
    # Where numbers become infinite, what they are multiplied with must not be zero.
    weights = codes_at(torch.tensor([253, 254], dtype=torch.uint8))
    _, _, groups = kernels.route(torch.zeros(1, 1, device=DEVICE), 1, True)
    # Low halves of the first group are the sixteen codes.
    for column in range(0, 32, 2):
        # All codes but one times zero of their own: their signs' zeros.
        only = ExpertWeights(weights.values.clone(), weights.scales)
        byte, shift = column // 2, 4 * (column % 2)
        only.values[:] = 0
        only.values[0, :, byte] = weights.values[0, :, byte] & (15 << shift)
        found = kernels.product(torch.ones(1, 64, device=DEVICE), only, groups, False)
        expected = unpack(only.values[0], only.scales[0], torch.float32)[:, column]
        assert torch.equal(found[0], expected + 0.0)


def test_decoded_bits_of_bfloat16() -> None:
    # The interpreter has no arithmetic of bfloat16, so bits are held to what they must stand for.
    byte = torch.arange(256, dtype=torch.uint8, device=DEVICE)
    low, high = (torch.empty(256, dtype=torch.int16, device=DEVICE) for _ in range(2))
    _store_bits[(1,)](byte, low, high)
    numbers = torch.tensor(VALUES, dtype=torch.float64, device=DEVICE)
    for bits, codes in (low, byte & 15), (high, byte >> 4):
        assert torch.equal(bits.view(torch.bfloat16).double() * 2.0**126, numbers[codes.long()])
        for scale in range(LARGEST_ARRANGED_SCALE + 1):
            factor = torch.tensor((scale + 126) << 7, dtype=torch.int16, device=DEVICE).view(torch.bfloat16)
            assert factor.item() == 2.0 ** (scale - 1)
            exact = torch.ldexp(numbers[codes.long()], torch.tensor(scale - 127, device=DEVICE))
            assert torch.equal((bits.view(torch.bfloat16) * factor).double(), exact)


@pytest.mark.skipif(INTERPRETED, reason="only a CUDA device runs assembly")
@pytest.mark.parametrize("fragments", [False, True])
def test_assembly_decodes_the_same_numbers(fragments: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    groups, _, tokens = grouped("as it comes")
    weights = in_fragments(packed(144, 128)) if fragments else arranged(packed(136, 96))
    # Fragments are decoded by assembly in bfloat16 alone.
    for dtype in torch.bfloat16, torch.float32:
        of_dtype = attrs.evolve(weights, bias=noise(EXPERTS, weights.outputs, dtype=dtype))
        x = noise(tokens, weights.inputs, dtype=dtype)
        assert tiles.assembles(dtype) == (dtype == torch.bfloat16)
        found = kernels.product(x, of_dtype, groups, True)
        with monkeypatch.context() as patched:
            patched.setattr(tiles, "ASSEMBLY", False)
            assert torch.equal(kernels.product(x, of_dtype, groups, True), found)


def test_assembly_of_fragments_is_right_for_every_word() -> None:
    # What a CUDA device runs is computed here, instruction by instruction, so that no device is needed.
    generator = torch.Generator().manual_seed(3)
    published = torch.randint(0, 256, (16, 2, 16), generator=generator, dtype=torch.uint8)
    published[0, 0] = torch.arange(16, dtype=torch.uint8) * 17
    scales = torch.randint(0, LARGEST_ARRANGED_SCALE + 1, (16, 2), generator=generator, dtype=torch.uint8)
    words = arrange_fragments(published).view(torch.int32).view(8, 4, 2, 2)
    by_word = arrange_scales(scales).view(8, 1, 2, 2).expand(8, 4, 2, 2).int()
    numbers = unpack(published, scales, torch.bfloat16).double()
    halves = run_assembly(words.long() & 0xFFFFFFFF, (by_word + 126).long() * 0x00800080)
    assert len(halves) == 8
    for index, found in enumerate(halves):
        place, half = divmod(index, 2)
        for g, t, group, row in itertools.product(range(8), range(4), range(2), range(2)):
            expected = numbers[g + 8 * row, 32 * group + 8 * place + 2 * t + half]
            assert found[g, t, group, row] == expected


def run_assembly(words: torch.Tensor, factors: torch.Tensor) -> list[torch.Tensor]:
    """The results of :func:`.fragments.numbers_by_assembly`, as float64."""
    source = inspect.getsource(fragment_kernels.numbers_by_assembly.fn)
    values: dict[str, torch.Tensor] = {"$8": words, "$9": factors}
    for statement in source.split('"""')[3].strip(" {}\n").split(";")[1:]:
        name, _, rest = statement.strip().partition(" ")
        if name == "mov.b32":
            first, second, whole = re.fullmatch(r"\{(\S+), (\S+)\}, (\S+)", rest).groups()  # type: ignore[union-attr]
            values[first], values[second] = values[whole] & 0xFFFF, values[whole] >> 16
        elif name:
            target, left, right = (part.strip() for part in rest.split(","))
            operand = values[right] if right in values else torch.tensor(int(right, 0))
            values[target] = PTX[name](values[left], operand) & 0xFFFFFFFF
    return [as_bfloat16(values[f"${place}"]).double() for place in range(8)]


def as_bfloat16(bits: torch.Tensor) -> torch.Tensor:
    return bits.to(torch.int16).view(torch.bfloat16)


def times_by_halves(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    halves = [as_bfloat16(left >> at & 0xFFFF) * as_bfloat16(right >> at & 0xFFFF) for at in (0, 16)]
    low, high = (half.view(torch.int16).long() & 0xFFFF for half in halves)
    return low | high << 16


PTX = {
    "and.b32": torch.bitwise_and,
    "or.b32": torch.bitwise_or,
    "shl.b32": torch.bitwise_left_shift,
    "shr.b32": torch.bitwise_right_shift,
    "mul.bf16x2": times_by_halves,
}


@triton.jit
def _store_bits(codes: Any, low: Any, high: Any) -> None:
    at = tl.arange(0, 256)
    first, second = arranged_kernels.half_bits(tl.load(codes + at))
    tl.store(low + at, first)
    tl.store(high + at, second)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("load", ["one token", "as it comes"])
def test_combine(load: str, dtype: torch.dtype) -> None:
    groups, shares, tokens = grouped(load)
    parts, grad = noise(len(groups.order), 1100, dtype=dtype), noise(tokens, 1100, dtype=dtype)
    for weights in shares, None:
        close(kernels.combine(parts, weights, groups), reference.combine(parts, weights, groups))
    found = kernels.combine_backward(grad, parts, shares, groups)
    expected = reference.combine_backward(grad, parts, shares, groups)
    close(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_clamped_swiglu(dtype: torch.dtype) -> None:
    both, grad = noise(3, 2 * 1100, dtype=dtype) * 4, noise(3, 1100, dtype=dtype)
    close(kernels.clamped_swiglu(both, 1.702, 7.0), reference.clamped_swiglu(both, 1.702, 7.0))
    close(
        kernels.clamped_swiglu_backward(both, grad, 1.702, 7.0),
        reference.clamped_swiglu_backward(both, grad, 1.702, 7.0),
    )
