"""Where tensors lie in shared memory: somewhere else each time, and never one over another."""

from __future__ import annotations

import pytest
import torch

from ttd_kernels.harness.memory_layout import ALIGNMENT, random_locations


def test_locations_vary_and_never_overlap() -> None:
    sizes = [(torch.float32, (3, 5)), (torch.bfloat16, (1,)), (torch.int64, (100,))]
    starts = set()
    for _ in range(50):
        locations = random_locations(sizes, 1 << 16, reserved=2 * ALIGNMENT)
        starts.add(locations[0][0])
        assert all(offset % ALIGNMENT == 0 for offset, _, _ in locations)
        assert locations[0][0] >= 2 * ALIGNMENT, "the head is kept for other things"
        ends = [
            offset + getattr(torch, name).itemsize * torch.Size(shape).numel()
            for offset, name, shape in locations
        ]
        assert all(end <= start for end, (start, _, _) in zip(ends, locations[1:], strict=False))
        assert ends[-1] <= 1 << 16
    assert len(starts) > 10
    with pytest.raises(ValueError, match="do not fit"):
        random_locations(sizes, 1024)
    with pytest.raises(ValueError, match="do not fit"):
        random_locations(sizes, 2048, reserved=1024)
