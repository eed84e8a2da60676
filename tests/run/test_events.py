"""Events: every kind is plain JSON that says what its constructor says, and the log survives torn lines."""

from __future__ import annotations

import inspect
import json
import math
import os
import threading
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttd_core.run import events
from ttd_core.run.events import EventLog, plain, read_log, to_line

KINDS = [
    "run_started",
    "step_started",
    "rollout_sampled",
    "rollout_evaluated",
    "rollouts_late",
    "rollouts_joined",
    "step_finished",
    "settings_changed",
    "checkpoint_written",
    "run_finished",
    "run_interrupted",
]

VALUES = {
    "starts": [3, 1],
    "places": ["1/0/2"],
    "hints": ["try it"],
    "changes": {"steps": 3},
    "metrics": {"loss": 0.5},
    "value": None,
    "score": None,
}


def example(kind):
    """An event of a kind, with its constructor's own parameters."""
    constructor = getattr(events, kind)
    parameters = inspect.signature(constructor).parameters
    return constructor(**{name: VALUES.get(name, 1) for name in parameters}), set(parameters)


def test_the_kinds_are_all_there_are():
    constructors = {
        name
        for name, value in vars(events).items()
        if inspect.isfunction(value) and value.__annotations__.get("return") == "Event" and name[0] != "_"
    }
    assert constructors == set(KINDS)
    assert set(KINDS) >= events.ROLLOUT_KINDS | events.DURABLE_KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_has_its_kind_its_time_and_its_fields(kind):
    event, fields = example(kind)
    assert set(event) == {"kind", "time"} | fields
    assert event["kind"] == kind
    assert abs(event["time"] - time.time()) < 60
    assert json.loads(to_line(event)) == event


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_documented_for_readers_of_the_folder(kind, request):
    page = (request.config.rootpath / "docs" / "run-folder.md").read_text(encoding="utf-8")
    _, fields = example(kind)
    (row,) = [line for line in page.splitlines() if line.startswith(f"| `{kind}` |")]
    assert {field for field in fields if f"`{field}`" in row} == fields


def test_what_json_lacks_becomes_null_or_plain():
    odd = {"nan": math.nan, "inf": np.float32("inf"), "n": np.int64(3), "a": np.arange(2), 5: (True, None)}
    assert plain(odd) == {"nan": None, "inf": None, "n": 3, "a": [0, 1], "5": [True, None]}
    assert plain({"path": os}) == {"path": str(os)}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(json_values)
def test_a_line_is_one_ascii_line_that_reads_back(value):
    line = to_line({"kind": "x", "value": value})
    assert line.isascii()
    assert "\n" not in line
    assert json.loads(line)["value"] == value


def test_the_log_is_read_in_pieces(tmp_path):
    path = tmp_path / "log.jsonl"
    assert read_log(path) == ([], 0)
    log = EventLog(path)
    log.append(events.step_started(step=1, starts=[]))
    first, offset = read_log(path)
    assert [event["step"] for event in first] == [1]
    assert read_log(path, offset) == ([], offset)
    log.append(events.step_started(step=2, starts=[]))
    with open(path, "ab") as file:
        file.write(b'{"kind": "step_st')
    later, end = read_log(path, offset)
    assert [event["step"] for event in later] == [2]
    assert end < path.stat().st_size, "a line without its end is owed to the next call"
    log.close()


def test_a_torn_line_costs_only_itself(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"kind": "a", "time": 1}\n{"kind": "b", "ti')
    for number in range(2):
        log = EventLog(path)
        log.append({"kind": f"c{number}", "time": 2})
        log.close()
    found, _ = read_log(path)
    assert [event["kind"] for event in found] == ["a", "c0", "c1"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_without_the_fields_of_its_kind_costs_only_itself(kind, tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(to_line({"kind": kind, "time": 1}) + "\n" + to_line({"kind": "other", "time": 2}) + "\n")
    assert [event["kind"] for event in read_log(path)[0]] == ["other"]


def test_threads_never_interleave_lines(tmp_path):
    log = EventLog(tmp_path / "log.jsonl")

    def write(thread):
        for index in range(200):
            log.append({"kind": "k", "time": 0, "thread": thread, "index": index, "pad": "x" * 500})

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    found, _ = read_log(tmp_path / "log.jsonl")
    assert len(found) == 800
    for number in range(4):
        assert [event["index"] for event in found if event["thread"] == number] == list(range(200))


def test_a_line_without_an_end_is_not_read_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(events, "LARGEST_LINE", 1_000_000)
    path = tmp_path / "log.jsonl"
    log = EventLog(path)
    log.append({"kind": "k", "time": 0})
    log.close()
    with path.open("ab") as file:
        file.write(b"[" * 100_000 + b"\n")
        size = file.tell()
        # Holes: they are read as zeros and take no room on the disk.
        file.truncate(size + 200_000_000)
    tracemalloc.start()
    try:
        assert read_log(path) == ([{"kind": "k", "time": 0}], size)
        log = EventLog(path)  # it ends the torn line
        log.append({"kind": "k", "time": 1})
        log.close()
        assert read_log(path, size) == ([{"kind": "k", "time": 1}], path.stat().st_size)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("block", [130, 300, 1 << 20])
def test_the_step_under_way_is_found_from_the_log_s_end(tmp_path, monkeypatch, block):
    monkeypatch.setattr(events, "_BLOCK", block)
    path = tmp_path / "log.jsonl"
    assert events.last_step_begins(path, 0) == 0
    path.write_bytes(b"")
    assert events.last_step_begins(path, 0) == 0
    log = EventLog(path)
    log.append(events.run_started(run="r", problem="p", policy="s", step=0, steps=9, groups=1, group_size=1))
    begins = {}
    # Steps that overlap: each begins before the one before it is committed.
    for step in range(1, 7):
        begins[step] = path.stat().st_size
        hint = '\n{"kind": "step_started", "time": 1.5, "step": 99'
        log.append(events.step_started(step=step, starts=[0], hints=[hint]))
        for index in range(3):
            sampled = events.rollout_sampled(step=step - 1, group=0, index=index, tokens=9, stop="stop")
            log.append(sampled)
    log.close()
    # The last step where all are committed, else the first that is not.
    for committed, expected in {6: 6, 5: 6, 4: 5, 2: 3, 0: 1}.items():
        assert events.last_step_begins(path, committed) == begins[expected]
    found, _ = read_log(path, events.last_step_begins(path, 4))
    assert [event["kind"] for event in found] == ["step_started", *["rollout_sampled"] * 3] * 2
