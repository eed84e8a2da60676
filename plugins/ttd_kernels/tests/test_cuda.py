"""Our CUDA C++ compiles for Hopper, which needs its compiler but no GPU, and spills no registers."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import types

import pytest

from ttd_kernels.testing import our_program

nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-bindings is not installed")
triton = pytest.importorskip("triton")
CUOBJDUMP = pathlib.Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
BENCHMARK = pathlib.Path(__file__).parents[3] / "benchmarks" / "attention.py"


@pytest.fixture
def program() -> types.ModuleType:
    """Our TriMul program, a module of the test's own."""
    return our_program("trimul")


def _usage(binary: bytes, folder: pathlib.Path) -> str:
    """What the kernel takes: registers, stack and memory of each kind."""
    path = folder / "kernel.cubin"
    path.write_bytes(binary)
    done = subprocess.run([CUOBJDUMP, "-res-usage", path], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize(
    ("channels", "late"),
    [(32, False), (96, False), (128, False), (128, True), (192, False), (256, False), (384, False)],
)
def test_every_plan_of_trimul_compiles_without_spilling(channels: int, late: bool, program, tmp_path) -> None:
    usage = _usage(program.compiled(nvrtc, channels, late), tmp_path)
    assert "Function project_tiles" in usage
    assert "REG:128 STACK:0 " in usage, usage
    assert "LOCAL:0" in usage, usage


def test_what_the_compiler_says_reaches_the_reader(program) -> None:
    program.PROJECT_SOURCE = "this is no program"
    with pytest.raises(RuntimeError, match=r"project\.cu\(1\): error"):
        program.compiled(nvrtc, 128)


@pytest.mark.parametrize("how", ["no bindings", "bindings without the library"])
def test_without_the_compiler_trimul_falls_back(how: str, program, monkeypatch) -> None:
    if how == "no bindings":
        monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    else:

        def missing() -> None:
            raise RuntimeError("no libnvrtc.so")

        monkeypatch.setattr(nvrtc, "nvrtcVersion", missing)
    assert program.project_tiles(128, "cuda") is None


@pytest.mark.parametrize("defines", [[], ["PROFILE"], ["NO_LOAD"]])
def test_the_attention_kept_in_benchmarks_compiles(defines: list[str], tmp_path, benchmark_script) -> None:
    if not BENCHMARK.is_file():
        pytest.skip("benchmarks are in the repository only")
    compiled = benchmark_script(BENCHMARK.name)["compiled"](defines)
    assert "Function attend" in _usage(compiled, tmp_path)
