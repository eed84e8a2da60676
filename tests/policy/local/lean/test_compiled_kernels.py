"""Every kernel compiled for an H100 or H200, with no GPU here, as the models it is for would launch it.

The operations are called with tensors without memory: Triton specialises a kernel as it would at a launch and
translates it to machine code, and nothing is launched. What its interpreter accepts and its compiler does not
is found so, and what would not fit: shared memory, and registers that spill.
"""

from __future__ import annotations

import math
import os
import pathlib
import re
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
import torch

from ttd_core.policy.local.lean.decode_state import DecodeState, StepLayout
from ttd_core.policy.local.lean.kernels.reference_expert_ops import ExpertWeights
from ttd_core.policy.local.lean.paging import PAGE
from ttd_core.policy.local.lean.projection import PartialProduct

triton = pytest.importorskip("triton", reason="Triton is not installed here")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("Triton compiles nothing while it interprets", allow_module_level=True)
if torch.cuda.is_available():
    # What is compiled here would be taken for what that device needs.
    pytest.skip(
        "a CUDA device is here, and compiles the kernels when they are launched", allow_module_level=True
    )


from ttd_core.policy.local.lean.kernels import (  # noqa: E402 - after the skip
    tiles,
    triton_expert_ops,
    triton_ops,
    triton_training_ops,
)
from ttd_core.policy.local.lean.kernels.tiles import Tile  # noqa: E402 - after the skip

#: Shared memory that one program may have there, in bytes.
SHARED_MEMORY = 227 * 1024
META = torch.device("meta")
BF16 = torch.bfloat16


@attrs.frozen
class Shape:
    """What the kernels see of a model.

    :param heads: query heads and key-value heads.
    :param window: tokens that every other layer sees, or 0.
    :param width: of an expert, or of the MLP where there are none.
    :param packed: experts are in four bits; then there are biases, sinks and the clamped activation too.
    """

    hidden: int
    heads: tuple[int, int]
    head_size: int
    layers: int
    window: int
    vocabulary: int
    experts: int
    choices: int
    width: int
    packed: bool


SHAPES = {
    "gpt-oss-20b": Shape(2880, (64, 8), 64, 24, 128, 201_088, 32, 4, 2880, True),
    "gpt-oss-120b": Shape(2880, (64, 8), 64, 36, 128, 201_088, 128, 4, 2880, True),
    "Qwen3-30B-A3B": Shape(2048, (32, 4), 128, 48, 0, 151_936, 128, 8, 768, False),
    "Qwen3-8B": Shape(4096, (32, 8), 128, 36, 0, 151_936, 0, 0, 12_288, False),
}
MIXTURES = [name for name, shape in SHAPES.items() if shape.experts]


#: Bytes of a thread's stack. Triton 3.7, which comes with torch 2.13 for GPUs, takes 8 for the rotation;
#: 3.6 and 3.9 take none.
STACK = 8 if triton.__version__.startswith("3.7.") else 0


@pytest.fixture
def compiled(
    compile_for_hopper: Callable[[Callable[[Any, tuple[int, ...]], None]], None],
) -> Iterator[list[Any]]:
    """The kernels that are launched in a test: they are compiled instead."""
    kernels: list[Any] = []
    compile_for_hopper(lambda kernel, _: kernels.append(kernel))
    yield kernels
    assert kernels


def empty(*shape: int, dtype: torch.dtype = BF16) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device=META)


