"""Both executors keep the executor contract: the same tests on this machine and on a Ray cluster."""

from __future__ import annotations

import pytest

from ttd_core.sandbox.base import Executor
from ttd_core.sandbox.local import LocalExecutor
from ttd_core.testing.executors import ExecutorContract


class TestLocal(ExecutorContract):
    streams_output = True

    @classmethod
    def open_executor(cls) -> Executor:
        return LocalExecutor(2)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
class TestRay(ExecutorContract):
    streams_output = True

    @classmethod
    def open_executor(cls) -> Executor:
        from ttd_core.sandbox.ray import RayExecutor

        return RayExecutor(2)
