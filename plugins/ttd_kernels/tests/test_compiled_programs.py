"""Our programs for the start problems, compiled for an H100 or H200 with no GPU here: they fit, none spills.

Called with tensors without memory, so that Triton specialises each kernel as it would at a launch and
translates it to machine code; nothing is launched.
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

triton = pytest.importorskip("triton", reason="Triton is not installed here")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("Triton compiles nothing while it interprets", allow_module_level=True)
if torch.cuda.is_available():
    pytest.skip(
        "a CUDA device is here, and compiles the kernels when they are launched", allow_module_level=True
    )

from triton.experimental.gluon.nvidia import hopper  # noqa: E402 - after the skip
from triton.tools import tensor_descriptor  # noqa: E402 - after the skip

from ttd_kernels.helpers import mla_reference  # noqa: E402 - after the skip
from ttd_kernels.testing import our_program  # noqa: E402 - after the skip

#: Of one multiprocessor: shared memory in bytes, less what each program takes for itself; registers.
SHARED_MEMORY, RESERVED, REGISTERS = 228 * 1024, 1024, 65536
MULTIPROCESSORS = 132
F32, BF16 = torch.float32, torch.bfloat16


class Placeless(tensor_descriptor.TensorDescriptor):
    """A descriptor of a tensor that has no address."""

    def __post_init__(self) -> None:
        """Its address would be checked here."""


class PlacelessGluon(hopper.TensorDescriptor):
    """The same for Gluon, whose descriptors also name a layout in shared memory."""

    def __post_init__(self) -> None:
        """Its address would be checked here."""


@pytest.fixture
def on_hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have programs take the device of their tensors for an H200."""
    h200 = types.SimpleNamespace(multi_processor_count=MULTIPROCESSORS)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: h200)


@pytest.fixture
def compiled(
    compile_for_hopper: Callable[[Callable[[Any, tuple[int, ...]], None]], None],
) -> Iterator[list[Any]]:
    """The kernels that are launched in a test, each with its grid: they are compiled instead."""
    kernels: list[Any] = []
    compile_for_hopper(lambda kernel, grid: kernels.append((kernel, grid[0])))
    yield kernels
    assert kernels


def empty(*sizes: int, dtype: torch.dtype = BF16) -> torch.Tensor:
    return torch.empty(sizes, dtype=dtype, device="meta")


def residents(kernel: Any, folder: pathlib.Path) -> int:
    """How many programs a multiprocessor holds at once, by registers and shared memory; none may spill."""
    binary = folder / "kernel.cubin"
    binary.write_bytes(kernel.asm["cubin"])
    tool = pathlib.Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    usage = subprocess.run([tool, "-res-usage", binary], capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert found, usage
    assert found[2] == "0", f"{kernel.metadata.name} spills: {usage}"
    # registers are given out to a warp in units of 256
    of_warp = -(-int(found[1]) * 32 // 256) * 256
    by_registers = REGISTERS // (of_warp * kernel.metadata.num_warps)
    return min(by_registers, SHARED_MEMORY // (kernel.metadata.shared + RESERVED))


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "width"), [(4096, 4096), (8192, 8192), (32768, 2048), (7, 40)])
def test_all_of_rmsnorm_s_programs_are_resident(rows, width, compiled, tmp_path) -> None:
    module = our_program("rmsnorm")
    module.multiprocessors = lambda _: (MULTIPROCESSORS, True)
    module.custom_kernel((empty(rows, width), empty(width, dtype=F32), empty(rows, width)))
    ((kernel, grid),) = compiled
    # they wait for each other: one that has no place would be waited for without end
    assert grid <= MULTIPROCESSORS * residents(kernel, tmp_path)
    assert kernel.metadata.launch_cooperative_grid
    # rows to come are on their way to shared memory
    assert width == 40 or "cp.async" in kernel.asm["ptx"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "columns", "rank"), [(8192, 8192, 16), (16384, 4096, 64), (4096, 14336, 128), (640, 384, 256)]
)
def test_dora_norm_s_programs_run_in_one_round(rows, columns, rank, compiled, tmp_path) -> None:
    module = our_program("dora_norm")
    module.multiprocessors = lambda _: MULTIPROCESSORS
    module.custom_kernel((empty(rows, columns), empty(rank, columns), empty(rows, rank), empty(1, dtype=F32)))
    ((kernel, grid),) = compiled
    assert grid <= MULTIPROCESSORS * residents(kernel, tmp_path)
    assert "wgmma" in kernel.asm["ptx"]


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [4096, 33])
def test_relu2_mlp_multiplies_on_the_matrix_units_with_bulk_copies(tokens, compiled, tmp_path) -> None:
    module = our_program("relu2_mlp")
    module.multiprocessors = lambda _: MULTIPROCESSORS
    module.TensorDescriptor = Placeless
    module.custom_kernel((empty(tokens, 2048), empty(8192, 2048), empty(2048, 8192)))
    ((kernel, grid),) = compiled
    assert grid <= MULTIPROCESSORS * residents(kernel, tmp_path)
    assert "wgmma" in kernel.asm["ptx"]
    assert "cp.async.bulk.tensor" in kernel.asm["ptx"]