def weights_of(shape: Shape, outputs: int, inputs: int, lying: str = "fragments") -> ExpertWeights:
    """One matrix of all experts of a layer; packed ones as a model has them, by row, or as published."""
    if not shape.packed:
        return ExpertWeights(empty(shape.experts, outputs, inputs))
    if lying == "fragments":
        codes = empty(shape.experts, inputs // 64, outputs // 16, 512, dtype=torch.uint8)
        scales = empty(shape.experts, inputs // 64, outputs // 16, 32, dtype=torch.uint8)
        return ExpertWeights(codes, scales, empty(shape.experts, outputs))
    if lying == "by row":
        codes = empty(shape.experts, inputs // 32, outputs, 16, dtype=torch.uint8)
        scales = empty(shape.experts, inputs // 32, outputs, dtype=torch.uint8)
        return ExpertWeights(codes, scales, empty(shape.experts, outputs))
    codes = empty(shape.experts, outputs, inputs // 2, dtype=torch.uint8)
    scales = empty(shape.experts, outputs, inputs // 32, dtype=torch.uint8)
    return ExpertWeights(codes, scales, empty(shape.experts, outputs))


def adapted_product(rows: int, outputs: tuple[int, ...]) -> PartialProduct:
    """What a joined projection with adapters of rank 32 gives before their second product is added."""
    ranks = (32,) * len(outputs)
    both = empty(rows, sum(outputs) + sum(ranks))
    return PartialProduct(both, empty(sum(ranks), sum(outputs)), ranks)


def names(kernels: list[Any]) -> set[str]:
    """Module and name of each kernel."""
    functions = [kernel.src.fn.fn for kernel in kernels]
    return {f"{function.__module__.rpartition('.')[2]}.{function.__name__}" for function in functions}


def fits(kernels: list[Any], folder: pathlib.Path, spills: bool = False) -> None:
    """Each kernel has the memory it asks for, and keeps its numbers in registers."""
    tool = pathlib.Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    for kernel in {id(kernel): kernel for kernel in kernels}.values():
        assert kernel.metadata.shared <= SHARED_MEMORY, kernel.metadata
        binary = folder / "kernel.cubin"
        binary.write_bytes(kernel.asm["cubin"])
        usage = subprocess.run([tool, "-res-usage", binary], capture_output=True, text=True, check=True)
        stack = re.search(r"STACK:(\d+)", usage.stdout)
        assert stack, usage.stdout
        assert spills or int(stack[1]) <= STACK, f"{kernel.metadata.name}: {usage.stdout}"


@pytest.mark.parametrize(("lying", "products"), [("fragments", 1), ("by row", 2), ("as published", None)])
def test_a_packed_product(
    lying: str, products: int | None, compiled: list[Any], tmp_path: pathlib.Path
) -> None:
    shape = SHAPES["gpt-oss-120b"]
    _, _, groups = triton_expert_ops.route(empty(512, shape.experts), shape.choices, True)
    weights = weights_of(shape, 5760, 2880, lying)
    triton_expert_ops.product(empty(512, shape.hidden), weights, groups, True)
    fits(compiled, tmp_path)
    if products is not None:
        from_registers(compiled[-1], products)
    if lying == "fragments":
        straight_from_memory(compiled[-1])


def from_registers(kernel: Any, products: int) -> None:
    """Numbers decoded in registers go to the matrix units, which are done with them before others come.

    Triton would let a product run on while the next step's numbers take the place of its own.
    """
    text = kernel.asm["ttgir"]
    factors = re.findall(r"warp_group_dot .* : (tensor|!ttg.memdesc)<128x", text)
    assert factors == ["tensor"] * products
    assert set(re.findall(r"pendings = (\d+)", text)) == {"0"}
    assert len(re.findall(r"warp_group_dot_wait", text)) >= products


def straight_from_memory(kernel: Any) -> None:
    """A thread decodes the codes that it loaded, 16 bytes at once: nothing changes threads on its way."""
    ptx = kernel.asm["ptx"]
    found = {
        "wide loads": len(re.findall(r"ld\.global\S*\.v4\.b32", ptx)) >= 2,
        "shuffles": "shfl" in ptx,
        "stores between threads": "st.shared" in ptx.partition("wgmma.mma_async")[0],
    }
    assert found == {"wide loads": True, "shuffles": False, "stores between threads": False}


def test_the_adapters_kernel_multiplies_on_the_matrix_units(compiled: list[Any]) -> None:
    triton_ops.adapted_swiglu(adapted_product(64, (256, 256)))
    ptx = compiled[-1].asm["ptx"]
    assert "mma.sync" in ptx
    assert "ld.global.v4" in ptx or ".v4.b32" in ptx


@pytest.mark.slow
@pytest.mark.parametrize("lying", ["fragments", "by row"])
@pytest.mark.parametrize("tokens", [64, 512, 1024])
def test_a_product_decoded_with_and_without_assembly(
    tokens: int, lying: str, compiled: list[Any], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = SHAPES["gpt-oss-20b"]
    _, _, groups = triton_expert_ops.route(empty(tokens, shape.experts), shape.choices, True)
    for assembly in None, False:
        monkeypatch.setattr(tiles, "ASSEMBLY", assembly)
        weights = weights_of(shape, 5760, 2880, lying)
        triton_expert_ops.product(empty(tokens, shape.hidden), weights, groups, True)
        decoded = ("mul.bf16x2 pair" if lying == "fragments" else "prmt.b32 first") in compiled[-1].asm["ptx"]
        assert decoded == (assembly is None)
        if assembly is None:
            from_registers(compiled[-1], 1 if lying == "fragments" else 2)
    fits(compiled, tmp_path, spills=True)


@pytest.mark.slow
@pytest.mark.parametrize("tile", [Tile(256, 64, 8, 3), Tile(128, 128, 4, 3), Tile(64, 64, 4, 3)])
@pytest.mark.parametrize("tokens", [64, 512])
def test_other_tiles_of_fragments(
    tokens: int, tile: Tile, compiled: list[Any], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "FRAGMENT_TILES", dict.fromkeys((16, 32, 64, 128), tile))
    shape = SHAPES["gpt-oss-20b"]
    _, _, groups = triton_expert_ops.route(empty(tokens, shape.experts), shape.choices, True)
    triton_expert_ops.product(empty(tokens, shape.hidden), weights_of(shape, 2880, 2880), groups, True)
    fits(compiled, tmp_path)
    assert set(re.findall(r"pendings = (\d+)", compiled[-1].asm["ttgir"])) == {"0"}


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [1, 512, 16_384])
def test_experts_as_published(tokens: int, compiled: list[Any], tmp_path: pathlib.Path) -> None:
    shape, ops = SHAPES["gpt-oss-120b"], triton_expert_ops
    _, _, groups = ops.route(empty(tokens, shape.experts), shape.choices, True)
    weights = weights_of(shape, 5760, 2880, "as published")
    both = ops.product(empty(tokens, shape.hidden), weights, groups, True)
    ops.product_backward(both, weights, groups)
    fits(compiled, tmp_path)


def launches(weights: ExpertWeights, tokens: int, choices: int, backward: bool) -> int:
    """Launches of one product, decoded a part at a time or not."""
    experts = len(weights.values)
    if not weights.arranged or (not backward and tokens * choices < tiles.DECODED_ROWS * experts):
        return 1
    return math.ceil(experts / (tiles.decoded_bytes(META) // (2 * weights.inputs * weights.outputs)))


@pytest.mark.slow
@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.parametrize("tokens", [1, 512, 16_384])
def test_experts(name: str, tokens: int, compiled: list[Any], tmp_path: pathlib.Path) -> None:
    shape, ops = SHAPES[name], triton_expert_ops
    logits, x = empty(tokens, shape.experts), empty(tokens, shape.hidden)
    for given in None, empty(tokens, shape.choices, dtype=torch.int32):
        _, shares, groups = ops.route(logits, shape.choices, True, given)
    first, second = (
        weights_of(shape, 2 * shape.width, shape.hidden),
        weights_of(shape, shape.hidden, shape.width),
    )
    both = ops.product(x, first, groups, True)
    parts = ops.product(empty(len(both), shape.width), second, groups, False)
    assert ops.combine(parts, shares, groups).shape == x.shape
    grad_parts, _ = ops.combine_backward(x, parts, shares, groups)
    grad_gated = ops.product_backward(grad_parts, second, groups)
    if shape.packed:
        ops.clamped_swiglu(both, 1.702, 7.0)
        ops.clamped_swiglu_backward(both, grad_gated, 1.702, 7.0)
    ops.combine(ops.product_backward(both, first, groups), None, groups)
    fits(compiled, tmp_path)
    products = [kernel for kernel in compiled if kernel.metadata.name == "product"]
    assert len(products) == sum(
        launches(weights, tokens, shape.choices, backward)
        for weights in (first, second)
        for backward in (False, True)
    )
    # Products of 16-bit numbers go to Hopper's own matrix units.
    assert all("wgmma.mma_async" in kernel.asm["ptx"] for kernel in products)


@pytest.mark.slow
@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.parametrize("tokens", [512, 16_384])
def test_adapted_experts(name: str, tokens: int, compiled: list[Any], tmp_path: pathlib.Path) -> None:
    shape, ops, rank = SHAPES[name], triton_expert_ops, 32
    x = empty(tokens, shape.hidden)
    _, _, groups = ops.route(empty(tokens, shape.experts), shape.choices, True)
    weights = weights_of(shape, 2 * shape.width, shape.hidden)
    down, up = empty(shape.experts, rank, shape.hidden), empty(shape.experts, weights.outputs, rank)
    hidden = ops.product(x, ExpertWeights(down), groups, True)
    result = ops.product(x, weights, groups, True, (up, hidden))
    grad_hidden = ops.product_backward(result, ExpertWeights(up), groups)
    assert grad_hidden.shape == hidden.shape == (tokens * shape.choices, rank)
    ops.product_backward(result, weights, groups, (down.transpose(1, 2), grad_hidden))
    assert ops.adapter_grads(grad_hidden, x, groups, True).shape == down.shape
    assert ops.adapter_grads(hidden, result, groups, False).shape == up.transpose(1, 2).shape
    fits(compiled, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_experts_in_other_types(dtype: torch.dtype, compiled: list[Any], tmp_path: pathlib.Path) -> None:
    ops, experts = triton_expert_ops, 6
    for tokens in 13, 150:
        _, _, groups = ops.route(empty(tokens, experts, dtype=torch.float32), 3, True)
        codes, scales = empty(experts, 136, 48, dtype=torch.uint8), empty(experts, 136, 3, dtype=torch.uint8)
        for weights in (
            ExpertWeights(empty(experts, 136, 96, dtype=dtype)),
            ExpertWeights(empty(experts, 96, 136, dtype=dtype).transpose(1, 2)),
            ExpertWeights(codes, scales, empty(experts, 136, dtype=dtype)),
        ):
            result = ops.product(empty(tokens, 96, dtype=dtype), weights, groups, True)
            ops.product_backward(result, weights, groups)
    # In float32 the matrix units are not used, and accuracy is what counts.
    fits(compiled, tmp_path, spills=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_decoding(name: str, compiled: list[Any], tmp_path: pathlib.Path) -> None:
    shape, ops, rows = SHAPES[name], triton_ops, 512
    heads, size = shape.heads, shape.head_size
    widths = heads[0] * size, heads[1] * size, heads[1] * size
    outputs = sum(widths)
    state = DecodeState.allocate(rows, rows, 64 * heads[1] // heads[0], 256, 2, META)
    # Rows of a joined product: the adapter's columns lie behind them.
    qkv = empty(rows, outputs + 96)[:, :outputs]
    store = empty(100, shape.layers, 2, heads[1], PAGE, size)
    keys, values = store[:, 1, 0], store[:, 1, 1]
    x, angles = empty(rows, shape.hidden), empty(rows, size)
    for update in None, x:
        ops.add_norm(x, update, empty(shape.hidden), 1e-5)
    norms = None if shape.packed else (empty(size), empty(size))
    place = (norms, 1e-5, keys, values, empty(rows, dtype=torch.int64), heads)
    ops.rotate_and_store(qkv, angles, angles, *place)
    for some in 64, rows:
        # A program has more tokens where there are many.
        few = empty(some, size)
        ops.adapted_rotate_and_store(adapted_product(some, widths), few, few, *place)
    sinks = empty(heads[0]) if shape.packed else None
    for window in {0, shape.window}:
        for tile_queries in 16, 64:
            for splits in (1, 1), (8, 4):
                layout = StepLayout(rows, rows, tile_queries, *splits)
                ops.attend(qkv, keys, values, state, layout, heads, window, sinks)
    ops.sample(empty(rows, shape.vocabulary), state)
    if not shape.packed:
        ops.swiglu(empty(rows, 2 * shape.width))
        for some in 64, rows:
            ops.adapted_swiglu(adapted_product(some, (shape.width, shape.width)))
    fits(compiled, tmp_path)
    assert names(compiled) == {
        *("attention.attend_prompts", "attention.attend_own", "attention.combine_parts"),
        *("pointwise.add_norm", "pointwise.rotate_and_store", "adapted.rotate_and_store"),
        *(() if shape.packed else ("pointwise.swiglu", "adapted.swiglu")),
        *("sampling.block_totals", "sampling.sample"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_training(name: str, compiled: list[Any], tmp_path: pathlib.Path) -> None:
    shape, ops, tokens = SHAPES[name], triton_training_ops, 4096
    heads, size = shape.heads, shape.head_size
    x, angles, norm = empty(tokens, shape.hidden), empty(tokens, size), empty(shape.hidden)
    for above in None, x:
        ops.add_norm_backward(x, norm, 1e-5, above, x)
    norms = None if shape.packed else (empty(size), empty(size))
    qkv = empty(tokens, (heads[0] + 2 * heads[1]) * size + 96)[:, :-96]
    query, key = ops.rotate(qkv, angles, angles, norms, 1e-5, heads)
    ops.rotate_backward(qkv, angles, angles, norms, 1e-5, heads, (query, key, key))
    if not shape.packed:
        ops.swiglu_backward(empty(tokens, 2 * shape.width), empty(tokens, shape.width))
    logits, targets = empty(1024, shape.vocabulary), empty(1024, dtype=torch.int64)
    ops.target_logprobs(logits, targets, empty(1, dtype=torch.float32), True)
    fits(compiled, tmp_path)
