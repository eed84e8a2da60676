"""The channel between judge and candidate: deadlines, nonsense, hang-ups."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from ttd_kernels.harness.channel import CandidateEndedError, Channel


@pytest.fixture
def ends() -> Iterator[tuple[Channel, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Channel(ours), theirs


def test_question_and_answer(ends) -> None:
    channel, theirs = ends

    def answer() -> None:
        assert theirs.recv(100) == b'{"do": "hello"}\n'
        theirs.sendall(b'{"a"')
        theirs.sendall(b": 1}\n")

    thread = threading.Thread(target=answer)
    thread.start()
    assert channel.request({"do": "hello"}, 10.0) == {"a": 1}
    thread.join()


@pytest.mark.parametrize("line", [b"no json\n", b"[1]\n", b"\xff\n", b"[" * 5000 + b"\n", b"x" * 70_000])
def test_nonsense_ends_it(ends, line: bytes) -> None:
    channel, theirs = ends
    theirs.sendall(line)
    with pytest.raises(CandidateEndedError, match="what no harness writes"):
        channel.receive(10.0)


def test_an_answer_without_a_question_ends_it(ends) -> None:
    channel, theirs = ends
    theirs.sendall(b'{"event_us": 1}\n{"event_us": 1}\n')
    channel.receive(10.0)
    with pytest.raises(CandidateEndedError, match="unasked"):
        channel.send({"do": "go"})


def test_what_does_not_come_in_time_may_come_later(ends) -> None:
    channel, theirs = ends
    assert channel.receive_within(0.02) is None
    assert channel.receive_within(0.02, spin_s=1.0) is None
    theirs.sendall(b'{"queued": true}\n{"event_us": 1}\n')
    assert channel.receive_within(10.0) == {"queued": True}
    assert channel.receive(10.0) == {"event_us": 1}


def test_silence_and_leaving_end_it(ends) -> None:
    channel, theirs = ends
    with pytest.raises(CandidateEndedError, match=r"within 0\.05 s"):
        channel.receive(0.05)
    with pytest.raises(CandidateEndedError, match=r"within 0\.05 s"):
        channel.receive(0.05, spin_s=1.0)
    theirs.close()
    with pytest.raises(CandidateEndedError, match="ended before"):
        channel.receive(10.0)
    channel.hang_up()
    with pytest.raises(CandidateEndedError, match="ended before"):
        channel.send({"do": "go"})


def test_what_is_there_is_read_without_waiting_and_single_bytes_make_no_wait_longer() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel = Channel(ours)
        assert channel.receive_within(0.0) is None
        theirs.sendall(b'{"a": 1}\n{"b"')
        assert channel.receive_within(0.0) == {"a": 1}
        assert channel.receive_within(0.0) is None
        theirs.sendall(b": 2}\n")
        assert channel.receive_within(0.0) == {"b": 2}
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(0.001):
                theirs.sendall(b" ")

        dripping = threading.Thread(target=drip)
        dripping.start()
        began = time.monotonic()
        assert channel.receive_within(0.05) is None
        assert time.monotonic() - began < 5.0
        stop.set()
        dripping.join()
