"""The pages: what each shows, and that whatever candidates wrote is text on it."""

from __future__ import annotations

import html.parser
import pathlib
import re
import shutil
import urllib.parse

import attrs
import pytest

from ttd_core.run import events
from ttd_core.run.store import RunStore
from ttd_core.text import showable
from ttd_core.ui.folders import RunFolders
from ttd_core.ui.one_rollout import SHOWN
from ttd_core.ui.summaries import RunLines

from .conftest import HOSTILE, LONG_LINE, STEPS, write_run

PAGES = [
    "/",
    "/parts/runs",
    "/run?run=first",
    "/parts/run?run=first",
    "/lineage?run=first",
    "/parts/state?run=first&node=2",
    "/parts/state?run=first&node=0",
    "/rollouts?run=first",
    "/parts/rollouts?run=first&status=crash",
    "/rollout?run=first&at=1/0/3",
    "/rollout?run=first&at=2/1/0&beside=3/0/3",
    "/compare?run=first&run=second",
    "/run?run=grid/third",
    "/run?run=" + urllib.parse.quote(HOSTILE),
]


class Parsed(html.parser.HTMLParser):
    """A page's elements, their attributes and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("path", PAGES)
def test_what_candidates_wrote_is_text(client, path) -> None:
    answer = client.get(path)
    assert answer.status == (404 if "alert" in path else 200)
    page = Parsed(answer.text)
    names = {name for _, attributes in page.elements for name in attributes}
    assert {name for name in names if name.startswith("on") or name in ("style", "srcdoc")} == set()
    scripts = [attributes.get("src") for tag, attributes in page.elements if tag == "script"]
    assert scripts in ([], ["/ui.js"])
    for tag, attributes in page.elements:
        assert tag not in ("b", "iframe", "object", "base", "style", "foreignobject")
        for name in ("src", "href", "action"):
            value = attributes.get(name)
            assert value is None or value[0] in "/#?" or value in ("data:,",), (tag, value)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x0b-\x1f\x7f]", answer.text)


def test_the_list_says_of_each_run_what_a_list_should(client) -> None:
    page = Parsed(client.get("/").text)
    rows = [attributes for tag, attributes in page.elements if tag == "tr" and "data-name" in attributes]
    assert sorted(row["data-name"] for row in rows) == ["first", "grid/third", "second"]
    first = next(row for row in rows if row["data-name"] == "first")
    assert {key: first[f"data-{key}"] for key in ("state", "variant", "seed", "steps", "published")} == {
        "state": "finished",
        "variant": "full",
        "seed": "0",
        "steps": "3",
        "published": "2.5",
    }
    assert first["data-best"] == "1.312"
    assert sum(tag == "svg" for tag, _ in page.elements) == 3


def test_a_run_that_cannot_be_read_is_told_and_takes_nothing_away(serve, folder, tmp_path) -> None:
    shutil.copytree(folder / "first", tmp_path / "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/run.db").write_bytes(b"no database" * 999)
    with RunStore.open(shutil.copytree(folder / "first", tmp_path / "odd")) as store:
        store.note_problem("[1, 2]", "")
    client = serve(tmp_path)
    page = Parsed(client.get("/").text)
    states = {row["data-name"]: row["data-state"] for tag, row in page.elements if "data-name" in row}
    assert states == {"good": "finished", "bad": "unreadable", "odd": "unreadable"}
    assert "it is damaged. Restore the run folder from a copy" in page.text
    answer = client.get("/run?run=bad")
    assert answer.status == 503
    answer = client.get("/parts/run?run=bad")
    assert answer.status == 503
    assert answer.text.endswith("it is damaged. Restore the run folder from a copy")


def test_the_time_left_of_a_run_that_goes_on_after_a_pause_is_no_pause(tmp_path) -> None:
    with write_run(tmp_path / "run", finish=False) as store:
        with store._connection as database:
            database.execute("UPDATE steps SET finished = finished - 100000")
        sizes = {"groups": 2, "group_size": 4, "steps": 6}
        store.record(events.run_started(run="run", problem="heights", policy="a model", step=3, **sizes))
    (line,) = RunLines(RunFolders(tmp_path)).lines()
    assert line.seconds_left is None
    going = attrs.evolve(line, overview=attrs.evolve(line.overview, state="running", steps=6))
    assert 4.0 < going.seconds_left <= 6.0  # three steps of 2 s


def test_a_rollout_is_shown_whole(client) -> None:
    page = Parsed(client.get("/rollout?run=first&at=2/1/3").text)
    for said in ("Improve ", "because ", "The answer ", "value = 6", "ValueError: ", "prompt 7"):
        assert said in page.text
    assert showable(HOSTILE) in page.text
    links = {
        attributes.get("rel"): attributes["href"]
        for tag, attributes in page.elements
        if tag == "a" and "href" in attributes
    }
    assert links["prev"] == "/rollout?run=first&at=2%2F1%2F2"
    assert "next" not in links
    assert "−1" in page.text.replace("-", "−") or "+1" in page.text


def test_a_long_text_is_cut_and_comes_whole_on_request(client) -> None:
    page = client.get("/rollout?run=first&at=1/0/3").text
    assert "Show all 1,000,000 characters" in page
    assert len(page) < 5 * SHOWN
    address = re.search('data-all="([^"]*part=output)"', page)
    assert address is not None
    whole = client.get(html.parser.unescape(address[1]))
    assert (whole.text, whole.headers["content-type"]) == (LONG_LINE, "text/plain; charset=utf-8")


def test_kept_tokens_are_coloured_by_what_is_known_of_them(client) -> None:
    page = Parsed(client.get("/rollout?run=first&at=1/0/0").text)
    tokens = [attributes for tag, attributes in page.elements if tag == "span" and "title" in attributes]
    assert [each["class"] for each in tokens] == [
        *["p0 bu2 ru2"] * 8,
        "p0 bu1 ru1",
        "p0 b0 r0",
    ]
    assert tokens[0]["title"] == "log-probability 0.000; under the base -5.000; recomputed -5.000"
    assert 'id="tokens-2-0-0"' not in client.get("/rollout?run=first&at=2/0/0").text


def test_a_rollout_whose_tokens_are_lost_is_shown_without_them(serve, folder, tmp_path) -> None:
    run = shutil.copytree(folder / "first", tmp_path / "first")
    shutil.rmtree(run / "arrays")
    answer = serve(tmp_path).get("/rollout?run=first&at=1/0/0")
    assert answer.status == 200
    assert "of number 1/0/0." in answer.text
    assert f"The tokens are not shown: {run}/arrays/" in answer.text
    assert ".npy cannot be read: it is missing. Bring it back from a copy" in answer.text


def test_two_rollouts_stand_side_by_side(client) -> None:
    page = Parsed(client.get("/rollout?run=first&at=1/0/0&beside=3/1/2").text)
    labels = [attributes["aria-label"] for tag, attributes in page.elements if tag == "article"]
    assert labels == ["Rollout 1/0/0", "Rollout 3/1/2"]


@pytest.mark.parametrize("place", ["9/9/9", "1/0", "a/b/c", "1/0/-1", "１/0/0", ""])
def test_a_rollout_that_is_not_there(client, place) -> None:
    answer = client.get(f"/rollout?run=first&at={urllib.parse.quote(place)}")
    assert answer.status == (404 if place else 303)
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("", 24),
        ("status=crash", 6),
        ("status=ok&step=2", 6),
        ("text=number+2/", 8),
        ("text=NUMBER+2/1/&within=reply", 4),
        ("text=value+%3D+6&within=program", 3),
        ("text=%25", 0),
        ("text=_", 0),
        ("text=" + "z" * 500, 0),
        ("text=xxxx&within=output", 1),
        ("status=nonsense&sort=nonsense&within=nonsense&step=x&page=99", 24),
        ("step=99", 0),
    ],
)
def test_rollouts_are_filtered(client, asked, found) -> None:
    page = Parsed(client.get(f"/parts/rollouts?run=first&{asked}").text)
    assert page.text.strip().split()[0] == str(found)


def test_rollouts_are_sorted_and_those_without_a_value_come_last(client) -> None:
    def places(asked: str) -> list[str]:
        page = Parsed(client.get(f"/parts/rollouts?run=first&{asked}").text)
        return re.findall(
            r"\d/\d/\d",
            " ".join(attributes.get("href") or "" for tag, attributes in page.elements).replace("%2F", "/"),
        )

    assert places("sort=score&way=down")[:2] == ["3/1/2", "3/1/1"]
    assert places("sort=score")[:2] == ["1/0/0", "1/0/1"]
    assert (
        set(places("sort=score")[-6:])
        == set(places("sort=score&way=down")[-6:])
        == set(places("status=crash"))
    )
    assert places("way=down")[:1] == [f"{STEPS}/1/3"]


def test_a_comparison_needs_two_runs_that_are_there(client) -> None:
    assert client.get("/compare?run=first").status == 404
    assert client.get("/compare?run=first&run=nothing").status == 404
    assert client.get("/compare").status == 404
    page = Parsed(client.get("/compare?run=first&run=second").text)
    for figure in (
        "Best score by step",
        "Best score by rollouts",
        "Best score by tokens",
        "Best score by seconds",
    ):
        assert figure in page.text
    assert any("band" in (attributes.get("class") or "") for _, attributes in page.elements)


def test_a_run_of_no_steps_has_every_page(serve, tmp_path) -> None:
    write_run(tmp_path / "empty", steps=0, finish=False).close()
    client = serve(tmp_path)
    for path in (
        "/",
        "/run?run=empty",
        "/parts/run?run=empty",
        "/lineage.json?run=empty",
        "/rollouts?run=empty",
    ):
        assert client.get(path).status == 200, path


def test_the_page_changes_nothing(serve, folder, tmp_path) -> None:
    run = shutil.copytree(folder / "first", tmp_path / "first")
    before = _contents(run)
    client = serve(tmp_path)
    for path in PAGES[1:10]:
        client.get(path)
    next(client.follow("/stream?run=first"))
    assert _contents(run) == before


def _contents(run: pathlib.Path) -> dict[pathlib.Path, bytes]:
    """Of a run's files; SQLite makes empty ones beside a database that is read."""
    files = [path for path in run.rglob("*") if path.is_file() and not path.name.endswith("-shm")]
    return {path: content for path in files if (content := path.read_bytes())}
