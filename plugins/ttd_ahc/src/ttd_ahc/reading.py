"""Integers out of what a program printed: bytes, between ASCII blanks, in linear time and bounded memory.

Nothing is decoded first: in Python's text a no-break space is a blank and an Arabic digit is a digit; to a
contest's judge both are wrong characters, and so they are here. The form of an integer is the one that the
judges of the contests take (Rust's ``i64::from_str``): a sign or none, then ASCII digits, zeros in front too.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence

#: Most bytes of an answer that are read. The longest answer to a contest here takes 14 KB (1000 vertices).
MAX_ANSWER_BYTES = 1 << 20
#: Digits, zeros in front aside, of the largest number that is read: past every range of a contest.
_MOST_DIGITS = 18
_SHOWN_BYTES = 20
_INTEGER = re.compile(rb"[+-]?[0-9]+")


def shown(word: bytes) -> str:
    """A word as a message quotes it: short, of printable characters."""
    return repr(word[:_SHOWN_BYTES].decode(errors="replace"))


def integers(words: Sequence[bytes]) -> list[int]:
    """What words stand for.

    :param words: as ``bytes.split()`` gives them, which knows ASCII blanks alone.
    :raises ValueError: quoting the first word that is no integer, or one of more than 18 digits.
    """
    plain = not b"".join(words).translate(None, b"0123456789+-")
    if plain and max(map(len, words), default=0) <= _MOST_DIGITS:
        # No word is too long, and none holds a blank, an underscore or a digit that int() alone would take.
        with contextlib.suppress(ValueError):  # signs in the wrong place: found below
            return list(map(int, words))
    return [_integer(word) for word in words]


def _integer(word: bytes) -> int:
    if not _INTEGER.fullmatch(word):
        raise ValueError(f"{shown(word)} is not an integer")
    digits = word.lstrip(b"+-").lstrip(b"0") or b"0"
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"{shown(word)} is not a number that can stand here: it has {len(digits)} digits")
    return -int(digits) if word.startswith(b"-") else int(digits)
