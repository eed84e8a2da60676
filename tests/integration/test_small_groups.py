"""Runs that learn from the smallest groups there are: two rollouts teach within bounds, one is refused."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ttd_core.metrics import Metric
from ttd_core.run.reading import RunReader


@pytest.mark.timeout(300)
def test_groups_of_two_train_with_bounded_advantages(
    ttd: Callable[..., Any], tmp_path: pathlib.Path, problem_file: pathlib.Path, model_folder: pathlib.Path
) -> None:
    given = ["run", f"{problem_file}:Letters", "--model", model_folder, "--set", "policy.device=cpu"]
    given += ["--set", "policy.max_new_tokens=24", "--steps", 2, "--groups", 3, "--group-size", 2]
    process = ttd(*given, "--name", "pairs", "--json", "--quiet")
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    summary = json.loads(out)
    assert summary["adapter_before"] != summary["adapter_after"]
    with RunReader.open(tmp_path / "runs" / "pairs") as run:
        advantages = np.array([rollout.advantage for rollout in run.rollouts()], dtype=np.float64)
        metrics = run.metrics()
    assert set(np.round(advantages, 9)) <= {round(-8 / 9, 9), 0.0, 8.0}
    assert advantages.max() == pytest.approx(8.0)
    # The loss sums advantage and ratio over some tokens of a batch: its size is theirs.
    assert all(abs(values[Metric.LOSS]) < 8 * 6 * 24 for values in metrics.values())


@pytest.mark.timeout(120)
def test_a_group_of_one_is_refused_before_the_model_loads(
    ttd: Callable[..., Any], tmp_path: pathlib.Path, problem_file: pathlib.Path
) -> None:
    # A model that cannot be loaded: no word is said about it.
    process = ttd("run", f"{problem_file}:Letters", "--model", tmp_path / "absent", "--group-size", 1)
    out, err = process.communicate(timeout=100)
    assert (process.returncode, out) == (2, "")
    assert err.startswith("error: group_size = 1 leaves nothing to learn from")
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()
