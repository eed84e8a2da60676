"""Which node a job goes to, and what is put into a cluster once."""

from __future__ import annotations

import logging
import threading
import time

import pytest

from ttd_core.sandbox import nodes as nodes_module
from ttd_core.sandbox.nodes import Node, NodeScheduler
from ttd_core.sandbox.shared import SharedData

NEVER = threading.Event()


def node(name: str, workers: int) -> Node:
    return Node(name, name, workers, None)


def scheduler(*nodes: Node, patience_s: float = 60.0) -> NodeScheduler:
    made = NodeScheduler(patience_s)
    for each in nodes:
        made.add(each)
    return made


def take_in_thread(nodes: NodeScheduler, cancelled: threading.Event = NEVER) -> list[Node | None]:
    """Takes a worker in a thread; the list has it once it was given."""
    got: list[Node | None] = []
    threading.Thread(target=lambda: got.append(nodes.take(1, cancelled)), daemon=True).start()
    return got


def arrives(got: list[Node | None]) -> Node | None:
    deadline = time.monotonic() + 5
    while not got and time.monotonic() < deadline:
        time.sleep(0.005)
    return got[0]


def test_a_job_goes_where_most_cores_are_free() -> None:
    small, large = node("small", 2), node("large", 5)
    nodes = scheduler(small, large)
    assert [nodes.take(1, NEVER) for _ in range(4)] == [large, large, large, small]
    assert nodes.take(4, NEVER) is large, "it has a worker left, and as many cores free as the other"
    assert (large.free_cores, small.free_cores) == (-2, 1)
    assert nodes.take(1, NEVER) is small
    nodes.give_back(large, 4, done=True)
    assert nodes.take(1, NEVER) is large
    assert nodes.workers == 7


def test_no_node_has_more_jobs_than_workers() -> None:
    only = node("only", 1)
    nodes = scheduler(only)
    assert nodes.take(1, NEVER) is only
    got = take_in_thread(nodes)
    time.sleep(0.05)
    assert got == []
    nodes.give_back(only, 1, done=True)
    assert arrives(got) is only


def test_a_node_that_comes_takes_those_who_wait() -> None:
    busy, new = node("busy", 1), node("new", 1)
    nodes = scheduler(busy)
    nodes.take(1, NEVER)
    got = take_in_thread(nodes)
    time.sleep(0.02)
    nodes.add(new)
    assert arrives(got) is new


def test_a_node_that_does_not_answer_is_given_nothing() -> None:
    first, second = node("first", 3), node("second", 1)
    nodes = scheduler(first, second)
    nodes.set_answers(first, False)
    assert nodes.take(1, NEVER) is second
    got = take_in_thread(nodes)
    time.sleep(0.02)
    assert got == []
    nodes.set_answers(first, True)
    assert arrives(got) is first


def test_a_node_that_is_lost_is_given_nothing_and_told_of(caplog: pytest.LogCaptureFixture) -> None:
    gone, stays = node("gone", 3), node("stays", 1)
    nodes = scheduler(gone, stays)
    assert nodes.take(1, NEVER) is gone
    assert nodes.remove(gone)
    assert not nodes.remove(gone)
    nodes.give_back(gone, 1, done=False)
    assert nodes.take(1, NEVER) is stays
    nodes.give_back(stays, 1, done=True)
    assert [(each.address, each.done, each.lost) for each in nodes.use()] == [
        ("stays", 1, False),
        ("gone", 0, True),
    ]
    with caplog.at_level(logging.WARNING, "ttd_core"):
        nodes.remove(stays)
    assert "every node of the Ray cluster is lost: jobs wait 60 s for one to come" in caplog.text


def test_jobs_wait_for_a_node_as_long_as_they_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes_module, "_LOOK_S", 0.01)
    gone = node("gone", 1)
    nodes = scheduler(gone, patience_s=0.1)
    nodes.remove(gone)
    started = time.monotonic()
    assert nodes.take(1, NEVER) is None
    assert time.monotonic() - started >= 0.09


def test_a_cancelled_job_waits_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes_module, "_LOOK_S", 0.01)
    cancelled = threading.Event()
    got = take_in_thread(scheduler(), cancelled)
    cancelled.set()
    assert arrives(got) is None


def test_data_is_put_once_and_the_oldest_is_let_go() -> None:
    put: list[str] = []

    def keep(data: str) -> str:
        put.append(data)
        return f"reference to {data}"

    shared = SharedData(keep, most_bytes=100)
    assert [shared.reference(name, 40, name) for name in ("a", "b", "a")] == [
        "reference to a",
        "reference to b",
        "reference to a",
    ]
    assert (put, shared.put_bytes, shared.saved_bytes) == (["a", "b"], 80, 40)
    shared.reference("c", 40, "c")
    shared.reference("a", 40, "a")
    assert put == ["a", "b", "c"], "b was used longest ago"
    shared.reference("b", 40, "b")
    shared.reference("huge", 500, "huge")
    shared.reference("huge", 500, "huge")
    assert put == ["a", "b", "c", "b", "huge"], "one alone may be larger than the bound"
