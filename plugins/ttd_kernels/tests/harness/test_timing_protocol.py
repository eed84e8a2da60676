"""How judge and candidate take turns, where no GPU is needed; test_cheats and test_gpu hold the rest."""

from __future__ import annotations

import json
import socket
import threading

import pytest

from ttd_kernels.harness.channel import CandidateEndedError, Channel
from ttd_kernels.harness.timing_protocol import CpuTimingProtocol, PreparedCall, final_reply

QUEUED, REPLY = {"queued": True}, {"event_us": 3.0}


@pytest.mark.parametrize(
    ("first", "later"),
    [
        (QUEUED, [REPLY]),
        (None, [QUEUED, REPLY]),
        (None, [REPLY]),
        (REPLY, []),
    ],
    ids=["queued in time", "queued late", "never said to be queued", "replied before it began"],
)
def test_the_reply_is_found_whenever_the_rest_is_said(first, later) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for message in later:
            theirs.sendall(json.dumps(message).encode() + b"\n")
        assert final_reply(first, Channel(ours), 10.0) == REPLY


def test_to_say_twice_that_all_is_queued_is_no_reply() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b'{"queued": true}\n' * 3)
        assert "event_us" not in final_reply(None, Channel(ours), 10.0), "and it is not waited for for ever"


def test_on_the_cpu_inputs_come_after_all_is_queued_and_outputs_are_read_after_the_reply() -> None:
    ours, theirs = socket.socketpair()
    order: list[str] = []

    def candidate() -> None:
        lines = theirs.makefile("rb")
        for message in (QUEUED, REPLY):
            order.append(json.loads(lines.readline())["do"])
            theirs.sendall(json.dumps(message).encode() + b"\n")

    with ours, theirs:
        thread = threading.Thread(target=candidate)
        thread.start()
        call = PreparedCall(1, 2, 10.0, lambda: order.append("reveal"), lambda: order.append("read"))
        timed = CpuTimingProtocol().make_call(Channel(ours), call)
        thread.join()
    assert order == ["go", "reveal", "run", "read"]
    assert (timed.reply, timed.queued_ahead) == (REPLY, True)
    assert timed.wall_us > 0


def test_a_process_that_is_gone_ends_the_call() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        with pytest.raises(CandidateEndedError, match="ended before"):
            CpuTimingProtocol().make_call(Channel(ours), PreparedCall(1, 2, 10.0, lambda: None, lambda: None))
