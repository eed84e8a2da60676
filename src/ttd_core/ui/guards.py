"""Who may read the page: those who have its token, from the page itself, by a name that is this machine's.

A browser shows pages of strangers beside ours, and any of them may send requests here. So a request needs the
token (in the address once, then in a cookie, or in a header), a ``Host`` that is ours (a stranger's name that
was pointed at this machine is refused), and, where it has an ``Origin``, one that is this very page.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
import urllib.parse
from collections.abc import Collection

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: One script and one style sheet, both ours; pictures of states are images, so nothing in them runs.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
#: The parameter of the address that carries the token, once.
PARAMETER = "token"
#: Hosts that mean every interface of a machine.
EVERY_INTERFACE = frozenset({"0.0.0.0", "::", ""})


def cookie_name(port: int) -> str:
    """Of the token's cookie: servers that a browser reaches by one name on several ports share its cookies.

    :param port: as the browser has it, which of a tunnel is another than the server's.
    """
    return f"ttd-ui-{port}"


def own_names(host: str) -> frozenset[str]:
    """Names under which the page may be asked for when it listens on ``host``."""
    names = {"localhost", "127.0.0.1", "::1", host.lower()}
    if host in EVERY_INTERFACE:
        names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    return frozenset(names - EVERY_INTERFACE)


class Guards:
    """An ASGI application around another that lets through only what may read the page.

    :param app: what answers.
    :param token: the secret.
    :param port: where it listens; names the cookie where a request tells no other.
    :param names: what the ``Host`` of a request may be called, in lower case, whatever its port: that of a
        tunnel differs.
    :param any_address: whether a bare address may stand for the host, too, which nobody can point elsewhere.
    """

    def __init__(
        self, app: ASGIApp, *, token: str, port: int, names: Collection[str], any_address: bool = False
    ) -> None:
        self._app = app
        self._token = token.encode()
        self._port = port
        self._names = names
        self._any_address = any_address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it with a sentence."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                more = [(n.encode(), v.encode()) for n, v in HEADERS.items() if n.encode() not in present]
                message["headers"] = [*message["headers"], *more]
            await send(message)

        refusal = self._refusal(Request(scope))
        answer: ASGIApp = self._app if refusal is None else refusal
        await answer(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> Response | None:
        """What to answer instead; ``None`` where the request may pass."""
        host = request.headers.get("host", "")
        if not self._is_ours(host):
            return _forbidden("this page is not served under that host name")
        origin = request.headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return _forbidden("requests of other pages are refused")
        header = request.headers.get("authorization", "").removeprefix("Bearer ")
        if request.method not in ("GET", "HEAD") and origin is None and not header:
            # A browser always says where it comes from; other programs have the token in the header.
            return _forbidden("it is not said which page this request comes from")
        given = request.query_params.get(PARAMETER)
        if given is not None and request.method == "GET":
            if not self._is_token(given):
                return _forbidden(_NO_TOKEN)
            return self._without_token(request)
        # Of the cookies, those of the machine's other servers may be of any form.
        if self._is_token(header) or self._is_token(request.cookies.get(self._cookie(request), "")):
            return None
        return _forbidden(_NO_TOKEN)

    def _is_ours(self, host: str) -> bool:
        try:
            name = urllib.parse.urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name.rstrip(".") in self._names:
            return True
        return self._any_address and _is_address(name)

    def _cookie(self, request: Request) -> str:
        try:
            port = urllib.parse.urlsplit(f"//{request.headers.get('host', '')}").port
        except ValueError:
            port = None
        return cookie_name(port or self._port)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), self._token)

    def _without_token(self, request: Request) -> Response:
        """The same address without the token, which the browser keeps as a cookie from now on."""
        query = urllib.parse.urlencode(
            [each for each in request.query_params.multi_items() if each[0] != PARAMETER]
        )
        # Two slashes at the beginning would be another host's address.
        path = "/" + urllib.parse.quote(request.url.path.lstrip("/"))
        response = RedirectResponse(path + (f"?{query}" if query else ""), 303)
        response.set_cookie(
            self._cookie(request), self._token.decode(), httponly=True, samesite="strict", path="/"
        )
        return response


_NO_TOKEN = "the token is missing or wrong: open the address that `ttd ui` printed when it was started"


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _forbidden(why: str) -> Response:
    return PlainTextResponse(f"403: {why}\n", 403)
