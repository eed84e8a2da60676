"""`ttd certify` on the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from ttd_core.cli.certify import certify


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "h.json").write_text(json.dumps({"problem": "erdos", "h": [0.25, 0.75, 0.75, 0.25]}))
    return lambda *arguments: CliRunner().invoke(certify, list(arguments))


def test_writes_and_checks(run, tmp_path) -> None:
    result = run("erdos", "h.json")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("C5 <= 0.40625000000000000000\n")
    assert "written: h.cert.json, h.cert.h.npy" in result.output
    result = run("--check", "h.cert.json")
    assert result.exit_code == 0, result.output
    assert "h.cert.json: holds" in result.output


def test_json_and_output(run, tmp_path) -> None:
    result = run("erdos", "h.json", "-w", "other.json", "--json")
    assert result.exit_code == 0
    statement = json.loads(result.output)
    assert statement["bound"] == {
        "decimal": "0.40625000000000000000",
        "rounded": "up",
        "numerator": "13",
        "denominator": "32",
    }
    assert statement["written"] == ["other.json", "other.h.npy"]
    assert json.loads(run("--check", "other.json", "--json").output)["checked"] == "other.json"


def test_what_does_not_hold_is_an_error_with_its_own_exit_code(run, tmp_path) -> None:
    run("erdos", "h.json")
    np.save(tmp_path / "h.cert.h.npy", np.full(4, 0.5))
    error = run("--check", "h.cert.json").exception
    assert "is not the array that was certified" in str(error)
    assert error.exit_code == 1
    (tmp_path / "bad.json").write_text("[2.0, -1.0]")
    error = run("erdos", "bad.json").exception
    assert "not a valid construction of erdos" in str(error)
    assert error.exit_code == 1


@pytest.mark.parametrize(
    "arguments", [("h.json",), ("--check", "erdos", "h.json"), ("erdos", "h.json", "more")]
)
def test_wrong_arguments_are_told(run, arguments) -> None:
    error = run(*arguments).exception
    assert error.exit_code == 2
    assert "FILE" in str(error)


def test_a_file_that_is_no_certificate(run) -> None:
    assert "not a certificate" in str(run("--check", "h.json").exception)


def test_a_certificate_made_with_options_is_checked_with_them(run, tmp_path) -> None:
    (tmp_path / "long.json").write_text(json.dumps([0.25, 0.75] * 1500))
    refused = str(run("erdos", "long.json").exception)
    assert "3000 values; 2 to 1000 are allowed (-o max_values=3000 allows more)" in refused
    made = run("erdos", "long.json", "-o", "max_values=3000", "-o", "timeout_s=5")
    assert made.exit_code == 0, made.output
    statement = json.loads((tmp_path / "long.cert.json").read_text())
    assert statement["options"] == {"max_values": 3000}, "not those that have no say in a check"
    command = made.output.splitlines()[-1].removeprefix("check: ")
    assert command == "ttd certify --check long.cert.json" == statement["check"]
    checked = run(*command.split()[2:])
    assert checked.exit_code == 0, checked.output
    assert "long.cert.json: holds with max_values = 3000" in checked.output
    stricter = run("--check", "long.cert.json", "-o", "max_values=2999")
    assert "-o max_values=3000 allows more" in str(stricter.exception)


@pytest.mark.parametrize("options", [[1], {"max_values": [1]}, "max_values=3"])
def test_options_of_a_certificate_that_are_none_are_refused(run, tmp_path, options) -> None:
    run("erdos", "h.json")
    path = tmp_path / "h.cert.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"options": options}))
    error = run("--check", "h.cert.json").exception
    assert error.exit_code == 2
    assert "values by name" in str(error) or "max_values" in str(error)
    assert "\n" not in str(error)


def test_a_certificate_in_a_folder_with_a_blank_says_a_command_that_a_shell_can_run(run, tmp_path) -> None:
    (tmp_path / "my best").mkdir()
    made = run("erdos", "h.json", "-w", "my best/h.json")
    assert made.output.splitlines()[-1] == "check: ttd certify --check 'my best/h.json'"
