"""Text from outside: decoded as its byte order mark says, and shown so that it can deceive nobody."""

from __future__ import annotations

import contextlib
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttd_core.text import counted, decode_text, quoted_lines, showable, showable_line, without_surrogates


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_text_is_read_in_whatever_form_editors_save_it(encoding: str, end: str) -> None:
    assert decode_text(f"a = 'é'{end}b{end}".encode(encoding)) == "a = 'é'\nb\n"


def test_what_is_no_text_is_refused_with_the_place() -> None:
    with pytest.raises(ValueError, match="not UTF-8 text: byte 1 cannot be read"):
        decode_text(b"a\xff")
    with pytest.raises(ValueError, match="not UTF-16-LE text: byte 2"):
        decode_text(b"\xff\xfea")
    with pytest.raises(ValueError, match="UTF-16 without a byte order mark"):
        decode_text("text".encode("utf-16-le"))


def test_one_is_counted_without_an_s() -> None:
    assert [counted(number, "step") for number in (0, 1, 2)] == ["0 steps", "1 step", "2 steps"]
    assert [counted(number, "reply", "replies") for number in (1, 3)] == ["1 reply", "3 replies"]


@given(st.binary(max_size=50))
def test_any_bytes_are_text_or_refused(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert "\r" not in decode_text(data)


@given(st.text(st.characters(), max_size=20))
def test_what_is_shown_holds_nothing_that_hides_or_moves(text: str) -> None:
    shown = showable(text)
    shown.encode()
    assert {unicodedata.category(character) for character in shown} & {"Cs", "Zl", "Zp"} == set()
    controls = {character for character in shown if unicodedata.category(character) in ("Cc", "Cf")}
    assert controls <= set("\n\t\u200c\u200d")
    assert "\n" not in showable_line(text)


def test_shown_text_stays_readable() -> None:
    assert showable("déjà\t→ 漢字 👩\u200d👩\n") == "déjà\t→ 漢字 👩\u200d👩\n"
    assert showable("\x1b[2J\u202egnp\ud800\u2028\ufeff") == "\\x1b[2J\\u202egnp\\ud800\\u2028\\ufeff"
    assert quoted_lines("ok\nerdos: valid") == "  | ok\n  | erdos: valid"


def test_surrogates_become_characters() -> None:
    assert without_surrogates("\ud83d\ude00 \ud83d!") == "😀 \ufffd!"
    assert without_surrogates("plain 😀") == "plain 😀"
