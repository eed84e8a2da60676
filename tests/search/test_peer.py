"""Under the authors' options the search decides as the authors' published package does, pick by pick."""

from __future__ import annotations

import json
import pathlib
import subprocess

import numpy as np
import pytest

from ttd_core.config import SearchConfig
from ttd_core.search.archive import Archive
from ttd_core.search.reuse import reuse_from_config
from ttd_core.types import Completion, Group, Reward, Rollout, State, Status, Verdict

GROUPS, SIZE, STEPS = 4, 6, 25


@pytest.fixture(scope="module")
def peer_python(benchmark_script):
    """Python of the environment that the benchmark installs the package into."""
    benchmark = benchmark_script("archive.py")
    try:
        return benchmark["install_peer"]()
    except SystemExit:
        pytest.skip(f"{benchmark['PEER']} cannot be installed here")


def scenario(seed, exploration, capacity):
    """Rewards by step, group and rollout; no two alike, a third of them failures."""
    rng = np.random.default_rng(seed)
    steps = [
        [
            [None if rng.random() < 1 / 3 else float(rng.normal(step / 5, 2)) for _ in range(SIZE)]
            for _ in range(GROUPS)
        ]
        for step in range(STEPS)
    ]
    seeds = [float(value) for value in rng.normal(-3, 1, GROUPS + 2)]
    return {"seeds": seeds, "exploration": exploration, "capacity": capacity, "steps": steps}


def rollout(value):
    if value is None:
        return Rollout(Completion("?"), Verdict.failed(Status.CRASH, "it broke"))
    state = State(data={"value": value})
    return Rollout(Completion("!"), Verdict(Status.OK, state=state, reward=Reward(value, value)))


def ours(scenario):
    """The same report from our search; the authors keep every child when told 0."""
    config = SearchConfig(
        exploration=scenario["exploration"],
        capacity=scenario["capacity"],
        count="rollout",
        scale="range-without-seeds",
        scale_floor=1e-6,
        keep_children=SIZE,
    )
    archive, strategy, report = Archive(config), reuse_from_config(config), []
    archive.add_seeds([(State(), Reward(value, value)) for value in scenario["seeds"]])
    for step, batch in enumerate(scenario["steps"], start=1):
        picked = strategy.pick(archive, len(batch), np.random.default_rng(0))
        groups = [
            Group(node.id, [], np.zeros(0, np.int64), [rollout(value) for value in results])
            for node, results in zip(picked, batch, strict=True)
        ]
        archive.admit(step, groups)
        held = archive.held()
        report.append(
            {
                "picked": [node.value for node in picked],
                "held": sorted(node.value for node in held),
                "visits": sorted([node.value, node.visits] for node in held),
                "best": sorted([node.value, node.best_child] for node in held if node.best_child is not None),
                "expansions": archive.expansions,
            }
        )
    return report


@pytest.mark.peer
@pytest.mark.parametrize(
    ("seed", "exploration", "capacity"), [(0, 1.0, 1000), (1, 1.0, 60), (2, 4.0, 25), (3, 0.2, 60)]
)
def test_the_authors_package_decides_the_same(peer_python, tmp_path, seed, exploration, capacity):
    case = scenario(seed, exploration, capacity)
    script = pathlib.Path(__file__).with_name("peer_search.py")
    process = subprocess.run(
        [peer_python, script, tmp_path], input=json.dumps(case), capture_output=True, text=True, timeout=300
    )
    assert process.returncode == 0, process.stderr
    theirs = json.loads(process.stdout.splitlines()[-1])
    for step, (mine, other) in enumerate(zip(ours(case), theirs, strict=True), start=1):
        assert mine == other, f"step {step}"
    deepest = len({value for entry in theirs for value in entry["picked"]})
    assert deepest > 2 * GROUPS, "the scenario must lead beyond the seeds"
