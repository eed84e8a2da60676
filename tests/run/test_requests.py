"""What people ask of a run: safe for many at once, bounded, and whatever lies in the folder is no danger."""

from __future__ import annotations

import concurrent.futures
import json
import os
import pathlib
import sqlite3

import pytest
from tests.run.replay import fresh_archive

from ttd_core.errors import ResumeError, StorageError, UsageError
from ttd_core.run import requests
from ttd_core.run.reading import RunReader
from ttd_core.run.requests import (
    MOST_HINT_CHARS,
    MOST_HINTS,
    REQUESTS,
    ask_to_stop,
    asked_to_stop,
    forget_stop,
    hints,
    leave_hint,
    remove_hint,
)
from ttd_core.run.store import RunStore


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "run.db").touch()
    return tmp_path


def test_hints_are_left_listed_and_taken_back(folder) -> None:
    assert hints(folder) == []
    assert [leave_hint(folder, text) for text in (" try sorting\r\n\n", "then é∂🙂")] == [1, 2]
    remove_hint(folder, 1)
    assert [(each.number, each.text, each.removed) for each in hints(folder)] == [
        (1, "try sorting", True),
        (2, "then é∂🙂", False),
    ]
    assert leave_hint(folder, "no number is used twice") == 3
    with pytest.raises(UsageError, match="hint 1 was removed already"):
        remove_hint(folder, 1)
    with pytest.raises(UsageError, match="there is no hint 9; its hints: 1, 2, 3"):
        remove_hint(folder, 9)


@pytest.mark.parametrize("text", ["", " \n\t ", "x" * (MOST_HINT_CHARS + 1), "\x1b" * MOST_HINT_CHARS])
def test_a_hint_that_no_prompt_should_carry_is_refused(folder, text) -> None:
    with pytest.raises(UsageError, match=r"^the hint (is empty|has \d+ characters)[^\n]*$"):
        leave_hint(folder, text)
    assert not (folder / REQUESTS).exists()


def test_a_hint_is_safe_to_show(folder) -> None:
    leave_hint(folder, "red \x1b[31m, \u202eturned, half \ud800, nul \0")
    assert hints(folder)[0].text == "red \\x1b[31m, \\u202eturned, half \ufffd, nul \\x00"


def test_so_many_hints_may_stand(folder) -> None:
    for _ in range(MOST_HINTS):
        leave_hint(folder, "again")
    with pytest.raises(UsageError, match="10 hints stand already, the most there may be; remove one first"):
        leave_hint(folder, "one more")
    remove_hint(folder, 4)
    assert leave_hint(folder, "one more") == MOST_HINTS + 1


def test_many_may_leave_hints_at_once(folder, monkeypatch) -> None:
    monkeypatch.setattr(requests, "MOST_HINTS", 1000)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda each: leave_hint(folder, f"hint of {each}"), range(40)))
    assert sorted(numbers) == list(range(1, 41))
    assert {each.number: each.text for each in hints(folder)} == {
        number: f"hint of {each}" for each, number in enumerate(numbers)
    }


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not JSON\n",
        b'{"text": "torn", "wri',
        b'{"text": "no time"}\n',
        b'{"text": "", "written": 1.0}\n',
        b'{"text": 5, "written": 1.0}\n',
        b'{"text": "never", "written": NaN}\n',
        b'{"text": "broken \xff", "written": 1.0}\n',
        b"[" * 50_000 + b"\n",
        json.dumps({"text": "x" * 100_000, "written": 1.0}).encode() + b"\n",
    ],
)
def test_what_is_no_whole_hint_is_passed_over(folder, content) -> None:
    (folder / REQUESTS).mkdir()
    (folder / REQUESTS / "hint-000003.json").write_bytes(content)
    assert hints(folder) == []
    assert leave_hint(folder, "whole") == 4
    assert [each.text for each in hints(folder)] == ["whole"]


def test_pipes_links_and_folders_keep_nobody_waiting(folder, tmp_path) -> None:
    (folder / REQUESTS).mkdir()
    os.mkfifo(folder / REQUESTS / "hint-000001.json")
    (folder / REQUESTS / "hint-000002.json").symlink_to("/dev/zero")
    (folder / REQUESTS / "hint-000003.json").mkdir()
    assert hints(folder) == []


def test_to_stop_is_asked_once_and_forgotten(folder) -> None:
    assert not asked_to_stop(folder)
    ask_to_stop(folder)
    ask_to_stop(folder)
    assert asked_to_stop(folder)
    forget_stop(folder)
    forget_stop(folder)
    assert not asked_to_stop(folder)


def test_what_is_no_run_is_left_alone(tmp_path) -> None:
    for ask in (lambda: leave_hint(tmp_path, "x"), lambda: hints(tmp_path), lambda: ask_to_stop(tmp_path)):
        with pytest.raises(ResumeError, match=r"holds no run: run\.db is missing"):
            ask()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_says_so(folder) -> None:
    (folder / REQUESTS).write_text("a file in its place")
    with pytest.raises(StorageError, match=r"requests.* cannot be written: [^\n]+$"):
        leave_hint(folder, "x")


def test_a_run_of_an_older_version_has_no_hints_until_it_goes_on(tmp_path) -> None:
    with RunStore.create(tmp_path / "old", "") as store:
        store.commit_seeds(fresh_archive())
    database = sqlite3.connect(tmp_path / "old" / "run.db")
    database.execute("DROP TABLE hints")
    database.close()
    with RunReader.open(tmp_path / "old") as run:
        assert run.hints() == []
    leave_hint(tmp_path / "old", "now")
    with RunStore.open(tmp_path / "old") as store:
        assert [each.text for each in store.note_hints(1, hints(tmp_path / "old"))] == ["now"]
