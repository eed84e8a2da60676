"""`ttd ahc` on the command line."""

from __future__ import annotations

import pytest
from click.testing import CliRunner, Result

from ttd_ahc.ahc039 import Fishing, official_seeds
from ttd_ahc.commands import ahc, parse_seeds
from ttd_core.cli import main
from ttd_core.errors import UsageError


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(ahc, list(arguments), standalone_mode=False)


def test_inputs_are_written_byte_for_byte(run, tmp_path) -> None:
    result = run("inputs", "ahc039", "--seeds", "0,3-4", "-o", "in/deep")
    assert result.exception is None
    assert sorted(path.name for path in (tmp_path / "in/deep").iterdir()) == ["0.txt", "3.txt", "4.txt"]
    assert (tmp_path / "in/deep/3.txt").read_bytes() == Fishing.make_case(3).text.encode()


def test_official_inputs_are_those_of_the_official_seeds(run, tmp_path) -> None:
    assert run("inputs", "ahc039", "--official", "-o", "in").exception is None
    assert {path.stem for path in (tmp_path / "in").iterdir()} == set(map(str, official_seeds()))
    assert run("inputs", "ahc058", "--official", "-o", "in").exception.exit_code == 2


def ttd(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


def test_an_answer_is_drawn_or_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.txt").write_text("4 0 0 50000 0 50000 50000 0 50000")
    (tmp_path / "bad.txt").write_text("4 0 0 2 1 2 2 0 2")
    one = ("--cases", "1", "--first-seed", "5")
    result = ttd("show", "ahc039", "good.txt", *one, "--output", "good.svg")
    assert result.exit_code == 0
    assert (tmp_path / "good.svg").read_text().startswith("<svg")
    assert "ahc039: valid" in result.stdout
    result = ttd("show", "ahc039", "bad.txt", *one, "--output", "bad.svg")
    assert result.exit_code == 1
    assert "not parallel" in result.stdout
    assert not (tmp_path / "bad.svg").exists()
    assert "add --cases 1" in ttd("eval", "ahc039", "good.txt").stderr


def test_a_program_is_run_and_drawn(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = '#include <cstdio>\nint main() { for (int i = 0; i < 500; i++) std::puts(i ? "-1" : "0 0"); }'
    (tmp_path / "idle.cpp").write_text(code)
    result = ttd("show", "ahc058", "idle.cpp", "--cases", "1", "--output", "idle.svg")
    assert result.exit_code == 0, result.output
    assert "power of level 0" in (tmp_path / "idle.svg").read_text()


@pytest.mark.parametrize("text", ["", "a", "5-3", "-1", "0-99999999999", "18446744073709551616", "1,,2"])
def test_seeds_that_are_none_are_told(text) -> None:
    with pytest.raises(UsageError, match="is no seed"):
        parse_seeds(text)


def test_seeds_are_read_in_order() -> None:
    assert parse_seeds("7,0-2, 18446744073709551615") == [7, 0, 1, 2, 2**64 - 1]


def test_a_problem_that_is_no_contest_is_told(run) -> None:
    pytest.importorskip("ttd_math")
    assert "no contest" in str(run("inputs", "erdos", "-o", "in").exception)
