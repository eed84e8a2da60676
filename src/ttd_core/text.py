"""Text from outside: bytes decoded, and text made safe to show to a person or to put on one line; counts."""

from __future__ import annotations

import codecs
import re
import unicodedata

#: Byte order marks with their encodings; UTF-32's begins with UTF-16's, so it comes first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SURROGATE = re.compile("[\ud800-\udfff]")
#: Zero-width joiner and non-joiner: scripts and emoji are written with them.
_KEPT_FORMAT = "\u200c\u200d"
#: What is looked at at all: ASCII without its controls is most text, and passes at once.
_SUSPECT = re.compile(r"[^\n\t -~]")


def decode_text(data: bytes) -> str:
    r"""A text file's content: UTF-8, or what its byte order mark says; the mark dropped, line ends ``\n``.

    :raises ValueError: when the bytes are no such text; says at which byte.
    """
    mark, encoding = next((known for known in _MARKS if data.startswith(known[0])), (b"", "utf-8"))
    try:
        text = data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"not {encoding.upper()} text: byte {len(mark) + error.start} cannot be read ({error.reason})"
        ) from error
    if not mark and "\0" in text[:4]:
        raise ValueError("not UTF-8 text: it holds NUL characters, as UTF-16 without a byte order mark does")
    return universal_newlines(text)


def universal_newlines(text: str) -> str:
    r"""Text whose lines end with ``\n``, as Python reads files and sources."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def without_surrogates(text: str) -> str:
    """The text with the two halves of a surrogate pair joined, and each lone half replaced by U+FFFD.

    A lone half is no character: it cannot be written as UTF-8.
    """
    if not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def counted(count: int, noun: str, plural: str = "") -> str:
    """``1 step``, ``0 steps``, ``2 steps``.

    :param plural: where an ``s`` does not make it.
    """
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def showable(text: str) -> str:
    r"""Text of unknown origin made safe for a terminal or a page; line ends and tabs stay.

    Escapes such as ``\x1b`` stand for control characters (which move the cursor or set colours), for marks
    that turn the direction of writing or take no room, for line separators other than ``\n``, and for lone
    surrogates.
    """
    return _SUSPECT.sub(_escaped, text)


def showable_line(text: str) -> str:
    """The same on one line: every run of blanks is one space."""
    return showable(" ".join(text.split()))


def quoted_lines(text: str, mark: str = "  | ") -> str:
    """Text of unknown origin shown as a quotation, so that no line of it can pass for one of ours.

    :param mark: what every line begins with.
    """
    return "\n".join(mark + showable(line) for line in text.split("\n"))


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    if unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp") or character in _KEPT_FORMAT:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
