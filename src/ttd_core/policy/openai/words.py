"""What a server says when it refuses: its own words and its codes, out of whatever form its body has.

Servers and gateways each have a form of their own: OpenAI's ``error.message``, a list of ``detail`` with
``loc`` and ``msg``, an error that is a text, one inside another, JSON within a text, a page of a web server.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from typing import Any

import attrs

#: Fields that hold words, in the order in which they are told; compared in lower case.
_WORD_FIELDS = (
    *("error", "title", "message", "msg", "detail", "details", "errors", "error_message", "error_msg"),
    *("errormessage", "status_msg", "base_resp", "description", "reason", "metadata", "raw"),
)
_CODE_FIELDS = (
    "code",
    "type",
    "status",
    "status_code",
    "statuscode",
    "error_code",
    "errorcode",
    "http_status",
)
#: Fields whose values are looked into for codes.
_NESTED_FIELDS = ("error", "errors", "detail", "details", "message", "base_resp", "innererror", "metadata")
_DEEPEST = 8
#: Parts of a list, or fields of one object, whose words are told.
_MOST_PARTS = 3
#: A status within a sentence: "Error code: 429 - ...", "HTTP 503", "502 Bad Gateway".
_STATUS_IN_WORDS = re.compile(r"(?:\b(?:error|code|status|http)\W{0,12}|^)([45]\d\d)\b", re.IGNORECASE)
_TITLE = re.compile(r"<(title|h1)\b[^>]*>(.*?)</\1\s*>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^>]{0,1000}>")
#: Characters of a body that are searched for words.
_READ_CHARS = 20_000


@attrs.frozen
class Codes:
    """Codes within an answer.

    :param status: as of HTTP, 400 to 599; ``None`` when there is none.
    :param names: such as ``insufficient_quota``, in lower case.
    :param param: the field of the request that is refused, where it is named so.
    """

    status: int | None = None
    names: frozenset[str] = frozenset()
    param: str = ""


def decoded(body: bytes) -> str:
    """A body as text: UTF-8, or UTF-16 or -32 with a mark or by its zeros; what is neither is replaced."""
    text = body.decode(json.detect_encoding(body), "replace")
    return text.removeprefix("\ufeff").strip()


def is_page(text: str) -> bool:
    """Whether a body is a page of a web server."""
    return text.startswith("<") and bool(
        re.search(r"<(!doctype|html|head|body|title|h1)\b", text[:2000], re.I)
    )


def words_of_body(body: bytes) -> str:
    """The sentence in a body of whatever form; empty when there is none."""
    text = decoded(body)
    if text.startswith("<"):
        title = _TITLE.search(text[:_READ_CHARS])
        return html.unescape(_TAG.sub(" ", title[2] if title else text[:_READ_CHARS])).strip()
    inner = _inner_json(text, len(text))
    return words_of(text if inner is None else inner) or text[:_READ_CHARS]


def words_of(value: Any, depth: int = 0) -> str:
    """The sentence in a JSON value of whatever form; empty when there is none."""
    if depth > _DEEPEST:
        return ""
    if isinstance(value, str):
        inner = _inner_json(value)
        return (words_of(inner, depth + 1) if inner is not None else "") or value[:_READ_CHARS].strip()
    if isinstance(value, list):
        return "; ".join(_different(words_of(item, depth + 1) for item in value[:_MOST_PARTS]))
    if not isinstance(value, dict):
        return ""
    fields = {str(name).lower(): item for name, item in value.items()}
    if isinstance(fields.get("loc"), list) and "msg" in fields:
        place = ".".join(str(part) for part in fields["loc"] if part != "body")
        return f"{place}: {words_of(fields['msg'], depth + 1)}"
    found = _different(words_of(fields[name], depth + 1) for name in _WORD_FIELDS if name in fields)
    if not found and depth:
        # Such as {"seed": ["is not permitted"]}.
        named = ((name, words_of(item, depth + 1)) for name, item in list(value.items())[:_MOST_PARTS])
        return "; ".join(f"{name}: {words}" for name, words in named if words)
    return ": ".join(found[:_MOST_PARTS])


def codes_of(document: Any) -> Codes:
    """The codes in a JSON value of whatever form."""
    statuses: list[int] = []
    names: list[str] = []
    params: list[str] = []
    for field, value in _fields(document, 0):
        if field == "param":
            params.append(str(value))
        elif isinstance(value, str) and not value.strip().isdecimal():
            names.append(value.strip().lower())
        elif isinstance(value, int | str) and not isinstance(value, bool) and len(str(value)) <= 6:
            statuses.append(int(value))
            names.append(str(int(value)))
    status = next((number for number in statuses if 400 <= number <= 599), None)
    if status is None and (said := _STATUS_IN_WORDS.search(words_of(document)[:_READ_CHARS])):
        status = int(said[1])
    return Codes(status, frozenset(names), next(iter(params), ""))


def codes_of_body(body: bytes) -> Codes:
    """The codes in a body of whatever form."""
    text = decoded(body)
    inner = _inner_json(text, len(text))
    return codes_of(inner if inner is not None else words_of_body(body))


def _fields(value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    """Fields that hold codes, and those within the values that may hold more."""
    if depth > _DEEPEST:
        return
    if isinstance(value, list):
        for item in value[:_MOST_PARTS]:
            yield from _fields(item, depth + 1)
    elif isinstance(value, str):
        inner = _inner_json(value)
        if inner is not None:
            yield from _fields(inner, depth + 1)
    elif isinstance(value, dict):
        fields = {str(name).lower(): item for name, item in value.items()}
        for name, item in fields.items():
            named = name in _CODE_FIELDS or name == "param"
            # An error may be a name, as "rate_limit_exceeded".
            alone = name == "error" and isinstance(item, str) and " " not in item.strip()
            if alone or (named and isinstance(item, str | int)):
                yield name, item
            if name in _NESTED_FIELDS:
                yield from _fields(item, depth + 1)


def _inner_json(text: str, most: int = _READ_CHARS) -> Any:
    """The JSON object or list that a text is, or that stands at its end; ``None`` when there is none.

    :param most: characters of a text that is read at all.
    """
    start = min((at for at in (text.find("{"), text.find("[{")) if at >= 0), default=-1)
    if not 0 <= start <= 200 or len(text) > most:
        return None
    try:
        return json.loads(text[start:])
    except (ValueError, RecursionError):
        return None


def _different(found: Iterator[str]) -> list[str]:
    """The words that are there, none told twice."""
    kept: list[str] = []
    for words in found:
        if words and not any(words in other for other in kept):
            kept.append(words)
    return kept
