"""Search-and-replace blocks applied to a program: whole or not at all, in time linear in the text.

What a block seeks are whole lines. They are looked for as they are, then without blanks at their ends and
blank lines around them, then without what they are indented by; the replacement is then indented as the
program is. At each stage they must stand in the program once.
"""

from __future__ import annotations

import collections
import functools
import itertools
import math
import re
from collections.abc import Mapping, Sequence

import attrs

from ttd_core.dialogue.dividing import with_dividers
from ttd_core.dialogue.edits import (
    USUAL_SIGNS,
    Edit,
    EditBlock,
    EditError,
    blocks_alone,
    holds_blocks,
    lacks_beginnings,
    read_blocks,
)
from ttd_core.dialogue.parsing import parse_program, seems_to_define
from ttd_core.dialogue.parts import source_lines
from ttd_core.dialogue.protection import last_free_line
from ttd_core.dialogue.syntax import MAX_PROGRAM_CHARS, checked_program, clipped
from ttd_core.types import Action, Status, Verdict

#: Lines of the program that a failed block shows, and characters of each.
_SHOWN_LINES, _SHOWN_CHARS = 12, 160
#: Characters of a line that a message names.
_TITLE_CHARS = 60
_WORD = re.compile(r"\w++")


def read_edits(text: str, language: str, entry: str) -> Action | Verdict:
    """What a reply in the form of edits proposes: its blocks, or the whole program that it gives instead.

    :param text: the reply, thinking removed.
    :param language: of the program.
    :param entry: name that a whole program must define.
    :return: the action, or a verdict: ``edit_error`` for blocks that cannot be read; those of
        :func:`~ttd_core.dialogue.parsing.parse_program` where there are no blocks.
    """
    if not holds_blocks(text):
        whole = parse_program(text, language, entry)
        if isinstance(whole, Verdict) and lacks_beginnings(text):
            message = f"no block begins with a line {'<' * USUAL_SIGNS} SEARCH, and there is no whole program"
            return Verdict.failed(Status.EDIT_ERROR, message, code=whole.code)
        return whole
    if language == "python":
        # A program that parses though it has such lines has them in its strings.
        whole = parse_program(text, language, entry)
        if isinstance(whole, Action) and holds_blocks(whole.code):
            return whole
    blocks = blocks_alone(with_dividers(text))
    try:
        read_blocks(blocks)
    except EditError as error:
        return Verdict.failed(Status.EDIT_ERROR, str(error), code=clipped(blocks))
    return Action(blocks, language, edits=True)


def edited_program(program: str, action: Action, entry: str) -> Action | Verdict:
    """The whole program that an action made of blocks stands for.

    :param program: the last program; empty when there is none, then a block that seeks nothing gives it.
    :param entry: name that a Python program must define.
    :return: the program, or a verdict: ``edit_error`` when a block does not apply, and those of a program
        that does not parse.
    """
    try:
        blocks = read_blocks(action.code)
        edited = apply_blocks("" if _gives_whole(blocks, action.language, entry) else program, blocks)
    except EditError as error:
        return Verdict.failed(Status.EDIT_ERROR, str(error), code=clipped(action.code), output=error.excerpt)
    failure = checked_program(edited, entry) if action.language == "python" else None
    return failure if failure is not None else Action(edited, action.language)


def _gives_whole(blocks: Sequence[EditBlock], language: str, entry: str) -> bool:
    """Whether a single block that seeks nothing gives a whole program, which can't be added to another.

    In Python it can: a function that is defined again counts.
    """
    edit = next(blocks[0].readings(), None) if len(blocks) == 1 else None
    if edit is None or language == "python" or not entry or _filled(edit.search):
        return False
    return seems_to_define("\n".join(edit.replacement), language, entry)


def apply_blocks(program: str, blocks: Sequence[EditBlock]) -> str:
    """The program with every block applied, each to what the ones before it left.

    A block that seeks nothing adds its lines to the end; in a program with ``EVOLVE-BLOCK`` lines, to the end
    of the last part that may change.

    :raises EditError: when what a block seeks is not in the program, or is there twice, or the blocks leave
        nothing of it, or more than a program may have; the program is as it was then.
    """
    lines = source_lines(program)
    for number, block in enumerate(blocks, start=1):
        name = f"block {number} of {len(blocks)}" if len(blocks) > 1 else "the block"
        lines = _applied(_Searched(lines), block, name)
    edited = "\n".join(lines) + "\n"
    if not edited.strip():
        raise EditError("the blocks leave nothing of the program")
    if len(edited) > MAX_PROGRAM_CHARS:
        raise _too_long(len(edited))
    return edited


