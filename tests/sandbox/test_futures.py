"""A descriptor that tells of a cancelled job is never written to once it is closed."""

from __future__ import annotations

import os
import select
import threading

import pytest

from ttd_core.sandbox import futures
from ttd_core.sandbox.base import PythonJob


@pytest.fixture
def future() -> futures.JobFuture:
    made = futures.JobFuture(PythonJob("def run(): return 1", "run"))
    assert made.take()
    return made


def readable(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0)[0])


def test_it_becomes_readable_when_the_future_is_cancelled(future) -> None:
    signal = futures.CancelSignal(future)
    assert not readable(signal.descriptor)
    assert future.cancel()
    assert readable(signal.descriptor)
    signal.close()


def test_a_future_cancelled_before_tells_at_once(future) -> None:
    future.cancel()
    signal = futures.CancelSignal(future)
    assert readable(signal.descriptor)
    signal.close()


def test_it_is_not_closed_while_it_is_written_to(future, monkeypatch) -> None:
    signal = futures.CancelSignal(future)
    descriptor = signal.descriptor
    closer = threading.Thread(target=signal.close)
    written_bytes = []

    def write(written: int, value: int) -> None:
        # the job ends at this very moment, and its worker closes the descriptor
        closer.start()
        closer.join(0.2)
        assert closer.is_alive()
        written_bytes.append(os.write(written, value.to_bytes(8, "little")))

    monkeypatch.setattr(os, "eventfd_write", write)
    future.cancel()
    closer.join(10)
    assert written_bytes == [8]
    assert not closer.is_alive()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_once_closed_nothing_is_written(future, monkeypatch) -> None:
    signal = futures.CancelSignal(future)
    signal.close()
    monkeypatch.setattr(os, "eventfd_write", lambda *_: pytest.fail("written to a closed descriptor"))
    assert future.cancel()
