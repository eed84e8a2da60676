"""What a job on a GPU is given."""

from __future__ import annotations

import os

from ttd_core.policy.local.lean.kernels import FP_FUSION
from ttd_kernels.harness import gpu_access


def test_candidates_kernels_are_compiled_by_the_same_setting_as_ours(monkeypatch) -> None:
    monkeypatch.setattr(gpu_access, "device_node", lambda _device: "/dev/nvidia0")
    variable, value = FP_FUSION
    assert dict(gpu_access.kernel_access("cuda:0").environment)[variable] == value
    assert variable in os.environ
