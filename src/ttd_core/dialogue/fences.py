"""Blocks of code in a reply: what stands between Markdown's fences, however a model set them.

Fences may be unclosed, indented, quoted, inside the strings of the program itself, or on a line with code.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

import attrs

from ttd_core.dialogue.literals import Literals
from ttd_core.text import universal_newlines

#: Fence labels that may hold a program of each language; no label fits every language.
_LABELS = {
    "python": re.compile(r"i?python[\d.]*|py[\d.]*"),
    "c++": re.compile(r"(?:c\+\+|cpp|gnu\+\+)\w*|cc|cxx|c|hpp"),
}
_MARKS = r"(?P<mark>`{3,}+|~{3,}+)"
#: Labels that say nothing of the language.
NEUTRAL = frozenset(["text", "txt", "plain", "plaintext", "none", "code", "source", "program", "solution"])
#: A fence at the beginning of a line, in a list's first line too.
_FENCE = re.compile(rf"[\s\ufeff]*+(?:(?:[-*+]|\d{{1,3}}[.)])[ \t]++)?{_MARKS}(?P<rest>.*+)")
#: A line of a quotation, and how it is marked.
_QUOTED = re.compile(r"[ \t]{0,3}(?:>[ \t]?)+")
#: The name of a language, and what follows it on the line: ``{.python}``, ``language-python`` and
#: ``python:name.py`` all mean python.
_LABEL = re.compile(r"[\s{.]*(?:lang(?:uage)?[-=:])?([\w+#]*(?:\.\w+)*)(.*)")
#: A language's name run together with the first statement.
_RUN_TOGETHER = re.compile(r"(python3?|py|cpp|c\+\+)((?:import|from|def|class|async|#include)\b.*)")
#: What tells code from attributes (``title="x.py"``, ``{linenos=true}``, ``:name.py``) behind a label.
_CODE = {
    "python": re.compile(
        r"""import\s+\w|from\s+\S+\s+import\b|(?:async\s+)?def\s+\w|class\s+\w|@\w|\#|[rRbBuUfF]?["']"""
        r"|(?:if|while|with|try)\b.*:|for\b.*\bin\b.*:|[\w.]+\(|[A-Z_][A-Z0-9_]*="
        r"|\w[\w., ]*(?:\[.*\]|:[^=]*)?\s*(?:[-+*/%@&|^]|//|\*\*|<<|>>)?=\s"
    ),
    "c++": re.compile(r"#|//|/\*|(?:using|int|void|auto|struct|class|template|namespace|const\w*|static)\s"),
}
_STATEMENT = re.compile(r"(?:import|from|def|class|async def|#include)\b.*")


@attrs.frozen
class FencedBlock:
    """A fenced block of a reply.

    :param label: the language it is labelled with, in lower case; empty if none.
    :param text: what is between the fences.
    """

    label: str
    text: str


def fits(label: str, language: str) -> bool:
    """Whether a block of this label may hold a program of the language; one without a label may."""
    known = _LABELS.get(language)
    return not label or (known.fullmatch(label) is not None if known else label == language)


def names_language(label: str) -> bool:
    """Whether a label names a language that programs of a problem can be in."""
    return any(known.fullmatch(label) for known in _LABELS.values())


def with_line_ends(text: str) -> str:
    r"""Text whose lines end with ``\n``, as Python itself reads a source; a byte order mark is dropped."""
    return universal_newlines(text).removeprefix("\ufeff")


def fenced_blocks(text: str, language: str = "") -> list[FencedBlock]:
    """All fenced blocks of a reply, in order; a block that is never closed runs to the end.

    A labelled fence inside an open block closes it and opens the next, as models do when they start over. A
    fence after the last of the code on a line closes it too.

    :param language: fences inside the strings and comments of programs in it belong to the program; none if
        empty.
    """
    return list(_Reader(with_line_ends(text), language).blocks())


class _Reader:
    """Reads the blocks of one text, line by line, in time linear in its length."""

    def __init__(self, text: str, language: str, quotes: bool = True) -> None:
        self._lines = text.split("\n")
        self._language = language
        self._quotes = quotes
        self._literals = Literals(text + "\n", language)
        # Of the open block: the characters of its fence, and whether it may hold a program.
        self._mark = ""
        self._program = False
        self._label = ""
        self._body: list[str] = []

    def blocks(self) -> Iterator[FencedBlock]:
        """The blocks, in order."""
        place, number = 0, 0
        while number < len(self._lines):
            after = number + 1
            if self._mark:
                yield from self._inside(self._lines[number], place)
            elif (end := self._quotation(number)) > number:
                after = end
                text = _unquoted(self._lines[number:end])
                yield from _Reader(text, self._language, quotes=False).blocks()
            else:
                yield from self._outside(self._lines[number], place)
            place += sum(len(line) + 1 for line in self._lines[number:after])
            number = after
        if self._mark:
            yield FencedBlock(self._label, "\n".join(self._body))

    def _outside(self, line: str, place: int) -> Iterator[FencedBlock]:
        """A line where no block is open."""
        self._mark, self._label, self._body, closed = _opening(line)
        if closed:
            self._mark = ""
            yield FencedBlock(self._label, "\n".join(self._body))
        elif self._mark:
            self._program = fits(self._label, self._language) or self._label in NEUTRAL
            self._literals.begin(place + (line.rindex(self._body[0].strip()) if self._body else len(line)))

    def _inside(self, line: str, place: int) -> Iterator[FencedBlock]:
        """A line of the open block, or the one that closes it."""
        end = _closing(line, self._mark)
        if end is None or (self._program and self._literals.hold(place + end)):
            self._body.append(line)
            return
        code = line[:end]
        if code.strip():
            self._body.append(code)
        yield FencedBlock(self._label, "\n".join(self._body))
        self._mark = ""
        if not code.strip() and names_language(_opening(line)[1]):
            # It opens the next block at once.
            yield from self._outside(line, place)

    def _quotation(self, number: int) -> int:
        """Where the quotation ends that begins at a line with a quoted fence; that line's number if none."""
        quote = _QUOTED.match(self._lines[number]) if self._quotes else None
        if not quote or not _FENCE.match(self._lines[number], quote.end()):
            return number
        while number < len(self._lines) and _QUOTED.match(self._lines[number]):
            number += 1
        return number


