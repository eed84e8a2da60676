"""Serving the page until Ctrl-C: its socket, its address with the token, an orderly end."""

from __future__ import annotations

import ipaddress
import pathlib
import secrets
import socket
import types

import attrs
import uvicorn

from ttd_core.errors import EnvironmentLacksError
from ttd_core.ui.app import make_app
from ttd_core.ui.guards import EVERY_INTERFACE, PARAMETER, Guards, own_names
from ttd_core.ui.patience import PatientProtocol
from ttd_core.ui.streams import Streams

#: Seconds that requests under way have at the end.
_GRACE = 2


@attrs.define(eq=False)
class PageServer:
    """A server whose socket listens already, so that its address is known before it answers.

    :param address: of the page, with its token.
    """

    address: str
    _socket: socket.socket
    _app: Guards
    _streams: Streams
    _server: uvicorn.Server | None = None

    @classmethod
    def open(cls, root: pathlib.Path, host: str, port: int) -> PageServer:
        """Bind the socket.

        :param root: the folder of runs.
        :param host: name or address of the interface.
        :param port: 0 for any that is free.
        :raises EnvironmentLacksError: when it cannot be bound; says why and what to do.
        """
        bound = _bound(host, port)
        port = bound.getsockname()[1]
        token = secrets.token_urlsafe(24)
        streams = Streams()
        app = Guards(
            make_app(root, streams),
            token=token,
            port=port,
            names=own_names(host),
            any_address=host in EVERY_INTERFACE,
        )
        shown = socket.gethostname() if host in EVERY_INTERFACE else host
        shown = f"[{shown}]" if ":" in shown else shown
        return cls(f"http://{shown}:{port}/?{PARAMETER}={token}", bound, app, streams)

    def serve(self) -> None:
        """Answer until Ctrl-C or SIGTERM."""
        config = uvicorn.Config(
            self._app,
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            http=PatientProtocol,
            lifespan="off",
            limit_concurrency=256,
            timeout_graceful_shutdown=_GRACE,
        )
        self._server = _Server(config, self._streams)
        try:
            self._server.run(sockets=[self._socket])
        except KeyboardInterrupt:
            # uvicorn has ended in order, and says with it by what.
            return
        finally:
            self._socket.close()

    def end(self) -> None:
        """Let :meth:`serve` return soon; from any thread."""
        self._streams.close()
        if self._server is not None:
            self._server.should_exit = True


class _Server(uvicorn.Server):
    """Ends its streams first: they would go on as long as a page is open."""

    def __init__(self, config: uvicorn.Config, streams: Streams) -> None:
        super().__init__(config)
        self._streams = streams

    def handle_exit(self, sig: int, frame: types.FrameType | None) -> None:
        self._streams.close()
        super().handle_exit(sig, frame)


def is_local(host: str) -> bool:
    """Whether only this machine can reach what listens there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise EnvironmentLacksError(
            f"--host {host}: there is no such interface ({getattr(error, 'strerror', None) or error})"
        ) from error
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(128)
    except OSError as error:
        made.close()
        raise EnvironmentLacksError(
            f"port {port} of {host} cannot be used: {error.strerror}. Choose another with --port, or a free "
            "one with --port 0"
        ) from error
    return made
