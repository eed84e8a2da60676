"""Reads what a server answered: every shape of a chat completion that can be meant, in one place.

Beside the form that is asked for these are read: a stream of chunks that was not asked for, JSON on several
lines, content in parts, thinking in a field or a part of its own, the text of the older completions, and the
forms of a few other protocols. An error within an answer of status 200 is an error.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from ttd_core.policy.openai.words import decoded, is_page, words_of, words_of_body
from ttd_core.text import without_surrogates

_LINE_END = re.compile(r"\r\n|\n|\r")
_LENGTH = {"length", "max_tokens", "max_output_tokens", "max_new_tokens", "model_length", "max_length"}
#: Ends of a reply that a filter, or the model itself, refused.
_REFUSED = {
    *(
        "content_filter",
        "content-filter",
        "contentfilter",
        "content_filtered",
        "refusal",
        "safety",
        "sensitive",
    ),
    *("recitation", "blocklist", "prohibited_content", "spii", "guardrail_intervened"),
}
#: Ends of a reply that the server did not finish.
_FAILED = {
    "error",
    "abort",
    "aborted",
    "cancelled",
    "network_error",
    "engine_error",
    "insufficient_system_resource",
}
_THINKING_FIELDS = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
#: Of one reply; more is no count.
_MOST_TOKENS = 1e12
_JSON = json.JSONDecoder()


class AnswerError(Exception):
    """An answer that holds no reply.

    :param reason: what it is instead, for people.
    :param document: the JSON that says why, where there is one.
    :param page: whether it is a page of a web server.
    """

    def __init__(self, reason: str, document: Any = None, *, page: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.document = document
        self.page = page


@attrs.frozen
class Answer:
    """One reply.

    :param content: its text; thinking that the server leaves in it included.
    :param thinking: what the server keeps apart from the text.
    :param refusal: why there is no text, in the server's words; empty where nothing was refused.
    :param cut: whether it reached the limit of tokens.
    :param tokens_prompt: of the prompt, by the server's count; 0 where it does not say.
    :param tokens: of the reply, likewise.
    """

    content: str
    thinking: str = ""
    refusal: str = ""
    cut: bool = False
    tokens_prompt: float = 0.0
    tokens: float = 0.0


def read_answer(body: bytes) -> Answer:
    """The reply in the body of an answer.

    :raises AnswerError: when it holds none.
    """
    try:
        return _assembled(_documents(decoded(body), body))
    except RecursionError as error:
        raise AnswerError("an answer that is nested too deeply to be read") from error


def read_models(body: bytes) -> tuple[str, ...] | None:
    """The names in a list of models; ``None`` when the body is no such list."""
    try:
        document = json.loads(decoded(body))
    except (ValueError, RecursionError):
        return None
    if isinstance(document, dict):
        field = next((name for name in ("data", "models") if name in document), None)
        if field is None:
            return None
        document = document[field]
    if document is None:
        return ()
    if isinstance(document, dict):
        document = list(document)
    if not isinstance(document, list):
        return None
    return tuple(name for entry in document if (name := _model_name(entry)))


def _model_name(entry: Any) -> str:
    """The name of one model in a list."""
    if isinstance(entry, str):
        return entry
    if isinstance(entry, dict):
        found = (entry.get(field) for field in ("id", "name", "model", "slug"))
        return next((name for name in found if isinstance(name, str) and name), "")
    return ""


def _documents(text: str, body: bytes) -> list[Any]:
    """The JSON values in a body, which is one of them, or a stream; the last of a stream is whole.

    :raises AnswerError: when it is neither.
    """
    if not text:
        raise AnswerError("an empty answer")
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if isinstance(document, str):
        # Some gateways encode twice.
        return _documents(document, body)
    if isinstance(document, list) and document:
        return document
    if document is not None:
        return [document]
    if is_page(text):
        raise AnswerError(f"a web page ({words_of_body(body)})", words_of_body(body), page=True)
    return _streamed(text)


def _streamed(text: str) -> list[Any]:
    """The values of a stream: events with ``data:``, or JSON on lines of its own.

    :raises AnswerError: when something in it is no JSON, or it stops before its end.
    """
    found: list[Any] = []
    ended = False
    for block in re.split(r"(?:\r\n|\n|\r){2,}", text):
        lines = _LINE_END.split(block)
        failed = any(line.partition(":")[2].strip() == "error" for line in lines if line.startswith("event:"))
        if any(line.startswith(("data:", "event:", "id:", "retry:", ":")) for line in lines):
            plain = [line for line in lines if line and not re.match(r"(data|event|id|retry)?:", line)]
            data = [line[5:].removeprefix(" ") for line in lines if line.startswith("data:")]
        else:
            plain, data = lines, []
        ended |= any(line.strip() == "[DONE]" for line in data)
        data = [line for line in data if line.strip() != "[DONE]"]
        for part in (plain, data):
            values = _values("\n".join(part), part)
            found += [{"error": value} for value in values] if failed and part is data else values
    if len(found) > 1 and not ended and not any(_says_end(value) for value in found):
        raise AnswerError("a stream that stops before its end")
    return found


def _values(joined: str, lines: Sequence[str]) -> list[Any]:
    """The JSON values in a block of lines: one over all of them, or some on each.

    :raises AnswerError: when they are none.
    """
    if not joined.strip():
        return []
    found: list[Any] = []
    with contextlib.suppress(ValueError):  # then each line is read on its own
        return [json.loads(joined)]
    for line in lines:
        rest = line.strip()
        while rest:
            try:
                value, end = _JSON.raw_decode(rest)
            except ValueError as error:
                raise AnswerError(_no_json(joined)) from error
            found.append(value)
            rest = rest[end:].lstrip()
    return found


def _no_json(text: str) -> str:
    """What a text is that should be JSON: cut, or something else."""
    kind = "cut JSON" if text.lstrip().startswith(("{", "[")) else "no JSON"
    shown = " ".join(text[:200].split())
    return f"{kind} ('{shown[:100]}')"


def _says_end(document: Any) -> bool:
    """Whether a value of a stream is its last one."""
    if not isinstance(document, dict):
        return False
    ends = [choice.get("finish_reason") for choice in _choices(document)]
    return any(ends) or document.get("done") is True or bool(document.get("error"))


def _choices(document: Any) -> list[dict[str, Any]]:
    """The replies in a JSON value, in the form of chat completions."""
    if not isinstance(document, dict):
        return []
    given = document.get("choices")
    if isinstance(given, dict):
        given = [given] if {"message", "delta", "text"} & given.keys() else list(given.values())
    if isinstance(given, list):
        return [choice for choice in given if isinstance(choice, dict)]
    for wrapper in ("data", "response", "result", "body"):
        inside = document.get(wrapper)
        if isinstance(inside, dict) and "choices" in inside:
            return _choices(inside)
    if isinstance(document.get("message"), dict) and "content" in document["message"]:
        return [{"message": document["message"], "finish_reason": document.get("done_reason")}]
    if document.get("role") == "assistant" and "content" in document:
        return [{"message": document, "finish_reason": document.get("stop_reason")}]
    if isinstance(document.get("output"), list):
        return [{"message": {"content": document["output"]}, "finish_reason": _incomplete(document)}]
    return []


def _incomplete(document: Mapping[str, Any]) -> Any:
    """Why a reply of the protocol of responses is not complete."""
    details = document.get("incomplete_details")
    return details.get("reason") if isinstance(details, dict) else None


@attrs.define
class _Reply:
    """A reply as its parts come."""

    content: str = ""
    thinking: str = ""
    refusal: str = ""
    finish: str = ""
    calls: str = ""
    found: bool = False
    in_chunks: bool = False

    def add(self, choice: Mapping[str, Any]) -> None:
        """Take in one choice of a document, whole or a chunk of it."""
        delta, message = choice.get("delta"), choice.get("message")
        if isinstance(delta, dict) and not (isinstance(message, dict) and message.get("content")):
            message, self.in_chunks = delta, True
        elif self.in_chunks:
            # Some servers end a stream with the whole of it.
            message = {}
        if not isinstance(message, dict):
            text = message if isinstance(message, str) else choice.get("text")
            message = {"content": text} if isinstance(text, str) else None
        finish = choice.get("finish_reason")
        if isinstance(finish, str) and finish:
            self.finish = finish.lower()
        if message is None:
            return
        self.found = True
        text, thinking, refusal = _texts(message.get("content"))
        apart = next((said for field in _THINKING_FIELDS if (said := _flat(message.get(field)))), "")
        self.content += text
        self.thinking += apart + thinking
        self.refusal += refusal + _flat(message.get("refusal"))
        calls = message.get("tool_calls") or message.get("function_call")
        if calls:
            self.calls += json.dumps(calls)[:1000]


def _assembled(documents: Sequence[Any]) -> Answer:
    """The reply that some JSON values make up.

    :raises AnswerError: when there is none, or one of them is an error.
    """
    chosen = [(document, choice) for document in documents for choice in _choices(document)]
    wanted = min((_index(choice) for _, choice in chosen), default=0)
    reply = _Reply()
    for _, choice in chosen:
        if _index(choice) == wanted:
            reply.add(choice)
    alone = len(documents) == 1 and bool(reply.content)
    for holder in (*documents, *(choice for _, choice in chosen)):
        error = holder.get("error") if isinstance(holder, dict) else None
        if error and not alone:
            raise AnswerError(words_of(holder) or "an error without words", holder)
    if reply.finish in _FAILED:
        raise AnswerError(f"a reply that the server did not finish ('{reply.finish}')")
    if not reply.found:
        document = documents[0] if documents else None
        words = words_of(document) if isinstance(document, dict | str) else ""
        raise AnswerError(words or "JSON that holds no reply", document)
    refusal = reply.refusal
    if not refusal and not reply.content and reply.finish in _REFUSED:
        refusal = f"the reply was withheld ('{reply.finish}')"
    if not refusal and not reply.content and reply.calls:
        refusal = f"the reply is a call of a tool, and none was offered: {reply.calls}"
    prompt, tokens = _usage(documents)
    return Answer(
        content=without_surrogates(reply.content),
        thinking=without_surrogates(reply.thinking),
        refusal="" if reply.content else without_surrogates(refusal),
        cut=reply.finish in _LENGTH,
        tokens_prompt=prompt,
        tokens=tokens,
    )


def _index(choice: Mapping[str, Any]) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) else 0


def _texts(value: Any) -> tuple[str, str, str]:
    """Text, thinking and refusal of a message's content: a text, or a list of parts of several kinds."""
    if isinstance(value, str):
        return value, "", ""
    if isinstance(value, list):
        parts = [_texts(part) for part in value]
        return "".join(p[0] for p in parts), "".join(p[1] for p in parts), "".join(p[2] for p in parts)
    if not isinstance(value, dict):
        return "", "", ""
    kind = str(value.get("type", "")).lower()
    if "refusal" in kind:
        return "", "", _flat(value)
    if "think" in kind or "reason" in kind:
        return "", _flat(value), ""
    if "text" in value:
        return _flat(value["text"]), "", ""
    return _texts(value.get("content", value.get("parts")))


def _flat(value: Any) -> str:
    """All text in a value of a field whose kind is known."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(_flat(item) for item in value)
    if isinstance(value, dict):
        fields = ("text", "value", "thinking", "reasoning", "refusal", "content", "summary")
        return next((text for field in fields if (text := _flat(value.get(field)))), "")
    return ""


def _usage(documents: Sequence[Any]) -> tuple[float, float]:
    """Tokens of prompt and reply by the server's count; the last one of a stream counts."""
    prompt = tokens = 0.0
    for document in documents:
        usage = document.get("usage") if isinstance(document, dict) else None
        if isinstance(usage, dict):
            prompt = _count(usage, "prompt_tokens", "input_tokens") or prompt
            tokens = _count(usage, "completion_tokens", "output_tokens") or tokens
    return prompt, tokens


def _count(usage: Mapping[str, Any], *fields: str) -> float:
    for field in fields:
        value = usage.get(field)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS:
            return float(value)
    return 0.0
