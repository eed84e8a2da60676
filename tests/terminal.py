"""The far end of a pseudo-terminal, for tests of what commands show on one."""

from __future__ import annotations

import os


def shown_on(screen: int) -> str:
    """All that was written to a terminal, read at its other end until no one has it open for writing.

    One read may return any part of it. The descriptor ``screen`` is closed.
    """
    shown = b""
    while True:
        try:
            piece = os.read(screen, 65536)
        except OSError:  # how a terminal without writers ends on Linux
            break
        if not piece:
            break
        shown += piece
    os.close(screen)
    return shown.decode()
