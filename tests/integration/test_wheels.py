"""The distributions as users get them: wheels in a fresh environment, each with its own problems."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
#: What listing problems needs of the dependencies; the heavy ones play no part in it.
LIGHT = ["attrs", "cattrs", "click", "numpy", "pluggy", "rich", "tomli-w"]

pytestmark = pytest.mark.slow


def run(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The five wheels."""
    folder = tmp_path_factory.mktemp("wheels")
    sources = [ROOT, *(ROOT / "plugins" / f"ttd_{name}" for name in ("math", "kernels", "ahc", "bio"))]
    for source in sources:
        run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, source)
    return folder


def test_five_wheels_with_licence_types_and_entry_points(wheels: pathlib.Path) -> None:
    found = sorted(path.name.split("-")[0] for path in wheels.glob("*.whl"))
    assert found == ["ttd_ahc", "ttd_bio", "ttd_core", "ttd_kernels", "ttd_math"]
    for path in wheels.glob("*.whl"):
        names = zipfile.ZipFile(path).namelist()
        package = path.name.split("-")[0]
        assert f"{package}/py.typed" in names
        assert not any(name.startswith("tests/") for name in names)
    core = zipfile.ZipFile(next(wheels.glob("ttd_core-*.whl")))
    assert any(name.endswith("licenses/LICENSE") for name in core.namelist())


def test_problems_come_and_go_with_their_wheel(wheels: pathlib.Path, tmp_path: pathlib.Path) -> None:
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python, ttd = tmp_path / "venv" / "bin" / "python", tmp_path / "venv" / "bin" / "ttd"
    run(python, "-m", "pip", "install", "--quiet", *LIGHT)
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", *wheels.glob("ttd_core-*.whl"))
    assert json.loads(run(ttd, "list-problems", "--json")) == []
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", *wheels.glob("ttd_math-*.whl"))
    listed = json.loads(run(ttd, "list-problems", "--json"))
    assert [problem["name"] for problem in listed] == ["ac1", "ac2", "cp26", "cp32", "erdos"]
    assert {problem["distribution"] for problem in listed} == {"ttd-math"}
    run(python, "-m", "pip", "uninstall", "--quiet", "--yes", "ttd-math")
    assert json.loads(run(ttd, "list-problems", "--json")) == []
