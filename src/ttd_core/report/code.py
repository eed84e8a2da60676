"""Programs on a page: highlighted, and as the changes from one to the next."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

import attrs
import pygments
from markupsafe import Markup
from pygments import lexers
from pygments.formatters import HtmlFormatter
from pygments.util import ClassNotFound

#: Lines kept around a change.
CONTEXT = 3
#: A longer program is cut here, saying so.
LONGEST = 3000


@attrs.frozen
class DiffLine:
    """One line of a change.

    :param kind: ``add``, ``del``, ``same``, or ``gap`` where unchanged lines are left out.
    :param html: highlighted.
    """

    kind: str
    html: Markup

    @property
    def sign(self) -> str:
        """What stands before the line."""
        return {"add": "+", "del": "−", "same": " ", "gap": "⋯"}[self.kind]


def highlight_lines(source: str, language: str) -> list[Markup]:
    """Each line of a program as HTML, whole in itself; at most :data:`LONGEST` of them."""
    lines = _split(source)
    shown = lines[:LONGEST]
    try:
        lexer = lexers.get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        lexer = lexers.get_lexer_by_name("text", stripnl=False, ensurenl=False)
    html = pygments.highlight(
        "\n".join(shown).encode("utf-8", "replace").decode(),
        lexer,
        HtmlFormatter(nowrap=True, classprefix="k-"),
    )
    # pygments has escaped it.
    result = [Markup(line) for line in html.split("\n")[: len(shown)]]
    # A lexer may drop blank lines at the end; the diff counts on every line.
    result += [Markup("")] * (len(shown) - len(result))
    if len(lines) > LONGEST:
        result.append(Markup.escape(f"… {len(lines) - LONGEST} more lines"))
    return result


def diff(old: str, new: str, language: str) -> list[DiffLine]:
    """What changed from one program to the next, unchanged lines beyond :data:`CONTEXT` left out.

    Empty when nothing did.
    """
    before, after = _split(old)[:LONGEST], _split(new)[:LONGEST]
    html_before, html_after = highlight_lines(old, language), highlight_lines(new, language)
    # Its handling of frequent lines stays on: without it, a candidate could write programs that take hours.
    matcher = difflib.SequenceMatcher(None, before, after)
    result: list[DiffLine] = []
    for number, group in enumerate(matcher.get_grouped_opcodes(CONTEXT)):
        if number:
            result.append(DiffLine("gap", Markup("")))
        for tag, first, last, start, end in group:
            if tag == "equal":
                result += _lines("same", html_after, start, end)
            else:
                result += _lines("del", html_before, first, last)
                result += _lines("add", html_after, start, end)
    return result


def _split(source: str) -> list[str]:
    """Lines as the highlighter counts them: ``str.splitlines`` also breaks at form feeds and the like."""
    lines = source.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines[:-1] if not lines[-1] else lines


def _lines(kind: str, html: Sequence[Markup], start: int, end: int) -> Iterator[DiffLine]:
    return (DiffLine(kind, line) for line in html[start:end])


def count_changes(lines: Sequence[DiffLine]) -> str:
    """``"3 lines added, 1 removed"``."""
    added = sum(line.kind == "add" for line in lines)
    removed = sum(line.kind == "del" for line in lines)
    return f"{added} line{'s' if added != 1 else ''} added, {removed} removed"
