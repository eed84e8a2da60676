"""What the tests share: one sandbox."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from ttd_core.sandbox.local import LocalExecutor

# inputs are small here, and threads that wait for each other on a busy machine take longer than the work
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def executor() -> Iterator[LocalExecutor]:
    """One sandbox for all: its warm server has imported torch and Triton."""
    with LocalExecutor(1) as executor:
        yield executor
