"""How results are printed: tables and JSON on standard output, complaints on standard error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

#: ``--json`` on every command that prints a result.
json_option: Callable[[Any], Any] = click.option(
    "--json", "as_json", is_flag=True, help="Print the result as JSON."
)


def print_json(value: Any) -> None:
    """Strict JSON on standard output."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def complain(message: str, kind: str = "error") -> None:
    """One line on standard error."""
    click.echo(f"{kind}: {' '.join(message.split())}", err=True)


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Left-aligned columns two spaces apart, under a header in capitals; the last column is not padded."""
    cells = [[str(cell) for cell in row] for row in [[name.upper() for name in header], *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)
