"""Every benchmark is imported and says what it can do: none stands broken until somebody wants to measure."""

from __future__ import annotations

import pathlib
import runpy
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
