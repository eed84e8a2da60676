"""What of a program may change: the parts between ``EVOLVE-BLOCK-START`` and ``EVOLVE-BLOCK-END``.

The markers stand in comments of whatever language. A program without them may change everywhere. One with
them keeps all that stands outside, the marker lines included, whatever form a reply has; blanks at the ends
of lines and blank lines around what is kept do not count.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Sequence

import attrs

from ttd_core.dialogue.edits import EditError
from ttd_core.dialogue.parts import source_lines
from ttd_core.dialogue.syntax import clipped
from ttd_core.types import Action, Status, Verdict

START, END = "EVOLVE-BLOCK-START", "EVOLVE-BLOCK-END"
#: Before it stand only the signs of a comment, or the word that begins one in some languages.
_MARKER = re.compile(rf"""[^\w\n"`]*+(?:(?:REM|rem|[Cc])\b[^\w\n"`]*+)?(?:({START})|({END}))(?!\w)""")


@attrs.frozen
class _Sections:
    """A program cut at its marker lines.

    :param kept: the lines outside, a section before each part that may change and one after the last; the
        marker lines belong to them.
    :param free: the parts that may change, one fewer.
    """

    kept: Sequence[Sequence[str]]
    free: Sequence[Sequence[str]]


def has_markers(program: str) -> bool:
    """Whether a program says what of it may change."""
    return START in program and bool(_sections(source_lines(program)).free)


def free_lines(lines: Sequence[str]) -> Sequence[str]:
    """The lines that may change: all of a program without markers."""
    sections = _sections(lines)
    return [line for part in sections.free for line in part] if sections.free else lines


def last_free_line(lines: Sequence[str]) -> int:
    """Where lines may be added: behind the last line of the last part that may change, as an index."""
    sections = _sections(lines)
    return len(lines) - len(sections.kept[-1]) if sections.free else len(lines)


def protected(program: str, whole: Action) -> Action | Verdict:
    """An action whose program keeps what must stay, or a verdict that says which line does not.

    A whole program without any marker line gets those of the last one back, where all else outside is kept.

    :param program: the last program; one without markers allows every change.
    """
    if START not in program:
        return whole
    before = _sections(source_lines(program))
    if not before.free:
        return whole
    lines = source_lines(whole.code)
    after = _sections(lines)
    if not after.free and END not in whole.code:
        restored = _restored(before, lines)
        if restored is not None:
            return attrs.evolve(whole, code="\n".join(restored) + "\n")
    try:
        _require_kept(before, after)
    except EditError as error:
        return Verdict.failed(Status.EDIT_ERROR, str(error), code=clipped(whole.code), output=error.excerpt)
    return whole


def _marker(line: str) -> str:
    match = _MARKER.match(line)
    if match is None:
        return ""
    return START if match[1] else END


def _sections(lines: Sequence[str]) -> _Sections:
    kept: list[list[str]] = [[]]
    free: list[list[str]] = []
    inside = False
    for line in lines:
        marker = _marker(line)
        if not inside:
            kept[-1].append(line)
            if marker == START:
                free.append([])
                kept.append([])
                inside = True
        elif marker == END:
            kept[-1].append(line)
            inside = False
        else:
            free[-1].append(line)
    return _Sections(kept, free)


def _plain(section: Sequence[str]) -> list[str]:
    """The lines of a section as they are compared: without blanks at their ends, nor blank lines around."""
    lines = [line.rstrip() for line in section]
    filled = [number for number, line in enumerate(lines) if line]
    return lines[filled[0] : filled[-1] + 1] if filled else []


def _require_kept(before: _Sections, after: _Sections) -> None:
    """:raises EditError: when a line outside was changed, or a part that may change has come or gone."""
    only = f"only what stands between {START} and {END} may change"
    if len(before.kept) != len(after.kept):
        raise EditError(f"{only}: the lines with these must stay as they are, and none be added")
    for old, new in zip(before.kept, after.kept, strict=True):
        first, second = _plain(old), _plain(new)
        if first == second:
            continue
        lost = next(iter(collections.Counter(first) - collections.Counter(second)), "")
        added = next(iter(collections.Counter(second) - collections.Counter(first)), "")
        if lost.strip():
            raise EditError(f"{only}: `{lost.strip()[:60]}` stands outside and must stay as it is")
        if added.strip():
            raise EditError(f"{only}: `{added.strip()[:60]}` would be added outside")
        raise EditError(f"{only}: lines outside would be moved")


def _restored(before: _Sections, lines: Sequence[str]) -> list[str] | None:
    """A program without marker lines, with those of the last one put in; ``None`` where more is missing."""
    bare = [_plain([line for line in section if not _marker(line)]) for section in before.kept]
    plain = _plain(lines)
    first, last = bare[0], bare[-1]
    if plain[: len(first)] != first or (last and plain[-len(last) :] != last):
        return None
    place, end = len(first), len(plain) - len(last)
    if place > end:
        return None
    made = list(before.kept[0])
    for number, section in enumerate(bare[1:], start=1):
        start = end if number == len(bare) - 1 else _place(plain, section, place, end)
        if start is None:
            return None
        made += [*plain[place:start], *before.kept[number]]
        place = start + len(section)
    return made


def _place(lines: Sequence[str], section: Sequence[str], start: int, end: int) -> int | None:
    """Where a section begins between two places; found as text, so that it takes linear time."""
    text = "\n" + "".join(f"{line}\n" for line in lines[start:end])
    found = text.find("\n" + "".join(f"{line}\n" for line in section))
    return None if found < 0 else start + text.count("\n", 0, found)
