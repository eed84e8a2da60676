"""Markdown, and docstrings as Markdown."""

from __future__ import annotations

import inspect
import json
import pathlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"
NOTICE = "<!-- Drawn from the code by `python -m tools.reference`; change it there. -->"


def page(title: str, *parts: str) -> str:
    """A page: its title, the notice, its parts."""
    return "\n\n".join([f"# {title}", NOTICE, *(part.strip("\n") for part in parts if part)]) + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a bar inside a cell is escaped."""
    lines = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in [header, *rows]]
    lines.insert(1, ["---"] * len(header))
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def code(text: str) -> str:
    """Text in backticks; nothing for an empty one."""
    return f"`{text}`" if text else ""


def value(default: Any) -> str:
    """A default as TOML would write it."""
    if isinstance(default, float):
        return code(f"{default:.10g}")
    return code(json.dumps(default, ensure_ascii=False))


def summary(thing: Any) -> str:
    """The first paragraph of a docstring, in one line, its roles and double backticks plain code."""
    return plain((inspect.getdoc(thing) or "").split("\n\n")[0])


def plain(text: str) -> str:
    """A docstring's text as Markdown in one line."""
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text)
    return " ".join(text.replace("``", "`").split())


def parameters_of(function: Callable[..., Any]) -> dict[str, str]:
    """What a docstring says of each parameter."""
    text = inspect.getdoc(function) or ""
    return {
        name: plain(meaning)
        for name, meaning in re.findall(r"^:param (\w+):\s*(.*?)(?=^:|\Z)", text, re.MULTILINE | re.DOTALL)
    }
