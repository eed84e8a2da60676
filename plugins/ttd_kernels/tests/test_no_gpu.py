"""Without a GPU: what the interpreter cannot run is no fault of the candidate; its own bugs still are."""

from __future__ import annotations

import pathlib

import pytest
from click.testing import CliRunner

from ttd_core import cli
from ttd_core.config.settings import fill
from ttd_core.types import Status
from ttd_kernels.harness import gpus
from ttd_kernels.rmsnorm import RmsNorm
from ttd_kernels.testing import SmallTriMul, judged

START = RmsNorm().starting_program()
CALL = "def custom_kernel(data):\n"


def changed(old: str, new: str) -> str:
    """The starting program with other text at the first place of ``old``."""
    assert old in START
    return START.replace(old, new, 1)


def in_kernel(line: str, before: str = "") -> str:
    """The starting program with a line more in its kernel, and lines before that."""
    return before + changed("        unit = ", f"        {line}\n        unit = ")


def before_launch(line: str) -> str:
    """The starting program with a line more on the host, each time it is called."""
    return changed(CALL, f"{CALL}    {line}\n")


def at_import(line: str) -> str:
    """The starting program with a line more where it is loaded."""
    return changed("@triton.jit", f"{line}\n\n\n@triton.jit")


NEEDS_A_GPU = {
    "libdevice": in_kernel(
        "scale = libdevice.rsqrt(tl.sum(value * value, axis=0) / d + 1e-6)",
        "from triton.language.extra import libdevice\n",
    ),
    "libdevice of CUDA": in_kernel(
        "scale = libdevice.rsqrt(tl.sum(value * value, axis=0) / d + 1e-6)",
        "from triton.language.extra.cuda import libdevice\n",
    ),
    "assembly": in_kernel(
        'value = tl.inline_asm_elementwise("mov.b32 $0, $1;", "=r,r", [value], dtype=tl.float32, '
        "is_pure=True, pack=1)"
    ),
    "clock": in_kernel("now = globaltimer()", "from triton.language.extra.cuda import globaltimer\n"),
    "atomics": in_kernel("tl.atomic_add(y + at, value.to(tl.bfloat16), mask=inside)"),
    "graph": before_launch("torch.cuda.CUDAGraph()"),
    "stream": before_launch("torch.cuda.current_stream().synchronize()"),
    "device": before_launch('torch.empty(3, device="cuda")'),
    "driver": before_launch("triton.runtime.driver.active.get_current_device()"),
    "compiled": before_launch("torch.cuda._compile_kernel('__global__ void f() {}', 'f')"),
    "handle": changed("    normalise[", "    handle = normalise[").replace(
        "    return y,", "    handle.n_regs\n    return y,"
    ),
    "asks": before_launch("assert data[0].is_cuda"),
    "asks in words": before_launch('raise ValueError("expected a CUDA tensor")'),
    "at import": at_import("torch.cuda.synchronize()"),
    "stream at import": at_import("stream = torch.cuda.Stream()"),
}

BUGS = {
    "name": in_kernel("value = nosuch(value)"),
    "shape": in_kernel("value = value + tl.arange(0, 2 * BLOCK)"),
    "language": in_kernel("value = tl.nosuch(value)"),
    "libdevice": in_kernel("libdevice.nosuch(value)", "from triton.language.extra import libdevice\n"),
    "static": in_kernel("tl.static_assert(BLOCK == 3)"),
    "own": before_launch('raise NotImplementedError("to be done")'),
    "own in kernel": in_kernel('raise NotImplementedError("not supported in interpreter mode")'),
    "none": before_launch("None.dtype"),
    "builtin outside": before_launch("tl.load(data[0])"),
    "import": at_import("import a_package_of_nobody"),
    "at import": at_import("raise RuntimeError('a bug')"),
    "launch": changed(", d, ROWS=", ", ROWS="),
}


def on_cpu() -> RmsNorm:
    return RmsNorm(fill(RmsNorm.options_type, {"devices": "cpu"}))


@pytest.mark.parametrize("kind", NEEDS_A_GPU)
def test_what_only_a_gpu_runs_cannot_be_checked_here(kind: str, executor) -> None:
    verdict = judged(on_cpu(), NEEDS_A_GPU[kind], executor.run)
    assert verdict.status is Status.INFRASTRUCTURE, verdict.message
    assert verdict.message.startswith(
        "cannot be checked here, in Triton's CPU interpreter; a GPU can run this ("
    )


@pytest.mark.parametrize("kind", BUGS)
def test_a_bug_is_the_candidates_own(kind: str, executor) -> None:
    verdict = judged(on_cpu(), BUGS[kind], executor.run)
    assert verdict.status is Status.CRASH, verdict.message
    assert "a GPU can" not in verdict.message


def test_where_times_are_taken_nobody_escapes_by_asking_for_a_gpu(executor) -> None:
    problem = SmallTriMul(fill(SmallTriMul.options_type, {"devices": "cpu", "timeout_s": 60.0}))
    for source in (
        "def custom_kernel(data):\n    raise RuntimeError('No CUDA GPUs are available')\n",
        "raise RuntimeError('No CUDA GPUs are available')\n",
    ):
        verdict = judged(problem, source, executor.run)
        assert verdict.status is Status.CRASH, verdict.message


def test_eval_says_so_with_exit_code_3(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "count", lambda: 0)
    path = tmp_path / "kernel.py"
    path.write_text(NEEDS_A_GPU["libdevice"])
    result = CliRunner().invoke(cli.main, ["eval", "rmsnorm", str(path)])
    assert result.exit_code == 3, result.output
    assert "libdevice.rsqrt is a function of GPUs" in result.output
