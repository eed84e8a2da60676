"""Servers of chat completions as they are met: odd answers, refusals, wrong addresses and wrong ways out.

Every answer comes from a real server that writes the bytes of a test on a socket, so that they can be
malformed.
"""

from __future__ import annotations

import contextlib
import email.utils
import gzip
import json
import pathlib
import re
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

from ttd_core import config as configs
from ttd_core import network
from ttd_core.cli import main
from ttd_core.errors import ConfigError, EnvironmentLacksError, ModelUnavailableError, TtdError, UsageError
from ttd_core.fetching import download_wheel
from ttd_core.plugin import registry
from ttd_core.plugin.hooks import Hooks
from ttd_core.policy.base import SamplingParams
from ttd_core.policy.models import fetch
from ttd_core.policy.openai import client
from ttd_core.policy.openai.options import OpenAIOptions, Server
from ttd_core.policy.openai.policy import OpenAIPolicy, open_openai
from ttd_core.policy.remote import ApiKey, checked_address
from ttd_core.types import Completion, Message, Status, StopReason, Verdict

KEY = "sk-very-secret-0123456789"
PROMPTS: list[list[Message]] = [[{"role": "user", "content": "ask"}]]
#: What is written on the socket, in parts; a number is a pause in seconds.
Raw = list[bytes | float]
Reply = Callable[["Request"], "Raw | bytes"]


@attrs.frozen
class Request:
    """What was asked."""

    method: str
    path: str
    body: dict[str, Any]


