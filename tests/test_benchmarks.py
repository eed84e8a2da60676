"""Every benchmark is imported and says what it can do, and what takes seconds is measured once.

So none stands broken until somebody wants to measure. Those that need a GPU, another package or a cluster are
held by mypy and their ``--help`` alone; ``tests/policy/local/test_benchmarks.py`` runs the learner's at tiny
shapes.
"""

from __future__ import annotations

import pathlib
import runpy
import subprocess
import sys
from collections.abc import Iterator

import pytest

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "benchmarks"
#: Run by the Python of another package's environment, which has what they import.
PEERS = {"archive_peer", "sandbox_peer"}
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Scripts find each other beside themselves, as if run from there; no other test gets to see them."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = {name: sys.modules.pop(name) for name in NAMES if name in sys.modules}
    yield
    for name in NAMES:
        sys.modules.pop(name, None)
    sys.modules.update(before)


@pytest.mark.usefixtures("benchmarks")
@pytest.mark.parametrize("name", [name for name in NAMES if name not in PEERS])
def test_a_benchmark_says_how_it_is_called(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = FOLDER / f"{name}.py"
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    if "ArgumentParser(" not in script.read_text(encoding="utf-8"):
        # What several share, and no command of its own.
        runpy.run_path(str(script), run_name=name)
        return
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert not ended.value.code
    assert capsys.readouterr().out.startswith(f"usage: {name}.py")


#: What each says at its end, by its name and its arguments; ``FOLDER`` is one that the test gives.
SHORT = {
    "adopting --no-score FOLDER": "no",
    "ahc": "cores",
    "attacks --only NaN": "0 outcomes not as documented",
    "cascade --steps 1 --cascade-steps 1 --groups 1 --size 4 --budget 1": "WENT ON",
    "contention --seconds 0.1 --budget 0.1": "nothing, again",
    "driver --tokens 400 --sizes 4 --wait 0.01": "its size there",
    "limits archive --states 1000": "the best state",
    "replies --backend scripted --model none --replies 2 --problems cp26 --forms program "
    '--set policy.options.replies=["hello"]': "2 parse_error",
    "report_page --steps 1": "opened in",
    "schedule --steps 2 --groups 1 --program 0.1": "pipelined, deadline.share",
    "verifiers --quick": "met",
}


@pytest.mark.slow
@pytest.mark.parametrize("command", SHORT)
def test_a_short_measurement_comes_to_its_end(command: str, tmp_path: pathlib.Path) -> None:
    name, *arguments = command.replace("FOLDER", str(tmp_path / "folder")).split()
    script = str(FOLDER / f"{name}.py")
    ran = subprocess.run([sys.executable, script, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert SHORT[command] in ran.stdout


@pytest.mark.slow
def test_a_run_of_any_size_is_read(tmp_path: pathlib.Path) -> None:
    script = [sys.executable, str(FOLDER / "limits.py")]
    subprocess.run([*script, "database", "--rollouts", "9216", "--folder", tmp_path / "run"], check=True)
    ran = subprocess.run([*script, "read", tmp_path / "run"], check=True, capture_output=True, text=True)
    assert "8,704 rollouts" in ran.stdout
    assert "exit " not in ran.stdout
