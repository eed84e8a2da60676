"""The run folder: what is committed comes back exactly, whole steps only, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import math
import os
import pathlib
import runpy
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from types import SimpleNamespace

import attrs
import numpy as np
import pytest

from ttd_core.config import SearchConfig
from ttd_core.errors import ResumeError, StorageError
from ttd_core.run import events
from ttd_core.run.browsing import RunBrowser
from ttd_core.run.reading import RunReader
from ttd_core.run.rollout_query import RolloutQuery
from ttd_core.run.store import RunStore
from ttd_core.run.tables import FAILURES_AT, NODES, NODES_AT
from ttd_core.search.archive import Archive, Fate
from ttd_core.types import Completion, Group, Reward, Rollout, State, Status, StopReason, Verdict

SCRIPT = pathlib.Path(__file__).with_name("replay.py")
replay = SimpleNamespace(**runpy.run_path(str(SCRIPT)))


@pytest.fixture
def store(tmp_path):
    with RunStore.create(tmp_path / "run", "the config\n") as made:
        yield made


def begun(store, steps=0):
    """The replayed search, committed up to a step."""
    archive = replay.fresh_archive()
    store.commit_seeds(archive)
    for step in range(1, steps + 1):
        replay.commit(store, archive, step)
    return archive


def same(first, second):
    return replay.snapshot(first) == replay.snapshot(second)


OLD_VIEW = """
    CREATE VIEW nodes AS
    SELECT states.*, last.visits, last.best_child, last.attempts, last.duplicates, last.place
    FROM states JOIN node_stats AS last ON last.node = states.id
    WHERE last.step = (SELECT max(step) FROM node_stats WHERE node = states.id)
