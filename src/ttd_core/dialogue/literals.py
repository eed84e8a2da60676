"""Where string literals and comments stand in a program's text, found without parsing it, in linear time."""

from __future__ import annotations

import re
from collections.abc import Iterator

# Every alternative also matches where its end is missing, so that no position is scanned twice. A string in
# single quotes ends with its line; a backslash keeps whatever follows it from ending anything.
_SHORT = r"{q}(?:[^{q}\\\n]|\\[\s\S])*+{q}?"
_LONG = r"{q}{q}{q}(?:[^{q}\\]|\\[\s\S]|{q}(?!{q}{q}))*+(?:{q}{q}{q})?"
_STRINGS = "|".join(form.format(q=quote) for form in (_LONG, _SHORT) for quote in "\"'")
_PATTERNS = {
    "python": re.compile(rf"(?P<comment>#[^\n]*+)|(?P<prefix>(?<!\w)[rRbBuUfFtT]{{1,2}})?+(?:{_STRINGS})"),
    "c++": re.compile(
        r"(?P<comment>//(?:[^\n\\]|\\[\s\S])*+|/\*[\s\S]*?(?:\*/|\Z))"
        r'|(?<!\w)(?:u8|[uUL])?R"(?P<name>[^()\\\s]{0,16})\([\s\S]*?(?:\)(?P=name)"|\Z)'
        r"""|"(?:[^"\\\n]|\\[\s\S])*+"?|(?<!\w)'(?:[^'\\\n]|\\[\s\S])*+'?"""
    ),
}
#: Replacement fields times bytes of the literals they stand in: Python 3.11 takes that many steps to read
#: f-strings. This many cost 0.2 s.
MAX_FIELD_COST = 500_000_000


class Literals:
    """Whether places of a text lie inside a string or a comment that goes on from line to line.

    :param text: a reply with programs in it; ends with a line end.
    :param language: ``python`` or ``c++``; of others no literal is known.
    """

    #: So many literals are followed to the end of the text in vain; crafted ones would take forever.
    UNCLOSED = 4

    def __init__(self, text: str, language: str) -> None:
        self._pattern = _PATTERNS.get(language)
        self._text = text
        self._from, self._first, self._end = 0, 0, 0
        self._ends_never = False
        self._unclosed = 0

    def begin(self, place: int) -> None:
        """A program begins at this place; literals before it mean nothing to it."""
        # A search that found a literal behind this place would find it again; keeping it makes time linear.
        if not self._from <= place <= self._first:
            self._first = self._end = place
            self._ends_never = False
        self._from = place

    def hold(self, place: int) -> bool:
        """Whether a literal begins before ``place`` and ends behind it; places must be asked in order.

        A literal that never ends holds nothing: its program is broken, and so is what seems to follow.
        """
        if self._pattern is None or self._unclosed >= self.UNCLOSED:
            return False
        while self._end <= place and not self._ends_never:
            self._from = self._end
            match = self._pattern.search(self._text, self._end)
            if match is None:
                self._first = self._end = len(self._text) + 1
                break
            self._first, self._end = match.span()
            self._ends_never = self._end == len(self._text) and "\n" in match[0]
            self._unclosed += self._ends_never
        return self._first < place < self._end and not self._ends_never


def field_cost(source: str) -> int:
    """What the f-strings of a Python program cost to read: replacement fields times bytes, added up."""
    if "{" not in source:
        return 0
    return sum(len(text.encode("utf-8", "replace")) * text.count("{") for text in _f_strings(source))


def _f_strings(source: str) -> Iterator[str]:
    for match in _PATTERNS["python"].finditer(source):
        if match["prefix"] and "f" in match["prefix"].lower():
            yield match[0]
