"""Hints and stopping from the page: what may be asked, by whom, and what comes of it."""

from __future__ import annotations

import contextlib
import shutil
import subprocess

import pytest

from ttd_core.run.requests import asked_to_stop, hints, leave_hint
from ttd_core.run.store import RunStore
from ttd_core.text import showable

from .conftest import HOSTILE


@pytest.fixture
def run(folder, tmp_path):
    """A copy of a run."""
    return shutil.copytree(folder / "first", tmp_path / "first")


def test_a_hint_is_left_shown_as_text_and_taken_back(serve, run) -> None:
    client = serve(run.parent)
    answer = client.post("/hint", {"run": "first", "text": f"Try {HOSTILE}"})
    assert (answer.status, answer.text) == (200, "Hint 1 is left; prompts carry it from the next step on.")
    assert [each.text for each in hints(run)] == [f"Try {showable(HOSTILE)}"]
    shown = client.get("/parts/hints?run=first").text
    assert "waits for the next step" in shown
    assert "<script" not in shown
    assert "\u202e" not in shown
    answer = client.post("/unhint", {"run": "first", "number": 1})
    assert answer.status == 200
    assert hints(run)[0].removed
    assert "taken back before any step" in client.get("/parts/hints?run=first").text


def test_a_hint_whose_file_is_gone_still_stands(serve, run) -> None:
    leave_hint(run, "Try sorting")
    with RunStore.open(run) as store:
        store.note_hints(4, hints(run))
        shutil.rmtree(run / "requests")
        assert [each.ended for each in store.note_hints(5, hints(run))] == [None]
    shown = serve(run.parent).get("/parts/hints?run=first").text
    assert "in the prompts since step 4 " in shown
    assert "taken back" not in shown


def test_a_full_disk_is_one_sentence_and_the_pages_go_on(serve, folder, tmp_path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    size = 2 * sum(each.stat().st_size for each in (folder / "first").rglob("*") if each.is_file()) + 2**20
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    if (tried := subprocess.run(mount, capture_output=True, text=True)).returncode:
        pytest.skip(f"a small file system cannot be mounted here: {tried.stderr.strip()}")
    try:
        run = shutil.copytree(folder / "first", disk / "first")
        with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(2**16))
        client = serve(disk)
        answer = client.post("/hint", {"run": "first", "text": "Try sorting" * 300})
        assert answer.status == 503
        assert "cannot be written: the disk is full" in answer.text
        assert len(answer.text.splitlines()) == 1
        assert hints(run) == []
        assert client.get("/").status == 200
        assert client.get("/run?run=first").status == 200
        (disk / "filler").unlink()
        assert client.get("/run?run=first").status == 200
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_run_that_nobody_writes_cannot_be_stopped(serve, run) -> None:
    answer = serve(run.parent).post("/stop", {"run": "first"})
    assert (answer.status, answer.text) == (400, "no process writes this run, so there is nothing to stop")
    assert not asked_to_stop(run)


@pytest.mark.parametrize("path", ["/hint", "/unhint", "/stop"])
def test_what_may_not_ask_changes_nothing(serve, run, path) -> None:
    client = serve(run.parent)
    asked = {"run": "first", "text": "x", "number": 1}
    for headers in (
        {"Authorization": None},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Host": "evil.example", "Origin": "http://evil.example"},
    ):
        assert client.post(path, asked, **headers).status == 403
    assert client.get(path).status == 405
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert client.post(path, asked, Content_Type=content_type).status == 400
    assert not (run / "requests").exists()


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"run": "first", "text": ""}, 400),
        ({"run": "first", "text": "x" * 4001}, 400),
        ({"run": "first", "text": "x" * 100_000}, 400),
        ({"run": "first", "text": ["x"]}, 400),
        ({"run": "first"}, 400),
        ({"run": "../first", "text": "x"}, 404),
        ({"run": "nothing", "text": "x"}, 404),
        (["run"], 400),
        ("x", 400),
    ],
)
def test_a_hint_that_is_none_is_refused_in_a_sentence(serve, run, asked, status) -> None:
    answer = serve(run.parent).post("/hint", asked)
    assert answer.status == status
    assert answer.text.count("\n") == 0
    assert hints(run) == []


def test_a_folder_of_requests_that_leads_outside_is_not_written(serve, run, tmp_path_factory) -> None:
    (run / "requests").symlink_to(tmp_path_factory.mktemp("outside"))
    assert serve(run.parent).post("/hint", {"run": "first", "text": "x"}).status == 404