"""


def plan(connection, query, *values):
    """How SQLite goes about a query, a line each."""
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", values)]


# -- the archive comes back ---------------------------------------------------------------------------


def test_the_archive_comes_back_exactly_at_any_step(store):
    archive = begun(store)
    history = [replay.snapshot(archive)]
    for step in range(1, 13):
        replay.commit(store, archive, step)
        history.append(replay.snapshot(archive))
    with RunReader.open(store.folder) as reader:
        assert reader.last_step() == 12
        assert replay.snapshot(reader.load_archive(replay.CONFIG)) == history[-1]
        for step, expected in enumerate(history):
            assert replay.snapshot(reader.load_archive(replay.CONFIG, step)) == expected
    places = {record.place for record in store.states()}
    assert places == {"held", "lineage", "dropped"}, "the replayed search must exercise all three"


def test_failures_come_back_in_the_order_in_which_they_happened(store):
    archive = begun(store, 12)
    loaded = store.load_archive(replay.CONFIG)
    several = 0
    for node in archive.nodes.values():
        assert list(loaded[node.id].failures.items()) == list(node.failures.items())
        several += len(node.failures) > 1
    assert several > 1, "the replayed search must have states from which programs failed in several ways"


def test_a_resumed_run_goes_on_as_if_never_stopped(store):
    begun(store, 4)
    store.close()
    with RunStore.open(store.folder) as again:
        archive = again.load_archive(replay.CONFIG)
        for step in range(5, 10):
            replay.commit(again, archive, step)
        assert same(archive, replay.archive_after(9))
        assert same(again.load_archive(replay.CONFIG), archive)


def test_seeds_alone_survive(store):
    archive = begun(store)
    store.close()
    with RunStore.open(store.folder) as again:
        assert again.last_step() == 0
        assert same(again.load_archive(replay.CONFIG), archive)


def test_a_run_without_seeds_has_an_empty_archive(store):
    assert store.load_archive(replay.CONFIG).nodes == {}
    assert store.steps() == []
    assert store.best() == []


def test_rewind_forgets_later_steps_and_only_those(store):
    begun(store, 9)
    store.rewind(5)
    assert store.last_step() == 5
    archive = store.load_archive(replay.CONFIG)
    assert same(archive, replay.archive_after(5))
    for table in ("steps", "groups", "rollouts", "metrics", "node_stats"):
        assert store._rows(f"SELECT max(step) FROM {table}") == [(5,)]
    for step in (6, 7):
        replay.commit(store, archive, step)
    assert same(store.load_archive(replay.CONFIG), replay.archive_after(7))
    store.rewind(0)
    assert same(store.load_archive(replay.CONFIG), replay.fresh_archive())


def test_odd_texts_and_numbers_come_back_exactly(store):
    archive = Archive(SearchConfig())
    archive.add_seeds([(State(), None)])
    odd = "nul \x00, lone \ud800, é"
    values = np.array([math.nan, -0.0, 5e-324, math.inf])
    state = State(
        code=odd,
        data={"h": values, "text": odd, "none": None, "empty": np.zeros((0, 3), np.int8)},
        output=odd,
    )
    reward = Reward(0.1 + 0.2, 10**15 + 1, {"gap": math.nan, "count": np.int64(3), "list": [1, 2.5]})
    completion = Completion(odd, np.arange(3), np.zeros(3, np.float32), np.array([True, False, True]))
    good = Rollout(completion, Verdict(Status.OK, state=state, reward=reward, metrics={"x": math.inf}))
    bad = Rollout(Completion(""), Verdict.failed(Status.CRASH, odd, code=odd, output=odd))
    groups = [Group(0, [{"role": "user", "content": odd}], np.arange(2), [good, bad])]
    archive.admit(1, groups)
    store.commit_step(1, groups, archive, {"kl": math.nan, "loss": 1.5}, {})
    loaded = store.load_archive(SearchConfig())
    assert same(loaded, archive) or math.isnan(loaded[1].reward.metrics["gap"])
    assert loaded[1].state == state
    assert loaded[1].state.data["h"].tobytes() == values.tobytes()
    assert loaded[1].state.data["text"] == odd
    assert loaded[1].state.data["empty"].shape == (0, 3)
    assert (loaded[1].reward.value, loaded[1].reward.score) == (0.1 + 0.2, 10**15 + 1)
    first, second = store.rollouts(1)
    # What a model or a program wrote has lost its lone surrogate where the values were made.
    written = "nul \x00, lone \ufffd, é"
    assert (first.text, first.tokens, first.trained_tokens, first.metrics) == (written, 3, 2, {"x": None})
    assert (second.message, second.code, second.output, second.value) == (written, written, written, None)
    assert store.groups(1)[0].prompt[0]["content"] == odd
    assert math.isnan(store.metrics()[1]["kl"])


# -- everything else comes back -----------------------------------------------------------------------


def test_a_step_is_kept_whole(store):
    archive = begun(store)
    groups = replay.take_step(archive, 1)
    advantages = [np.arange(replay.SIZE) / 4 for _ in groups]
    store.commit_step(1, groups, archive, {"loss": 0.5}, {"sample": 2.0}, advantages=advantages)
    assert store.metrics() == {1: {"loss": 0.5, "seconds/sample": 2.0}}
    records = list(store.rollouts())
    flat = [rollout for group in groups for rollout in group]
    outcomes = [outcome for row in archive.admission.outcomes for outcome in row]
    assert len(records) == len(flat) == replay.GROUPS * replay.SIZE
    for place, (record, rollout, outcome) in enumerate(zip(records, flat, outcomes, strict=True)):
        verdict = rollout.verdict
        assert (record.group_index, record.rollout_index) == divmod(place, replay.SIZE)
        assert (record.status, record.message, record.code) == (verdict.status, verdict.message, verdict.code)
        assert (record.seconds, record.level, record.output) == (
            verdict.seconds,
            verdict.level,
            verdict.output,
        )
        assert (record.fate, record.node, record.digest) == (outcome.fate, outcome.node, outcome.digest)
        assert record.text == rollout.completion.text
        assert record.stop is StopReason.LENGTH
        assert record.value == (verdict.value if verdict.ok else None)
        assert record.advantage == (place % replay.SIZE) / 4
    assert {record.fate for record in records} >= {Fate.FAILED, Fate.ADMITTED, Fate.DUPLICATE}
    (step,) = store.steps()
    rewards = [rollout.verdict.value for rollout in flat]
    assert (step.rollouts, step.valid) == (18, sum(rollout.verdict.ok for rollout in flat))
    assert (step.mean_value, step.expansions) == (pytest.approx(np.mean(rewards)), replay.GROUPS)
    assert step.best_value == max(rollout.verdict.value for rollout in flat if rollout.verdict.ok)
    assert abs(step.finished - time.time()) < 60
    assert [record.start for record in store.groups()] == [group.start for group in groups]
    assert store.groups()[0].prompt == groups[0].prompt
    assert store.groups()[0].prompt_tokens == 11


def test_a_step_in_which_nothing_succeeded(store):
    archive = begun(store)
    failed = Rollout(Completion("?"), Verdict.failed(Status.TIMEOUT, "60 s are over"))
    groups = [Group(0, [], np.zeros(0, np.int64), [failed])]
    archive.admit(1, groups)
    store.commit_step(1, groups, archive, {}, {})
    (step,) = store.steps()
    assert (step.valid, step.mean_value, step.best_value, step.best_score) == (0, 0.0, None, None)
    assert same(store.load_archive(replay.CONFIG), archive)


def test_rollouts_without_their_texts(store):
    begun(store, 2)
    narrow = list(store.rollouts(text=False))
    assert narrow == [attrs.evolve(record, text="", metrics="{}") for record in store.rollouts()]


def test_states_and_the_best_of_them(store):
    archive = begun(store, 6)
    states = store.states()
    assert [record.id for record in states] == sorted(record.id for record in states)
    for record in states:
        if record.place != "dropped":
            node = archive[record.id]
            assert (record.visits, record.attempts, record.reward) == (
                node.visits,
                node.attempts,
                node.reward,
            )
    best = store.best(3)
    ranked = sorted((r for r in states if r.reward), key=lambda r: (-r.reward.value, r.id))
    assert best == ranked[:3]
    assert best[0].id == archive.best().id
    assert store.state(best[0].id) == archive.best().state
    with pytest.raises(KeyError):
        store.state(10_000)


def test_the_config_comes_back_to_the_letter(store):
    assert store.config() == "the config\n"
    store.set_config("another")
    with RunReader.open(store.folder) as reader:
        assert reader.config() == "another"


def test_events_wait_for_their_step(store):
    store.record(
        events.run_started(run="r", problem="p", policy="m", step=0, steps=2, groups=3, group_size=6)
    )
    archive = begun(store)
    store.record(events.step_started(step=1, starts=[0, 1, 2]))
    store.record(events.rollout_sampled(step=1, group=0, index=0, tokens=5, stop="stop"))
    with RunReader.open(store.folder) as reader:
        assert [event["kind"] for event in reader.events()] == ["run_started"]
        replay.commit(store, archive, 1)
        assert [event["kind"] for event in reader.events()] == ["run_started", "step_started"]
        (later,) = reader.events(since=reader.events()[0]["number"])
        assert reader.events(kind="step_started") == [later]
        assert reader.events(later["number"], kind="step_started") == []
        assert later["starts"] == [0, 1, 2]
        store.record(events.run_interrupted(step=1, reason="stopped", resume="ttd resume r"))
        assert reader.events()[-1]["reason"] == "stopped"
    logged, _ = events.read_log(store.folder / "log.jsonl")
    kinds = ["run_started", "step_started", "rollout_sampled", "run_interrupted"]
    assert [event["kind"] for event in logged] == kinds


# -- misuse and damage --------------------------------------------------------------------------------


def test_steps_are_committed_in_order_and_after_their_admission(store):
    archive = begun(store, 1)
    groups = replay.take_step(archive, 2)
    with pytest.raises(ValueError, match="step 3 cannot be committed, the next is 2"):
        store.commit_step(3, groups, archive, {}, {})
    with pytest.raises(ValueError, match="admit the groups of step 2"):
        store.commit_step(2, groups[:1], archive, {}, {})
    store.commit_step(2, groups, archive, {}, {})
    with pytest.raises(ValueError, match="admit the groups of step 3"):
        store.commit_step(3, groups, archive, {}, {})


def test_a_run_of_before_the_short_index_is_read_as_it_is_and_gets_it_when_it_goes_on(store):
    archive = begun(store, 9)

    def everything():
        with RunBrowser.open(store.folder) as run:
            archives = [replay.snapshot(run.load_archive(replay.CONFIG, step)) for step in range(10)]
            held = [run.node_statistics(step) for step in range(10)]
            found = run.find_rollouts(RolloutQuery(sort="reward"))
            rewards = {step: values.tolist() for step, values in run.rewards().items()}
            return archives, held, found, run.states(), run.best(5), run.outcomes(), rewards

    as_written = everything()
    store.close()
    with contextlib.closing(sqlite3.connect(store.folder / "run.db")) as connection:
        assert connection.execute("SELECT sql FROM sqlite_master WHERE name = 'rollouts_in_short'").fetchone()
        connection.executescript(f"DROP INDEX rollouts_in_short; DROP VIEW nodes; {OLD_VIEW}")
    assert everything() == as_written
    with RunStore.open(store.folder) as again:
        assert same(again.load_archive(replay.CONFIG), archive)
        found = plan(again._connection, "SELECT step FROM rollouts WHERE status = 'timeout'")
        assert found == ["SCAN rollouts USING COVERING INDEX rollouts_in_short"]
    assert everything() == as_written


def test_what_a_large_run_is_asked_for_is_read_from_narrow_columns(store):
    begun(store, 3)
    short = "USING COVERING INDEX rollouts_in_short"
    for query in (
        RolloutQuery(status=Status.CRASH),
        RolloutQuery(sort="reward", descending=True),
        RolloutQuery(sort="seconds"),
    ):
        statement, values = query.statement()
        assert any(short in line for line in plan(store._connection, statement, *values)), query
    failures = plan(store._connection, FAILURES_AT, 3)
    assert any(line.startswith("SEARCH rollouts") and short in line for line in failures)
    # A state's newest statistics are looked up; there are many times as many rows of these as states.
    for query in (NODES, NODES_AT):
        values = () if query is NODES else (3,)
        assert not any(
            line.startswith(("SCAN last", "SCAN node_stats"))
            for line in plan(store._connection, query, *values)
        )


def test_what_did_not_change_is_not_written_again(store):
    archive = begun(store, 9)
    counted = store._rows(
        "SELECT node, step, visits, best_child, attempts, duplicates, place FROM node_stats"
    )
    by_node: dict = {}
    for node, step, *statistics in sorted(counted):
        assert by_node.get(node) != statistics, f"node {node} in step {step}"
        assert by_node.get(node, [None])[-1] != "dropped", "what was dropped stays so"
        by_node[node] = statistics
    assert set(store._written) == set(archive.nodes)


def test_a_failure_inside_the_transaction_undoes_it_all(store):
    archive = begun(store, 1)
    before = dump(store)
    groups = replay.take_step(archive, 2)
    with pytest.raises(ValueError):
        store.commit_step(2, groups, archive, {}, {}, advantages=[np.zeros(1)] * 3)
    assert dump(store) == before
    store.commit_step(2, groups, archive, {}, {})
    assert same(store.load_archive(replay.CONFIG), archive)


def test_a_folder_holds_one_run(store):
    store.close()
    with pytest.raises(ResumeError, match="holds a run already; `ttd resume"):
        RunStore.create(store.folder, "again")
    with RunReader.open(store.folder) as reader:
        assert reader.config() == "the config\n"


@pytest.mark.parametrize("opener", [RunStore, RunReader])
def test_no_run_there(tmp_path, opener):
    with pytest.raises(ResumeError, match=r"holds no run: run\.db is missing"):
        opener.open(tmp_path)
    (tmp_path / "run.db").touch()
    with pytest.raises(ResumeError, match="stopped before its first write"):
        opener.open(tmp_path)


@pytest.mark.parametrize("opener", [RunStore, RunReader])
def test_a_database_of_another_time_or_kind(store, opener):
    store._connection.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
    store.close()
    with pytest.raises(ResumeError, match="schema 99, this version of ttd reads 1"):
        opener.open(store.folder)
    (store.folder / "run.db").write_bytes(b"not a database at all, but long enough " * 20)
    with pytest.raises(StorageError, match=r"run\.db cannot be .*: it is damaged"):
        opener.open(store.folder)


def test_a_damaged_or_missing_array_is_named(store):
    begun(store, 2)
    paths = sorted((store.folder / "arrays").iterdir())
    content = paths[0].read_bytes()
    for damage in (content[:-1] + bytes([content[-1] ^ 1]), content[: len(content) // 2], b"", b"PK\x03\x04"):
        paths[0].write_bytes(damage)
        with pytest.raises(StorageError, match=f"{paths[0].name} cannot be read: it is damaged"):
            store.arrays.load(paths[0].stem)
    paths[0].unlink()
    with pytest.raises(StorageError, match=f"{paths[0].name} cannot be read: it is missing"):
        store.arrays.load(paths[0].stem)


def test_an_array_is_never_unpickled(store):
    trap = np.array([object()], dtype=object)
    with open(store.folder / "arrays" / "trap.npy", "wb") as file:
        np.save(file, trap, allow_pickle=True)
    with pytest.raises(StorageError, match="damaged"):
        store.arrays.load("trap")


def test_arrays_are_written_once_and_leftovers_swept(store):
    begun(store, 3)
    folder = store.folder / "arrays"
    stamps = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    (folder / ".x.npy.1.tmp").write_bytes(b"torn")
    store.arrays.save({path.stem: store.arrays.load(path.stem) for path in stamps})
    store.close()
    RunStore.open(store.folder).close()
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == stamps


def test_commits_are_synced(store):
    assert store._rows("PRAGMA journal_mode") == [("wal",)]
    assert store._rows("PRAGMA synchronous") == [(2,)], "2 is FULL: the WAL is synced at every commit"


# -- other processes ----------------------------------------------------------------------------------


def spawn(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_a_second_writer_is_refused_and_names_the_first(store):
    code = "import sys; from ttd_core.run.store import RunStore; RunStore.open(sys.argv[1])"
    process = spawn("-c", code, store.folder)
    _, error = process.communicate(timeout=60)
    assert f"process {os.getpid()} is writing this run" in error


def test_killed_at_any_moment_it_opens_as_its_last_committed_step(tmp_path):
    """kill -9 again and again: each time the store equals the search replayed in memory up to that step."""
    folder, rng, done = tmp_path / "run", np.random.default_rng(0), 0
    for _ in range(8):
        process = spawn(SCRIPT, folder)
        printed = done
        for _ in range(int(rng.integers(0, 4))):
            printed = int(process.stdout.readline())
        time.sleep(float(rng.uniform(0, 0.03)))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        if not (folder / "run.db").exists():
            continue
        unborn = contextlib.suppress(ResumeError) if printed == 0 else contextlib.nullcontext()
        with unborn, RunReader.open(folder) as reader:
            done = reader.last_step()
            assert done >= printed
            archive = reader.load_archive(replay.CONFIG)
            assert same(archive, replay.archive_after(done)) or (done == 0 and not archive.nodes)
            assert len(list(reader.rollouts())) == done * replay.GROUPS * replay.SIZE
            assert len(reader.groups()) == done * replay.GROUPS
            assert [event["step"] for event in reader.events()] == list(range(1, done + 1))
            assert reader._rows("PRAGMA integrity_check") == [("ok",)]
            assert reader._rows("PRAGMA foreign_key_check") == []
    assert done >= 5


def test_readers_in_other_threads_and_processes_see_whole_steps_only(store):
    archive = begun(store)
    code = """
        import sys, runpy
        from ttd_core.run.reading import RunReader
        replay = runpy.run_path(sys.argv[2])
        with RunReader.open(sys.argv[1]) as reader:
            seen = 0
            while seen < 15:
                archive = reader.load_archive(replay["CONFIG"])
                rows = reader._rows("SELECT (SELECT max(step) FROM steps), count(*) FROM rollouts")
                assert rows[0][1] == (rows[0][0] or 0) * 18, rows
                seen = reader.last_step()
                assert archive.expansions % 3 == 0 and len(archive.nodes) >= 3
    """
    process = spawn("-c", textwrap.dedent(code), store.folder, SCRIPT)
    faults = []

    def read():
        with RunReader.open(store.folder) as reader:
            while reader.last_step() < 15:
                step = reader.last_step()
                if not same(reader.load_archive(replay.CONFIG, step), replay.archive_after(step)):
                    faults.append(step)

    thread = threading.Thread(target=read)
    thread.start()
    for step in range(1, 16):
        replay.commit(store, archive, step)
    thread.join()
    _, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    assert faults == []


# -- disks --------------------------------------------------------------------------------------------


def dump(store):
    tables = ("meta", "steps", "states", "node_stats", "groups", "rollouts", "metrics", "events")
    return {table: store._connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables}


def test_a_full_database_loses_nothing_and_the_step_can_be_committed_later(store):
    """SQLite's own page limit raises the same error as a full disk."""
    archive = begun(store, 2)
    before = dump(store)
    groups = replay.take_step(archive, 3)
    (limit,) = store._rows("PRAGMA page_count")[0]
    store._connection.execute(f"PRAGMA max_page_count = {limit}")
    with pytest.raises(StorageError, match=r"run\.db cannot be written: the disk is full \(.* MB free\)"):
        store.commit_step(3, groups, archive, {}, {})
    assert dump(store) == before
    assert same(store.load_archive(replay.CONFIG), replay.archive_after(2))
    store._connection.execute("PRAGMA max_page_count = 1000000")
    store.commit_step(3, groups, archive, {}, {})
    assert same(store.load_archive(replay.CONFIG), replay.archive_after(3))


