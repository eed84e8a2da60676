"""The Ray executor beyond what every executor does: lost workers, missing packages, clean ends."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time

import psutil
import pytest

from ttd_core.config import RunConfig, SandboxConfig
from ttd_core.errors import EnvironmentLacksError
from ttd_core.sandbox import ray as ray_executor
from ttd_core.sandbox import ray_nodes
from ttd_core.sandbox.base import Limits, PythonJob
from ttd_core.types import Status


def _sandboxes_of(pid: int) -> list[int]:
    """Processes right below ``pid`` that run a fork server."""
    found = []
    for child in psutil.Process(pid).children():
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            if any("supervisor.main" in word for word in child.cmdline()):
                found.append(child.pid)
    return found


def _actors() -> set[int]:
    """Process ids of the actors that hold sandboxes, in any cluster of this test session."""
    found = set()
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            if any("ray::NodeSandbox" in word for word in child.cmdline()):
                found.add(child.pid)
    return found


@pytest.fixture
def others(ray_cluster: None) -> set[int]:
    """The actors of executors that other tests keep open."""
    return _actors()


@pytest.mark.ray
def test_a_worker_killed_in_the_middle_of_a_job_costs_a_retry_not_a_result(others: set[int]) -> None:
    job = PythonJob("import time\ndef run(): time.sleep(2.0); return 7", "run", limits=Limits(wall_s=30.0))
    with ray_executor.RayExecutor(2) as executor:
        assert executor.run(PythonJob("def run(): return 1", "run")).value == 1
        future = executor.submit(job)
        time.sleep(0.7)
        (actor,) = _actors() - others
        servers = _sandboxes_of(actor)
        assert servers
        os.kill(actor, signal.SIGKILL)
        result = future.result(timeout=60)
        assert result.status is Status.OK, result.message
        assert result.value == 7
        assert result.retries >= 1
        assert not [pid for pid in servers if os.path.exists(f"/proc/{pid}")], "its servers went with it"
        assert executor.run(PythonJob("def run(): return 2", "run")).value == 2


@pytest.mark.ray
def test_closing_ends_actors_and_jobs(others: set[int]) -> None:
    executor = ray_executor.RayExecutor(2)
    job = PythonJob("import time\ndef run(): time.sleep(60)", "run", limits=Limits(wall_s=100.0))
    futures = [executor.submit(job) for _ in range(3)]
    time.sleep(0.7)
    executor.close()
    assert all(future.cancelled() for future in futures)
    deadline = time.monotonic() + 10
    while _actors() - others and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _actors() - others
    with pytest.raises(RuntimeError, match="closed"):
        executor.submit(job)


@pytest.mark.ray
def test_ray_is_given_the_processors_that_the_workers_use(ray_cluster: None) -> None:
    import ray

    def free() -> float:
        return ray.available_resources().get("CPU", 0.0)

    with ray_executor.RayExecutor(2) as executor:
        assert executor.workers == 2
        deadline = time.monotonic() + 10
        while free() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert free() == 0


@pytest.mark.ray
def test_a_cluster_without_a_free_processor_says_so(
    ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ray_executor.RayExecutor(2):
        monkeypatch.setattr(ray_nodes, "_START_TIMEOUT_S", 3.0)
        with pytest.raises(EnvironmentLacksError, match="no 2 processors free"):
            ray_executor.RayExecutor(2)


@pytest.mark.ray
def test_a_run_config_opens_it(ray_cluster: None) -> None:
    with ray_executor.open_ray(RunConfig(sandbox=SandboxConfig(workers=1, executor="ray"))) as executor:
        assert executor.workers == 1
        assert threading.active_count() >= 1
        assert executor.run(PythonJob("def run(): return 3", "run")).value == 3


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EnvironmentLacksError, match=r"pip install 'ttd-core\[ray\]'"):
        ray_executor.RayExecutor(1)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("ray://10.0.0.1:10001", "a run is made on a node of the cluster, not through Ray's client"),
        ("127.0.0.1:1", "no Ray cluster answers there .*start one with ray start --head"),
        ("127.0.0.1:99999", "no Ray cluster answers there"),
        ("\x1b[2Jhost:12", r"RAY_ADDRESS = '\\\\x1b\[2Jhost:12': no Ray cluster answers there"),
    ],
)
def test_an_address_without_a_cluster_is_said_at_once(
    address: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ray:
        """Stands for a module that is not asked."""

    with pytest.raises(EnvironmentLacksError, match=says):
        ray_executor._connect(Ray(), address)


def test_what_ray_says_of_an_address_is_one_line() -> None:
    class Ray:
        def init(self, **_named: object) -> None:
            raise ConnectionError("a long story\n\nCould not find any running Ray instance.")

    with pytest.raises(
        EnvironmentLacksError, match=r"^cannot use the Ray cluster .*any running Ray instance\.$"
    ):
        ray_executor._connect(Ray(), "auto")