def _unquoted(lines: list[str]) -> str:
    """A quotation's lines without the marks that its first line has."""
    first = _QUOTED.match(lines[0])
    depth = first[0].count(">") if first else 0
    mark = re.compile(rf"[ \t]{{0,3}}(?:> ?){{0,{depth}}}")
    return "\n".join(mark.sub("", line, count=1) for line in lines)


def _opening(line: str) -> tuple[str, str, list[str], bool]:
    """What a line opens: fence characters, label, code on the same line, whether it closes there too.

    The fence characters are empty where it opens nothing.
    """
    fence = _FENCE.match(line)
    if fence is None:
        # A labelled fence at the end of a line of prose: ``Here it is: ```python``.
        before, mark, label = line.rstrip().rpartition("```")
        if not mark or "`" in before or not names_language(label.lower()):
            return "", "", [], False
        return mark, label.lower(), [], False
    mark, rest = fence["mark"], fence["rest"].rstrip()
    whole = mark[0] == "`" and len(rest) > len(mark) and rest.endswith(mark)
    if whole:
        rest = rest[: -len(mark)]
    if "`" in rest and mark[0] == "`":
        return "", "", [], False
    label, code = _label_and_code(rest.strip())
    if whole and not (code and names_language(label)):
        return "", "", [], False
    # The code begins where the lines after it do in a list.
    indent = line[: fence.start("mark")] if line[0].isspace() else " " * fence.start("mark")
    return mark, label, [indent + code] if code else [], whole


def _label_and_code(rest: str) -> tuple[str, str]:
    """The label in lower case, and the code if the line goes on with some."""
    if _STATEMENT.fullmatch(rest):
        return "", rest
    together = _RUN_TOGETHER.fullmatch(rest)
    if together:
        return together[1].lower(), together[2]
    match = _LABEL.match(rest)
    label, behind = (match[1].lower(), match[2]) if match else ("", "")
    if not names_language(label):
        # The name of a file, or a language with what it is for: ``solution.py``, ``python.numberLines``.
        parts = label.split(".")
        label = next((part for part in (parts[-1], parts[0]) if names_language(part)), parts[0])
    if behind[:1].isspace():
        behind = behind.strip()
        if any(fits(label, language) and code.match(behind) for language, code in _CODE.items()):
            return label, behind
    return label, ""


def _closing(line: str, mark: str) -> int | None:
    """Where a line's closing fence begins: at its beginning, or after the last of the code."""
    fence = _FENCE.match(line)
    if fence and fence["mark"].startswith(mark) and not (mark[0] == "`" and "`" in fence["rest"]):
        return fence.start("mark")
    text = line.rstrip()
    if text.endswith(mark):
        code = text.rstrip(mark[0])
        # A run of the same length that is alone on the line: `` ```x``` `` in prose is no end.
        if len(text) - len(code) == len(mark) and mark not in code:
            return len(code)
    return None


_TAG = re.compile(r"<(pre|code|answer|program|solution|python|cpp)\b[^<>\n]*>", re.IGNORECASE)
_CODE_TAG = re.compile(r"\A\s*<code\b[^<>\n]*>|</code\s*>\s*\Z", re.IGNORECASE)
#: So many tagged texts are looked at, from the last one.
_TAGGED = 4


def tagged_texts(text: str) -> list[str]:
    """What stands between tags as HTML has them, the last first; for replies without any fence."""
    text = with_line_ends(text)
    lowered = text.lower() if text.isascii() else re.sub("[A-Z]", lambda match: match[0].lower(), text)
    found: list[str] = []
    unclosed: set[str] = set()
    place = 0
    while (tag := _TAG.search(text, place)) is not None:
        name, place = tag[1].lower(), tag.end()
        end = -1 if name in unclosed else lowered.find(f"</{name}", place)
        if end < 0:
            unclosed.add(name)
            continue
        found.append(_CODE_TAG.sub("", text[place:end]))
        place = end
    return [
        each for inner in found[: -_TAGGED - 1 : -1] for each in dict.fromkeys([html.unescape(inner), inner])
    ]