@attrs.frozen
class _Match:
    """Where a reading of a block was found.

    :param places: line numbers from 0, two at most.
    :param length: how many lines of the program are replaced.
    :param replacement: the lines that replace them.
    """

    places: Sequence[int]
    length: int = 0
    replacement: Sequence[str] = ()


class _Searched:
    """A program in which lines are sought; each form of it is made once."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    @functools.cached_property
    def exact(self) -> str:
        """Every line between two line ends."""
        return _joined(self.lines)

    @functools.cached_property
    def trimmed(self) -> str:
        """The same without blanks at the ends of lines."""
        return _joined([line.rstrip() for line in self.lines])

    @functools.cached_property
    def flat(self) -> str:
        """The same without blanks at both ends."""
        return _joined([line.strip() for line in self.lines])


def _joined(lines: Sequence[str]) -> str:
    return "\n" + "".join(f"{line}\n" for line in lines)


def _places(text: str, lines: Sequence[str]) -> list[int]:
    """The first two places, as line numbers from 0, where lines stand in a text that :func:`_joined` made."""
    sought = _joined(lines)
    first = text.find(sought)
    if first < 0:
        return []
    second = text.find(sought, first + 1)
    return [text.count("\n", 0, place) for place in (first, second) if place >= 0]


def _applied(program: _Searched, block: EditBlock, name: str) -> list[str]:
    """The lines of the program with one block applied.

    :param name: of the block, for messages.
    :raises EditError: when it does not apply.
    """
    lines = program.lines
    twice: tuple[Edit, _Match] | None = None
    edit = Edit((), ())
    for edit in block.readings():
        if not _filled(edit.search):
            return _added(lines, edit.replacement)
        match = _found(program, edit)
        if len(match.places) == 1:
            (start,) = match.places
            return [*lines[:start], *match.replacement, *lines[start + match.length :]]
        if match.places and twice is None:
            twice = edit, match
    if twice is not None:
        raise _ambiguous(lines, *twice, name)
    raise _missing(lines, edit.search, name)


def _filled(lines: Sequence[str]) -> bool:
    return any(line.strip() for line in lines)


def _added(lines: Sequence[str], more: Sequence[str]) -> list[str]:
    if not _filled(lines):
        return list(more)
    end = last_free_line(lines)
    return [*lines[:end], *more, *lines[end:]]


def _found(program: _Searched, edit: Edit) -> _Match:
    """Where lines that are not all blank stand: exactly, else without trailing blanks, else re-indented."""
    places = _places(program.exact, edit.search)
    if places:
        return _Match(places, len(edit.search), edit.replacement)
    search, replacement = _without_blank_lines_around(edit)
    places = _places(program.trimmed, [line.rstrip() for line in search])
    if places:
        return _Match(places, len(search), replacement)
    places = _places(program.flat, [line.strip() for line in search])
    if len(places) != 1:
        return _Match(places, len(search))
    found = program.lines[places[0] : places[0] + len(search)]
    indented = _indented_as(found, search, replacement)
    return _Match(places, len(search), indented) if indented is not None else _Match([])


def _without_blank_lines_around(edit: Edit) -> tuple[Sequence[str], Sequence[str]]:
    """Both sides of an edit without the blank lines that stand around the lines it seeks."""
    before = next(number for number, line in enumerate(edit.search) if line.strip())
    after = next(number for number, line in enumerate(reversed(edit.search)) if line.strip())
    first, last = 0, len(edit.replacement)
    while first < min(before, last) and not edit.replacement[first].strip():
        first += 1
    least = max(first, last - after)
    while last > least and not edit.replacement[last - 1].strip():
        last -= 1
    return edit.search[before : len(edit.search) - after], edit.replacement[first:last]


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _indented_as(found: Sequence[str], search: Sequence[str], replacement: Sequence[str]) -> list[str] | None:
    """The replacement indented as the program is.

    :return: ``None`` where one indentation sought stands for two of the program: how deep a line is meant to
        be cannot be known then.
    :raises EditError: when it would be longer than a program may be; it is not made then.
    """
    known: dict[str, str] = {}
    for there, here in zip(found, search, strict=True):
        if here.strip() and known.setdefault(_indent(here), _indent(there)) != _indent(there):
            return None
    by_length = sorted(known, key=len, reverse=True)
    meant: dict[str, str] = {}
    lines = []
    size = 0
    for line in replacement:
        indent = _indent(line)
        if line.strip() and indent not in meant:
            meant[indent] = _meant(indent, known, by_length)
        lines.append(meant[indent] + line[len(indent) :] if line.strip() else "")
        size += len(lines[-1]) + 1
        if size > MAX_PROGRAM_CHARS:
            raise _too_long(size)
    return lines


def _too_long(size: int) -> EditError:
    return EditError(f"the program would have {size} characters; at most {MAX_PROGRAM_CHARS} are read")


def _meant(indent: str, known: Mapping[str, str], by_length: Sequence[str]) -> str:
    """An indentation of the replacement as one of the program: the longest known one's, and the rest."""
    base = next((each for each in by_length if indent.startswith(each)), None)
    near = by_length[-1] if base is None else base
    there = known[near]
    if near and there and near[0] != there[0]:
        # Tabs for spaces, or spaces for tabs: as many as the known ones are worth.
        width = len(there) * len(indent) / len(near)
        if width > MAX_PROGRAM_CHARS:
            raise _too_long(round(width))
        return there[0] * max(round(width), len(there) + 1 if len(indent) > len(near) else 0)
    if base is not None:
        return there + indent[len(base) :]
    # Less than every line sought: out by as much as those are.
    more = len(there) - len(near)
    return there[:more] + indent if more >= 0 else indent[-more:]


