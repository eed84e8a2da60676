"""Blocks of a reply without the line that divides them, given it where its place is beyond doubt.

Models that leave it out write what replaces the lines behind the line ``REPLACE``::

    <<<<<<< SEARCH
    steps = 30
    >>>>>>> REPLACE
    steps = 60

That is taken where something ends it: one more line that ends a block or, in a code fence, which holds no
prose, the end of the fence, the next block, or the reply's end. So are both lines in a row, and a line
``>>>>>>> SEARCH`` in the divider's place. All else stays as it is, for :func:`.edits.read_blocks` to refuse:
outside of a fence nobody can tell where code ends and prose begins.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import attrs

from ttd_core.dialogue.edits import FENCE, SEARCH_ENDS, USUAL_SIGNS, Kind, Marker, is_bare_close, marker_of
from ttd_core.dialogue.fences import with_line_ends


@attrs.frozen
class _Halves:
    """What a block seeks and what replaces it, and the line behind both."""

    search: Sequence[str]
    replacement: Sequence[str]
    after: int


def with_dividers(text: str) -> str:
    """A reply whose blocks have the line that divides them, as far as it is known; in time linear in it.

    Blocks of more than :data:`.edits.USUAL_SIGNS` signs, and all that have such a line, stay as they are.
    """
    lines = with_line_ends(text).split("\n")
    markers = [marker for number, line in enumerate(lines) if (marker := marker_of(number, line)) is not None]
    made: list[str] = []
    done, fences = 0, 0
    for place, (opening, closing) in enumerate(itertools.pairwise(markers)):
        if (opening.kind, closing.kind) != (Kind.OPEN, Kind.CLOSE) or opening.signs > USUAL_SIGNS:
            continue
        before = lines[done : opening.line + 1]
        fences += sum(line.lstrip(" \t").startswith(("```", "~~~")) for line in before)
        made += before
        done = opening.line + 1
        sought = lines[done : closing.line]
        halves = _by_second_search(sought, closing)
        if halves is None and is_bare_close(lines[closing.line]):
            halves = _behind(lines, sought, markers[place + 1 : place + 4], fences % 2 == 1)
        if halves is not None and _filled(halves.search) and _filled(halves.replacement):
            made += [*halves.search, "=" * opening.signs, *halves.replacement]
            made.append(">" * opening.signs + " REPLACE")
            done = halves.after
    return "\n".join([*made, *lines[done:]])


def _by_second_search(lines: Sequence[str], closing: Marker) -> _Halves | None:
    """A block by its only line ``>>>>>>> SEARCH``; ``None`` where there is none, or there are more."""
    ends = [number for number, line in enumerate(lines) if SEARCH_ENDS.fullmatch(line)]
    return _Halves(lines[: ends[0]], lines[ends[0] + 1 :], closing.line + 1) if len(ends) == 1 else None


def _behind(
    lines: Sequence[str], sought: Sequence[str], markers: Sequence[Marker], fenced: bool
) -> _Halves | None:
    """A block by what stands behind the line that should end it; ``None`` where nothing ends that.

    :param markers: that line's, and the next ones.
    :param fenced: whether the block stands in a code fence.
    """
    first, *following = markers
    begin = first.line + 1
    if following and following[0].kind is Kind.DIVIDE and not _filled(lines[begin : following[0].line]):
        # Both lines stand where one belongs.
        begin, following = following[0].line + 1, following[1:]
    end = following[0].line if following else len(lines)
    ends = following[0].kind if following else None
    fence = next((number for number in range(begin, end) if FENCE.fullmatch(lines[number])), None)
    if fence is not None:
        end, ends = fence, None
    if ends is Kind.CLOSE:
        return _Halves(sought, lines[begin:end], end + 1)
    if not fenced or ends is Kind.DIVIDE:
        return None
    # Blank lines part one block from the next.
    last = next((number for number in range(end, begin, -1) if lines[number - 1].strip()), begin)
    return _Halves(sought, lines[begin:last], end)


def _filled(lines: Sequence[str]) -> bool:
    return any(line.strip() for line in lines)
