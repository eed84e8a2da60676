"""Looks at outputs that are said to be there: where, what they find, how late they may be."""

from __future__ import annotations

import ctypes
import json
import math
import socket
import types

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ttd_kernels.harness import looks
from ttd_kernels.harness.channel import Channel
from ttd_kernels.harness.device_session import DeviceSession
from ttd_kernels.harness.kernel_io import KernelInputs, OutputSpec
from ttd_kernels.harness.looks import CpuLooks, GpuLooks, SampleGrid, changed
from ttd_kernels.harness.timing_protocol import CpuTimingProtocol, PreparedCall, look_until_done
from ttd_kernels.helpers.shared_memory import _Copy2D

QUEUED, REPLY = {"queued": True}, {"event_us": 3.0}


@given(st.integers(1, 10**10), st.integers(1, 64))
def test_samples_lie_within_their_output_all_over_it(nbytes: int, outputs: int) -> None:
    grid = SampleGrid.random(nbytes, outputs)
    assert grid.start >= 0
    assert grid.start + (grid.count - 1) * grid.pitch + grid.width <= nbytes
    assert grid.width <= grid.pitch or grid.count == 1
    assert grid.nbytes * outputs <= looks._ROOM
    assert nbytes - grid.pitch * grid.count < grid.count, "no long part of it is left out"


def test_every_byte_may_be_a_sample() -> None:
    seen = torch.zeros(3000, dtype=torch.uint8)
    for _ in range(400):
        SampleGrid.random(3000, 8).of(seen).fill_(1)
    assert bool(seen.all())


def test_samples_of_the_judge_s_copy_are_those_of_the_shared_one() -> None:
    shared = torch.arange(24_000, dtype=torch.float32).view(20, 30, 40)
    own = (
        torch.zeros(200_000, dtype=torch.uint8)[512 : 512 + shared.nbytes]
        .view(torch.float32)
        .view(20, 30, 40)
    )
    own.copy_(shared)
    grid = SampleGrid.random(shared.nbytes)
    assert torch.equal(grid.of(shared), grid.of(own))
    early = [grid.of(own).clone()]
    assert changed(early, [grid], [own]) == 0
    own[10:].neg_()
    assert changed(early, [grid], [own]) == pytest.approx(grid.count / 2, abs=2)


def test_on_the_cpu_samples_are_read_between_the_reply_and_the_judge_s_copy() -> None:
    output = torch.zeros(5000)
    own = torch.empty_like(output)
    seen = CpuLooks([output])

    def read() -> None:
        output[4000:] = 1.0  # the program goes on
        own.copy_(output)

    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(json.dumps(QUEUED).encode() + b"\n" + json.dumps(REPLY).encode() + b"\n")
        channel = _both_there(Channel(ours))
        CpuTimingProtocol().make_call(channel, PreparedCall(1, 2, 10.0, lambda: None, read, seen))
    found = seen.result([own])
    assert found.changed == pytest.approx(found.samples / 5, abs=2)
    assert 0 < found.age_us < 1e6


def _both_there(channel: Channel) -> Channel:
    """A channel to a program that answers before it is asked, which is refused elsewhere."""
    channel.send = lambda _message: None
    return channel


def test_calls_that_nothing_looked_at_say_nothing() -> None:
    assert CpuLooks([torch.zeros(10)]).result([torch.ones(10)]) == looks.LookResult(0, 0, math.inf)


# -- looks by a copy engine, with the host in its place: what is queued when, and which look counts


@pytest.fixture
def engine() -> types.SimpleNamespace:
    """A copy engine that takes 2 us a copy, one after the other, and lets each land ``behind`` us after it;
    ``then`` has what comes when. ``pass_to`` lets time pass."""
    state = types.SimpleNamespace(
        now=0.0, behind=0.0, free=0.0, then=[], done=torch.zeros(1, dtype=torch.int32)
    )

    def rows(target: int, source: int, width: int, pitch: int, count: int, _stream: int) -> None:
        state.free = max(state.free, state.now) + 2.0

        def read() -> None:
            read = [ctypes.string_at(source + row * pitch, width) for row in range(count)]
            state.then.append(
                (at + state.behind, lambda: ctypes.memmove(target, b"".join(read), width * count))
            )

        at = state.free
        state.then.append((at, read))

    def pass_to(now: float) -> None:
        while state.then and min(at for at, _ in state.then) <= now:
            first = min(state.then, key=lambda each: each[0])
            state.then.remove(first)
            first[1]()
        state.now = now

    state.pass_to = pass_to
    state.looker = types.SimpleNamespace(
        done=state.done,
        stream=types.SimpleNamespace(cuda_stream=0, synchronize=lambda: pass_to(state.now + 1000.0)),
        copy=types.SimpleNamespace(rows=rows),
        clock=lambda: state.now / 1e6,
        words=torch.zeros(looks._SLOTS, dtype=torch.int32),
        samples=torch.zeros((looks._SLOTS, looks._ROOM), dtype=torch.uint8),
    )
    return state


