"""How judge and candidate take turns, where no GPU is needed; the rest is in test_cheats and test_gpu."""

from __future__ import annotations

import json
import socket
import threading

import pytest

from ttd_kernels.channel import Channel, Ended
from ttd_kernels.meeting import OnCpu, Turn, answer_after

QUEUED, ANSWER = {"queued": True}, {"event_us": 3.0}


@pytest.mark.parametrize(
    ("first", "later"),
    [
        (QUEUED, [ANSWER]),
        (None, [QUEUED, ANSWER]),
        (None, [ANSWER]),
        (ANSWER, []),
    ],
    ids=["queued in time", "queued late", "never said to be queued", "answered before it began"],
)
def test_the_answer_is_found_whenever_the_rest_is_said(first, later) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for message in later:
            theirs.sendall(json.dumps(message).encode() + b"\n")
        assert answer_after(first, Channel(ours), 10.0) == ANSWER


def test_to_say_twice_that_all_is_queued_is_no_answer() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b'{"queued": true}\n' * 3)
        assert "event_us" not in answer_after(None, Channel(ours), 10.0), "and it is not waited for for ever"


def test_on_the_cpu_inputs_come_after_all_is_queued_and_outputs_are_read_after_the_answer() -> None:
    ours, theirs = socket.socketpair()
    order: list[str] = []

    def candidate() -> None:
        lines = theirs.makefile("rb")
        for say in (QUEUED, ANSWER):
            order.append(json.loads(lines.readline())["do"])
            theirs.sendall(json.dumps(say).encode() + b"\n")

    with ours, theirs:
        thread = threading.Thread(target=candidate)
        thread.start()
        turn = Turn(1, 2, 10.0, lambda: order.append("reveal"), lambda: order.append("read"))
        met = OnCpu().meet(Channel(ours), turn)
        thread.join()
    assert order == ["go", "reveal", "run", "read"]
    assert (met.answer, met.ahead) == (ANSWER, True)
    assert met.wall_us > 0


def test_a_process_that_is_gone_ends_the_meeting() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        with pytest.raises(Ended, match="ended before"):
            OnCpu().meet(Channel(ours), Turn(1, 2, 10.0, lambda: None, lambda: None))
