"""A server of chat completions, spoken to over real HTTP; the test says what it answers."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

#: What a request is answered with: status, body, headers.
Answer = tuple[int, Any, Mapping[str, str]]


def completion(content: str, finish: str = "stop", **message: Any) -> Answer:
    """A whole reply."""
    choice = {
        "index": 0,
        "finish_reason": finish,
        "message": {"role": "assistant", "content": content, **message},
    }
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    body = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
    return 200, {**body, "usage": usage}, {}


def refusal(status: int, message: str, **headers: str) -> Answer:
    """An error in OpenAI's own form."""
    return status, {"error": {"message": message, "code": None}}, headers


@attrs.define(eq=False)
class ChatServer:
    """What was asked, and what shall be answered.

    :param answer: called with each request's body; may block.
    :param models: what it lists; ``None`` for a server that has no such list.
    """

    answer: Callable[[dict[str, Any]], Answer] = lambda body: completion(f"reply {body['seed']}")
    models: Answer = attrs.field(default=(200, {"object": "list", "data": [{"id": "small"}]}, {}))
    bodies: list[dict[str, Any]] = attrs.field(factory=list)
    keys: list[str] = attrs.field(factory=list)
    begun: list[float] = attrs.field(factory=list)
    most_at_once: int = 0
    url: str = ""
    _at_once: int = 0
    _lock: threading.Lock = attrs.field(factory=threading.Lock)

    def take(self, body: dict[str, Any], key: str) -> Answer:
        """Answer one request."""
        with self._lock:
            self.bodies.append(body)
            self.keys.append(key)
            self.begun.append(time.monotonic())
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return self.answer(body)
        finally:
            with self._lock:
                self._at_once -= 1


@contextlib.contextmanager
def serving() -> Iterator[ChatServer]:
    """A server on a free port of this machine."""
    chat = ChatServer()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._send(*chat.models)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self._send(*chat.take(body, self.headers["authorization"]))

        def _send(self, status: int, body: Any, headers: Mapping[str, str]) -> None:
            data = json.dumps(body).encode()
            with contextlib.suppress(ConnectionError):  # whoever asked has gone, as some tests want
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    chat.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield chat
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
