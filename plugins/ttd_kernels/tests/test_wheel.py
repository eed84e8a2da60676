"""The plugin as users get it: its wheel and the core's in a fresh environment."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
#: What listing problems needs of the dependencies; torch and Triton play no part in it.
LIGHT = ["attrs", "cattrs", "click", "numpy", "pluggy", "rich", "tomli-w"]

pytestmark = pytest.mark.slow


def run(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def test_two_wheels_list_the_kernel_problems(tmp_path: pathlib.Path) -> None:
    for source in (ROOT, ROOT / "plugins" / "ttd_kernels"):
        run(sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, source)
    (wheel,) = tmp_path.glob("ttd_kernels-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for part in (
        "py.typed",
        "harness/judge_process.py",
        "helpers/service.py",
        "prompts/trimul.md",
        "prompts/primer.md",
        "prompts/primer_example.md",
        "programs/trimul_start.py",
    ):
        assert f"ttd_kernels/{part}" in names
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python, ttd = tmp_path / "venv" / "bin" / "python", tmp_path / "venv" / "bin" / "ttd"
    run(python, "-m", "pip", "install", "--quiet", *LIGHT)
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", *tmp_path.glob("*.whl"))
    listed = json.loads(run(ttd, "list-problems", "--json"))
    assert [problem["name"] for problem in listed] == [
        "dora_norm",
        "mla_decode",
        "relu2_mlp",
        "rmsnorm",
        "trimul",
    ]
    assert {problem["distribution"] for problem in listed} == {"ttd-kernels"}
