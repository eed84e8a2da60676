"""What a prompt says of edits: the rule, and one example made from the program itself."""

from __future__ import annotations

import collections
import re

from ttd_core.dialogue.edits import block_text, longer_signs
from ttd_core.dialogue.parts import source_lines
from ttd_core.dialogue.protection import free_lines

#: A number that a line sets something to: a fraction, or a whole number of 2 and more.
_FRACTION = re.compile(r"=\s*(\d{1,6}\.\d{1,6}|\d{1,4}e-\d{1,2})(?![\w.])")
_WHOLE = re.compile(r"=\s*([2-9]|[1-9]\d{1,5})(?![\w.])")
#: Any number of some size; small ones are mostly shapes and indices.
_NUMBER = re.compile(r"(?<![\w.\[-])(\d{1,4}e-\d{1,2}|[1-9]\d{1,5})(?![\w.\]])")
_MAX_CHARS = 120


def edit_rules(program: str, is_cut: bool) -> tuple[str, str]:
    """An example of a block, and how blocks are written, without any line that begins or parts one.

    :param program: as the prompt shows it.
    :param is_cut: whether the prompt leaves lines of it out.
    """
    signs = longer_signs(program)
    old, new = _example_lines(program)
    # No marker line is named here: small models begin their reply with what they read last.
    rules = (
        "A block quotes lines of the program, copied exactly, as many as it takes to tell them from all "
        "others, and then gives the lines that replace them; an empty SEARCH adds to the end."
    )
    if is_cut:
        rules += (
            " The program is too long to be shown whole: quote only lines that you see; those that are left "
            "out stay as they are."
        )
    return block_text([old], [new], signs), rules


def _example_lines(program: str) -> tuple[str, str]:
    """A line of the program that stands in it once, and the same with one number changed."""
    lines = source_lines(program)
    count = collections.Counter(line.strip() for line in lines)
    usable = [
        line
        for line in free_lines(lines)
        if line.strip() and count[line.strip()] == 1 and len(line) <= _MAX_CHARS and "`" not in line
    ]
    for pattern, factor in ((_FRACTION, 1.5), (_WHOLE, 2), (_NUMBER, 2)):
        for line in usable:
            match = pattern.search(line)
            if match is None or not float(match[1]):
                continue
            number = f"{float(match[1]) * factor:.6g}"
            return line, line[: match.start(1)] + number + line[match.end(1) :]
    # Words for a program without any line that could be changed so.
    line = max(usable, key=len, default="a line of the program")
    return line, "what replaces it"
