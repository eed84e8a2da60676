"""What one engine breaks, in a process of its own, costs its rows and no others."""

from __future__ import annotations

import pathlib
import runpy
from typing import Any

import pytest

CHILD = """
import sys, time
sys.path.insert(0, {folder!r})
import engines
engines.wait_for_turn()
kind = sys.argv[1]
print("engine", kind)
if kind == "broken":
    sys.exit("the device is gone")
engines.send(name=kind, rate=1.5)
if kind == "hangs":
    time.sleep(60)
engines.finish()
"""


@pytest.fixture
def tools(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> dict[str, Any]:
    folder = request.config.rootpath / "benchmarks"
    (tmp_path / "child.py").write_text(CHILD.format(folder=str(folder)))
    tools = runpy.run_path(str(folder / "engines.py"), run_name="engines")

    def job(kind: str, **options: Any) -> Any:
        return tools["Job"](kind, [str(tmp_path / "child.py"), kind], **options)

    return tools | {"job": job}


def test_a_broken_engine_costs_its_own_rows(
    tools: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    job, shown = tools["job"], []
    jobs = [job("first"), job("broken", otherwise=job("plainer", quiet=True)), job("last")]
    rows = tools["run"](jobs, 60, 30, shown.append)
    assert [row["name"] for row in rows] == ["first", "plainer", "last"]
    assert shown == rows
    said = capsys.readouterr().out
    assert "broken: ended with code 1; it said last:" in said
    assert "  | the device is gone" in said
    assert "broken gave no row; next: plainer" in said
    assert "engine first" in said
    assert "engine plainer" not in said


def test_an_engine_that_hangs_is_stopped(tools: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    rows = tools["run"]([tools["job"]("hangs"), tools["job"]("late")], 6, 1, lambda _: None)
    said = capsys.readouterr().out
    assert "hangs: stopped after 1 s" in said
    assert {row["name"] for row in rows} <= {"hangs", "late"}


def test_what_there_is_no_time_for_is_named(
    tools: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert tools["run"]([tools["job"]("first"), tools["job"]("last")], 0, 30, lambda _: None) == []
    assert capsys.readouterr().out == "no time left for first, last: 0 s are over\n"
