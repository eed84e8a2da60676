"""Server-sent events: one look at a run at a time, however many pages show it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from ttd_core.errors import one_line

#: Seconds between looks.
INTERVAL = 0.5
#: Seconds after which a silent stream says that it is still there.
HEARTBEAT = 15.0


class _Channel:
    """One subject that is looked at while anybody listens."""

    def __init__(self, look: Callable[[], dict[str, Any]], interval: float) -> None:
        self.listeners = 0
        self.newest: str | None = None
        self._look = look
        self._interval = interval
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def join(self) -> None:
        self.listeners += 1
        if self._task is None:
            self._task = asyncio.create_task(self._go_on())

    def leave(self) -> None:
        self.listeners -= 1
        if not self.listeners and self._task is not None:
            self._task.cancel()
            self._task = None

    async def wait(self, seconds: float) -> None:
        """Until the next change, but no longer than that."""
        changed = self._changed
        try:
            await asyncio.wait_for(changed.wait(), seconds)
        except TimeoutError:
            return

    async def _go_on(self) -> None:
        while True:
            try:
                said = json.dumps(await asyncio.to_thread(self._look), allow_nan=False)
            except Exception as error:  # noqa: BLE001 - told to whoever looks, who would wait in vain
                said = json.dumps({"trouble": f"This page cannot be kept up to date: {one_line(error)}."})
            if said != self.newest:
                self.newest = said
                # Those who wait have this one; who comes later waits for the next.
                self._changed.set()
                self._changed = asyncio.Event()
            await asyncio.sleep(self._interval)


class Streams:
    """All channels of a server."""

    def __init__(self) -> None:
        self._channels: dict[str, _Channel] = {}
        self._closed = False

    def close(self) -> None:
        """Let every stream end within a moment; may be called from a signal's handler."""
        self._closed = True

    @property
    def watched(self) -> int:
        """How many subjects are looked at now."""
        return len(self._channels)

    async def listen(
        self, key: str, look: Callable[[], dict[str, Any]], interval: float = INTERVAL
    ) -> AsyncIterator[bytes]:
        """The messages of one listener, as the browser's ``EventSource`` takes them.

        :param key: of the subject; those who listen to one share the looks at it.
        :param look: what it is like now, JSON; called in a thread of its own.
        :param interval: seconds between two looks.
        """
        channel = self._channels.setdefault(key, _Channel(look, interval))
        channel.join()
        told, silent = None, 0.0
        try:
            yield b"retry: 1000\n\n"
            while not self._closed:
                if channel.newest is not None and channel.newest != told:
                    told, silent = channel.newest, 0.0
                    yield f"data: {told}\n\n".encode()
                await channel.wait(INTERVAL)
                silent += INTERVAL
                if silent >= HEARTBEAT:
                    silent = 0.0
                    yield b": still here\n\n"
        finally:
            channel.leave()
            if not channel.listeners:
                self._channels.pop(key, None)
