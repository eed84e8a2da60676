"""Random cases for the kernels of mixtures of experts against the reference; run as `kernel_cases.py` is."""

from __future__ import annotations

import math
import os
from typing import Any

import attrs
import pytest
import torch

from ttd_core.policy.local.lean.kernels import reference_expert_ops as reference
from ttd_core.policy.local.lean.kernels.reference_expert_ops import ExpertWeights, Groups
from ttd_core.policy.local.lean.mxfp4 import LARGEST_ARRANGED_SCALE, VALUES, arrange, unpack

triton = pytest.importorskip("triton", reason="Triton is not installed here")
tl = pytest.importorskip("triton.language")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if not INTERPRETED and not torch.cuda.is_available():
    pytest.skip("needs a CUDA device, or TRITON_INTERPRET=1", allow_module_level=True)

from ttd_core.policy.local.lean.kernels import arranged as arranged_kernels  # noqa: E402 - after the skip
from ttd_core.policy.local.lean.kernels import tiles  # noqa: E402 - after the skip
from ttd_core.policy.local.lean.kernels import triton_expert_ops as kernels  # noqa: E402 - after the skip

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
def test_arranged_products_are_those_of_the_published_codes(
    load: str, decoded: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "DECODED_ROWS", decoded)
    # Four experts, then the other two.
    monkeypatch.setattr(tiles, "decoded_bytes", lambda _: 4 * 136 * 96 * dtype.itemsize)
    groups, _, tokens = grouped(load)
    published = packed(136, 96)
    published = ExpertWeights(published.values, published.scales, noise(EXPERTS, 136, dtype=dtype))
    weights = arranged(published)
    assert (weights.outputs, weights.inputs) == (published.outputs, published.inputs)
    assert torch.equal(weights.of(3, dtype), published.of(3, dtype))
    x, own = noise(tokens, 96, dtype=dtype), noise(len(groups.order), 96, dtype=dtype)
    close(kernels.product(x, weights, groups, True) / 30, reference.product(x, published, groups, True) / 30)
    close(
        kernels.product(own, weights, groups, False) / 30,
        reference.product(own, published, groups, False) / 30,
    )
    grad = noise(len(groups.order), 136, dtype=dtype)
    close(
        kernels.product_backward(grad, weights, groups) / 30,
        reference.product_backward(grad, published, groups) / 30,
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rank", [3, 20])
@pytest.mark.parametrize(
    ("load", "kind"),
    [("as it comes", "packed"), ("as it comes", "arranged"), ("experts without tokens", "numbers")],
)
def test_adapted_products(load: str, kind: str, rank: int, dtype: torch.dtype) -> None:
    groups, _, tokens = grouped(load)
    numbers = ExpertWeights(noise(EXPERTS, 136, 96, dtype=dtype))
    weights = numbers if kind == "numbers" else packed(136, 96)
    weights = ExpertWeights(weights.values, weights.scales)
    weights = arranged(weights) if kind == "arranged" else weights
    count = len(groups.order)
    x, grad, hidden = (noise(*shape, dtype=dtype) for shape in ((tokens, 96), (count, 136), (count, rank)))
    # As B lies, and as A is met in the backward pass.
    added = (noise(EXPERTS, 136, rank, dtype=dtype), hidden)
    close(
        kernels.product(x, weights, groups, True, added) / 30,
        reference.product(x, weights, groups, True, added) / 30,
    )
    added = (noise(EXPERTS, rank, 96, dtype=dtype).transpose(1, 2), hidden)
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


@pytest.mark.parametrize("kind", ["published", "arranged"])
@pytest.mark.parametrize("backward", [False, True])
def test_every_code_at_every_scale_to_the_bit(kind: str, backward: bool) -> None:
    # Products with the identity are the weights themselves, if none is infinite (6 * 2**(253 - 127)).
    most = LARGEST_ARRANGED_SCALE if kind == "arranged" else 252
    published = codes_at(torch.arange(most + 1, dtype=torch.uint8))
    weights = arranged(published) if kind == "arranged" else published
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
def test_assembly_decodes_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    groups, _, tokens = grouped("as it comes")
    weights = arranged(packed(136, 96))
    for dtype in torch.bfloat16, torch.float32:
        of_dtype = attrs.evolve(weights, bias=noise(EXPERTS, 136, dtype=dtype))
        x = noise(tokens, 96, dtype=dtype)
        expected = kernels.product(x, of_dtype, groups, True)
        with monkeypatch.context() as patched:
            patched.setattr(tiles, "ASSEMBLY", True)
            assert torch.equal(kernels.product(x, of_dtype, groups, True), expected)


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
