"""The root command: lazy, helpful about wrong words, one line an error, quiet about closed pipes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import click
import pytest

from ttd_core.cli import COMMANDS
from ttd_core.cli.group import Lazy, TtdGroup
from ttd_core.errors import PluginError, StorageError

TTD = [sys.executable, "-m", "ttd_core.cli"]


def group(error: BaseException) -> TtdGroup:
    """A root group whose one command raises."""

    @click.command()
    def fail() -> None:
        raise error

    root = TtdGroup("ttd", lazy={})
    root.add_command(fail)
    return root


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (StorageError("disk full:\n  free some"), "error: disk full: free some\n", 3),
        (PluginError("p", "h", "r"), "error: plugin p: h: r\n", 3),
        (click.BadParameter("no"), "error: Invalid value: no. See: ttd fail --help\n", 2),
        (click.ClickException("no"), "error: no\n", 1),
    ],
)
def test_an_error_for_a_person_is_one_line(capsys, error: BaseException, line: str, code: int) -> None:
    with pytest.raises(SystemExit) as caught:
        group(error).main(["fail"])
    assert caught.value.code == code
    assert capsys.readouterr().err == line


def test_anything_else_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        group(ZeroDivisionError()).main(["fail"])


def test_ctrl_c_is_130(capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        group(KeyboardInterrupt()).main(["fail"])
    assert caught.value.code == 130


def test_an_integer_result_is_the_exit_code() -> None:
    root = TtdGroup("ttd", lazy={})

    @root.command()
    def seven() -> int:
        return 7

    with pytest.raises(SystemExit) as caught:
        root.main(["seven"])
    assert caught.value.code == 7


@pytest.mark.parametrize(
    ("word", "hint"), [("list-problem", "Did you mean 'list-problems'?"), ("rnu", "Did you mean 'run'?")]
)
def test_an_unknown_command(ttd, word: str, hint: str) -> None:
    result = ttd(word)
    assert result.exit_code == 2
    assert result.stderr == f"error: there is no command '{word}'. {hint} See: ttd --help\n"


def test_an_unknown_option(ttd) -> None:
    result = ttd("run", "--stpes", "3")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: No such option '--stpes'")
    assert result.stderr.count("\n") == 1


def test_help_names_every_command_and_an_example(ttd) -> None:
    result = ttd("--help")
    assert result.exit_code == 0
    assert "Example:" in result.stdout
    for name, lazy in COMMANDS.items():
        assert name in result.stdout
        assert lazy.help in result.stdout


def test_version(ttd) -> None:
    assert ttd("--version").stdout.startswith("ttd, version ")


def test_a_plugin_adds_a_command(ttd, install) -> None:
    source = """
        import click
        from ttd_core import hookimpl

        @click.command("greet", help="Say hello.")
        def greet():
            click.echo("hello")

        @click.command("show")
        def show():
            click.echo("not mine to replace")

        @hookimpl
        def ttd_commands(cli):
            cli.add_command(greet)
            cli.add_command(show)
    """
    install("ttd-greet", {"greet_plugin": source}, plugins={"greet": "greet_plugin"})
    install("ttd-bad", {"bad_plugin": "raise OSError('no library')"}, plugins={"bad": "bad_plugin"})
    # The group asks plugins once, so each test of plugins takes a group of its own.
    root = TtdGroup("ttd", lazy={"show": Lazy("ttd_core.cli.show:show", "Show a problem.")})
    from click.testing import CliRunner

    result = CliRunner().invoke(root, ["greet"])
    assert result.exit_code == 0
    assert result.stdout == "hello\n"
    assert result.stderr.splitlines() == [
        "warning: plugin bad (ttd-bad 1.0): import: OSError: no library (bad_plugin.py:1)",
        "warning: a plugin adds the command 'show', which ttd has already",
    ]
    assert "Say hello." in CliRunner().invoke(root, ["--help"]).stdout


def test_listing_problems_loads_nothing_heavy() -> None:
    """What ``ttd list-problems`` imports, from a real process: nothing that takes long to load."""
    program = (
        "import sys\nfrom ttd_core.cli import main\n"
        "try:\n    main(['list-problems', '--json'])\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "print(*sorted(sys.modules), sep='\\n', file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules = set(result.stderr.split())
    heavy = {"torch", "transformers", "peft", "numpy", "scipy", "rich", "cattrs", "pluggy", "ray", "plotly"}
    assert modules & heavy == set()
    assert not [
        name for name in modules if name.startswith(("ttd_math", "ttd_kernels", "ttd_ahc", "ttd_bio"))
    ]
    own = {name for name in modules if name.startswith("ttd_core")}
    assert own <= {
        "ttd_core",
        "ttd_core.cli",
        "ttd_core.cli.group",
        "ttd_core.cli.listing",
        "ttd_core.cli.output",
        "ttd_core.plugin",
        "ttd_core.plugin.entries",
        "ttd_core.errors",
        "ttd_core.text",
    }
    assert len(modules) < 400


def test_a_closed_pipe_ends_quietly() -> None:
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run(
        [*TTD, "list-problems"], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert result.returncode == 141
    assert result.stderr == ""


def test_a_terminate_signal_default_is_left_alone() -> None:
    """Importing the command line installs no signal handler of its own."""
    program = "import signal, ttd_core.cli; print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "True\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