@pytest.mark.slow
@pytest.mark.parametrize(("width", "hidden"), [(2048, 8192), (1023, 4095)])
def test_relu2_mlp_multiplies_on_the_matrix_units_without_bulk_copies(
    width, hidden, compiled, tmp_path
) -> None:
    module = our_program("relu2_mlp")
    module.multiprocessors = lambda _: 0
    module.custom_kernel((empty(4096, width), empty(hidden, width), empty(width, hidden)))
    ((kernel, grid),) = compiled
    assert grid == 32 * -(-hidden // 128)
    assert residents(kernel, tmp_path) >= 1
    assert "wgmma" in kernel.asm["ptx"]
    assert "cp.async.bulk" not in kernel.asm["ptx"]


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "width"), [(8192, 8192), (7, 40)])
def test_rmsnorm_s_start_program_compiles_with_each_of_its_constants_changed(rows, width, compiled) -> None:
    module = our_program("rmsnorm_start")
    for name, value in [("ROWS", 1), ("ROWS", 8), ("WARPS", 16), ("SUM_ROWS", 64), ("SUM_COLUMNS", 128)]:
        setattr(module, name, value)
        module.custom_kernel((empty(rows, width), empty(width, dtype=F32), empty(rows, width)))
    assert {kernel.metadata.name for kernel, _ in compiled} == {"normalise", "add_up"}
    assert compiled[2][1] == -(-rows // 8)


def trimul_data(size: int, batch: int, width: int) -> tuple[Any, ...]:
    """What TriMul is called with: x, mask, weights, sizes."""
    hidden = 128
    shapes = {
        "norm.weight": (width,),
        "norm.bias": (width,),
        "to_out_norm.weight": (hidden,),
        "to_out_norm.bias": (hidden,),
        "to_out.weight": (width, hidden),
    }
    for name in "left_proj", "right_proj", "left_gate", "right_gate", "out_gate":
        shapes[f"{name}.weight"] = (hidden, width)
    weights = {name: empty(*shape, dtype=F32) for name, shape in shapes.items()}
    x, mask = empty(batch, size, size, width, dtype=F32), empty(batch, size, size, dtype=F32)
    return x, mask, weights, {"dim": width, "hidden_dim": hidden}


@pytest.fixture
def trimul(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Our program for TriMul; its first pass is the one for any GPU (for Hopper: test_cuda.py)."""
    module = our_program("trimul")
    monkeypatch.setattr(module, "TensorDescriptor", PlacelessGluon)
    monkeypatch.setattr(module, "bindings", lambda: None)
    monkeypatch.setattr(module, "_STREAM", lambda _device: 0)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("width", [128, 384, 768])
@pytest.mark.parametrize("batch", [1, 2])
def test_trimul_finishes_by_bulk_copies_where_the_weights_fit(
    width, batch, trimul, compiled, on_hopper, tmp_path
) -> None:
    trimul.custom_kernel(trimul_data(256, batch, width))
    kernels = {kernel.metadata.name: (kernel, grid) for kernel, grid in compiled}
    assert list(kernels) == ["prepare", "project", "finish_hopper" if width <= 384 else "finish"]
    for name in "project", "finish", "finish_hopper":
        if name in kernels:
            assert residents(kernels[name][0], tmp_path) >= 1
            assert "wgmma" in kernels[name][0].asm["ptx"]
    if width <= 384:
        kernel, grid = kernels["finish_hopper"]
        assert grid == MULTIPROCESSORS
        assert "cp.async.bulk.tensor.2d.shared" in kernel.asm["ptx"]
        assert "cp.async.bulk.tensor.2d.global" in kernel.asm["ptx"]


@pytest.mark.slow
def test_trimul_s_last_pass_makes_the_out_gate_where_the_first_has_not(
    trimul, compiled, on_hopper, monkeypatch, tmp_path
) -> None:
    monkeypatch.setattr(trimul, "bindings", lambda: (None, None))
    monkeypatch.setattr(trimul.Space, "project_hopper", lambda *_: None)
    trimul.custom_kernel(trimul_data(256, 2, 128))
    (_, (kernel, grid)) = compiled
    assert kernel.metadata.name == "finish_late"
    assert grid == MULTIPROCESSORS
    assert residents(kernel, tmp_path) >= 1
    # the out gate's products and the last projection's
    assert kernel.asm["ptx"].count("wgmma.mma_async") > 8


@pytest.mark.slow
def test_one_compilation_of_trimul_s_kernels_serves_other_channel_counts(trimul, compiled, on_hopper) -> None:
    for size, width in [(256, 256), (128, 384), (64, 96)]:
        trimul.custom_kernel(trimul_data(size, 1, width))
    for name in "prepare", "finish_hopper":
        assert len({kernel.hash for kernel, _ in compiled if kernel.metadata.name == name}) == 1


def test_what_trimul_s_threads_have_compiled_is_waited_for_once_begun(trimul) -> None:
    release = threading.Event()

    def fail() -> None:
        raise RuntimeError("not to be compiled")

    def slow() -> str:
        release.wait(60)
        return "compiled"

    trimul.begin({"slow": slow, "failing": fail})
    threading.Timer(0.05, release.set).start()
    assert trimul.finished("slow") == "compiled"
    assert trimul.finished("failing") is None
    assert trimul.finished("never asked for") is None
    for thread in list(trimul._THREADS):
        thread.join(60)
        assert not thread.is_alive()


@pytest.fixture
def mla_decode(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Our program for MLA decode."""
    monkeypatch.setitem(sys.modules, "reference", mla_reference)
    return our_program("mla_decode")


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "heads", "filled"), [(128, 128, 6143), (3, 64, 4096)])
def test_mla_decode_attends_by_bulk_copies(
    batch, heads, filled, mla_decode, compiled, on_hopper, monkeypatch, tmp_path
) -> None:
    monkeypatch.setattr(mla_decode, "TensorDescriptor", PlacelessGluon)
    cache = empty(batch, 8192, 576)
    config = mla_reference.Config(
        batch, 7168, heads, 1536, 512, 128, 64, 128, 1, 8192, tuple(cache.shape),
        empty(1536, 7168), empty(heads * 192, 1536), empty(576, 7168), empty(heads * 256, 512),
        empty(7168, heads * 128),
    )  # fmt: skip
    mla_decode.custom_kernel((config, empty(batch, 1, 7168), mla_reference.KVCache(cache, filled)))
    ((kernel, grid),) = compiled
    assert kernel.metadata.name == "attend_hopper"
    assert grid == batch * heads // 64
    assert residents(kernel, tmp_path) >= 1
    assert "wgmma" in kernel.asm["ptx"]
    assert "cp.async.bulk.tensor.2d.shared" in kernel.asm["ptx"]


