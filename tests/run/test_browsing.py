"""Single things picked out of a run: rollouts found by a query, one rollout, one state, what was held."""

from __future__ import annotations

import pathlib
import runpy
from types import SimpleNamespace

import attrs
import pytest

from ttd_core.errors import UsageError
from ttd_core.run.browsing import RunBrowser
from ttd_core.run.rollout_query import FIELDS, SORTS, RolloutQuery
from ttd_core.run.store import RunStore
from ttd_core.types import Status

replay = SimpleNamespace(**runpy.run_path(str(pathlib.Path(__file__).with_name("replay.py"))))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The replayed search of six steps."""
    with RunStore.create(tmp_path_factory.mktemp("browsing") / "run", "the config\n") as store:
        archive = replay.fresh_archive()
        store.commit_seeds(archive)
        for step in range(1, 7):
            replay.commit(store, archive, step)
    with RunBrowser.open(store.folder) as opened:
        yield opened


def key(record) -> tuple[int, int, int]:
    return record.step, record.group_index, record.rollout_index


def test_one_rollout_group_and_state_are_as_in_the_lists(run) -> None:
    for each in run.rollouts():
        assert run.rollout(*key(each)) == each
    for each in run.groups():
        assert run.group(each.step, each.group_index) == each
        assert (each.step, each.group_index) in run.groups_from(each.start)
        assert each.start in run.starts(each.step)
    for each in run.states():
        assert run.state_record(each.id) == each
    for missing in (lambda: run.rollout(99, 0, 0), lambda: run.group(99, 0), lambda: run.state_record(9999)):
        with pytest.raises(KeyError):
            missing()


def test_lists_without_texts_are_the_same_but_for_them(run) -> None:
    narrow = [attrs.evolve(each, code="", output="", reward=None) for each in run.states()]
    assert [attrs.evolve(each, reward=None) for each in run.states(text=False)] == narrow
    assert [each.reward for each in run.states(text=False)] == [each.reward for each in run.states()]
    places = [key(each) for each in run.rollouts()][::-3]
    assert [key(each) for each in run.short_rollouts(places)] == places
    assert {(each.code, each.output, each.text) for each in run.short_rollouts(places)} == {("", "", "")}


def test_how_rollouts_ended_is_added_up_as_they_are(run) -> None:
    rollouts = list(run.rollouts())
    ended: dict = {}
    for each in rollouts:
        count, tokens, seconds = ended.get((each.step, each.status), (0, 0, 0.0))
        ended[each.step, each.status] = (count + 1, tokens + each.tokens, seconds + each.seconds)
    assert len({status for _, status in ended}) > 2
    outcomes = run.outcomes()
    # Those of a step in the order of their first, which is that of the dictionary.
    assert [(each.step, each.status) for each in outcomes] == list(ended)
    assert [(each.count, each.tokens) for each in outcomes] == [sums[:2] for sums in ended.values()]
    assert [each.seconds for each in outcomes] == pytest.approx([sums[2] for sums in ended.values()])
    rewards: dict = {}
    for each in rollouts:
        if each.value is not None:
            rewards.setdefault(each.step, []).append(each.value)
    assert {step: values.tolist() for step, values in run.rewards().items()} == rewards
    for status in Status:
        messages = [each.message for each in rollouts if each.status is status and each.message]
        assert run.first_message(status) == (messages[0] if messages else "")


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", sorted(SORTS))
def test_rollouts_are_sorted_by_anything(run, sort, descending) -> None:
    name = {"place": "step", "reward": "value"}.get(sort, sort)
    found = [
        run.rollout(*place) for place in run.find_rollouts(RolloutQuery(sort=sort, descending=descending))
    ]
    values = [getattr(each, name) for each in found]
    known = [value for value in values if value is not None]
    assert known == sorted(known, reverse=descending)
    assert values[len(known) :] == [None] * (len(values) - len(known))
    assert len(found) == len(list(run.rollouts()))


@pytest.mark.parametrize("within", sorted(FIELDS))
def test_a_text_is_found_where_it_is(run, within) -> None:
    records = list(run.rollouts())
    words = {
        text[len(text) // 3 :][:6]
        for each in records
        for name in FIELDS[within]
        if (text := getattr(each, name))
    }
    for word in sorted(words)[:8]:
        expected = [
            key(each)
            for each in records
            if any(word.lower() in getattr(each, name).lower() for name in FIELDS[within])
        ]
        assert run.find_rollouts(RolloutQuery(text=word, within=within)) == expected


def test_filters_are_taken_together_and_marks_of_sql_are_plain_text(run) -> None:
    for each in run.rollouts():
        query = RolloutQuery(status=each.status, step=each.step, group=each.group_index)
        assert key(each) in run.find_rollouts(query)
        assert {run.rollout(*place).status for place in run.find_rollouts(query)} == {each.status}
    for text in ("%", "_", "\\", "' OR 1=1 --", "\0"):
        expected = [
            key(each) for each in run.rollouts() if text in each.message + each.output + each.code + each.text
        ]
        assert run.find_rollouts(RolloutQuery(text=text)) == expected
    with pytest.raises(ValueError, match="sort"):
        RolloutQuery(sort="step; DROP TABLE rollouts")


def test_a_text_is_found_behind_a_nul(tmp_path) -> None:
    with RunStore.create(tmp_path / "run", "the config\n") as store, RunBrowser.open(store.folder) as run:
        archive = replay.fresh_archive()
        store.commit_seeds(archive)
        replay.commit(store, archive, 1)
        store._connection.execute(
            "UPDATE rollouts SET output = 'a' || char(0) || 'Behind' WHERE rollout_index = 1"
        )
        expected = [key(each) for each in run.rollouts() if each.rollout_index == 1]
        for text in ("behind", "a\0b", "\0"):
            assert run.find_rollouts(RolloutQuery(text=text, within="output")) == expected
        assert run.find_rollouts(RolloutQuery(text="\0x")) == []


def test_a_search_that_takes_too_long_is_ended(run) -> None:
    class Slow(RolloutQuery):
        def statement(self):
            counting = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000000)"
            return f"{counting} SELECT count(i), 0, 0 FROM n", []

    with pytest.raises(UsageError, match=r"the search took more than 0\.05 s; name a step, a status"):
        run.find_rollouts(Slow(), seconds=0.05)
    assert run.find_rollouts(RolloutQuery(step=99), seconds=5.0) == []


def test_what_was_held_at_a_step_is_what_the_archive_held(run) -> None:
    for step in range(7):
        archive = run.load_archive(replay.CONFIG, step)
        held = [(n.id, n.reward and n.reward.value, n.seed, n.visits, n.best_child) for n in archive.held()]
        assert [attrs.astuple(each) for each in run.node_statistics(step)] == held
        assert run.expansions(step) == archive.expansions


def test_the_version_changes_with_every_step(tmp_path) -> None:
    with RunStore.create(tmp_path / "run", "the config\n") as store, RunBrowser.open(store.folder) as run:
        archive = replay.fresh_archive()
        store.commit_seeds(archive)
        seen = {run.version()}
        for step in (1, 2):
            replay.commit(store, archive, step)
            seen.add(run.version())
        store.note_problem("{}", "")
        assert len(seen | {run.version()}) == 4
