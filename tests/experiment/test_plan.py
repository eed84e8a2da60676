"""An experiment's file: what it may say, what it plans, and every refusal in one line."""

from __future__ import annotations

import pathlib

import pytest

from ttd_core.errors import ConfigError
from ttd_core.experiment.plan import read_plan
from ttd_core.experiment.slots import divide


def write(folder: pathlib.Path, text: str) -> pathlib.Path:
    path = folder / "ablation.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_combination_is_one_run(tmp_path: pathlib.Path) -> None:
    plan = read_plan(
        write(
            tmp_path,
            """
            title = "Learning against search"
            target = 0.381
            [run]
            problem = "erdos"
            steps = 4
            learn.train = false
            policy.temperature = 0.5
            [[arm]]
            name = "cool"
            [[arm]]
            name = "hot"
            set.policy.temperature = 1.5
            [grid]
            variant = ["full", "best-of-n"]
            seed = [3, 4]
            [machine]
            parallel = 2
            price_per_hour = 3.5
            """,
        )
    )
    assert (plan.name, plan.title, plan.target) == ("ablation", "Learning against search", 0.381)
    assert (plan.machine.parallel, plan.machine.price_per_hour) == (2, 3.5)
    assert [run.name for run in plan.runs] == [
        f"{arm}-{variant}-seed{seed}"
        for arm in ("cool", "hot")
        for variant in ("full", "best-of-n")
        for seed in (3, 4)
    ]
    last = plan.runs[-1]
    assert last.choices == {"policy.temperature": 1.5, "variant": "best-of-n", "seed": 4}
    assert (last.config.policy.temperature, last.config.seed, last.config.steps) == (1.5, 4, 4)
    # a variant of the grid counts above what the runs share, as one on the command line does
    assert [run.config.learn.train for run in plan.runs[:4]] == [True, True, False, False]
    assert last.rollouts == 4 * 8 * 64


def test_without_a_grid_there_is_one_run(tmp_path: pathlib.Path) -> None:
    (run,) = read_plan(write(tmp_path, 'run.problem = "erdos"')).runs
    assert run.name == "erdos"
    assert run.choices == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[run", "not valid TOML"),
        ('[runs]\nproblem = "erdos"', "unknown key 'runs'. Did you mean 'run'"),
        ("run = 3", r"run must be a table: \[run\]"),
        ("[grid]\nseed = [1]", "no problem named"),
        ('run.problem = "erdos"\ngrid.seed = 1', "grid.seed must be a list"),
        ('run.problem = "erdos"\ngrid.seed = []', "grid.seed must be a list of at least one value"),
        ('target = "0.38"\nrun.problem = "erdos"', "target must be a score, a finite number, not '0.38'"),
        ('target = nan\nrun.problem = "erdos"', "target must be a score"),
        (
            'target = 1\n[grid]\nproblem = ["erdos", "ac1"]',
            "target is a score of one problem; the runs have 2",
        ),
        ('run.problem = "erdos"\nrun.stepz = 1', "unknown key 'stepz'. Did you mean 'steps'"),
        ('run.problem = "erdos"\ngrid.seed = [1.5]', "seed needs a whole number"),
        ('run.problem = "erdos"\ngrid.variant = ["ful"]', "unknown variant 'ful'. Did you mean 'full'"),
        ('run.problem = "erdos"\ngrid.seed = [1, 1]', "two runs would be named seed1"),
        ('run.problem = "erdos"\n[[arm]]\nname = "a"\n[[arm]]\nname = "b"', "a and b have the same config"),
        ('run.problem = "erdos"\n[[arm]]\nsteps = 3', "arm: unknown key 'steps'"),
        ('run.problem = "erdos"\n[[arm]]\nset.steps = 3', "arm: each needs a name"),
        ('run.problem = "erdos"\nname = "a/b"', "name must be letters"),
        ('run.problem = "erdos"\n[machine]\nparallel = 0', "machine.parallel"),
        ('run.problem = "erdos"\n[machine]\nprize = 1.0', "prize"),
        (f'run.problem = "erdos"\n[[arm]]\nname = "{"x" * 200}"', "would have 200 characters"),
        ('run.problem = "erdos"\ngrid.seed = ' + str(list(range(1001))), "1001 runs; at most 1000"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(tmp_path: pathlib.Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read_plan(write(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert "ablation.toml" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read: No such file"):
        read_plan(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(("cores", "parallel"), [(16, 1), (16, 2), (7, 3), (2, 2), (2, 3), (1, 4)])
def test_cores_are_shared_out(cores: int, parallel: int) -> None:
    shares = divide(range(cores), parallel)
    assert len(shares) == parallel
    if cores >= parallel:
        assert sorted(core for share in shares for core in share) == list(range(cores))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    else:
        assert shares == [tuple(range(cores))] * parallel
