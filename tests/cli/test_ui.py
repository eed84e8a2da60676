"""``ttd ui`` as a process: its address, its end, and what it says when it cannot serve."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest
from click.testing import CliRunner

from ttd_core.cli import main

TTD = [sys.executable, "-m", "ttd_core.cli"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM)])
def test_it_serves_until_it_is_told_to_end(tmp_path, number, code) -> None:
    process = subprocess.Popen(
        [*TTD, "ui", str(tmp_path), "--port", "0", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        told = json.loads("".join(process.stdout.readline() for _ in range(4)))
        assert told["runs"] == str(tmp_path)
        base, _, token = told["address"].partition("/?token=")
        request = urllib.request.Request(f"{base}/stream", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=20) as stream:
            # A page is open, and its stream does not keep the server.
            assert stream.readline() == b"retry: 1000\n"
            process.send_signal(number)
            _, complaints = process.communicate(timeout=20)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, complaints) == (code, "")


def test_a_port_that_is_taken_is_one_line(tmp_path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(main, ["ui", str(tmp_path), "--port", str(port)])
    assert result.exit_code == 3
    assert result.stderr == (
        f"error: port {port} of 127.0.0.1 cannot be used: Address already in use. Choose another with "
        "--port, or a free one with --port 0\n"
    )


def test_an_interface_that_is_not_there_is_one_line(tmp_path) -> None:
    result = CliRunner().invoke(main, ["ui", str(tmp_path), "--host", "no-such-host.invalid"])
    assert result.exit_code == 3
    assert result.stderr.startswith("error: --host no-such-host.invalid: there is no such interface (")
    assert result.stderr.count("\n") == 1


def test_another_interface_is_warned_of(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("ttd_core.ui.server.PageServer.serve", lambda self: self._socket.close())
    result = CliRunner().invoke(main, ["ui", str(tmp_path), "--host", "0.0.0.0", "--port", "0"])
    assert result.exit_code == 0
    assert result.stderr == (
        "warning: --host 0.0.0.0: other machines can reach this page, and read its traffic and token on the "
        "way; a tunnel (ssh -L) needs no such flag\n"
    )
    assert f"{tmp_path} is shown at http://{socket.gethostname()}:" in result.stdout


def test_a_folder_that_is_not_there(tmp_path) -> None:
    result = CliRunner().invoke(main, ["ui", str(tmp_path / "nothing")])
    assert result.exit_code == 2
    assert "does not exist" in result.stderr


def test_the_usual_folder_may_come_to_be_later(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("ttd_core.ui.server.PageServer.serve", lambda self: self._socket.close())
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["ui", "--port", "0"])
    assert result.exit_code == 0
    assert result.stderr == (
        "note: there is no folder runs yet; the page shows a run as soon as ttd run makes one\n"
    )
    assert result.stdout.startswith("runs is shown at http://127.0.0.1:")
    (tmp_path / "runs").mkdir()
    assert CliRunner().invoke(main, ["ui", "--port", "0"]).stderr == ""


def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch) -> None:
    for name in [name for name in sys.modules if name.startswith("ttd_core.ui")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = CliRunner().invoke(main, ["ui", str(tmp_path)])
    assert result.exit_code == 3
    assert (
        result.stderr
        == "error: the page needs the package uvicorn; install it with: pip install 'ttd-core[ui]'\n"
    )
