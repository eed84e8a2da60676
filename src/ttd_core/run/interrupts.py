"""Ctrl-C, SIGTERM and SIGHUP while a run is on: one interrupt, raised where no lock is left taken by it.

Python raises in the main thread wherever that happens to be. Between the moment in which
``threading.Condition.__enter__`` has its lock and that in which the `with` statement begins, nothing would
ever release it, and the threads that judge programs would wait for it without end; the same holds for
what ``concurrent.futures`` locks by hand. So an interrupt that finds the main thread in one of those modules
comes again a moment later, until the thread is outside or stands still, waiting.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import pathlib
import queue
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

#: Modules that take and release locks in Python code.
_LOCKING = (threading.__file__, queue.__file__)
_LOCKING_FOLDER = str(pathlib.Path(concurrent.futures.__file__).parent)
#: Seconds after which an interrupt comes again. A thread that is still at the same place then is waiting.
_AGAIN_S = 0.01


class _Interrupt:
    """Raises :class:`KeyboardInterrupt` in the main thread, or puts it off; a handler of signals.

    :param again: where a signal is noted that is to come again. A handler may start no thread, which takes
        locks as well.
    """

    def __init__(self, again: int) -> None:
        self._again = again
        self._seen: tuple[FrameType, int] | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if frame is not None and _takes_locks(frame):
            here = frame, frame.f_lasti
            if here != self._seen:
                self._seen = here
                os.write(self._again, bytes([number]))
                return
        self._seen = None
        raise KeyboardInterrupt


def _takes_locks(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    return name in _LOCKING or name.startswith(_LOCKING_FOLDER)


def _send_again(noted: int) -> None:
    """Send noted signals to the main thread, which wakes from a wait only for one of its own; 0 ends it."""
    while number := os.read(noted, 1)[0]:
        time.sleep(_AGAIN_S)
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    os.close(noted)


@contextlib.contextmanager
def signals_as_interrupt() -> Iterator[None]:
    """Raise Ctrl-C safely, and treat SIGTERM and SIGHUP like it (only the main thread may say so).

    SIGHUP stays ignored where it is, as under ``nohup``, and SIGINT with whoever handles it in a way of
    their own.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [
        number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN
    ]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        numbers.append(signal.SIGINT)
    noted, again = os.pipe()
    threading.Thread(target=_send_again, args=(noted,), name="interrupts", daemon=True).start()
    interrupt = _Interrupt(again)
    former = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        # What is noted still reaches whoever handles signals next.
        for number, handler in former.items():
            signal.signal(number, handler)
        os.write(again, bytes(1))
        os.close(again)
