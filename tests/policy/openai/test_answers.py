"""The reader of answers: every shape that can mean a reply, what means none, words and codes of refusals."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttd_core.policy.models.tags import answer_within
from ttd_core.policy.openai import failures
from ttd_core.policy.openai.answers import AnswerError, read_answer, read_models
from ttd_core.policy.openai.failures import Kind
from ttd_core.policy.openai.words import words_of_body


def whole(content: Any, finish: Any = "stop", **message: Any) -> dict[str, Any]:
    """A chat completion."""
    said = {"role": "assistant", "content": content, **message}
    choice = {"index": 0, "finish_reason": finish, "message": said}
    usage = {"prompt_tokens": 7, "completion_tokens": 5}
    return {"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage}


def chunk(delta: Any, finish: Any = None, index: int = 0) -> dict[str, Any]:
    return {
        "object": "chat.completion.chunk",
        "choices": [{"index": index, "delta": delta, "finish_reason": finish}],
    }


def events(*documents: Any, end: str = "data: [DONE]\n\n", lead: str = "data: ") -> bytes:
    return ("".join(f"{lead}{json.dumps(one)}\n\n" for one in documents) + end).encode()


TWO = (chunk({"role": "assistant", "content": "fi"}), chunk({"content": "ne"}, "stop"))
#: Body of an answer of status 200, and the text and the thinking that it means.
MEANT: dict[str, tuple[bytes, str, str]] = {
    "usual": (json.dumps(whole("fine")).encode(), "fine", ""),
    "mark": (b"\xef\xbb\xbf" + json.dumps(whole("fine")).encode(), "fine", ""),
    "utf-16": (json.dumps(whole("fine")).encode("utf-16"), "fine", ""),
    "blanks": (b"\n\n  \n" + json.dumps(whole("fine")).encode() + b"\r\n", "fine", ""),
    "encoded twice": (json.dumps(json.dumps(whole("fine"))).encode(), "fine", ""),
    "in a list": (json.dumps([whole("fine")]).encode(), "fine", ""),
    "wrapped": (json.dumps({"code": 200, "data": whole("fine")}).encode(), "fine", ""),
    "text parts": (
        json.dumps(whole([{"type": "text", "text": "fi"}, {"type": "text", "text": "ne"}])).encode(),
        "fine",
        "",
    ),
    "bare parts": (json.dumps(whole(["fi", {"text": "ne"}])).encode(), "fine", ""),
    "output parts": (
        json.dumps(whole([{"type": "output_text", "text": {"value": "fine"}}])).encode(),
        "fine",
        "",
    ),
    "thinking part": (
        json.dumps(
            whole(
                [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                    {"type": "text", "text": "fine"},
                ]
            )
        ).encode(),
        "fine",
        "hm",
    ),
    "reasoning_content": (json.dumps(whole("fine", reasoning_content="hm")).encode(), "fine", "hm"),
    "reasoning": (json.dumps(whole("fine", reasoning="hm")).encode(), "fine", "hm"),
    "both": (json.dumps(whole("fine", reasoning="hm", reasoning_content="hm")).encode(), "fine", "hm"),
    "thinking": (json.dumps(whole("fine", thinking="hm")).encode(), "fine", "hm"),
    "details": (
        json.dumps(whole("fine", reasoning_details=[{"type": "reasoning.text", "text": "hm"}])).encode(),
        "fine",
        "hm",
    ),
    "null finish": (json.dumps(whole("fine", None)).encode(), "fine", ""),
    "unknown finish": (json.dumps(whole("fine", {"type": "odd"})).encode(), "fine", ""),
    "null usage": (json.dumps({**whole("fine"), "usage": None}).encode(), "fine", ""),
    "odd usage": (
        json.dumps({**whole("fine"), "usage": {"prompt_tokens": "7", "completion_tokens": -1}}).encode(),
        "fine",
        "",
    ),
    "huge usage": (
        json.dumps({**whole("fine"), "usage": {"completion_tokens": 10**400}}).encode(),
        "fine",
        "",
    ),
    "odd logprobs": (
        json.dumps({"choices": [{"message": {"content": "fine"}, "logprobs": {"content": "no"}}]}).encode(),
        "fine",
        "",
    ),
    "null error": (json.dumps({**whole("fine"), "error": None}).encode(), "fine", ""),
    "several choices": (
        json.dumps(
            {"choices": [whole("no")["choices"][0] | {"index": 1}, whole("fine")["choices"][0]]}
        ).encode(),
        "fine",
        "",
    ),
    "choices by number": (json.dumps({"choices": {"0": whole("fine")["choices"][0]}}).encode(), "fine", ""),
    "older completion": (
        json.dumps({"choices": [{"text": "fine", "finish_reason": "stop"}]}).encode(),
        "fine",
        "",
    ),
    "message is text": (json.dumps({"choices": [{"message": "fine"}]}).encode(), "fine", ""),
    "one chunk": (json.dumps(chunk({"content": "fine"}, "stop")).encode(), "fine", ""),
    "stream": (events(*TWO), "fine", ""),
    "stream without blank after data": (events(*TWO, end="data:[DONE]\n\n", lead="data:"), "fine", ""),
    "stream of CRLF": (events(*TWO).replace(b"\n", b"\r\n"), "fine", ""),
    "stream without blank lines": (events(*TWO).replace(b"\n\n", b"\n"), "fine", ""),
    "stream with comments": (
        b": PROCESSING\n\n: PROCESSING\n\nevent: message\nid: 3\n" + events(*TWO),
        "fine",
        "",
    ),
    "stream without [DONE]": (events(*TWO, end=""), "fine", ""),
    "stream of usage": (events(*TWO, {"choices": [], "usage": {"completion_tokens": 5}}), "fine", ""),
    "stream of two choices": (events(chunk({"content": "no"}, "stop", 1), *TWO), "fine", ""),
    "stream of thinking": (
        events(chunk({"reasoning_content": "h"}), chunk({"reasoning_content": "m"}), *TWO),
        "fine",
        "hm",
    ),
    "stream with the whole at its end": (events(*TWO, whole("fine")), "fine", ""),
    "stream with null delta": (events(*TWO, chunk(None, "stop")), "fine", ""),
    "JSON and [DONE]": (json.dumps(whole("fine")).encode() + b"\n\ndata: [DONE]\n\n", "fine", ""),
    "indented JSON and [DONE]": (
        json.dumps(whole("fine"), indent=2).encode() + b"\n\ndata: [DONE]\n\n",
        "fine",
        "",
    ),
    "separators within the text": (events(chunk({"content": "a\u2028b\x85"}, "stop")), "a\u2028b\x85", ""),
    "JSON lines": (
        b'{"message": {"content": "fi"}, "done": false}\n{"message": {"content": "ne"}, "done": true}\n',
        "fine",
        "",
    ),
    "another protocol": (
        json.dumps({"role": "assistant", "content": [{"type": "text", "text": "fine"}]}).encode(),
        "fine",
        "",
    ),
    "responses": (
        json.dumps(
            {
                "output": [
                    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
                    {"type": "message", "content": [{"type": "output_text", "text": "fine"}]},
                ]
            }
        ).encode(),
        "fine",
        "hm",
    ),
    "surrogates": (json.dumps(whole("a\ud83d\ude00b\ud800")).encode(), "a\U0001f600b\ufffd", ""),
    "no text": (json.dumps(whole(None)).encode(), "", ""),
    "only thinking": (json.dumps(whole(None, "length", reasoning_content="hm")).encode(), "", "hm"),
}


@pytest.mark.parametrize(("body", "text", "thinking"), MEANT.values(), ids=MEANT)
def test_every_shape_that_an_answer_can_mean(body: bytes, text: str, thinking: str) -> None:
    answer = read_answer(body)
    assert (answer.content, answer.thinking, answer.refusal) == (text, thinking, "")
    assert answer.tokens in (0, 5)


@pytest.mark.parametrize("finish", ["length", "max_tokens", "MAX_TOKENS", "model_length"])
def test_a_reply_that_reached_its_limit(finish: str) -> None:
    assert read_answer(json.dumps(whole("fi", finish)).encode()).cut


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "an empty answer"),
        (b"   \n", "an empty answer"),
        (b"null", "holds no reply"),
        (b"[]", "holds no reply"),
        (b"{}", "holds no reply"),
        (b"7", "holds no reply"),
        (b'{"choices": null}', "holds no reply"),
        (b'{"choices": []}', "holds no reply"),
        (b'{"choices": {}}', "holds no reply"),
        (b'{"choices": "x"}', "holds no reply"),
        (b'{"choices": [null]}', "holds no reply"),
        (b'{"choices": [{"message": null, "finish_reason": "stop"}]}', "holds no reply"),
        (b'{"choices": [{"mess', "cut JSON"),
        (b"I am no JSON", "no JSON .'I am no JSON'"),
        (b"\xff\xfe\x00\x01\x80", "JSON"),
        (b"[" * 100_000, "."),
        (b'{"choices":' + b'[{"message":{"content":' * 5000, "."),
        (b"<html><title>Log in</title></html>", "a web page .Log in"),
        (b'data: {"choices": [{"delta": {"content": "a"}}]}\n\ndata: {"choi', "cut JSON"),
        (
            events(chunk({"content": "a"}), chunk({"content": "b"}), end=""),
            "stops before its end",
        ),
        (b"data: [DONE]\n\n", "holds no reply"),
        (json.dumps(whole("fi", "error")).encode(), "did not finish"),
        (json.dumps(whole("fi", "abort")).encode(), "did not finish"),
        (json.dumps({**whole(""), "error": {"message": "it broke"}}).encode(), "it broke"),
        (b'{"message": "no such route"}', "no such route"),
        (events(TWO[0], {"error": {"message": "it broke", "code": 502}}), "it broke"),
        (b'event: error\ndata: {"message": "it broke"}\n\n', "it broke"),
    ],
)
def test_what_is_no_reply_says_what_it_is(body: bytes, words: str) -> None:
    with pytest.raises(AnswerError, match=words) as caught:
        read_answer(body)
    assert len(caught.value.reason) < 500


@given(
    st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
def test_any_bytes_are_an_answer_or_none(body: bytes) -> None:
    _read_all(body)


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["stop", "429"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *(
                        "choices",
                        "message",
                        "delta",
                        "content",
                        "text",
                        "type",
                        "error",
                        "code",
                        "index",
                        "usage",
                    ),
                    *(
                        "finish_reason",
                        "detail",
                        "loc",
                        "msg",
                        "data",
                        "refusal",
                        "tool_calls",
                        "reasoning",
                        "output",
                    ),
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.lists(_JSON, min_size=1, max_size=3), st.booleans())
def test_any_json_is_an_answer_or_none(documents: list[Any], streamed: bool) -> None:
    _read_all(events(*documents) if streamed else json.dumps(documents[0]).encode())


def _read_all(body: bytes) -> None:
    read_models(body)
    failures.of_status(500, body, {})
    failures.of_status(400, body, {})
    try:
        answer = read_answer(body)
    except AnswerError as error:
        failures.of_answer(error, {})
        return
    assert answer.content.encode("utf-8", "strict") is not None


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"object": "list", "data": [{"id": "m"}, {"id": "n"}]}, ("m", "n")),
        ([{"id": "m"}], ("m",)),
        (["m", "n"], ("m", "n")),
        ({"models": [{"name": "m"}, {"model": "n"}, None, 3]}, ("m", "n")),
        ({"data": None}, ()),
        ({"data": {"m": {}}}, ("m",)),
        ({"data": "odd"}, None),
        ({"error": "no"}, None),
        (None, ()),
    ],
)
def test_lists_of_models(body: Any, names: tuple[str, ...] | None) -> None:
    assert read_models(json.dumps(body).encode()) == names


#: A refusal's status and body, what it is read as, and words that are kept.
REFUSALS: list[tuple[int, Any, Kind, str]] = [
    (401, {"error": "bad key"}, Kind.ACCESS, "bad key"),
    (403, {"message": "Forbidden"}, Kind.ACCESS, "Forbidden"),
    (404, {"detail": "Not Found"}, Kind.MISSING, "Not Found"),
    (405, {"detail": "Method Not Allowed"}, Kind.MISSING, "Method Not Allowed"),
    (413, {"error": {"message": "too much"}}, Kind.TOO_LONG, "too much"),
    (429, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, Kind.BUSY, "slow down"),
    (429, {"error": {"message": "x", "code": "insufficient_quota"}}, Kind.QUOTA, "x"),
    (402, {"error": "Insufficient Balance"}, Kind.QUOTA, "Insufficient Balance"),
    (
        429,
        [{"error": {"code": 429, "message": "exceeded your quota", "status": "RESOURCE_EXHAUSTED"}}],
        Kind.BUSY,
        "quota",
    ),
    (500, {"error": {"message": "oh"}}, Kind.BROKEN, "oh"),
    (503, "upstream connect error", Kind.BROKEN, "upstream connect error"),
    (400, {"error": {"message": "Provider returned error", "code": "429"}}, Kind.BUSY, "Provider"),
    (400, {"error": {"message": "maximum context length is 64 tokens"}}, Kind.TOO_LONG, "64 tokens"),
    (400, {"error": {"message": "x", "code": "context_length_exceeded"}}, Kind.TOO_LONG, "x"),
    (
        400,
        {
            "error": {
                "message": "max_tokens is too large: 9. It supports at most 4 completion tokens",
                "param": "max_tokens",
            }
        },
        Kind.LIMIT,
        "at most 4",
    ),
    (
        400,
        {"message": "'max_tokens' or 'max_completion_tokens' is too large: 9. The context length is 8"},
        Kind.LIMIT,
        "is too large",
    ),
    (
        400,
        {
            "error": {
                "message": "Unsupported parameter: 'max_tokens'",
                "param": "max_tokens",
                "code": "unsupported_parameter",
            }
        },
        Kind.REFUSED,
        "max_tokens",
    ),
    (400, {"error": {"message": "filtered", "code": "content_filter"}}, Kind.FILTERED, "filtered"),
    (
        400,
        {"error": {"message": "x", "innererror": {"code": "ResponsibleAIPolicyViolation"}}},
        Kind.FILTERED,
        "x",
    ),
    (
        403,
        {"error": {"message": "your input was flagged", "metadata": {"reasons": ["violence"]}}},
        Kind.FILTERED,
        "flagged",
    ),
    (
        422,
        {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]},
        Kind.REFUSED,
        "^seed: Extra",
    ),
    (422, {"detail": "no seed here"}, Kind.REFUSED, "no seed here"),
    (422, {"errors": {"seed": ["is unknown"]}}, Kind.REFUSED, "seed: is unknown"),
    (400, {"errors": [{"message": "one"}, {"message": "two"}]}, Kind.REFUSED, "one; two"),
    (
        400,
        {"error": "bad_request", "message": "seed is unknown"},
        Kind.REFUSED,
        "bad_request: seed is unknown",
    ),
    (400, {"error": {"message": '{"error": {"message": "inner"}}'}}, Kind.REFUSED, "^inner$"),
    (400, {"success": False, "errors": [{"code": 7, "message": "no"}]}, Kind.REFUSED, "no"),
    (400, {}, Kind.REFUSED, "."),
    (400, {"detail": [{"loc": ["body"], "msg": "seed?", "input": "x" * 100_000}]}, Kind.REFUSED, "seed"),
]


@pytest.mark.parametrize(("status", "body", "kind", "words"), REFUSALS)
def test_refusals_are_told_apart(status: int, body: Any, kind: Kind, words: str) -> None:
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    failure = failures.of_status(status, data, {})
    assert failure.kind is kind
    assert re.search(words, failure.words)


#: What an answer of status 200 holds, and what it is read as.
WITHIN: list[tuple[Any, Kind]] = [
    ({"choices": None, "error": {"message": "m", "code": 429, "metadata": {"raw": "Too Many"}}}, Kind.BUSY),
    ({"choices": [], "error": {"message": "m", "code": "429"}}, Kind.BUSY),
    ({"error": {"message": "m", "code": "rate_limit_exceeded"}}, Kind.BUSY),
    ({"error": {"message": "m", "type": "rate_limit_error"}}, Kind.BUSY),
    ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, Kind.BUSY),
    ({"error": {"error": {"code": 503, "message": "m"}}}, Kind.BROKEN),
    ({"error": {"message": '{"error": {"code": 503, "message": "m"}}'}}, Kind.BROKEN),
    ({"error": "Error code: 502 - Bad Gateway"}, Kind.BROKEN),
    ({"detail": "429 Too Many Requests"}, Kind.BUSY),
    ({"object": "error", "message": "m", "code": 500}, Kind.BROKEN),
    ({"choices": [{"message": None, "error": {"code": 502, "message": "m"}}]}, Kind.BROKEN),
    ({"choices": None, "base_resp": {"status_code": 1002, "status_msg": "m"}}, Kind.UNREADABLE),
    ({"choices": None}, Kind.UNREADABLE),
    ({"error": {"message": "no such thing", "code": 404}}, Kind.MISSING),
    ({"error": {"message": "m", "code": 401}}, Kind.ACCESS),
    ({"error": {"message": "m", "code": "insufficient_quota"}}, Kind.QUOTA),
    ({"error": {"message": "m", "code": "content_filter"}}, Kind.FILTERED),
    ({"error": {"message": "m", "type": "invalid_request_error"}}, Kind.REFUSED),
]


@pytest.mark.parametrize(("document", "kind"), WITHIN)
def test_an_error_within_an_answer_counts_as_its_code(document: Any, kind: Kind) -> None:
    with pytest.raises(AnswerError) as caught:
        read_answer(json.dumps(document).encode())
    assert failures.of_answer(caught.value, {}).kind is kind


def test_a_page_that_names_a_status_counts_as_it() -> None:
    for title, kind in (
        ("502 Bad Gateway", Kind.BROKEN),
        ("429 Too Many Requests", Kind.BUSY),
        ("Log in", Kind.PAGE),
    ):
        with pytest.raises(AnswerError) as caught:
            read_answer(f"<html><head><title>{title}</title></head></html>".encode())
        failure = failures.of_answer(caught.value, {})
        assert failure.kind.may_pass == kind.may_pass
        assert title in failure.words


def test_words_of_a_page() -> None:
    assert (
        words_of_body(b"<html><head><title>502 &amp; more</title></head><body>x</body></html>")
        == "502 & more"
    )
    assert words_of_body(b"<html><body><h1>No</h1><p>x</p></body></html>") == "No"
    assert words_of_body(b"<p>just <b>this</b></p>").split() == ["just", "this"]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("forty-two", "forty-two"),
        ("<think>so</think>forty-two", "forty-two"),
        ("\n<think>\nso\n</think>\n\nforty-two", "\n\nforty-two"),
        ("so</think>forty-two", "forty-two"),
        ("<think>a<think>b</think>c</think>forty-two", "forty-two"),
        ("<think>so", ""),
        ("<think>a</think>\n<think>b", ""),
        ("<think></think>forty-two", "forty-two"),
        ("<thinking>so</thinking>forty-two", "forty-two"),
        ("<thinking>so", ""),
        ("<Thought>so", ""),
        ("[THINK]so[/THINK]forty-two", "forty-two"),
        ("[THINK]so", ""),
        ("so[/THINK]forty-two", "forty-two"),
        ("\u25c1think\u25b7so\u25c1/think\u25b7forty-two", "forty-two"),
        ("<|channel|>analysis<|message|>so", ""),
        (
            "<|channel|>analysis<|message|>so<|end|><|start|>assistant<|channel|>final<|message|>forty-two<|return|>",
            "forty-two",
        ),
        ("<|channel|>final<|message|>forty-two", "forty-two"),
        ("analysisso assistantfinalforty-two", "forty-two"),
        ("analysis of it: forty-two", "analysis of it: forty-two"),
        ("In <think> tags one thinks", "In <think> tags one thinks"),
        ("", ""),
    ],
)
def test_thinking_is_told_by_its_tags(text: str, answer: str) -> None:
    assert answer_within(text, "</think>") == answer
    assert answer_within(text) == answer
