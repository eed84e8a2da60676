"""A run as it goes on: its stream, and what happens to a page when the run's folder goes."""

from __future__ import annotations

import shutil
import time

from ttd_core.run import events
from ttd_core.ui import cached
from ttd_core.ui.folders import RunFolders
from ttd_core.ui.following import RunFollower, _letters

from .conftest import HOSTILE, write_run


def test_the_step_under_way_is_told_as_its_rollouts_are_judged(tmp_path) -> None:
    store = write_run(tmp_path / "live", finish=False)
    follower = RunFollower(RunFolders(tmp_path), "live")
    before = follower.look()
    # The lock is of this process, which it tells nothing of.
    assert (before["state"], before["done"], before["steps"], before["best"]) == ("stopped", 3, 3, "1.312")
    assert before["sentence"] == f"Continue with: ttd resume {tmp_path}/live"
    store.record(events.step_started(step=4, starts=[0, 1]))
    for index in range(3):
        store.record(events.rollout_sampled(step=4, group=1, index=index, tokens=10, stop="stop"))
    for index, status in ((0, "ok"), (1, "crash")):
        score = 1.0 if status == "ok" else None
        judged = {"message": HOSTILE, "value": score, "score": score, "seconds": 0.5}
        store.record(events.rollout_evaluated(step=4, group=1, index=index, status=status, **judged))
    follower.look()
    steps = follower._under_way
    step = steps.current
    assert (step.step, step.tokens, _letters(steps)) == (4, 30, "....ofs.")
    assert (step.sampled, step.judged, step.valid) == (3, 2, 1)
    store.close()


def test_rollouts_from_before_the_stop_count_as_no_speed(tmp_path) -> None:
    store = write_run(tmp_path / "live", finish=False)
    follower = RunFollower(RunFolders(tmp_path), "live")
    store.record(events.step_started(step=4, starts=[0, 1], kept=2))
    for index in range(3):
        store.record(events.rollout_sampled(step=4, group=0, index=index, tokens=10, stop="stop"))
    follower.look()
    assert follower._under_way.current.sampled == 3
    assert follower._under_way.current.tokens == 10
    store.close()


def test_a_stream_says_what_changes_and_shares_one_look(serve, tmp_path) -> None:
    store = write_run(tmp_path / "live", finish=False)
    client = serve(tmp_path)
    first, second = client.follow("/stream?run=live"), client.follow("/stream?run=live")
    assert next(first) == next(second)
    store.record(events.run_finished(step=3, best_value=1.5, best_score=1.5, seconds=6.0))
    assert next(first)["state"] == "finished"
    assert next(second)["state"] == "finished"
    assert client.server._streams.watched == 1
    store.close()
    first.close()
    second.close()
    deadline = time.monotonic() + 5
    while client.server._streams.watched and time.monotonic() < deadline:
        time.sleep(0.05)
    assert client.server._streams.watched == 0


def test_a_run_folder_that_goes_is_one_sentence(serve, tmp_path) -> None:
    write_run(tmp_path / "live").close()
    client = serve(tmp_path)
    stream = client.follow("/stream?run=live")
    assert next(stream)["trouble"] == ""
    shutil.rmtree(tmp_path / "live")
    gone = next(stream)
    said = "the run 'live' is not here; if it was before, its folder was removed or moved."
    assert (gone["state"], gone["trouble"]) == ("gone", said)
    for path in ("/parts/run?run=live", "/parts/state?run=live&node=0", "/lineage.json?run=live"):
        answer = client.get(path)
        assert (answer.status, answer.text) == (404, said[0].upper() + said[1:])


def test_the_list_of_runs_is_told_of_new_ones(serve, tmp_path) -> None:
    client = serve(tmp_path)
    stream = client.follow("/stream")
    empty = next(stream)
    assert "No run here." in client.get("/").text
    write_run(tmp_path / "new").close()
    assert next(stream) != empty


def test_a_run_made_again_in_the_folder_of_another_is_shown_anew(serve, tmp_path) -> None:
    write_run(tmp_path / "run").close()
    client = serve(tmp_path)
    for path in ("/parts/run?run=run", "/lineage.json?run=run", "/parts/rollouts?run=run&status=ok"):
        assert client.get(path).status == 200
    shutil.rmtree(tmp_path / "run")
    # Of as many steps and events as the one before.
    store = write_run(tmp_path / "run", seed=1)
    with store._connection as database:
        database.execute("UPDATE steps SET best_score = 77.25")
        database.execute("UPDATE states SET reward = replace(reward, '1.312', '77.25')")
        database.execute("UPDATE rollouts SET status = 'crash' WHERE step = 1")
    store.close()
    assert "77.25" in client.get("/parts/run?run=run").text
    assert "77.25" in client.get("/lineage.json?run=run").text
    assert "12 rollouts" in client.get("/parts/rollouts?run=run&status=ok").text


def test_a_look_that_fails_is_told_and_the_next_one_counts(serve, tmp_path) -> None:
    store = write_run(tmp_path / "live", finish=False)
    client = serve(tmp_path)
    with store._connection as database:
        database.execute("UPDATE events SET body = '{' WHERE kind = 'run_started'")
    stream = client.follow("/stream?run=live")
    assert next(stream)["trouble"].endswith("Restore the run folder from a copy")
    with store._connection as database:
        database.execute("DELETE FROM events WHERE kind = 'run_started'")
    assert next(stream)["trouble"] == ""
    store.close()


def test_sections_are_those_of_the_newest_step_wherever_its_facts_lie_in_memory(
    tmp_path, monkeypatch
) -> None:
    # What is forgotten leaves its address to what comes next.
    monkeypatch.setattr(cached, "id", lambda value: 1, raising=False)
    pages = cached.RunPages()
    before = write_run(tmp_path / "run", steps=1, finish=False)
    shown = pages.sections(tmp_path / "run")
    before.close()
    shutil.rmtree(tmp_path / "run")
    write_run(tmp_path / "run", steps=2).close()
    assert pages.sections(tmp_path / "run") != shown
