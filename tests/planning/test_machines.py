"""Machines: what the driver's command says, cards by name, and what is refused."""

from __future__ import annotations

import pathlib

import pytest

from ttd_core.errors import UsageError
from ttd_core.planning import machines
from ttd_core.planning.machines import CARDS, Machine, named_machine, this_machine

HERE = Machine(None, 0, 0.0, 2, 8e9, False, "a test")


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path):
    """A driver's command on the path that prints some lines."""

    def say(text: str, code: int = 0) -> Machine:
        command = tmp_path / "nvidia-smi"
        command.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {code}\n")
        command.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        monkeypatch.setattr(machines, "_device_files", lambda: True)
        return this_machine()

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return say


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ("NVIDIA H200, 143771", "h200"),
        ("NVIDIA H100 80GB HBM3, 81559", "h100"),
        ("NVIDIA H100 PCIe, 81559", "h100-pcie"),
        ("NVIDIA A100-SXM4-80GB, 81920", "a100-80"),
        ("NVIDIA A100-SXM4-40GB, 40960", "a100-40"),
        ("NVIDIA GeForce RTX 4090, 24564", "rtx-4090"),
        ("NVIDIA RTX A6000, 49140", "a6000"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition, 97887", "rtx-pro-6000"),
        ("NVIDIA L4, 23034", "l4"),
        ("NVIDIA L40S, 46068", "l40s"),
        ("Tesla T4, 15360", "t4"),
        ("NVIDIA B200, 183359", "b200"),
    ],
)
def test_a_card_is_known_by_the_name_that_the_driver_has(driver, told: str, name: str) -> None:
    machine = driver(f"{told}\n{told}")
    assert machine.card == CARDS[name]
    assert machine.gpus == 2
    assert machine.gpu_bytes == int(told.rpartition(",")[2]) * 2**20
    assert machine.gpu_bytes == pytest.approx(CARDS[name].memory, rel=0.05)


def test_another_card_is_reckoned_as_the_next_by_memory_and_that_is_said(driver) -> None:
    machine = driver("NVIDIA Future 9999, 49140")
    assert machine.card is not None
    assert machine.device == "NVIDIA Future 9999"
    assert machine.card.bandwidth in (CARDS["l40s"].bandwidth, CARDS["a6000"].bandwidth)
    assert "'NVIDIA Future 9999' is not in the catalogue: its rates are those of a" in machine.source


def test_a_card_without_triton_has_no_lean_engine(driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    here = driver("NVIDIA H200, 143771")
    assert not here.has_triton
    # Of a card that is named nothing is known to be missing.
    assert named_machine(here, "h100", None, None, None).has_triton


def test_hidden_cards_and_a_driver_that_fails_are_no_gpu(driver, monkeypatch: pytest.MonkeyPatch) -> None:
    assert driver("NVIDIA-SMI has failed", code=9).card is None
    assert driver("not, a number").card is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert driver("NVIDIA H200, 143771").card is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert driver("NVIDIA H200, 143771\nNVIDIA H200, 143771").gpus == 1


def test_a_machine_is_named() -> None:
    named = named_machine(HERE, "H100 PCIe", None, 4, 64)
    assert (named.card, named.gpus, named.cores) == (CARDS["h100-pcie"], 4, 64)
    assert named.gpu_bytes == CARDS["h100-pcie"].memory
    other = named_machine(HERE, None, 24.0, None, None)
    assert other.card in (CARDS["rtx-4090"], CARDS["rtx-3090"], CARDS["l4"])
    assert "with the rates of a" in other.source
    assert named_machine(HERE, "h200", 100.0, None, None).gpu_bytes < CARDS["h200"].memory
    assert named_machine(named, "none", None, None, None).card is None
    assert named_machine(HERE, None, None, None, None) == HERE


def test_what_cannot_be_named() -> None:
    with pytest.raises(UsageError, match=r"--gpu h20: not in the catalogue .* Did you mean 'h200'"):
        named_machine(HERE, "h20", None, None, None)
    with pytest.raises(UsageError, match="--gpus: there is no GPU here"):
        named_machine(HERE, None, None, 2, None)
