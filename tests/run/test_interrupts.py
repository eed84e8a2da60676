"""A signal interrupts the main thread wherever it waits or works, and leaves no lock taken."""

from __future__ import annotations

import concurrent.futures
import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator

import pytest

from ttd_core.run.interrupts import signals_as_interrupt

#: Takes a condition over and over until a signal comes, many times; prints how often its lock was left taken.
HAMMER = """
import contextlib, random, signal, sys, threading, time
from ttd_core.run.interrupts import signals_as_interrupt

def plain():
    @contextlib.contextmanager
    def handle():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        yield
    return handle()

sys.setswitchinterval(1e-4)
left = 0
for _ in range(300):
    condition = threading.Condition()
    begun = []
    def send(wait):
        while not begun:
            time.sleep(1e-4)
        time.sleep(wait)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)
    with {how}():
        sender = threading.Thread(target=send, args=(random.random() * 0.004,))
        sender.start()
        try:
            begun.append(True)
            while True:
                with condition:
                    pass
        except KeyboardInterrupt:
            pass
    sender.join()
    # the lock may be taken again by the thread that has it, hence another
    free = []
    other = threading.Thread(target=lambda: free.append(condition.acquire(timeout=0)))
    other.start()
    other.join()
    left += not free[0]
print(left)
"""


def left_taken(how: str) -> int:
    source = HAMMER.format(how=how)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120)
    assert not done.stderr
    return int(done.stdout)


def test_no_lock_is_left_taken() -> None:
    assert left_taken("signals_as_interrupt") == 0


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="where Python looks for signals differs by version")
def test_python_s_own_handler_leaves_some_taken() -> None:
    assert left_taken("plain") > 0


def future_that_never_comes() -> None:
    concurrent.futures.Future().result()


def several_that_never_come() -> None:
    concurrent.futures.wait([concurrent.futures.Future() for _ in range(3)])


def queue_that_stays_empty() -> None:
    queue.Queue().get()


def event_that_is_not_set() -> None:
    threading.Event().wait()


def long_sleep() -> None:
    time.sleep(100)


def work_without_end() -> None:
    while True:
        pass


@pytest.fixture
def usual_handlers() -> Iterator[None]:
    """The signals as a shell leaves them; whoever started the tests may ignore some, as ``nohup`` does."""
    usual = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    former = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("usual_handlers")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    "wait",
    [
        future_that_never_comes,
        several_that_never_come,
        queue_that_stays_empty,
        event_that_is_not_set,
        long_sleep,
        work_without_end,
    ],
)
def test_it_comes_through_at_once(wait, number) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with signals_as_interrupt():
        timer = threading.Timer(0.05, os.kill, (os.getpid(), number))
        timer.start()
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            wait()
        assert time.monotonic() - started < 20
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_what_is_ignored_stays_ignored() -> None:
    source = """
        import os, signal
        from ttd_core.run.interrupts import signals_as_interrupt
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with signals_as_interrupt():
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGINT)
            print("on")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "on\n"


def test_another_thread_handles_no_signals() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def enter() -> bool:
        with signals_as_interrupt():
            return signal.getsignal(signal.SIGTERM) is before

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(enter).result()