@pytest.mark.slow
@pytest.mark.parametrize("longest", [6144, 8192])
def test_all_programs_before_mla_decode_s_attention_are_resident(
    longest, mla_decode, compiled, tmp_path
) -> None:
    weights = empty(1536, 7168), empty(24576, 1536), empty(576, 7168), empty(32768, 512)
    tensors = empty(128, 1, 7168), *weights, empty(128, longest, 576), *mla_decode.Scratch("meta").tensors
    mla_decode.prepare[(mla_decode.PROGRAMS,)](
        *tensors, longest - 1, longest, *mla_decode.PREPARE, num_warps=8, launch_cooperative_grid=True
    )
    ((kernel, grid),) = compiled
    # they wait for each other: one that has no place would be waited for without end
    assert grid <= MULTIPROCESSORS * residents(kernel, tmp_path)
    assert kernel.metadata.launch_cooperative_grid
    assert "wgmma" in kernel.asm["ptx"]
    assert "cp.async.bulk.prefetch.L2" in kernel.asm["ptx"]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [F32, BF16, torch.float16])
def test_trimul_s_start_program_compiles_with_each_of_its_constants_changed(dtype, compiled) -> None:
    kernel = our_program("trimul_start").pair_products
    sides, pairs = (empty(128, 256, 256, dtype=dtype) for _ in range(2)), empty(128, 256, 256, dtype=F32)
    left, right = sides
    for tile, depth, precision, warps in [(32, 32, "ieee", 4), (64, 32, "tf32", 4), (128, 64, "tf32", 8)]:
        kernel[(8, 8, 128)](left, right, pairs, 256, tile, depth, precision, num_warps=warps)
    assert len(compiled) == 3