def _until_seen(seen: GpuLooks, engine: types.SimpleNamespace, most: int = 2000) -> int:
    for number in range(most):
        if seen.look(7):
            return number
        engine.pass_to(engine.now + 1.0)
    return most


@pytest.mark.parametrize("behind", [0.5, 40.0])
@pytest.mark.parametrize("at", [101.0, 500.0, 503.0])
def test_the_first_look_that_saw_done_counts_and_its_age_covers_when_it_was_said(engine, at, behind) -> None:
    outputs = [torch.zeros(9000), torch.zeros(500, dtype=torch.bfloat16)]
    seen = GpuLooks(engine.looker, outputs)
    engine.behind = behind
    engine.then.append((at, lambda: engine.done.fill_(7)))
    complete = at + behind + 80.0
    engine.then.append((complete, lambda: outputs[0].fill_(1.0)))
    assert _until_seen(seen, engine) < 2000
    now, age = engine.now, seen._age_us
    assert now - age <= at <= now, "done was said within its age"
    assert age <= 2 * behind + 6 * looks._AHEAD + 12.0
    found = seen.result([torch.ones(9000), outputs[1]])
    assert found.samples == sum(grid.count for grid in seen._grids)
    assert (found.changed, found.age_us) == (seen._grids[0].count, age)


def test_outputs_that_are_complete_at_done_have_not_changed(engine) -> None:
    output = torch.zeros(9000)

    def complete() -> None:
        output.uniform_()
        engine.done.fill_(7)

    engine.then.append((300.0, complete))
    seen = GpuLooks(engine.looker, [output])
    assert _until_seen(seen, engine) < 2000
    assert seen.result([output.clone()]).changed == 0


def test_looks_wait_for_those_before_and_a_missing_done_is_no_look(engine) -> None:
    engine.behind = 1e9
    seen = GpuLooks(engine.looker, [torch.zeros(100)])
    assert _until_seen(seen, engine, 200) == 200
    assert seen._queued == looks._AHEAD
    assert seen.result([torch.zeros(100)]) == looks.LookResult(0, 0, math.inf)


def test_done_said_before_the_first_look_has_no_age(engine) -> None:
    engine.done.fill_(7)
    early = GpuLooks(engine.looker, [torch.zeros(100)])
    assert _until_seen(early, engine) < 2000
    found = early.result([torch.ones(100)])
    assert (found.age_us, found.changed) == (math.inf, found.samples)


def test_the_driver_s_record_of_a_copy_has_its_size() -> None:
    assert ctypes.sizeof(_Copy2D) == 128
    assert _Copy2D.target_x.offset == 56
    assert _Copy2D.width.offset == 112


class Asked(Exception):
    """What a candidate's process was asked first."""


class Asking:
    """A channel to nobody."""

    def request(self, message, _timeout_s) -> None:
        raise Asked(message)


@pytest.mark.parametrize(
    ("empty", "look", "spins"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_only_an_empty_call_that_is_looked_at_has_the_harness_s_own_kernel(empty, look, spins) -> None:
    session = DeviceSession("cpu", 4096, 4096, flush_l2=False)
    inputs = KernelInputs({"N": 1}, {"x": torch.zeros(8)}, {"$tensor": "x"})
    spec = OutputSpec((8,), torch.float32, rtol=0.0, atol=0.0)
    try:
        with pytest.raises(Asked) as raised:
            session.call_kernel(Asking(), inputs, [spec], 1.0, empty, look)
    finally:
        session.close()
    (message,) = raised.value.args
    assert (message["spin"] > 0) is spins


class Scripted:
    """Looks that see *done* after so many."""

    def __init__(self, sees_after: int, then=lambda: None) -> None:
        self.left, self.then = sees_after, then

    def look(self, _number: int) -> bool:
        self.left -= 1
        self.then()
        return self.left <= 0


@pytest.mark.parametrize(
    ("first", "said", "found"),
    [
        (QUEUED, [], (QUEUED, None)),
        (QUEUED, [REPLY], (QUEUED, REPLY)),
        (None, [QUEUED], (QUEUED, None)),
        (None, [QUEUED, REPLY], (QUEUED, REPLY)),
        (None, [REPLY], (None, REPLY)),
        (REPLY, [], (REPLY, REPLY)),
    ],
)
def test_replies_are_kept_while_it_is_looked(first, said, found) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for message in said:
            theirs.sendall(json.dumps(message).encode() + b"\n")
        call = PreparedCall(1, 2, 10.0, lambda: None, lambda: None)
        assert look_until_done(first, Channel(ours), call, Scripted(5)) == found


def test_a_program_that_never_says_done_is_looked_at_a_while_after_its_reply() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(json.dumps(REPLY).encode() + b"\n")
        call = PreparedCall(1, 2, 10.0, lambda: None, lambda: None)
        assert look_until_done(QUEUED, Channel(ours), call, Scripted(10**9)) == (QUEUED, REPLY)
