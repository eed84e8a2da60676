"""The contract of every problem, kept by the five of this plugin."""

from __future__ import annotations

from ttd_core.testing.contract import ProblemContract
from ttd_kernels.dora_norm import DoraNorm
from ttd_kernels.mla_decode import MlaDecode
from ttd_kernels.relu2_mlp import Relu2Mlp
from ttd_kernels.rmsnorm import RmsNorm
from ttd_kernels.trimul import TriMul


class TestTriMul(ProblemContract):
    problem = TriMul


class TestMlaDecode(ProblemContract):
    problem = MlaDecode


class TestRmsNorm(ProblemContract):
    problem = RmsNorm


class TestRelu2Mlp(ProblemContract):
    problem = Relu2Mlp


class TestDoraNorm(ProblemContract):
    problem = DoraNorm
