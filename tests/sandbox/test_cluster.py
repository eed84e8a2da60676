"""A step on a cluster of several nodes: one is killed in the middle, one is added."""

from __future__ import annotations

import pathlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from ttd_core import config as configs
from ttd_core.plugin.hooks import Hooks
from ttd_core.policy.base import SamplingParams
from ttd_core.policy.scripted import ScriptedPolicy
from ttd_core.problem import Execute, Problem
from ttd_core.run.deadline import wait_for
from ttd_core.run.judging import Judging
from ttd_core.run.pending import PendingRollouts
from ttd_core.run.rollout import StepRollouts
from ttd_core.sandbox import ray_nodes
from ttd_core.sandbox.base import PythonJob
from ttd_core.sandbox.local import LocalExecutor
from ttd_core.search.archive import Archive
from ttd_core.types import Reward, State, Verdict

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROLLOUTS = 16


class Growing(Problem):
    """The sum of the numbers that a program returns; a state carries a large array besides."""

    name = "growing"
    title = "Growing"
    metric = "sum"
    direction = "max"

    def task(self) -> str:
        return "Return numbers."

    def inject(self, state: State) -> dict[str, Any]:
        return {"table": np.arange(200_000.0)}

    def construct(self, value: Any) -> dict[str, Any]:
        return {"numbers": [float(each) for each in value]}

    def check(self, state: State) -> Sequence[str]:
        return [] if state.data["numbers"][0] >= 0 else ["the first number is below 0"]

    def reward(self, state: State) -> Reward:
        total = float(sum(state.data["numbers"]))
        return Reward(total, total)


def replies() -> list[str]:
    """Programs that take a while; some crash, some are not valid."""
    texts = []
    for number in range(ROLLOUTS):
        outcome = {0: "raise ValueError('no')", 1: "return [-1.0]"}.get(number % 5, "")
        body = outcome or f"return [{number}.0, float(table[{number}]), float(table.sum())]"
        program = f"import time\ndef run(seed, budget_s, **kwargs):\n    time.sleep(0.6)\n    {body}"
        texts.append(f"```python\n{program}\n```")
    return texts


def step(execute: Execute, workers: int, folder: pathlib.Path, judged: Callable[[int], None]) -> list[tuple]:
    """The verdicts of a step of one group, without what depends on clocks.

    :param judged: called with the number of verdicts so far.
    """
    archive = Archive(configs.SearchConfig())
    (start,) = archive.add_seeds([(State(), None)])
    done: list[Verdict] = []

    def evaluated(_group: int, _index: int, verdict: Verdict) -> None:
        done.append(verdict)
        judged(len(done))

    judging = Judging(Hooks(Growing()), execute, workers)
    pending = PendingRollouts(folder, enabled=False)
    rollouts = StepRollouts(judging, pending, [start], [[]], lambda *_: None, evaluated)
    rollouts.sample(ScriptedPolicy(replies()), ROLLOUTS, SamplingParams(), {})
    wait_for(rollouts)
    judging.abandon()
    (group,) = rollouts.groups()
    return [
        (each.verdict.status, each.verdict.message, each.verdict.reward, each.verdict.code) for each in group
    ]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of two nodes with a processor each, this process connected to its head."""
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'ttd-core[ray]'")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    monkeypatch.setattr(ray_nodes, "_LOOK_S", 0.5)
    shared = ray.is_initialized()
    ray.shutdown()
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        ray.init(address=made.address, log_to_driver=False)
        yield made
    finally:
        ray.shutdown()
        made.shutdown()
        if shared:  # what other modules of this session share
            ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)


@pytest.fixture
def undisturbed(tmp_path: pathlib.Path) -> list[tuple]:
    """The verdicts of the same step on this machine."""
    with LocalExecutor(2) as executor:
        return step(executor.run, 2, tmp_path, lambda _: None)


def test_a_node_killed_in_the_middle_of_a_step(
    cluster: Any, undisturbed: list[tuple], tmp_path: pathlib.Path
) -> None:
    from ttd_core.sandbox.ray import RayExecutor

    doomed = cluster.add_node(num_cpus=1)
    with RayExecutor() as executor:
        assert executor.workers == 2

        def kill(done: int) -> None:
            if done == ROLLOUTS // 4:
                threading.Thread(
                    target=cluster.remove_node, args=(doomed,), kwargs={"allow_graceful": False}
                ).start()

        verdicts = step(executor.run, executor.workers, tmp_path, kill)
        assert verdicts == undisturbed
        deadline = time.monotonic() + 90
        while executor.workers > 1:
            assert time.monotonic() < deadline, "the cluster has not noticed that the node is gone"
            time.sleep(0.1)
        use = executor.use()
        assert [node.lost for node in use.nodes] == [False, True]
        assert all(node.done for node in use.nodes), "both had their share"
        table = 200_000 * 8
        assert table <= use.put_bytes < 1.1 * table, "the table is put once"
        assert use.saved_bytes >= (ROLLOUTS - 1) * table
        assert use.job_bytes < 0.1 * table
        assert executor.run(PythonJob("def run(): return 1", "run")).value == 1


def test_a_node_added_in_the_middle_of_a_step_is_used(
    cluster: Any, undisturbed: list[tuple], tmp_path: pathlib.Path
) -> None:
    from ttd_core.sandbox.ray import RayExecutor

    with RayExecutor() as executor:
        assert executor.workers == 1

        def add(done: int) -> None:
            if done == 1:
                cluster.add_node(num_cpus=1)
                deadline = time.monotonic() + 60
                while executor.workers < 2:
                    assert time.monotonic() < deadline, "the new node was not found"
                    time.sleep(0.05)

        # as many verdicts at once as there will be workers; a run asks for their number at each step
        assert step(executor.run, 2, tmp_path, add) == undisturbed
        use = executor.use()
        assert len(use.nodes) == 2
        assert all(node.done for node in use.nodes), use.nodes
        assert not any(node.lost for node in use.nodes)


def test_every_node_lost_and_one_that_comes(cluster: Any) -> None:
    from ttd_core.sandbox.ray import RayExecutor

    with RayExecutor(1) as executor:
        (head,) = executor._scheduler.nodes
        executor._members._lose(head, "said by the test")
        future = executor.submit(PythonJob("def run(): return 5", "run"))
        time.sleep(0.3)
        assert not future.done(), "it waits for a node"
        cluster.add_node(num_cpus=1)
        result = future.result(timeout=60)
        assert result.value == 5, result.message
