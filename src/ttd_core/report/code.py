"""Programs on a page: highlighted, and as the changes from one to the next.

Candidates wrote them, so what one costs is bounded: lexers and difflib alike take time that grows with the
square of a text, or worse, where it is made for that.
"""

from __future__ import annotations

import difflib
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import pygments
import pygments.token
from markupsafe import Markup
from pygments import lexers
from pygments.formatters import HtmlFormatter
from pygments.lexer import ExtendedRegexLexer, LexerContext, RegexLexer
from pygments.util import ClassNotFound

#: Lines kept around a change.
CONTEXT = 3
#: A longer program is cut here, saying so: lines, and characters of a line.
LONGEST = 3000
LONGEST_LINE = 2000
#: Characters that a lexer sees at once.
_WINDOW = 1000
#: Comparisons of lines that a diff may take; what is not compared counts as changed.
_MOST_WORK = 2_000_000


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


@functools.lru_cache(maxsize=8)
def highlight_lines(source: str, language: str) -> tuple[Markup, ...]:
    """Each line of a program as HTML, whole in itself.

    At most :data:`LONGEST` lines of :data:`LONGEST_LINE` characters each; what is left out is said.
    """
    lines = _split(source)
    shown = [line[:LONGEST_LINE] for line in lines[:LONGEST]]
    text = "\n".join(shown).encode("utf-8", "replace").decode()
    html = pygments.format(_lexed(text, language), HtmlFormatter(nowrap=True, classprefix="k-"))
    # pygments has escaped it.
    result = [Markup(line) for line in html.split("\n")[: len(shown)]]
    # A lexer may drop blank lines at the end; the diff counts on every line.
    result += [Markup("")] * (len(shown) - len(result))
    for number, line in enumerate(lines[:LONGEST]):
        if len(line) > LONGEST_LINE:
            result[number] += Markup.escape(f" … {len(line) - LONGEST_LINE} more characters")
    if len(lines) > LONGEST:
        result.append(Markup.escape(f"… {len(lines) - LONGEST} more lines"))
    return tuple(result)


def _lexed(text: str, language: str) -> Iterator[tuple[Any, str]]:
    """The text in tokens of a language, none where it is not known.

    The lexer goes on from window to window in the state that it was in, and no expression looks beyond one.
    """
    try:
        lexer = lexers.get_lexer_by_name(language)
    except ClassNotFound:
        lexer = None
    if not isinstance(lexer, RegexLexer):
        yield pygments.token.Text, text
        return
    context = LexerContext(text, 0, ["root"])
    while context.pos < len(text):
        context.end = min(context.pos + _WINDOW, len(text))
        if context.end < len(text):
            # Between two lines, if one ends in the window.
            context.end = text.rfind("\n", context.pos, context.end) + 1 or context.end
        for _, kind, piece in ExtendedRegexLexer.get_tokens_unprocessed(lexer, context=context):
            yield kind, piece


def diff(old: str, new: str, language: str) -> list[DiffLine]:
    """What changed from one program to the next, unchanged lines beyond :data:`CONTEXT` left out.

    Empty when nothing did.
    """
    before, after = _split(old)[:LONGEST], _split(new)[:LONGEST]
    html_before, html_after = highlight_lines(old, language), highlight_lines(new, language)
    matcher = _BoundedMatcher(before, after)
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


class _BoundedMatcher(difflib.SequenceMatcher[str]):
    """Compares lines until :data:`_MOST_WORK` is done; the rest counts as unlike."""

    def __init__(self, before: Sequence[str], after: Sequence[str]) -> None:
        super().__init__(None, before, after)
        #: For each line of ``before``, in how many places of ``after`` it and those above it are.
        places = (1 + len(self.b2j.get(line, ())) for line in before)  # type: ignore[attr-defined]
        self._work = [0, *itertools.accumulate(places)]
        self._left = _MOST_WORK

    def find_longest_match(
        self, alo: int = 0, ahi: int | None = None, blo: int = 0, bhi: int | None = None
    ) -> difflib.Match:
        """As in difflib, but empty once all work is done."""
        self._left -= self._work[-1 if ahi is None else ahi] - self._work[alo]
        if self._left < 0:
            return difflib.Match(alo, blo, 0)
        return super().find_longest_match(alo, ahi, blo, bhi)


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
