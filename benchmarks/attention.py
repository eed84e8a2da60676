"""A second attention kernel for MLA decode, in CUDA C++, beside the one in use, in one process on one GPU.

Prints what each takes at the two timed lengths, the floor of attention alone and the ratio, and how far both
are from float64. ``--profile`` adds where the cycles of the first block go. `attention/two_groups.cu` is
version 8d of docs/kernels.md: hardly faster than the one in use, and kept for whoever goes on with it.

Needs a Hopper GPU and `cuda-bindings`, which PyTorch for CUDA brings; exits with 3 where there is none. With
``--compile`` it only compiles, which needs no GPU.

    python benchmarks/attention.py [--lengths 4097,6145] [--profile] [--define NO_LOAD] [--compile]
"""

from __future__ import annotations

import argparse
import functools
import importlib.resources
import math
import pathlib
import statistics
import sys
import time
import types
from collections.abc import Callable
from ctypes import c_float, c_int, c_void_p
from typing import Any, NamedTuple

from command_line import leave, require_packages, run_benchmark

require_packages("torch")

import torch
from rich.console import Console
from rich.table import Table

from ttd_kernels.roofline import floor_us
from ttd_kernels.testing import our_program

SOURCE = pathlib.Path(__file__).parent / "attention" / "two_groups.cu"
THREADS, SHARED = 384, 28 * 8192 + 2048
BATCH, HEADS, RANK, ROPE, LONGEST = 128, 128, 512, 64, 8192
SCALE = math.log2(math.e) / math.sqrt(192)


class Inputs(NamedTuple):
    """What attention works on.

    :param qc: the query in the latent space, bfloat16 [batch, 128, 512].
    :param rope: the rest of it, not rotated, [batch, 128, 64].
    :param cache: [batch, longest, 576].
    :param cos_sin: cos and sin of each position, [longest, 2, 32].
    :param out: takes the result, [128, batch, 512].
    """

    qc: torch.Tensor
    rope: torch.Tensor
    cache: torch.Tensor
    cos_sin: torch.Tensor
    out: torch.Tensor


#: Attends over the first so many tokens.
Attend = Callable[[Inputs, int], None]


def product(columns: int, transposed: int, in_registers: bool) -> str:
    """A device function: 64 x columns float32 += 64 x 16 by 16 x columns bfloat16.

    The right operand is in shared memory, and the left one there or in registers.
    """
    count = columns // 2
    sums = ", ".join(f"%{i}" for i in range(count))
    kept = ", ".join(f'"+f"(d[{i}])' for i in range(count))
    size = 4 if in_registers else 1
    names = ", ".join(f"%{count + i}" for i in range(size))
    left = "{" + names + "}" if in_registers else names
    operand = ", ".join(f'"r"(a[{i}])' for i in range(4)) if in_registers else '"l"(a)'
    kind = "const u32 (&a)[4]" if in_registers else "u64 a"
    turned = f"{transposed}" if in_registers else f"0, {transposed}"
    return f"""
__device__ __forceinline__ void multiply{columns}(float (&d)[{count}], {kind}, u64 b, int keep) {{
  asm volatile("{{ .reg .pred p; setp.ne.b32 p, %{count + size + 1}, 0;"
    " wgmma.mma_async.sync.aligned.m64n{columns}k16.f32.bf16.bf16 {{{sums}}}, {left}, %{count + size},"
    " p, 1, 1, {turned}; }}" : {kept} : {operand}, "l"(b), "r"(keep));
}}
"""


def source() -> str:
    """The kernel's text."""
    products = product(64, 0, False) + product(256, 1, False) + product(256, 1, True)
    return SOURCE.read_text().replace("@PRODUCTS@", products)


def checked(result: Any) -> Any:
    """The values of a CUDA call's result, whose first one is its error code.

    :raises RuntimeError: naming the error.
    """
    code, *values = result
    if int(code):
        raise RuntimeError(repr(code))
    return values[0] if len(values) == 1 else values


