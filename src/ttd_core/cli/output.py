"""How results are printed: tables and JSON on standard output, complaints on standard error.

Everything a command prints goes through here, for much of it quotes what candidates, servers and files say:
nothing printed moves the cursor, sets colours, turns the direction of writing or passes for a line of ours.
"""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from ttd_core.text import showable, showable_line, without_surrogates

#: ``--json`` on every command that prints a result.
json_option: Callable[[Any], Any] = click.option(
    "--json", "as_json", is_flag=True, help="Print the result as JSON."
)


def say(text: str = "", *, err: bool = False) -> None:
    """Print lines for a person; controls within them are shown as escapes."""
    click.echo(showable(text), err=err)


def wrapped(text: str, width: int, indent: str = "  ") -> str:
    """Lines broken between words, so that a terminal breaks none in the midst of one.

    :param width: characters of a line; a longer word has a line of its own.
    :param indent: what the continued lines begin with.
    """
    return "\n".join(
        textwrap.fill(
            line,
            max(width, 20),
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
            drop_whitespace=True,
            replace_whitespace=False,
        )
        for line in text.split("\n")
    )


def say_wrapped(text: str, indent: str = "  ") -> None:
    """The same as :func:`say`, with lines broken between words where a terminal shows them."""
    if sys.stdout.isatty():
        text = wrapped(showable(text), shutil.get_terminal_size().columns, indent)
    say(text)


def say_whole(text: str) -> None:
    """Print a program or a prompt: itself into a file or a pipe, made safe to show on a terminal."""
    text = showable(text) if sys.stdout.isatty() else without_surrogates(text)
    # Told that colours are wanted, click leaves escapes of the text where they are.
    click.echo(text, nl=not text.endswith("\n"), color=True)


def print_json(value: Any) -> None:
    """Strict JSON on standard output; what a terminal would obey is escaped as JSON has it."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    if showable(text) != text:
        text = json.dumps(value, indent=2, allow_nan=False).replace("\x7f", "\\u007f")
    click.echo(text)


def complain(message: str, kind: str = "error") -> None:
    """One line on standard error."""
    click.echo(f"{kind}: {showable_line(message)}", err=True)


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Left-aligned columns two spaces apart, under a header in capitals; the last column is not padded."""
    cells = [[showable_line(str(cell)) for cell in row] for row in [[name.upper() for name in header], *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)
