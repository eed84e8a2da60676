"""Cores kept for the run's own process: how many, and when."""

from __future__ import annotations

import pathlib

import pytest

from ttd_core import config as configs
from ttd_core.config import RunConfig
from ttd_core.sandbox import local
from ttd_core.sandbox.reserve import reserve_warning, reserved_cores, sampling_devices


def config(**keys: object) -> RunConfig:
    return configs.load("sum", overrides={name.replace("__", "."): value for name, value in keys.items()})


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr("pathlib.Path.glob", lambda _folder, _pattern: iter([pathlib.Path("/dev/nvidia0")]))


def test_none_is_kept_where_no_gpu_of_this_machine_samples() -> None:
    for each in (
        config(),
        config(policy__device="cpu"),
        config(policy__backend="openai", policy__device="cuda"),
        config(policy__backend="scripted"),
    ):
        assert sampling_devices(each) == 0
        assert reserved_cores(each, 16) == 0


@pytest.mark.usefixtures("a_gpu")
def test_one_is_kept_for_each_gpu_that_samples_a_quarter_at_most() -> None:
    assert [reserved_cores(config(), cores) for cores in (1, 2, 4, 16)] == [0, 0, 1, 1]
    eight = config(policy__options={"devices": 8})
    assert sampling_devices(eight) == 8
    assert [reserved_cores(eight, cores) for cores in (4, 16, 128)] == [1, 4, 8]
    assert sampling_devices(config(policy__device="cpu", policy__options={"devices": 2})) == 0
    # the policy says what is wrong with it; here it counts as one
    assert sampling_devices(config(policy__options={"devices": "many"})) == 1


def test_what_is_asked_for_counts_but_candidates_keep_one() -> None:
    assert reserved_cores(config(sandbox__reserve=3), 16) == 3
    assert reserved_cores(config(sandbox__reserve=3, policy__device="cuda:1"), 16) == 3
    assert reserved_cores(config(sandbox__reserve=0, policy__device="cuda:1"), 16) == 0
    assert reserved_cores(config(sandbox__reserve=64), 2) == 1


def test_a_run_has_a_worker_for_each_core_that_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "usable_cores", lambda: 8)
    with local.open_local(config(policy__device="cuda", policy__options={"devices": 2})) as executor:
        assert executor.workers == 6
    with local.open_local(config(policy__device="cuda", sandbox__workers=5)) as executor:
        assert executor.workers == 5
    with local.open_local(config(policy__device="cpu")) as executor:
        assert executor.workers == 8


def test_more_cores_than_there_are_is_told() -> None:
    assert reserve_warning(config(), 4) == reserve_warning(config(sandbox__reserve=3), 4) == ""
    assert reserve_warning(config(sandbox__reserve=9, sandbox__executor="ray"), 4) == ""
    assert reserve_warning(config(sandbox__reserve=4), 4) == (
        "sandbox.reserve = 4: of the 4 cores that may be used here 3 can be kept, for candidates need one"
    )
