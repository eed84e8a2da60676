"""How long a test may take: a minute, or ten where a marker says that it is long."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).parent.parent

#: Prints the limit of each test: its own, or that of all.
TESTS = """
import pytest

@pytest.fixture(autouse=True)
def limit(request):
    own = request.node.get_closest_marker("timeout")
    print(request.node.name, own.args[0] if own else request.config.getini("timeout"))

def test_fast(): pass

@pytest.mark.slow
def test_slow(): pass

@pytest.mark.peer
def test_peer(): pass

@pytest.mark.ray
def test_ray(): pass

@pytest.mark.slow
@pytest.mark.timeout(900)
def test_own(): pass
"""


def test_fast_tests_get_a_minute_and_long_ones_ten(tmp_path: pathlib.Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "conftest.py").write_text((ROOT / "conftest.py").read_text())
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    markers = "".join(f"\n    {line}" for line in options["markers"])
    (tmp_path / "pytest.ini").write_text(f"[pytest]\ntimeout = {options['timeout']}\nmarkers ={markers}\n")
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", tmp_path]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    limits = dict(line.lstrip(".").split() for line in done.stdout.splitlines() if "test_" in line)
    assert {name: float(limit) for name, limit in limits.items()} == {
        "test_fast": 60,
        "test_slow": 600,
        "test_peer": 600,
        "test_ray": 600,
        "test_own": 900,
    }
