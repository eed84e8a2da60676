"""Runs below a folder: found by their paths, and nothing outside."""

from __future__ import annotations

import urllib.parse

import pytest

from ttd_core.run import overview
from ttd_core.ui import folders
from ttd_core.ui.folders import NotFoundError, RunFolders


@pytest.fixture
def tree(tmp_path):
    """Folders that look like runs, in and beside the folder of runs."""
    for path in (
        "runs/a",
        "runs/grid/b",
        "runs/one/two/three",
        "runs/1/2/3/4",
        "runs/.hidden",
        "runs/a/inner",
        "outside/c",
    ):
        (tmp_path / path).mkdir(parents=True)
        (tmp_path / path / "run.db").touch()
    (tmp_path / "runs/empty").mkdir()
    (tmp_path / "runs/link").symlink_to(tmp_path / "outside/c")
    (tmp_path / "runs/inside").symlink_to(tmp_path / "runs/a")
    (tmp_path / "runs/around").symlink_to(tmp_path / "runs")
    half = tmp_path / "runs/half"
    half.mkdir()
    (half / "run.db").symlink_to(tmp_path / "outside/c/run.db")
    return tmp_path


def test_every_run_is_found_and_what_leads_outside_is_not(tree) -> None:
    assert RunFolders(tree / "runs").names() == ["a", "grid/b", "inside", "one/two/three"]


def test_a_folder_that_is_a_run_holds_itself(tree) -> None:
    found = RunFolders(tree / "runs/a")
    assert found.names() == ["."]
    assert found.folder(".") == tree / "runs/a"
    assert found.title(".") == "a"


def test_links_in_a_circle_and_folders_of_others_take_nothing_away(tree, monkeypatch) -> None:
    (tree / "runs/circle").symlink_to("circle")
    (tree / "runs/a/run.db-wal").symlink_to("run.db-wal")
    (tree / "runs/theirs").mkdir()

    def looks_like_a_run(folder):
        # What the system says where a user may not look into a folder.
        if folder.name == "theirs":
            raise PermissionError(13, "Permission denied", str(folder / "run.db"))
        return overview.looks_like_a_run(folder)

    monkeypatch.setattr(folders, "looks_like_a_run", looks_like_a_run)
    found = RunFolders(tree / "runs")
    assert found.names() == ["a", "grid/b", "inside", "one/two/three"]
    assert found.folder("a") == tree / "runs/a"
    for name in ("theirs", "circle"):
        with pytest.raises(NotFoundError):
            found.folder(name)


def test_a_folder_that_is_not_there_holds_nothing(tree) -> None:
    assert RunFolders(tree / "nothing").names() == []


OUTSIDE = [
    "../outside/c",
    "grid/../../outside/c",
    "link",
    "half",
    "/etc",
    "{tree}/outside/c",
    "",
    "..",
    "a/..",
    "\0",
    "z" * 300,
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_lies_outside_is_not_found(tree, name) -> None:
    with pytest.raises(NotFoundError):
        RunFolders(tree / "runs").folder(name.replace("{tree}", str(tree)))


@pytest.mark.parametrize("name", [*OUTSIDE, "nothing"])
def test_the_page_answers_404(client, folder, name) -> None:
    for page in ("run", "parts/run", "lineage", "lineage.json", "rollouts", "stream", "parts/hints"):
        query = urllib.parse.urlencode({"run": name.replace("{tree}", str(folder.parent))})
        answer = client.get(f"/{page}?{query}")
        assert answer.status == 404, page
        assert "Traceback" not in answer.text


def test_the_page_has_no_other_files(client) -> None:
    for path in (
        "/../pyproject.toml",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/static/ui.js",
        "/first/run.db",
        "/docs",
        "/openapi.json",
    ):
        assert client.get(path).status == 404
