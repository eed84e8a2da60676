"""The root group: commands load on use, and every error is shown as it should be.

Errors meant for a person are one line on standard error with the error's own exit code; anything else is a
bug and keeps its traceback, made safe to show.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import sys
import traceback
import types
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import click

from ttd_core.cli.output import complain, say
from ttd_core.errors import RegistryClashError, TtdError, UsageError, did_you_mean

INTERRUPTED = 130
#: What a shell reports for a process that a closed pipe ended.
PIPE_CLOSED = 141
#: Characters told of a name that is too long.
_NAME_CHARS = 60


@attrs.frozen
class Lazy:
    """A command that is imported when it is called.

    :param target: ``module:attribute``.
    :param help: one line for the list of commands, the same as the command's own.
    """

    target: str
    help: str

    def load(self) -> click.Command:
        """Import the command."""
        module, _, attribute = self.target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


class TtdGroup(click.Group):
    """``ttd``: built-in commands by name, and those that plugins add.

    :param lazy: the built-in commands.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, Lazy], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = dict(lazy)
        self._plugins_asked = False

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, show errors, exit."""
        name = prog_name or "ttd"
        if not standalone_mode:
            return super().main(args, name, complete_var, standalone_mode=False, **extra)
        sys.excepthook = _show_bug
        try:
            code = super().main(args, name, complete_var, standalone_mode=False, **extra)
            sys.stdout.flush()
        except click.Abort:
            code = INTERRUPTED
        except BrokenPipeError:
            code = _leave_closed_pipe()
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            code = error.exit_code
        except click.UsageError as error:
            complain(_with_hint(error))
            code = error.exit_code
        except click.ClickException as error:
            complain(error.format_message())
            code = error.exit_code
        except TtdError as error:
            complain(str(error))
            code = error.exit_code
        except OSError as error:
            # Whatever looks for a file may be given a name that no file can have.
            if error.errno != errno.ENAMETOOLONG:
                raise
            complain(f"{str(error.filename)[:_NAME_CHARS]}...: no file can have so long a name")
            code = UsageError.exit_code
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a closed pipe ends it quietly."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise click.exceptions.Exit(_leave_closed_pipe()) from None

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """A built-in command, imported now, or a plugin's."""
        if name in self.lazy:
            return self.lazy[name].load()
        self._ask_plugins()
        return super().get_command(ctx, name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Built-in commands in the order of use, then the plugins'."""
        self._ask_plugins()
        return [*self.lazy, *super().list_commands(ctx)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing the built-in ones."""
        rows = []
        for name in self.list_commands(ctx):
            command = self.commands.get(name)
            rows.append((name, command.get_short_help_str(80) if command else self.lazy[name].help))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with a suggestion for a command that is not there."""
        name = args[0]
        if name.startswith("-") or self.get_command(ctx, name) is not None:
            return super().resolve_command(ctx, args)
        hint = did_you_mean(name, self.list_commands(ctx))
        raise click.UsageError(f"there is no command '{name}'.{hint}", ctx)

    def _ask_plugins(self) -> None:
        """Let plugins add their commands, once; what fails is reported and stops nothing else."""
        if self._plugins_asked:
            return
        self._plugins_asked = True
        from ttd_core.plugin.hooks import Hooks  # noqa: PLC0415 - imports plugins and numpy; most calls need neither

        added = click.Group("plugins")
        try:
            hooks = Hooks()
            hooks.commands(added)
            failures: list[TtdError] = list(hooks.failures)
        except TtdError as error:
            failures = [error]
        for name, command in added.commands.items():
            if name in self.lazy:
                failures.append(
                    RegistryClashError(f"a plugin adds the command '{name}', which ttd has already")
                )
            else:
                self.add_command(command, name)
        for failure in failures:
            complain(str(failure), "warning")


def _show_bug(kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
    """Print a traceback; its message may quote anything."""
    say("".join(traceback.format_exception(kind, error, trace)).rstrip(), err=True)


def _with_hint(error: click.UsageError) -> str:
    message = error.format_message().rstrip()
    if error.ctx is None:
        return message
    stop = "" if message.endswith((".", "?", "!")) else "."
    return f"{message}{stop} See: {error.ctx.command_path} --help"


def _leave_closed_pipe() -> int:
    # The interpreter flushes standard output once more at exit, which must not fail again.
    with contextlib.suppress(OSError, ValueError):
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
    return PIPE_CLOSED