def compiled(defines: list[str]) -> bytes:
    """Machine code for sm_90a.

    :raises RuntimeError: with the compiler's words.
    """
    from cuda.bindings import nvrtc

    program = checked(nvrtc.nvrtcCreateProgram(source().encode(), b"two_groups.cu", 0, [], []))
    options = [b"--gpu-architecture=sm_90a", b"--std=c++17", *(f"-D{name}".encode() for name in defines)]
    (code,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    # into bytearrays: NVRTC writes in place, and Python shares short `bytes`
    if int(code):
        log = bytearray(checked(nvrtc.nvrtcGetProgramLogSize(program)))
        checked(nvrtc.nvrtcGetProgramLog(program, log))
        raise RuntimeError(log.decode(errors="replace").strip("\0 \n"))
    binary = bytearray(checked(nvrtc.nvrtcGetCUBINSize(program)))
    checked(nvrtc.nvrtcGetCUBIN(program, binary))
    return bytes(binary)


class TwoGroups:
    """The kernel, loaded."""

    def __init__(self, defines: list[str]) -> None:
        from cuda.bindings import driver

        torch.cuda.synchronize()
        self.driver = driver
        self.module = checked(driver.cuModuleLoadData(compiled(defines)))
        self.kernel = checked(driver.cuModuleGetFunction(self.module, b"attend"))
        most = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        checked(driver.cuFuncSetAttribute(self.kernel, most, SHARED))

    def __call__(self, inputs: Inputs, n: int) -> None:
        """Attend over the first ``n`` tokens, 64 at least."""
        batch, longest = inputs.cache.shape[:2]
        pointers = [each.data_ptr() for each in inputs]
        strides = [HEADS * RANK, RANK, HEADS * ROPE, ROPE, 0, longest, RANK, batch * RANK, 2]
        values = (self.tensor_map(inputs.cache), *pointers, n, SCALE, *strides)
        kinds = (None, *[c_void_p] * 5, c_int, c_float, *[c_int] * 9)
        stream = torch.cuda.current_stream().cuda_stream
        launch = self.driver.cuLaunchKernel
        checked(launch(self.kernel, 2 * batch, 1, 1, THREADS, 1, 1, SHARED, stream, (values, kinds), 0))

    def tensor_map(self, cache: torch.Tensor) -> Any:
        """Boxes of 64 tokens by 64 columns."""
        d = self.driver
        wide, short = d.cuuint64_t, d.cuuint32_t
        rows = cache.shape[0] * cache.shape[1]
        return checked(
            d.cuTensorMapEncodeTiled(
                d.CUtensorMapDataType.CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                2,
                cache.data_ptr(),
                [wide(RANK + ROPE), wide(rows)],
                [wide(2 * (RANK + ROPE))],
                [short(64), short(64)],
                [short(1), short(1)],
                d.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE,
                d.CUtensorMapSwizzle.CU_TENSOR_MAP_SWIZZLE_128B,
                d.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                d.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            )
        )

    def steps(self) -> torch.Tensor:
        """Cycle counts, int64 [2 groups, 64 pairs of tiles, 9 steps]; compiled with PROFILE only."""
        stamps = torch.zeros((2, 64, 9), dtype=torch.int64)
        at, size = checked(self.driver.cuModuleGetGlobal(self.module, b"stamps"))
        checked(self.driver.cuMemcpyDtoH(stamps.data_ptr(), at, size))
        return stamps


def program_in_use() -> Any:
    """programs/mla_decode.py as a module."""
    files = importlib.resources.files("ttd_kernels")
    reference = sys.modules["reference"] = types.ModuleType("reference")
    exec(files.joinpath("helpers", "mla_reference.py").read_text(), reference.__dict__)
    return our_program("mla_decode")


def in_use(program: Any, inputs: Inputs, n: int) -> None:
    """Its attention over the first ``n`` tokens."""
    batch, longest = inputs.cache.shape[:2]
    flat = inputs.cache.view(-1, RANK + ROPE)
    rows = program.TensorDescriptor.from_tensor(flat, [program.TILE, RANK], program.LATENT_LAYOUT)
    key = ("benchmark", batch, longest, n % 16 == 0)
    strides = (HEADS * RANK, RANK, HEADS * ROPE, ROPE, longest, RANK, batch * RANK)
    shape = (RANK, 0, ROPE // 2, 2, 64, program.TILE, program.BUFFERS)
    arguments = (rows, *inputs, n, SCALE, *strides, *shape)
    device = inputs.cache.device
    program.launch(key, device, program.attend_hopper, 2 * batch, *arguments, num_warps=4, maxnreg=168)


def make_inputs(rotations: Any, batch: int, n: int, longest: int) -> Inputs:
    """Fresh ones, and NaN where the result goes."""
    source = torch.Generator("cuda").manual_seed(n)

    def normal(*sizes: int) -> torch.Tensor:
        return torch.randn(*sizes, device="cuda", generator=source).bfloat16()

    cache = normal(batch, longest, RANK + ROPE)
    out = torch.full((HEADS, batch, RANK), math.nan, device="cuda", dtype=torch.bfloat16)
    qc, rope = normal(batch, HEADS, RANK), normal(batch, HEADS, ROPE)
    return Inputs(qc, rope, cache, rotations(longest, ROPE, cache.device), out)


def exact(inputs: Inputs, row: int, n: int) -> torch.Tensor:
    """The result for one sequence in float64, rotated values rounded as the task wants."""
    qc, rope, cache, cos_sin, _ = inputs

    def rotated(value: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        cos, sin = at[:, 0].float(), at[:, 1].float()
        low, high = value[..., :32].float(), value[..., 32:].float()
        return torch.cat(
            [(low * cos - high * sin).bfloat16(), (high * cos + low * sin).bfloat16()], -1
        ).double()

    latent = cache[row, :n, :RANK].double()
    keys = rotated(cache[row, :n, RANK:], cos_sin[:n])
    logits = qc[row].double() @ latent.T + rotated(rope[row], cos_sin[n - 1 : n]) @ keys.T
    return torch.softmax(logits / math.sqrt(192), -1) @ latent


def worst_error(attend: Attend, rotations: Any) -> float:
    """Largest relative error by norm over lengths around the sizes of tiles and pairs of tiles."""
    worst = 0.0
    for batch, n, longest in ((1, 64, 64), (2, 65, 128), (3, 130, 256), (2, 192, 256), (16, 501, 1024)):
        inputs = make_inputs(rotations, batch, n, longest)
        attend(inputs, n)
        for row in {0, batch - 1}:
            expected = exact(inputs, row, n)
            error = (inputs.out[:, row].double() - expected).norm() / expected.norm()
            worst = max(worst, float(error))
    return worst


def clock_us(run: Callable[[], None], calls: int = 15) -> float:
    """Median between events, cache emptied before each call."""
    flush = torch.empty(512 << 20, dtype=torch.uint8, device="cuda")
    times: list[float] = []
    for _ in range(calls + 3):
        flush.fill_(1)
        torch.cuda.synchronize()
        time.sleep(0.003)
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        # so that the host is ahead
        torch.cuda._sleep(200_000)  # type: ignore[no-untyped-call]
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(1e3 * start.elapsed_time(end))
    return statistics.median(times[3:])


def floor(n: int) -> float:
    """Microseconds of attention alone."""
    operations = 2.0 * BATCH * HEADS * n * (2 * RANK + ROPE)
    return floor_us(2.0 * BATCH * n * (RANK + ROPE), operations)


def print_steps(kernel: TwoGroups) -> None:
    """Median cycles of each step, of the pairs in the middle."""
    stamps = kernel.steps()[:, 4:30].double()
    for group, at in enumerate(stamps):
        between = (at[:, 1:] - at[:, :-1]).median(0).values
        cycles = float((at[1:, 0] - at[:-1, 0]).median())
        print(
            f"group {group}: {cycles:.0f} cycles a pair; steps {' '.join(f'{each:.0f}' for each in between)}"
        )


def lengths(text: str) -> list[int]:
    """Numbers of tokens, by commas.

    :raises argparse.ArgumentTypeError: for what is none.
    """
    numbers = [int(part) if part.isdigit() else 0 for part in text.split(",")]
    if not all(64 <= n <= LONGEST for n in numbers):
        raise argparse.ArgumentTypeError(f"{text}: give numbers from 64 to {LONGEST}, such as 4097,6145")
    return numbers


def main() -> int:
    """Check, time, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lengths", type=lengths, default="4097,6145", help="tokens attended to")
    parser.add_argument("--profile", action="store_true", help="also tell where the cycles go")
    parser.add_argument(
        "--define", action="append", default=[], help="a macro of two_groups.cu, such as NO_LOAD"
    )
    parser.add_argument("--compile", action="store_true", help="compile, and no more")
    chosen = parser.parse_args()
    if importlib.util.find_spec("cuda") is None:
        leave("cuda-bindings is missing: pip install cuda-bindings nvidia-cuda-nvrtc")
    if chosen.compile:
        print(f"{len(compiled(chosen.define))} bytes of machine code")
        return 0
    if not torch.cuda.is_available() or torch.cuda.get_device_capability()[0] != 9:
        leave("no Hopper GPU was found: both kernels are made for one")
    program = program_in_use()
    ours, rotations = functools.partial(in_use, program), program.rotations
    other = TwoGroups(chosen.define)
    errors = {"in use": worst_error(ours, rotations), "two groups": worst_error(other, rotations)}
    table = Table(
        title=f"attention of MLA decode on {torch.cuda.get_device_name()}, us", title_justify="left"
    )
    for column in ("tokens", "floor", "in use", "two groups", "ratio"):
        table.add_column(column, justify="right")
    for n in chosen.lengths:
        tensors = make_inputs(rotations, BATCH, n, LONGEST)
        times = [clock_us(functools.partial(attend, tensors, n)) for attend in (ours, other)]
        table.add_row(
            str(n), f"{floor(n):.0f}", *(f"{each:.1f}" for each in times), f"{times[1] / times[0]:.2f}"
        )
    Console(width=120).print(table)
    print("relative errors", {name: f"{error:.1e}" for name, error in errors.items()})
    if chosen.profile:
        profiled = TwoGroups([*chosen.define, "PROFILE"])
        profiled(make_inputs(rotations, BATCH, 4097, LONGEST), 4097)
        torch.cuda.synchronize()
        print_steps(profiled)
    return 0


if __name__ == "__main__":
    sys.exit(run_benchmark(main))