def in_own_mounts(tmp_path, script):
    """Run a shell script where it may mount; skip where that is not allowed."""
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("this machine does not let tests mount file systems (unshare --mount)")
    environment = {**os.environ, "PYTHON": sys.executable, "REPLAY": str(SCRIPT), "DISK": str(tmp_path)}
    return subprocess.run(
        [*unshare, "sh", "-ec", textwrap.dedent(script)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_full_disk_is_one_line_and_every_committed_step_is_kept(tmp_path):
    """A real one: a tmpfs of one megabyte, filled by the run itself, then given more room."""
    script = """
        mount -t tmpfs -o size=1m tmpfs "$DISK"
        "$PYTHON" "$REPLAY" "$DISK/run" >"$0.out" 2>&1 && exit 9
        tail -n 1 "$0.out"; grep -E '^[0-9]+$' "$0.out" | tail -n 1; rm "$0.out"
        mount -o remount,size=8m "$DISK"
        "$PYTHON" -c '
        import runpy, sys
        from types import SimpleNamespace
        from ttd_core.run.store import RunStore
        replay = SimpleNamespace(**runpy.run_path(sys.argv[1]))
        with RunStore.open(sys.argv[2]) as store:
            archive = store.load_archive(replay.CONFIG)
            step = store.last_step()
            assert replay.snapshot(archive) == replay.snapshot(replay.archive_after(step))
            replay.commit(store, archive, step + 1)
            print(step, "kept")
        ' "$REPLAY" "$DISK/run"
    """
    script = textwrap.dedent(script).replace("$0.out", str(tmp_path.parent / f"{tmp_path.name}.out"))
    result = in_own_mounts(tmp_path, script)
    assert result.returncode == 0, result.stderr
    message, committed, kept = result.stdout.splitlines()
    assert "StorageError: " in message
    assert "cannot be written: the disk is full (" in message
    assert "every committed step is kept" in message
    assert int(committed) >= 2
    assert kept == f"{committed} kept"


@pytest.mark.parametrize("disk", ["full", "read-only"])
def test_runs_that_nobody_writes_are_read_where_nothing_can_be_written(tmp_path, disk):
    """One that ended; a killed one, whose newest steps are in the WAL alone; a copy of that without index."""
    script = """
        mount -t tmpfs -o size=8m tmpfs "$DISK"; cd "$DISK"
        "$PYTHON" -c '
        import os, runpy, sys
        from types import SimpleNamespace
        from ttd_core.run.store import RunStore
        replay = SimpleNamespace(**runpy.run_path(sys.argv[1]))
        for name in ("closed", "killed"):
            store = RunStore.create(name, "kept")
            archive = replay.fresh_archive()
            store.commit_seeds(archive)
            for step in (1, 2, 3):
                replay.commit(store, archive, step)
            if name == "closed":
                store.close()
        os._exit(0)
        ' "$REPLAY"
        cp -r killed copied; rm copied/run.db-shm; test -s copied/run.db-wal
        test $HOW = full || mount -o remount,ro "$DISK"
        test $HOW = read-only || ! dd if=/dev/zero of=filler bs=4k 2>/dev/null
        sums=$(cksum */run.db killed/run.db-wal copied/run.db-wal)
        "$PYTHON" -c '
        import runpy, sys
        from types import SimpleNamespace
        from ttd_core.run.reading import RunReader
        replay = SimpleNamespace(**runpy.run_path(sys.argv[1]))
        for name in ("closed", "killed", "copied"):
            with RunReader.open(name) as one, RunReader.open(name) as other:
                archives = [reader.load_archive(replay.CONFIG) for reader in (one, other)]
            snapshots = [replay.snapshot(archive) for archive in archives]
            print(name, snapshots == [replay.snapshot(replay.archive_after(3))] * 2)
        ' "$REPLAY"
        test "$sums" = "$(cksum */run.db killed/run.db-wal copied/run.db-wal)"
    """
    result = in_own_mounts(tmp_path, f"HOW={disk}\n{textwrap.dedent(script)}")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "closed True\nkilled True\ncopied True\n"


def test_a_read_only_disk_can_be_read_and_says_so_when_written(tmp_path):
    folder = tmp_path / "run"
    with RunStore.create(folder, "kept") as store:
        begun(store, 2)
    script = """
        mount --bind "$DISK" "$DISK"
        mount -o remount,bind,ro "$DISK"
        "$PYTHON" -c '
        import sys
        from ttd_core.errors import StorageError
        from ttd_core.run.reading import RunReader
        from ttd_core.run.store import RunStore
        with RunReader.open(sys.argv[1]) as reader:
            print(reader.config(), reader.last_step())
        for attempt in (lambda: RunStore.open(sys.argv[1]), lambda: RunStore.create(sys.argv[2], "new")):
            try:
                attempt()
            except StorageError as error:
                print(error)
        ' "$DISK/run" "$DISK/new"
    """
    result = in_own_mounts(tmp_path, script)
    assert result.returncode == 0, result.stderr
    read, opened, created = result.stdout.splitlines()
    assert read == "kept 2"
    for line, path in ((opened, folder), (created, tmp_path / "new")):
        assert line.startswith(f"{path} cannot be written: the folder or the disk is read-only.")


# -- the documentation --------------------------------------------------------------------------------


def page(request):
    return (request.config.rootpath / "docs" / "run-folder.md").read_text(encoding="utf-8")


def test_the_page_names_every_table_and_column(store, request):
    text = page(request)
    tables = store._rows("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    for (table,) in tables:
        assert f"`{table}`" in text
        for column in store._connection.execute(f"PRAGMA table_info({table})"):
            assert f"`{column[1]}`" in text, f"{table}.{column[1]}"


def test_the_queries_of_the_page_run_and_answer(store, request):
    begun(store, 6)
    block = page(request).split("```sql\n")[1].split("```")[0]
    answers = [store._rows(statement) for statement in block.split(";\n") if statement.strip()]
    course, failures, repeats, best, lineage, visited, seconds = answers
    assert [row[0] for row in course] == [1, 2, 3, 4, 5, 6]
    assert {row[0] for row in failures} == {"timeout", "crash"}
    for step, share in repeats:
        starts = [group.start for group in store.groups(step)]
        valid = [record for record in store.rollouts(step) if record.status is Status.OK]
        assert share == pytest.approx(
            np.mean([record.node == starts[record.group_index] for record in valid])
        )
    assert max(share for _, share in repeats) > 0
    assert best[0][0] == lineage[-1][0] == store.best(1)[0].id
    assert [row[0] for row in lineage] == sorted(row[0] for row in lineage)
    assert lineage[0][1] == 0
    assert visited[0][2] == max(record.visits for record in store.states() if record.place == "held")
    assert seconds == [("seconds/sample", 3.0)]


def test_the_python_of_the_page_runs(store, request, monkeypatch, capsys):
    begun(store, 10)
    block = page(request).split("```python\n")[1].split("```")[0]
    names = {}
    exec(block.replace("runs/erdos", str(store.folder)), names)
    assert capsys.readouterr().out.startswith("10 ")
    assert set(names["construction"]) == {"h", "name", "deep"}
    assert replay.snapshot(names["archive"]) == replay.snapshot(store.load_archive(SearchConfig(), 10))