def whole(content: Any, finish: Any = "stop", **message: Any) -> dict[str, Any]:
    """A chat completion."""
    said = {"role": "assistant", "content": content, **message}
    choice = {"index": 0, "finish_reason": finish, "message": said}
    usage = {"prompt_tokens": 7, "completion_tokens": 5}
    return {"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage}


def http(status: int, body: Any, *headers: str, kind: str = "application/json") -> bytes:
    """A whole answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", f"content-type: {kind}", f"content-length: {len(data)}", *headers]
    return "\r\n".join([*lines, "connection: close", "", ""]).encode() + data


def page(status: int, title: str) -> bytes:
    text = f"<!DOCTYPE html><html><head><title>{title}</title></head><body>x</body></html>"
    return http(status, text.encode(), kind="text/html; charset=utf-8")


MODELS = http(200, {"object": "list", "data": [{"id": "m"}]})
NOT_FOUND = http(404, b"404 page not found", kind="text/plain")


@attrs.define(eq=False)
class RawServer:
    """Answers with the bytes that a test gives."""

    reply: Reply = lambda request: http(200, whole("fine"))
    models: Reply = lambda request: MODELS
    requests: list[Request] = attrs.field(factory=list)
    url: str = ""

    @property
    def asked(self) -> list[Request]:
        """Requests for replies."""
        return [request for request in self.requests if request.method == "POST"]


@pytest.fixture
def server() -> Iterator[RawServer]:
    raw = RawServer()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            if self.rfile.peek(1)[:1] == b"\x16":  # type: ignore[attr-defined]  # TLS
                self.wfile.write(http(400, b"this is http", kind="text/plain"))
                return
            head = self.rfile.readline().decode("latin-1").split()
            length = 0
            while (line := self.rfile.readline().strip()) != b"":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            if len(head) < 2:
                return
            body = json.loads(self.rfile.read(length) or b"{}")
            request = Request(head[0], head[1], body)
            raw.requests.append(request)
            parts = (raw.reply if head[0] == "POST" else raw.models)(request)
            for part in [parts] if isinstance(parts, bytes) else parts:
                with contextlib.suppress(OSError):  # whoever asked has gone
                    if isinstance(part, bytes):
                        self.wfile.write(part)
                    else:
                        time.sleep(part)

    class Threads(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Threads(("127.0.0.1", 0), Handler) as listening:
        raw.url = f"http://127.0.0.1:{listening.server_address[1]}/v1"
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield raw
        listening.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for scheme in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{scheme}_proxy", raising=False)
        monkeypatch.delenv(f"{scheme}_proxy".upper(), raising=False)
    for name in ("OPENAI_BASE_URL", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    # Pauses of milliseconds between tries.
    monkeypatch.setattr(client, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(client, "_LONGEST_PAUSE_S", 0.004)


Open = Callable[..., OpenAIPolicy]


@pytest.fixture
def connect(server: RawServer) -> Iterator[Open]:
    opened: list[OpenAIPolicy] = []

    def connect(**options: Any) -> OpenAIPolicy:
        values = {"learn.train": False, "policy.model": "m"}
        values["policy.options"] = {"base_url": server.url, "retries": 2, "timeout_s": 5.0, **options}
        opened.append(open_openai(configs.load("none", overrides=values)))
        return opened[-1]

    yield connect
    for policy in opened:
        policy.close()


def reply_of(policy: OpenAIPolicy, **params: Any) -> Completion:
    (sample,) = policy.sample(PROMPTS, 1, SamplingParams(**params))
    return sample.completion


def refused(connect: Open, **options: Any) -> TtdError:
    """The error that a request, or opening, ends with: one line without the key."""
    with pytest.raises(TtdError) as caught:
        reply_of(connect(**options), max_new_tokens=9)
    line = str(caught.value)
    assert "\n" not in line
    assert KEY not in line
    assert len(line) < 700
    return caught.value


def events_cut() -> bytes:
    """A stream that stops before its end."""
    deltas = ({"choices": [{"delta": {"content": text}}]} for text in "ab")
    return "".join(f"data: {json.dumps(one)}\n\n" for one in deltas).encode()


# What counts as a reply.


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (whole(None, refusal="I cannot do that"), "no answer: I cannot do that"),
        (whole([{"type": "refusal", "refusal": "I cannot"}]), "no answer: I cannot"),
        (whole("", "content_filter"), r"withheld \('content_filter'\)"),
        (whole(None, "tool_calls", tool_calls=[{"function": {"name": "search"}}]), "call of a tool.*search"),
        (whole(None, "function_call", function_call={"name": "search"}), "call of a tool.*search"),
    ],
)
def test_a_refusal_within_the_answer_costs_one_rollout(
    connect: Open, server: RawServer, document: Any, words: str
) -> None:
    server.reply = lambda _: http(200, document)
    found = reply_of(connect())
    assert (found.stop, found.answer) == (StopReason.REFUSED, "")
    assert re.search(words, found.lacks_answer)
    assert len(server.asked) == 1


def test_one_filtered_request_costs_one_rollout(connect: Open, server: RawServer) -> None:
    message = f"The response was filtered due to the policy {KEY}"
    filtered = http(400, {"error": {"message": message, "code": "content_filter"}})
    server.reply = lambda _: filtered if len(server.asked) == 2 else http(200, whole("fine"))
    found = [s.completion for s in connect(in_flight=1).sample(PROMPTS, 4, SamplingParams())]
    assert sorted(one.answer for one in found) == ["", "fine", "fine", "fine"]
    (one,) = (one for one in found if not one.answer)
    assert one.stop is StopReason.REFUSED
    assert one.lacks_answer == "no answer: The response was filtered due to the policy ***"


DRAFT = "a draft\n```python\ndef run(seed, budget_s, **kwargs):\n    return [1.0, 1.0, 1.0]\n```\n"


@pytest.mark.parametrize(
    "document",
    [
        whole(None, "length", reasoning_content=DRAFT),
        whole("", "stop", reasoning=DRAFT),
        whole([{"type": "thinking", "thinking": DRAFT}]),
        whole(f"<think>\n{DRAFT}", "length"),
        whole(f"<thinking>{DRAFT}", "length"),
        whole(f"<|channel|>analysis<|message|>{DRAFT}", "length"),
        whole(f"<think>{DRAFT}</think>"),
    ],
)
def test_what_was_only_thought_is_no_answer(
    connect: Open, server: RawServer, document: Any, install: Any, problem_source: str
) -> None:
    install("ttd-sum", {"sum_problem": problem_source}, problems={"sum": "sum_problem:Sum"})
    server.reply = lambda _: http(200, document)
    found = reply_of(connect())
    assert "a draft" in found.text
    problem, _ = registry.resolve(configs.load("sum"))
    verdict = Hooks(problem).parse_action(found)
    assert isinstance(verdict, Verdict)
    assert (verdict.status, verdict.message) == (Status.PARSE_ERROR, "no answer, only thinking")


# What is tried again.


GOOD = http(200, whole("fine"))
CUT = GOOD[:-20]
STUCK = GOOD.replace(b"connection: close\r\n", b"")[:-20]
#: What a first try meets; the second brings the reply.
PASSING: dict[str, Raw | bytes] = {
    "null choices and 429 within": http(200, {"choices": None, "error": {"code": 429, "message": "slow"}}),
    "no choices": http(200, {**whole(""), "choices": []}),
    "null message": http(200, {"choices": [{"message": None}]}),
    "cut JSON": http(200, b'{"choices": [{"ind'),
    "nothing": http(200, b""),
    "cut within its length": CUT,
    "hung up": b"",
    "hung up within the head": b"HTTP/1.1 200 OK\r\ncontent-le",
    "no HTTP": b"\x00\x01\x02 nonsense\r\n\r\n",
    "cut chunk": b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{"cho',
    "bad chunk": b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{"cho',
    "no gzip": http(200, b"no gzip", "content-encoding: gzip"),
    "gzip cut": http(200, gzip.compress(json.dumps(whole("fine")).encode())[:-9], "content-encoding: gzip"),
    "a page of a gateway": page(502, "502 Bad Gateway"),
    "a page of a gateway, told as 200": page(200, "502 Bad Gateway"),
    "too early": http(425, {}),
    "busy": http(503, {"error": "overloaded"}),
    "waits": http(429, {}, "retry-after: 0.01"),
    "waits in ms": http(429, {}, "retry-after-ms: 5"),
    "waits for a past date": http(429, {}, "retry-after: Wed, 21 Oct 2015 07:28:00 GMT"),
    "waits, negative": http(429, {}, "retry-after: -5"),
    "waits, nonsense": http(429, {}, "retry-after: soon"),
    "stream cut": http(200, events_cut()),
    "stream with an error": http(200, b'data: {"error": {"message": "oh", "code": 500}}\n\n'),
}


@pytest.mark.parametrize("first", PASSING.values(), ids=PASSING)
def test_what_may_pass_is_tried_again(connect: Open, server: RawServer, first: Raw | bytes) -> None:
    server.reply = lambda _: first if len(server.asked) == 1 else GOOD
    policy = connect()
    found = reply_of(policy)
    if first != PASSING["gzip cut"]:
        assert len(server.asked) == 2
        assert policy.take_metrics()["retries"] == 1
    assert found.text == "fine"


def test_a_good_answer_is_read_however_it_is_sent(connect: Open, server: RawServer) -> None:
    body = json.dumps(whole("fine")).encode()
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    ways: list[Raw | bytes] = [
        http(200, gzip.compress(body), "content-encoding: gzip"),
        http(200, body, kind="text/plain"),
        http(200, body, kind="application/octet-stream"),
        http(201, body),
        b"HTTP/1.1 200 OK\r\n\r\n" + body,
        [chunked, 0.05, b"1\r\n\n\r\n", 0.05, b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)],
    ]
    policy = connect()
    for way in ways:
        server.reply = lambda _, way=way: way  # type: ignore[misc]
        assert reply_of(policy).text == "fine"
    assert len(server.asked) == len(ways)


def test_a_server_that_drips_is_not_waited_for(connect: Open, server: RawServer) -> None:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    server.reply = lambda _: [head, *[b"1\r\n \r\n", 0.2] * 150]
    begun = time.monotonic()
    error = refused(connect, timeout_s=1.0, retries=0)
    assert time.monotonic() - begun < 15
    assert re.search(r"did not answer in full in 1 try .*1 s.*policy.options.timeout_s", str(error))


def test_an_endless_answer_is_not_kept(
    connect: Open, server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "MAX_ANSWER_BYTES", 1 << 20)
    bomb = gzip.compress(b" " * (8 << 20))
    for status in (200, 400):
        server.reply = lambda _, status=status: http(status, bomb, "content-encoding: gzip")  # type: ignore[misc]
        assert "an answer of more than 1 MiB" in str(refused(connect))
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("retry-after: 300", r"300 s"),
        ("retry-after: 1e9", r"1000000000 s"),
        ("retry-after: " + "9" * 400, r"1000000000 s"),
        ("retry-after-ms: 300000", r"300 s"),
        ("retry-after: in an hour", r"3(5\d\d|600) s"),
    ],
)
def test_a_long_wait_ends_the_run_and_says_how_long(
    connect: Open, server: RawServer, header: str, seconds: str
) -> None:
    header = header.replace("in an hour", email.utils.formatdate(time.time() + 3600, usegmt=True))
    server.reply = lambda _: http(429, {"error": {"message": "Tokens per day"}}, header)
    error = refused(connect)
    assert re.search(
        rf"asks to wait {seconds} \(Tokens per day\), longer than policy.options.longest_wait_s = 120",
        str(error),
    )
    assert isinstance(error, EnvironmentLacksError)
    assert len(server.asked) == 1


def test_a_wait_is_kept_as_long_as_allowed(connect: Open, server: RawServer) -> None:
    server.reply = lambda _: http(429, {}, "retry-after: 0.3") if len(server.asked) == 1 else GOOD
    begun = time.monotonic()
    assert reply_of(connect(longest_wait_s=1.0)).text == "fine"
    assert time.monotonic() - begun >= 0.3
    server.requests.clear()
    assert "asks to wait" in str(refused(connect, longest_wait_s=0.1))


@pytest.mark.parametrize(
    "answer",
    [
        http(429, {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}),
        http(402, {"error": "Payment Required"}),
        http(200, {"choices": None, "error": {"message": "out of credits", "code": 402}}),
    ],
)
def test_a_spent_quota_is_not_tried_again(connect: Open, server: RawServer, answer: bytes) -> None:
    server.reply = lambda _: answer
    assert re.search(
        "what the account may use is used up .(You exceeded|Payment|out of)", str(refused(connect))
    )
    assert len(server.asked) == 1


def test_what_never_passes_is_one_line(connect: Open, server: RawServer) -> None:
    for answer, words in (
        (http(200, b'{"choices": [{"ind'), "gives no reply that can be read, in 3 tries: cut JSON"),
        (http(200, {"choices": [], "note": "\x1b[2J\u202e" + KEY}), "gives no reply that can be read"),
        (
            page(500, "\x1b[31mOops\r\n error: fine"),
            r"failed, 2 retries included \(status 500, a web page: \\x1b",
        ),
        (
            http(200, {"error": {"code": 503, "message": "busy\nerror: x"}}),
            r"failed, 2 retries.*busy error: x",
        ),
        (http(429, b"x" * 5000, kind="text/plain"), r"still refuses after 3 tries \(x+\.\.\.\)"),
    ):
        server.reply = lambda _, answer=answer: answer  # type: ignore[misc]
        assert re.search(words, str(refused(connect)))


# Fields.


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            {
                "detail": [
                    {
                        "type": "extra_forbidden",
                        "loc": ["body", "seed"],
                        "msg": "Extra inputs are not permitted",
                    }
                ]
            },
            r"refuses the request: seed: Extra inputs are not permitted; .*leave_out=\['seed'\]",
        ),
        ({"error": {"message": "Unrecognized request argument supplied: seed"}}, r"leave_out=\['seed'\]"),
        ({"error": "seed is unknown"}, r"leave_out=\['seed'\]"),
        ({"message": "temperature must be 1"}, r"leave_out=\['temperature'\]"),
        (
            {
                "error": {
                    "message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'",
                    "param": "max_tokens",
                }
            },
            "limit_field=max_completion_tokens",
        ),
        ({"error": {"message": "top_k is unknown"}}, "take top_k out of policy.options.extra_body"),
        ({"error": {"message": "no"}}, "refuses the request: no$"),
    ],
)
def test_a_refused_field_is_named_with_what_leaves_it_out(
    connect: Open, server: RawServer, body: Any, words: str
) -> None:
    for status in (400, 422):
        server.reply = lambda _, status=status: http(status, body)  # type: ignore[misc]
        error = refused(connect, extra_body={"top_k": 3})
        assert isinstance(error, UsageError)
        assert re.search(words, str(error))


def test_fields_can_be_left_out(connect: Open, server: RawServer) -> None:
    policy = connect(leave_out=["seed", "temperature", "max_tokens"])
    reply_of(policy, max_new_tokens=9)
    assert server.asked[-1].body.keys() == {"model", "messages"}
    with pytest.raises(ConfigError, match=r"leave_out: 'sead' is none of .*Did you mean 'seed'"):
        connect(leave_out=["sead"])
    with pytest.raises(ConfigError, match="leave_out needs a list"):
        connect(leave_out="seed")


def test_too_many_tokens_of_reply_is_not_a_long_prompt(connect: Open, server: RawServer) -> None:
    message = "max_tokens is too large: 9000. This model supports at most 4096 completion tokens"
    server.reply = lambda _: http(400, {"error": {"message": message, "param": "max_tokens"}})
    assert re.search("gives no replies of policy.max_new_tokens .*lower it", str(refused(connect)))


def test_lone_surrogates_of_a_prompt_are_not_sent(connect: Open, server: RawServer) -> None:
    list(connect().sample([[{"role": "user", "content": "a\ud800b"}]], 1, SamplingParams()))
    assert server.asked[-1].body["messages"][0]["content"] == "a\ufffdb"


# Addresses.


def test_the_environments_address_counts_as_the_option(
    server: RawServer, monkeypatch: pytest.MonkeyPatch, connect: Open
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setenv("OPENAI_BASE_URL", f" {server.url}/ ")
    policy = connect(base_url="none")
    reply_of(policy, max_new_tokens=9)
    assert server.asked[-1].body["max_tokens"] == 9
    monkeypatch.setenv("OPENAI_BASE_URL", "localhost:8000")
    with pytest.raises(ConfigError, match=r"OPENAI_BASE_URL = 'localhost:8000' .* as http://localhost:8000"):
        connect(base_url="none")
    monkeypatch.setenv("OPENAI_BASE_URL", "")
    with pytest.raises(EnvironmentLacksError, match="no key: set OPENAI_API_KEY"):
        connect(base_url="none")


def test_openais_own_server_is_known_by_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    for address, own in (
        ("https://api.openai.com/v1", True),
        ("https://eu.api.openai.com/v1/", True),
        ("https://openai.com.example.org/v1", False),
        ("http://localhost:8000/v1", False),
    ):
        assert Server.of(OpenAIOptions(base_url=address)).is_openai is own
        monkeypatch.setenv("OPENAI_BASE_URL", address)
        assert Server.of(OpenAIOptions()).is_openai is own


@pytest.mark.parametrize("ending", ["", "/", "//", "/chat/completions", "/chat/completions/", "/models", " "])
def test_an_address_may_say_more_than_it_needs(connect: Open, server: RawServer, ending: str) -> None:
    reply_of(connect(base_url=server.url + ending))
    assert [request.path for request in server.requests] == ["/v1/models", "/v1/chat/completions"]


def test_a_query_of_the_address_is_sent(connect: Open, server: RawServer) -> None:
    reply_of(connect(base_url=f"{server.url}?api-version=2024-10-21"))
    assert server.asked[-1].path == "/v1/chat/completions?api-version=2024-10-21"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("localhost:8000", "write it as http://localhost:8000"),
        ("localhost:8000/v1", "write it as http://localhost:8000/v1"),
        ("127.0.0.1", "write it as http://127.0.0.1"),
        ("http:/localhost:8000", "is no address"),
        ("ftp://localhost/v1", "is no address"),
        ("http://local host/v1", "is no address"),
        ("http://localhost/v1\nx", "is no address"),
        ("http://localhost:port/v1", "is no address"),
        ("http://localhost:99999/v1", "is no address"),
        ("http://[::1/v1", "is no address"),
        ("http://" + "a" * 70 + ".org", "is no address"),
        ("", "is no address"),
        ("http://me:word@host/v1", "holds a password"),
        ("http://host/v1?key=secret", "holds a password"),
    ],
)
def test_what_is_no_address_is_refused_at_once(address: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        checked_address("policy.options.base_url", address)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["http://[::1]:8000/v1", "https://bücher.example/v1", "http://a_b:1/v1"])
def test_unusual_addresses_are_addresses(address: str) -> None:
    assert checked_address("x", address) == address


def below_v1(request: Request, answer: bytes) -> bytes:
    return answer if request.path.startswith("/v1/") else NOT_FOUND


def test_an_address_without_v1_is_told_before_a_run_begins(connect: Open, server: RawServer) -> None:
    root = server.url.removesuffix("/v1")
    server.models = lambda request: below_v1(request, MODELS)
    server.reply = lambda request: below_v1(request, GOOD)
    with pytest.raises(EnvironmentLacksError, match=rf"may lack /v1: policy.options.base_url={server.url}$"):
        connect(base_url=root)
    # And where it lists no models either.
    server.models = lambda _: NOT_FOUND
    with pytest.raises(
        EnvironmentLacksError, match=r"has no chat completions .404 page not found.; it may lack /v1"
    ):
        connect(base_url=root)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("answer", "words", "kind"),
    [
        (page(200, "Log in"), r"answers with a web page \(Log in\), not with chat", EnvironmentLacksError),
        (http(301, b"", "location: /login"), r"sends on to .*/login.*base_url$", EnvironmentLacksError),
        (http(404, {"error": {"message": "model 'm' not found"}}), "has no model 'm'", ModelUnavailableError),
        (http(403, {"detail": "Not authenticated"}), "holds a key that is refused", EnvironmentLacksError),
        (http(401, b"", kind="text/html"), "holds a key that is refused", EnvironmentLacksError),
        (b"", "did not answer in 1 try", EnvironmentLacksError),
    ],
)
def test_a_server_without_models_is_asked_for_one_token(
    connect: Open, server: RawServer, answer: bytes, words: str, kind: type[TtdError]
) -> None:
    server.models = lambda request: page(200, "Log in") if request.path == "/login" else NOT_FOUND
    server.reply = lambda _: answer
    with pytest.raises(kind, match=words):
        connect()
    (request,) = server.asked
    assert request.body["max_tokens"] == 1


@pytest.mark.parametrize(
    "models",
    [
        NOT_FOUND,
        page(200, "Web interface"),
        http(200, b"{"),
        http(200, {"odd": 1}),
        http(403, {"error": "no scope"}),
        http(200, {"data": None}),
        http(200, ["m"]),
        http(500, {"error": "x"}),
        http(429, b""),
    ],
)
def test_odd_lists_of_models_do_no_harm(connect: Open, server: RawServer, models: bytes) -> None:
    server.models = lambda _: models
    assert reply_of(connect()).text == "fine"


def test_a_redirect_that_keeps_the_request_is_followed(connect: Open, server: RawServer) -> None:
    moved = http(308, b"", "location: /other/chat/completions")
    server.reply = lambda request: GOOD if request.path.startswith("/other/") else moved
    assert reply_of(connect()).text == "fine"


def test_https_asked_of_a_server_of_http(connect: Open, server: RawServer) -> None:
    with pytest.raises(
        EnvironmentLacksError, match=f"speak http, not https: policy.options.base_url={server.url}"
    ):
        connect(base_url=server.url.replace("http:", "https:"))


# Keys.


@pytest.mark.parametrize("key", ["sk-a\nb", "sk a", "Bearer sk-a", "sk-\u201ca"])
def test_a_key_that_cannot_be_one_is_refused_before_it_is_sent(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(EnvironmentLacksError, match="OPENAI_API_KEY holds a blank, a line break") as caught:
        ApiKey.read("OPENAI_API_KEY")
    assert "sk" not in str(caught.value)


def test_blanks_around_a_key_are_none_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"\n{KEY} \r\n")
    assert ApiKey.read("OPENAI_API_KEY").value == KEY


# Proxies and certificates.


def nobody() -> str:
    """An address of this machine where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        (
            "ALL_PROXY",
            "socks://127.0.0.1:1080/",
            "ALL_PROXY = 'socks://127.0.0.1:1080/' names a proxy of a kind",
        ),
        ("all_proxy", "socks4://127.0.0.1:1", "all_proxy = .* of a kind that cannot be used"),
        ("HTTP_PROXY", "http://host:port", "HTTP_PROXY = .* is no address"),
        ("HTTPS_PROXY", "ftp://host", "HTTPS_PROXY = "),
        ("HTTPS_PROXY", "socks://me:word@host", "HTTPS_PROXY = 'socks://host'"),
        ("SSL_CERT_FILE", "/nowhere/cacert.pem", "SSL_CERT_FILE = '/nowhere/cacert.pem': No such file"),
        ("SSL_CERT_FILE", __file__, "SSL_CERT_FILE = .*certificate"),
    ],
)
def test_a_wrong_variable_is_named(
    connect: Open, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(EnvironmentLacksError, match=words) as caught:
        connect()
    assert "word" not in str(caught.value)
    with pytest.raises(ModelUnavailableError, match=words):
        fetch.resolve("some-org/some-model")


def test_a_socks_proxy_needs_its_package(connect: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "_SOCKS_PACKAGES", ("no_such_package",))
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    assert re.search("^ALL_PROXY = .* pip install socksio", network.variable_to_blame())


def test_a_proxy_that_does_not_answer_is_named(connect: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = f"http://{nobody()}"
    monkeypatch.setenv("http_proxy", proxy.replace("//", "//me:word@"))
    words = rf"by the proxy {proxy} that http_proxy names\) did not answer .*add 127.0.0.1 to NO_PROXY"
    with pytest.raises(EnvironmentLacksError, match=words) as caught:
        connect()
    assert "word" not in str(caught.value)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,example.org")
    assert reply_of(connect()).text == "fine"


def test_a_proxy_that_works_is_used(
    connect: Open, server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url.removesuffix("/v1"))
    assert reply_of(connect(base_url="http://elsewhere.example/v1")).text == "fine"
    assert server.asked[-1].path == "http://elsewhere.example/v1/chat/completions"
    server.reply = lambda _: http(407, b"")
    assert re.search("the proxy wants a name", str(refused(connect, base_url="http://elsewhere.example/v1")))


def test_an_odd_entry_of_no_proxy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class InvalidURL(Exception):
        """As httpx has it."""

    monkeypatch.setenv("NO_PROXY", "localhost,[::1]")
    assert network.variable_to_blame() == ""
    assert re.search(r"NO_PROXY holds '\[::1\]'", network.variable_to_blame(InvalidURL("Invalid port")))


def test_pip_is_told_in_its_own_words(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", f"http://{nobody()}/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(OSError, match=r"pip did not bring nothing-such==1\.0: .*[Nn]o matching"):
        download_wheel("nothing-such==1.0", tmp_path / "wheels")
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/cacert.pem")
    with pytest.raises(OSError, match=r"SSL_CERT_FILE = '/nowhere/cacert.pem'"):
        download_wheel("nothing-such==1.0", tmp_path / "wheels")


# A whole run.


def test_a_run_goes_on_over_all_of_it(
    server: RawServer,
    tmp_path: pathlib.Path,
    install: Any,
    problem_source: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install("ttd-sum", {"sum_problem": problem_source}, problems={"sum": "sum_problem:Sum"})
    program = DRAFT.removeprefix("a draft\n")
    turns = [
        http(200, {"choices": None, "error": {"code": 429, "message": "slow"}}),
        http(400, {"error": {"message": "filtered", "code": "content_filter"}}),
        http(200, whole(f"<think>{program}", "length")),
        http(200, whole([{"type": "text", "text": program}])),
    ]
    server.reply = lambda _: turns[len(server.asked) - 1]
    arguments = [
        *("run", "sum", "--policy", "openai", "--model", "m", "--variant", "best-of-n", "--json"),
        *("--set", f"policy.options.base_url={server.url}", "--set", "policy.options.in_flight=1"),
        *("--runs-dir", str(tmp_path), "--name", "one", "-o", "timeout_s=20"),
        *("--steps", "1", "--groups", "1", "--group-size", "3"),
    ]
    main(arguments, standalone_mode=False)
    result = json.loads(capsys.readouterr().out)
    assert (result["valid"], result["rollouts"], result["best_score"]) == (1, 3, 3.0)
    log = [json.loads(line) for line in (tmp_path / "one" / "log.jsonl").read_text().splitlines()]
    judged = {event["message"] for event in log if event["kind"] == "rollout_evaluated"}
    assert judged == {"no answer: filtered", "no answer, only thinking", ""}
    sampled = sorted(event["stop"] for event in log if event["kind"] == "rollout_sampled")
    assert sampled == ["length", "refused", "stop"]


def test_nothing_is_left_of_a_run_that_could_not_begin(
    server: RawServer, tmp_path: pathlib.Path, install: Any, problem_source: str
) -> None:
    install("ttd-sum", {"sum_problem": problem_source}, problems={"sum": "sum_problem:Sum"})
    server.models = lambda request: below_v1(request, MODELS)
    address = server.url.removesuffix("/v1")
    arguments = [
        *("run", "sum", "--policy", "openai", "--model", "m", "--variant", "best-of-n", "-q"),
        *("--set", f"policy.options.base_url={address}", "--runs-dir", str(tmp_path / "runs")),
    ]
    with pytest.raises(EnvironmentLacksError, match="may lack /v1"):
        main(arguments, standalone_mode=False)
    assert not (tmp_path / "runs").exists()
