"""Search-and-replace blocks read out of a reply, in time linear in its length.

A block quotes lines of the program and gives what shall stand in their place::

    <<<<<<< SEARCH
    steps = 30
    =======
    steps = 60
    >>>>>>> REPLACE

Models write it with more or fewer signs, in lower case, inside or outside of code fences, with the name of a
file above it or prose between, and leave out the last line. All of that is read. What cannot be read as
blocks is an :class:`EditError`. How blocks are applied to a program is the part of :mod:`.applying`.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Sequence

import attrs

from ttd_core.dialogue.fences import with_line_ends
from ttd_core.dialogue.syntax import MAX_PROGRAM_CHARS

#: Most blocks of a reply that are applied.
MAX_BLOCKS = 64
#: The signs of a marker line, as most models have learnt them. A block with more is taken as it stands.
USUAL_SIGNS = 7
#: So many places where a block may be divided are tried.
_MAX_DIVIDERS = 8
#: With fewer signs than these a marker line needs its word.
_SPEAKING = 5


class EditError(ValueError):
    """Blocks that cannot be read or applied; the message says which.

    :ivar excerpt: lines of the program that the message speaks of; empty for none.
    """

    def __init__(self, message: str, excerpt: str = "") -> None:
        super().__init__(message)
        self.excerpt = excerpt


class Kind(enum.Enum):
    """What a marker line does, and the words that may say so behind its signs."""

    OPEN = "SEARCH|ORIGINAL|FIND|BEFORE|OLD"
    DIVIDE = "DIVIDER|REPLACE|WITH"
    CLOSE = "REPLACE|UPDATED|AFTER|NEW"


# Every repetition is possessive or bounded, so that no line is scanned twice.
_OPEN = re.compile(
    rf"[ \t]*+(?:`{{3,}}+\w*+[ \t]*+)?(?P<signs><{{3,}}+)[ \t]*+"
    rf"(?:(?P<word>{Kind.OPEN.value})\b(?P<rest>.*+))?",
    re.IGNORECASE,
)
_CLOSE = re.compile(
    rf"[ \t]*+(?P<signs>>{{3,}}+)[ \t]*+(?:(?P<word>{Kind.CLOSE.value})\b(?P<rest>.*+))?", re.IGNORECASE
)
_DIVIDE = re.compile(
    rf"[ \t]*+(?:(?P<signs>={{3,}}+)(?:[ \t]*+(?P<word>{Kind.DIVIDE.value})\b[ \t]*+=*+)?"
    r"|[-~*#]{3,}+[ \t]*+(?P<other>DIVIDER)\b[ \t]*+[-~*#=]*+|(?P<alone>DIVIDER)"
    r"|<{3,}+[ \t]*+(?P<second>REPLACE)\b.*+)[ \t]*+",
    re.IGNORECASE,
)
#: Ends the part that is sought where the replacement has a first line of its own.
SEARCH_ENDS = re.compile(r"[ \t]*+>{3,}+[ \t]*+SEARCH\b.*+", re.IGNORECASE)
FENCE = re.compile(r"[ \t]*+(?:`{3,}+[^`]*+|~{3,}+.*+)")
_BARE_FENCE = re.compile(r"[ \t]*+(?:`{3,}+|~{3,}+)[ \t]*+")
#: Behind a word on a line of few signs; more would be a line of code, ``>>> new = 1`` say.
_NOTHING_ELSE = re.compile(r"[ \t<>`:]*+")


@attrs.frozen
class Marker:
    """A marker line: its number in the text, what it does, how many signs it has; 0 for a word alone."""

    line: int
    kind: Kind
    signs: int


@attrs.frozen
class Edit:
    """One reading of a block: the lines that are sought and those that replace them."""

    search: Sequence[str]
    replacement: Sequence[str]


@attrs.frozen
class EditBlock:
    """One block of a reply.

    :param lines: between its first and its last line.
    :param dividers: places in ``lines`` of what may part the lines sought from those that replace them, the
        likeliest first; the program itself may hold such lines.
    :param literal: whether code fences in it belong to the program.
    """

    lines: Sequence[str]
    dividers: Sequence[int]
    literal: bool = False

    def readings(self) -> Iterator[Edit]:
        """What it may mean, the likeliest first: divided at each divider, with and without code fences."""
        for place in self.dividers:
            if self.literal:
                yield Edit(self.lines[:place], self.lines[place + 1 :])
                continue
            search, replacement = _sought(self.lines[:place]), self.lines[place + 1 :]
            raw = Edit(search, replacement)
            bare = Edit(_without_fences(search, 1), _without_fences(replacement, 0))
            changed = (bare.search != raw.search, bare.replacement != raw.replacement)
            if not any(changed):
                yield raw
            else:
                # Fences around both may be of the program; around one of them they never are.
                yield from (raw, bare) if all(changed) else (bare, raw)


def _sought(lines: Sequence[str]) -> Sequence[str]:
    """The lines sought, without a line that says where they end."""
    last = next((number for number in reversed(range(len(lines))) if lines[number].strip()), None)
    return lines[:last] if last is not None and SEARCH_ENDS.fullmatch(lines[last]) else lines


def _without_fences(lines: Sequence[str], single: int) -> Sequence[str]:
    """Lines without the code fence around them.

    :param single: which fence may stand there without the other: the one that opens (0) or closes (1).
    """
    filled = [number for number, line in enumerate(lines) if line.strip()]
    if not filled:
        return lines
    first, last = filled[0], filled[-1]
    opens = FENCE.fullmatch(lines[first]) is not None
    closes = _BARE_FENCE.fullmatch(lines[last]) is not None
    if opens and closes and first < last:
        return lines[first + 1 : last]
    odd = sum(FENCE.fullmatch(line) is not None for line in lines) % 2 == 1
    if odd and single == 0 and opens:
        return lines[first + 1 :]
    if odd and single == 1 and closes:
        return lines[:last]
    return lines


def holds_blocks(text: str) -> bool:
    """Whether a reply has a line that begins a block."""
    return any(_is_marker(_OPEN.fullmatch(line)) for line in with_line_ends(text).split("\n"))


def lacks_beginnings(text: str) -> bool:
    """Whether a reply has lines that part or end blocks, and none that begins one."""
    lines = with_line_ends(text).split("\n")
    markers = [marker for number, line in enumerate(lines) if (marker := marker_of(number, line)) is not None]
    begins = any(marker.kind is Kind.OPEN for marker in markers)
    return not begins and any(marker.signs >= USUAL_SIGNS for marker in markers)


def begins_with_block(text: str) -> bool:
    """Whether the first line of a text that is not blank begins a block."""
    first = next((line for line in with_line_ends(text).split("\n") if line.strip()), "")
    return _is_marker(_OPEN.fullmatch(first))


def blocks_alone(text: str) -> str:
    """A reply without what stands before its first block and behind its last; empty without any."""
    lines = with_line_ends(text).split("\n")
    markers = [marker for number, line in enumerate(lines) if (marker := marker_of(number, line)) is not None]
    opening = [marker.line for marker in markers if marker.kind is Kind.OPEN]
    if not opening:
        return ""
    closing = max((marker.line for marker in markers if marker.kind is Kind.CLOSE), default=-1)
    # A last block that is never closed goes on to the end.
    return "\n".join(lines[opening[0] : closing + 1 if closing > opening[-1] else len(lines)])


def read_blocks(text: str) -> list[EditBlock]:
    """The blocks of a reply, in order; what stands between them is left out.

    A block ends at the first line that ends one; one of more than :data:`USUAL_SIGNS` signs at the first with
    as many, so that it may hold whole blocks, and code fences as well. A block that is never closed ends with
    the reply, or where the next one begins, code fences and what follows them left out.

    :raises EditError: when a block has no line that divides it, or there are too many of them, or they are
        longer than a program may be.
    """
    lines = with_line_ends(text).split("\n")
    markers = [marker for number, line in enumerate(lines) if (marker := marker_of(number, line)) is not None]
    blocks: list[EditBlock] = []
    size, place = 0, 0
    while place < len(markers):
        if markers[place].kind is not Kind.OPEN:
            place += 1
            continue
        if len(blocks) == MAX_BLOCKS:
            raise EditError(f"the reply has more than {MAX_BLOCKS} blocks; give fewer, or the whole program")
        end = _end(markers, place)
        closed = end < len(markers) and markers[end].kind is Kind.CLOSE
        last = markers[end].line if end < len(markers) else len(lines)
        body = lines[markers[place].line + 1 : last]
        block = _block(body, markers[place], markers[place + 1 : end], closed)
        if block is None:
            cut = " and is cut off" if end == len(markers) else ""
            raise EditError(
                f"block {len(blocks) + 1} has no line {'=' * USUAL_SIGNS} between what it seeks and what "
                f"replaces it{cut}; what replaces it stands above its line {'>' * USUAL_SIGNS} REPLACE"
            )
        blocks.append(block)
        size += sum(len(line) + 1 for line in block.lines)
        if size > MAX_PROGRAM_CHARS:
            raise EditError(f"the blocks have more than {MAX_PROGRAM_CHARS} characters, more than are read")
        place = end + closed
    return blocks


def _is_marker(match: re.Match[str] | None) -> bool:
    """Whether a line has enough signs, or the word that goes with few."""
    if match is None:
        return False
    if len(match["signs"]) >= _SPEAKING:
        return True
    return match["word"] is not None and _NOTHING_ELSE.fullmatch(match["rest"]) is not None


def marker_of(number: int, line: str) -> Marker | None:
    """What a line does to a block; ``None`` where it is no marker line.

    :param number: of the line in its text.
    """
    opening = _OPEN.fullmatch(line)
    if opening is not None and _is_marker(opening):
        return Marker(number, Kind.OPEN, len(opening["signs"]))
    closing = _CLOSE.fullmatch(line)
    if closing is not None and _is_marker(closing):
        return Marker(number, Kind.CLOSE, len(closing["signs"]))
    dividing = _DIVIDE.fullmatch(line)
    if dividing is not None:
        return Marker(number, Kind.DIVIDE, len(dividing["signs"] or ""))
    return None


def is_bare_close(line: str) -> bool:
    """Whether a line ends a block, says so in a word, and says nothing else."""
    match = _CLOSE.fullmatch(line)
    return match is not None and bool(match["word"]) and _NOTHING_ELSE.fullmatch(match["rest"]) is not None


def _end(markers: Sequence[Marker], place: int) -> int:
    """Which marker ends the block that one opens: one that closes, or the next that opens.

    It is the number of markers where none does.

    Each block looks on to the next of as many signs at most, so the time is linear in the markers for each
    of the few numbers of signs, and for each of :data:`MAX_BLOCKS` in any case.
    """
    signs = markers[place].signs
    strict = signs > USUAL_SIGNS
    first_end = len(markers)
    for number in range(place + 1, len(markers)):
        marker = markers[number]
        if marker.kind is Kind.CLOSE and (not strict or marker.signs == signs):
            return number
        if marker.kind is Kind.OPEN and (not strict or marker.signs == signs):
            return min(number, first_end)
        if marker.kind is Kind.CLOSE:
            first_end = min(number, first_end)
    return first_end


def _block(body: Sequence[str], opening: Marker, inside: Sequence[Marker], closed: bool) -> EditBlock | None:
    """The block of these lines; ``None`` where nothing divides it."""
    every = [marker for marker in inside if marker.kind is Kind.DIVIDE]
    if not every:
        return None
    literal = opening.signs > USUAL_SIGNS
    fitting = (opening.signs,) if literal else (opening.signs, 0)
    alike = [marker for marker in every if marker.signs in fitting]
    others = [marker for marker in every if marker.signs not in fitting]
    # The last first: more lines that are sought are found in fewer places.
    ordered = [*_few(alike), *([] if alike and literal else _few(others))][:_MAX_DIVIDERS]
    dividers = [marker.line - opening.line - 1 for marker in ordered]
    if not closed:
        body = _unclosed(body, max(dividers))
    return EditBlock(tuple(body), tuple(dividers), literal)


def _few(markers: Sequence[Marker]) -> Sequence[Marker]:
    """The markers from the last to the first; of many the last and the first ones."""
    half = _MAX_DIVIDERS // 2
    if len(markers) > _MAX_DIVIDERS:
        markers = [*markers[:half], *markers[-half:]]
    return markers[::-1]


def _unclosed(body: Sequence[str], divider: int) -> Sequence[str]:
    """The lines of a block without a last line: up to the fence that ends it, or to the last filled one."""
    filled = [number for number in range(divider + 1, len(body)) if body[number].strip()]
    if not filled:
        return body[: divider + 1]
    wrapped = FENCE.fullmatch(body[filled[0]]) is not None
    for number in filled[wrapped:]:
        if FENCE.fullmatch(body[number]):
            return body[: number + wrapped]
    return body[: filled[-1] + 1]


def longer_signs(program: str) -> int:
    """How many signs marker lines need so that no line of the program is taken for one of them."""
    longest = USUAL_SIGNS - 1
    for number, line in enumerate(with_line_ends(program).split("\n")):
        marker = marker_of(number, line)
        if marker is not None:
            # Of dividers with fewer signs than its own a block knows the right one.
            least = 0 if marker.kind is Kind.DIVIDE and marker.signs else USUAL_SIGNS
            longest = max(longest, marker.signs, least)
        elif FENCE.fullmatch(line):
            longest = max(longest, USUAL_SIGNS)
    return longest + 1


def block_text(search: Sequence[str], replacement: Sequence[str], signs: int = USUAL_SIGNS) -> str:
    """A block as text.

    :param signs: of its marker lines.
    """
    return "\n".join([f"{'<' * signs} SEARCH", *search, "=" * signs, *replacement, f"{'>' * signs} REPLACE"])
