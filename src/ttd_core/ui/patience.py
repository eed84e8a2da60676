"""Connections whose request does not come are closed: a few hundred of them would keep everybody else out.

Anybody who reaches the port can open one, with no token at all.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle


class PatientProtocol(H11Protocol):
    """HTTP, with a bound on the time from a connection's beginning or its last answer to a request."""

    #: Seconds that a request may take to come, at least; twice as many at most.
    PATIENCE: ClassVar[float] = 10.0
    _looks: asyncio.TimerHandle | None = None
    _before: RequestResponseCycle | bool = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look at the connection from time to time."""
        super().connection_made(transport)
        self._looks = self.loop.call_later(self.PATIENCE, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Look no more."""
        if self._looks is not None:
            self._looks.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        """Close the connection where it was as now at the last look, too, with no request under way."""
        now = self.cycle or True
        waits = self.cycle is None or self.cycle.response_complete
        if waits and now is self._before:
            self.transport.close()
            return
        self._before = now if waits else False
        self._looks = self.loop.call_later(self.PATIENCE, self._look)
