"""Every cheat scores 0, and its verdict says why; the same programs on a GPU where there is one."""

from __future__ import annotations

import pathlib
import re

import pytest
import torch

from ttd_core.config.settings import fill
from ttd_core.package_files import package_text
from ttd_kernels.harness import compare
from ttd_kernels.testing import Cheat, LargeTriMul, SmallTriMul, all_cheats, judged, verifier_path

FOLDER = pathlib.Path(__file__).parent / "cheats"
CHEATS = all_cheats(FOLDER)


def _on(device: str) -> list[Cheat]:
    return [cheat for cheat in CHEATS if device in cheat.where]


@pytest.mark.parametrize("cheat", _on("cpu"), ids=lambda cheat: cheat.name)
def test_a_cheat_is_caught(cheat: Cheat, executor) -> None:
    options = {"devices": "cpu", "timeout_s": 60.0} | cheat.options
    problem = SmallTriMul(fill(SmallTriMul.options_type, options))
    by_the_clock = {"rejected", "infrastructure"} & set(cheat.status.split("|"))
    problem.measure = bool(by_the_clock or cheat.options)
    verdict = judged(problem, cheat.source, executor.run)
    assert cheat.caught_by(verdict), (verdict.status, verdict.message)


def test_what_cheats_start_from_is_right(executor) -> None:
    options = {"devices": "cpu", "timeout_s": 60.0, "generalise": "refuse"}
    problem = SmallTriMul(fill(SmallTriMul.options_type, options))
    right = (FOLDER / "right.py").read_text() + "\n\ncustom_kernel = right\n"
    verdict = judged(problem, right, executor.run)
    assert verdict.ok, verdict.message
    assert verdict.reward is not None
    assert verdict.reward.metrics["generalises"] == "1 of 1"
    assert verdict.reward.metrics["triton_kernels"] == []
    (unseen_us,) = verdict.reward.metrics["unseen_us"]
    assert unseen_us > 0.0, "its calls were looked at, and honest ones are found complete"
    assert verdict.reward.metrics["seconds"]["repeats"]["calls"] > 0.0


def test_cheats_reach_for_what_the_harness_has() -> None:
    """A cheat that looks for an old name would be caught for the wrong reason, on a GPU only for some."""
    sources = "\n".join(cheat.source for cheat in CHEATS)
    service = package_text("ttd_kernels", "helpers", "service.py")
    memory = package_text("ttd_kernels", "helpers", "shared_memory.py")
    names = set(re.findall(r"SERVICE\.(\w+)", sources))
    assert {"do_go", "copy_out", "start_semaphore", "done_semaphore"} <= names
    assert [name for name in names if not re.search(rf"self\.{name}\b|def {name}\b", service)] == []
    assert "class Service:" in service
    of_semaphores = set(re.findall(r"SERVICE\.(?:start|done)_semaphore\.(\w+)", sources))
    assert of_semaphores == {"wait", "signal", "_cell"}
    assert [name for name in of_semaphores if not re.search(rf"self\.{name}\b|def {name}\b", memory)] == []
    assert "_clock" in service
    patched = next(cheat.source for cheat in CHEATS if cheat.name == "patches_the_harness")
    assert all(
        f'"{function.__name__}"' in patched for function in (compare.describe_mismatch, compare.all_close)
    )
    assert "def expected_outputs" in verifier_path().read_text()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("cheat", CHEATS, ids=lambda cheat: cheat.name)
def test_a_cheat_is_caught_on_a_gpu(cheat: Cheat, executor) -> None:
    options = {"tests": 4, "hidden": 3, "repeats": 10, "timeout_s": 120.0} | cheat.options
    verdict = judged(LargeTriMul(fill(LargeTriMul.options_type, options)), cheat.source, executor.run)
    assert cheat.caught_by(verdict), (verdict.status, verdict.message)
