"""The kernels compile for the GPU that they are written for, on a machine that has none."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from ttd_core.policy.local.lean.decode_state import DecodeState, StepLayout
from ttd_core.policy.local.lean.paging import PAGE
from ttd_core.policy.local.lean.projection import PartialProduct

triton = pytest.importorskip("triton", reason="Triton is not installed here")
#: What torch's dtypes are called in a kernel's signature.
NAMES = {
    torch.bfloat16: "*bf16",
    torch.float32: "*fp32",
    torch.int32: "*i32",
    torch.int64: "*i64",
    torch.uint8: "*u8",
    torch.bool: "*i1",
}


def compiled(kernel: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """A kernel as a launch with these arguments would compile it for compute capability 9.0."""
    given = dict(zip(kernel.arg_names, args, strict=False)) | options
    constants = {
        name: given[name] for name, p in zip(kernel.arg_names, kernel.params, strict=True) if p.is_constexpr
    }
    signature, attributes = {}, {}
    for index, name in enumerate(kernel.arg_names):
        value = given[name]
        if name in constants:
            signature[name] = "constexpr"
            continue
        is_tensor = isinstance(value, torch.Tensor)
        signature[name] = NAMES[value.dtype] if is_tensor else "fp32" if isinstance(value, float) else "i32"
        if is_tensor or (isinstance(value, int) and value % 16 == 0):
            attributes[(index,)] = [["tt.divisibility", 16]]
    source = triton.compiler.ASTSource(
        kernel,
        signature=signature,
        constexprs={(kernel.arg_names.index(name),): value for name, value in constants.items()},
        attrs=attributes,
    )
    target = triton.backends.compiler.GPUTarget("cuda", 90, 32)
    return triton.compile(
        source, target=target, options={key: options[key] for key in options if key.startswith("num_")}
    )


@contextlib.contextmanager
def compiling() -> Iterator[dict[str, Any]]:
    """Launches compile their kernel and run nothing; gives the compiled kernels by name."""
    found: dict[str, Any] = {}

    def run(kernel: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
        module = kernel.fn.__module__.rpartition(".")[2]
        found[f"{module}.{kernel.fn.__name__}"] = compiled(kernel, args, options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triton.runtime.jit.JITFunction, "run", run)
        yield found


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Any:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")
    from ttd_core.policy.local.lean.kernels import triton_ops

    if not hasattr(triton_ops.attention.attend_own, "arg_names"):
        pytest.skip("Triton interprets in this process")
    return triton_ops


def zeros(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype)


def partial(rows: int, outputs: list[int]) -> PartialProduct:
    ranks = [32] * len(outputs)
    return PartialProduct(
        zeros(rows, sum(outputs) + sum(ranks)), zeros(sum(ranks), sum(outputs)), tuple(ranks)
    )


def of_one_layer(kernels: Any, rows: int, heads: tuple[int, int], size: int) -> Iterator[Callable[[], Any]]:
    """What a step of ``rows`` rows launches in a layer, by the shapes of an 8B model or of gpt-oss."""
    hidden, inner = 4096, 12288
    yield lambda: kernels.add_norm(zeros(rows, hidden), zeros(rows, hidden), zeros(hidden), 1e-6)
    yield lambda: kernels.swiglu(zeros(rows, 2 * inner))
    yield lambda: kernels.adapted_swiglu(partial(rows, [inner, inner]))
    outputs = [heads[0] * size, heads[1] * size, heads[1] * size]
    pages = zeros(3, heads[1], PAGE, size)
    place = (zeros(rows, size), zeros(rows, size), (zeros(size), zeros(size)), 1e-6, pages, pages)
    slots = zeros(rows, dtype=torch.int64)
    yield lambda: kernels.rotate_and_store(zeros(rows, sum(outputs)), *place, slots, heads)
    yield lambda: kernels.adapted_rotate_and_store(partial(rows, outputs), *place, slots, heads)
    state = DecodeState.allocate(rows, 4, 64 // (heads[0] // heads[1]), 4, 1, torch.device("cpu"))
    layout = StepLayout(rows, 4, 64, 1, 1)
    qkv = zeros(rows, sum(outputs))
    window, sinks = (128, zeros(heads[0])) if size == 64 else (0, None)
    yield lambda: kernels.attend(qkv, pages, pages, state, layout, heads, window, sinks)
    yield lambda: kernels.sample(zeros(rows, 5000), state)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [64, 512])
@pytest.mark.parametrize(("heads", "size"), [((32, 8), 128), ((64, 8), 64)])
def test_a_layers_kernels_compile(kernels: Any, rows: int, heads: tuple[int, int], size: int) -> None:
    with compiling() as found:
        for launch in of_one_layer(kernels, rows, heads, size):
            launch()
    assert found.keys() == {
        *("attention.attend_prompts", "attention.attend_own", "pointwise.add_norm", "pointwise.swiglu"),
        *("pointwise.rotate_and_store", "adapted.swiglu", "adapted.rotate_and_store"),
        *("sampling.block_totals", "sampling.sample"),
    }
    shared = {name: kernel.metadata.shared for name, kernel in found.items()}
    # What a multiprocessor of an H100 or H200 has for one program.
    assert max(shared.values()) <= 227 * 1024, shared
    assert all(kernel.asm["cubin"] for kernel in found.values())


def test_the_adapters_kernel_multiplies_on_the_matrix_units(kernels: Any) -> None:
    with compiling() as found:
        kernels.adapted_swiglu(partial(64, [256, 256]))
    ptx = found["adapted.swiglu"].asm["ptx"]
    assert "mma.sync" in ptx
    assert "ld.global.v4" in ptx or ".v4.b32" in ptx