def _title(search: Sequence[str]) -> str:
    """How a message names the lines sought: the first that is not blank, cut."""
    line = next(line for line in search if line.strip()).strip()
    return f"`{line[:_TITLE_CHARS]}{'…' if len(line) > _TITLE_CHARS else ''}`"


def _ambiguous(lines: Sequence[str], edit: Edit, match: _Match, name: str) -> EditError:
    first, second = (place + 1 for place in match.places)
    shown = [_shown(lines, place - 1, match.length + 2, _SHOWN_LINES // 2) for place in match.places]
    return EditError(
        f"{name} seeks {_title(edit.search)}, which stands in the program twice at least, at lines {first} "
        f"and {second}; quote more of the lines around it",
        "\n...\n".join(shown),
    )


def _missing(lines: Sequence[str], search: Sequence[str], name: str) -> EditError:
    if not _filled(lines):
        return EditError(f"{name} seeks {_title(search)}, and there is no program yet; give a whole one")
    message = f"{name} seeks lines that the program does not have, the first {_title(search)}"
    place = _nearest(lines, search)
    if place is None:
        return EditError(f"{message}; quote lines exactly as they stand")
    shown = _shown(lines, place, len(search), _SHOWN_LINES)
    written = _in_other_case(lines, next(line for line in search if line.strip()).strip())
    if written:
        message += f", which it has as `{written}`"
    return EditError(f"{message}; the nearest begin at line {place + 1}", shown)


def _in_other_case(lines: Sequence[str], sought: str) -> str:
    """A line of the program that differs from one sought in capitals alone; nothing for a long one."""
    if len(sought) > _TITLE_CHARS:
        return ""
    alike = {line.strip() for line in lines if line.strip().casefold() == sought.casefold()}
    return "" if sought in alike else next(iter(sorted(alike)), "")


def _shown(lines: Sequence[str], first: int, count: int, most: int) -> str:
    """Some lines of the program, ``most`` of them and long ones cut."""
    first = max(0, first)
    return "\n".join(line[:_SHOWN_CHARS] for line in lines[first : first + min(count, most)])


def _nearest(lines: Sequence[str], search: Sequence[str]) -> int | None:
    """Where the program has most in common with some lines, as a line number from 0; ``None`` for nothing.

    Words count, the rarer in the program the more, in a window as long as the lines sought; a comparison of
    sequences would take quadratic time where a program is crafted for it.
    """
    frequency = collections.Counter(word for line in lines for word in _WORD.findall(line))
    sought = {word for line in search for word in _WORD.findall(line)}
    likeness = [
        math.fsum(1 / frequency[word] for word in sought.intersection(_WORD.findall(line))) for line in lines
    ]
    sums = list(itertools.accumulate(likeness, initial=0.0))
    length = min(len(search), _SHOWN_LINES, len(lines))
    starts = range(len(lines) - length + 1)
    best = max(starts, key=lambda start: sums[start + length] - sums[start])
    if sums[best + length] - sums[best] <= 0:
        return None
    # From the first line of the window that has anything in common with them.
    return next(number for number in range(best, best + length) if likeness[number] > 0)
