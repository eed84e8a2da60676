"""Wrong inputs at the doors of a run: one clear line each, the exit code of its kind, nothing left behind."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
from collections.abc import Callable

import pytest

Ttd = Callable[..., "subprocess.Popen[str]"]


def refused(process: subprocess.Popen[str], code: int) -> str:
    out, err = process.communicate(timeout=180)
    assert process.returncode == code, (process.returncode, out, err)
    lines = [line for line in err.strip().splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    return lines[0]


def test_unknown_problem(ttd: Ttd, tmp_path: pathlib.Path) -> None:
    line = refused(ttd("run", "nosuch"), code=2)
    assert "nosuch" in line
    assert "Installed: " in line
    assert not (tmp_path / "runs").exists()


def test_unknown_model(ttd: Ttd, tmp_path: pathlib.Path, problem_file: pathlib.Path) -> None:
    line = refused(ttd("run", f"{problem_file}:Letters", "--model", "smollm2-135n"), code=3)
    assert "Did you mean 'smollm2-135m'?" in line
    assert not (tmp_path / "runs").exists()


def test_unreachable_hub(ttd: Ttd, problem_file: pathlib.Path) -> None:
    # Port 9 of this machine answers nobody: a hub that cannot be reached, without leaving the machine.
    process = ttd(
        "run", f"{problem_file}:Letters", "--model", "nobody/nothing", HF_ENDPOINT="http://127.0.0.1:9"
    )
    line = refused(process, code=3)
    assert "nobody/nothing" in line
    assert "the hub did not give it" in line


@pytest.mark.slow
def test_folder_without_a_model(ttd: Ttd, tmp_path: pathlib.Path, problem_file: pathlib.Path) -> None:
    (tmp_path / "empty").mkdir()
    line = refused(ttd("run", f"{problem_file}:Letters", "--model", "empty"), code=3)
    assert "neither config.json nor a .gguf file" in line


@pytest.mark.slow
def test_prompt_longer_than_the_context(
    ttd: Ttd, tmp_path: pathlib.Path, problem_file: pathlib.Path, model_folder: pathlib.Path
) -> None:
    process = ttd(
        "run", f"{problem_file}:Letters", "--model", model_folder, "--set", "policy.context=16", "--name", "c"
    )
    assert "the context holds 16" in refused(process, code=2)


@pytest.fixture
def small_disk(tmp_path: pathlib.Path) -> pathlib.Path:
    """A full-sized file system of 1.5 MB, for this test only."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    return folder


def test_full_disk_keeps_what_is_committed(
    ttd: Ttd, tmp_path: pathlib.Path, problem_file: pathlib.Path, small_disk: pathlib.Path
) -> None:
    replies = tmp_path / "replies.json"
    replies.write_text(json.dumps([chr(97 + n) * 40_000 for n in range(16)]))
    try:
        process = ttd(
            "run",
            f"{problem_file}:Letters",
            "--policy",
            "scripted",
            "--set",
            f"policy.options.file={replies}",
            "--groups",
            "1",
            "--group-size",
            "4",
            "--steps",
            "20",
            "--runs-dir",
            small_disk,
            "--name",
            "r",
        )
        line = refused(process, code=3)
        assert "the disk is full" in line
        best = json.loads((small_disk / "r" / "best" / "best.json").read_text())
        assert best["score"] == 40_000
        process = ttd("best", small_disk / "r", "--json")
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert json.loads(out)[0]["score"] == 40_000
    finally:
        subprocess.run(["umount", "-l", str(small_disk)], check=False)
    assert not os.listdir(small_disk)


def test_an_archive_with_room_for_seeds_alone(
    ttd: Ttd, tmp_path: pathlib.Path, problem_file: pathlib.Path
) -> None:
    line = refused(ttd("run", f"{problem_file}:Letters", "--set", "search.capacity=8"), code=2)
    assert "search.capacity = 8 leaves no room beside the 8 seeds" in line
    assert not (tmp_path / "runs").exists()
