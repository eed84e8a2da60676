"""Honest programs on a GPU: right, timed, believed, shown in a table."""

from __future__ import annotations

import pytest
import torch

from ttd_core.config.settings import fill
from ttd_core.package_files import package_text
from ttd_kernels.dora_norm import DoraNorm
from ttd_kernels.mla_decode import MlaDecode
from ttd_kernels.problem import KernelProblem
from ttd_kernels.relu2_mlp import Relu2Mlp
from ttd_kernels.rmsnorm import RmsNorm
from ttd_kernels.testing import judged, our_program
from ttd_kernels.trimul import TriMul

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
QUICK = {"tests": 4, "hidden": 3, "repeats": 8}


@pytest.mark.parametrize("kind", [TriMul, MlaDecode, RmsNorm, Relu2Mlp, DoraNorm], ids=lambda each: each.name)
def test_a_start_program_is_right_slow_and_believed(kind: type[KernelProblem], executor) -> None:
    problem = kind(fill(kind.options_type, QUICK | {"generalise": "refuse", "triton": "refuse"}))
    verdict = judged(problem, problem.starting_program(), executor.run)
    assert verdict.ok, verdict.message
    assert verdict.reward is not None
    assert 0.0 < verdict.reward.metrics["speed_of_light"] < 1.0
    assert set(verdict.reward.metrics["shapes"]) <= set(verdict.output.replace("  ", "\n").split("\n"))


@pytest.mark.parametrize("kind", [TriMul, MlaDecode, RmsNorm, Relu2Mlp, DoraNorm], ids=lambda each: each.name)
def test_our_kernel_is_right_everywhere_and_fast(kind: type[KernelProblem], executor) -> None:
    problem = kind(fill(kind.options_type, QUICK | {"generalise": "refuse"}))
    source = package_text("ttd_kernels", "programs", f"{kind.name}.py")
    verdict = judged(problem, source, executor.run)
    assert verdict.ok, verdict.message
    assert verdict.reward is not None
    limits = {"trimul": 1108.0, "mla_decode": 1540.0, "rmsnorm": 120.0, "relu2_mlp": 600.0, "dora_norm": 60.0}
    assert problem.better(verdict.reward.score, limits[kind.name])


@pytest.mark.parametrize("size", [640, 1024])
def test_trimul_s_product_agrees_with_pytorch_s(size: int) -> None:
    program = our_program("trimul")
    if program.blas() is None:
        pytest.skip("PyTorch has loaded no cublasLt")
    left, right, out = (
        torch.randn(4, size, size, device="cuda", dtype=torch.float16) / size**0.5 for _ in range(3)
    )
    product = program.product_of(size, 4, size * size, left.device)
    product(left, right.transpose(1, 2), out, torch.cuda.current_stream().cuda_stream)
    torch.testing.assert_close(out, torch.bmm(left, right.transpose(1, 2)), rtol=2e-3, atol=2e-3)
