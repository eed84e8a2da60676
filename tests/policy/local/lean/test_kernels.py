"""The Triton kernels compute what the reference computes, interpreted on a CPU where there is no GPU."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest
import torch

from ttd_core.policy.local.lean import ops
from ttd_core.policy.local.lean.kernels import (
    reference_expert_ops,
    reference_ops,
    reference_training_ops,
)

CASES = [pathlib.Path(__file__).parent / name for name in ("kernel_cases.py", "expert_kernel_cases.py")]


@pytest.mark.slow
def test_kernels_match_the_reference() -> None:
    if importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is not installed here; it comes with torch for CUDA, and with the dev extra")
    version = tuple(map(int, importlib.metadata.version("triton").split(".")[:2]))
    if version < (3, 9) and not torch.cuda.is_available():
        pytest.skip("Triton before 3.9 cannot interpret loops with today's NumPy")
    # Triton decides when it is imported whether to interpret, and here it may be imported already.
    environment = os.environ | ({} if torch.cuda.is_available() else {"TRITON_INTERPRET": "1"})
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *map(str, CASES)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout
    assert torch.cuda.is_available() != (", 4 skipped" in done.stdout), done.stdout


def test_a_cpu_gets_the_reference() -> None:
    assert not ops.has_triton(torch.device("cpu"))
    assert ops.decoding_ops(torch.device("cpu")) is reference_ops
    assert ops.training_ops(torch.device("cpu")) is reference_training_ops
    assert ops.expert_ops(torch.device("cpu")) is reference_expert_ops
