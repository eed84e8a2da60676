"""Pages as documents: whole, safe whatever candidates wrote, and sound for keyboards and screen readers."""

from __future__ import annotations

import base64
import html.parser
import itertools
import re
import xml.etree.ElementTree as ET

import attrs
import pytest
from tests.report.long_run import long_facts

from ttd_core.problem import Baseline
from ttd_core.report.comparison import comparison_figures
from ttd_core.report.facts import read_facts
from ttd_core.report.figures import score_figures
from ttd_core.report.page import compare_page, duration, path_to_best, picture, report_page
from ttd_core.report.pooling import pool_seeds

VOID = {"meta", "link", "img", "br", "hr"}


class Document(html.parser.HTMLParser):
    """Tags, attributes and text of a page; a tag that is closed wrongly fails."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, {name: value or "" for name, value in attributes}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, {name: value or "" for name, value in attributes}))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open:
            self.texts.append((self._open[-1], data))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def words(self) -> str:
        return " ".join("".join(text for tag, text in self.texts if tag != "style").split())


@pytest.fixture(scope="module")
def page(first) -> str:
    return report_page([first])


@pytest.fixture(scope="module")
def pages(runs, page, first) -> dict[str, str]:
    both = [first, *(read_facts(folder) for folder in (runs.second, runs.other))]
    return {
        "one": page,
        "several": report_page(both),
        "compared": compare_page(both),
        "empty": report_page([read_facts(runs.empty)]),
    }


KINDS = ["one", "several", "compared", "empty"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_needs_nothing_else_and_runs_nothing(pages, kind) -> None:
    document = Document(pages[kind])
    names = {name for name, _ in document.tags}
    assert names & {"script", "iframe", "object", "embed", "base", "form", "foreignobject", "use"} == set()
    for _, attributes in document.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("href", "src", "xlink:href"):
            assert re.match(r"#|data:|$", attributes.get(name, ""))
    policy = next(each["content"] for each in document.all("meta") if "http-equiv" in each)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    style = "".join(text for tag, text in document.texts if tag == "style")
    assert "url(" not in style
    assert "@import" not in style


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_sound_for_keyboards_and_screen_readers(pages, kind) -> None:
    document = Document(pages[kind])
    assert document.all("html") == [{"lang": "en"}]
    assert len(document.all("main")) == len(document.all("h1")) == len(document.all("header")) == 1
    levels = [int(name[1]) for name, _ in document.tags if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = [attributes["id"] for _, attributes in document.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {each["href"][1:] for each in document.all("a")}
    assert links <= set(ids)
    for svg in document.all("svg"):
        assert svg["role"] == "img"
        assert len(svg["aria-label"]) > 10
    assert all(len(image["alt"]) > 10 for image in document.all("img"))
    for attributes in document.all("div"):
        if "scroll" in attributes.get("class", "").split():
            assert attributes["tabindex"] == "0"
            assert (attributes["role"], bool(attributes["aria-label"])) == ("region", True)
    assert all("scope" in each for each in document.all("th"))
    labelled = [each.get("aria-label") for each in document.all("nav")]
    assert len(labelled) == len(set(labelled))
    assert all(labelled)


def test_what_candidates_wrote_is_shown_as_written(page, first) -> None:
    words = Document(page).words()
    for text in (
        '# <script>alert(2)</script> & "quotes"',
        "</td><script>alert(4)</script>",
        "</pre><script>alert(3)</script>",
        "number 2.0 <script>alert(1)</script>",
        "Heights <b>& more</b>",
        "somebody <i>",
    ):
        assert text in words


def test_the_page_tells_the_run(page, first) -> None:
    words = Document(page).words()
    assert f"Best sum{first.problem.format_score(first.best_score)}" in words
    assert "12 of 12" in words
    for section in ("Overview", "Rewards", "Failures", "Lineage", "Best program", "Learning", "Config"):
        assert section in words
    assert "policy.backend" in words
    document = Document(page)
    trees = [each for each in document.all("svg") if "tree" in each["class"]]
    assert len(trees) == 2
    tips = [text for tag, text in document.texts if tag == "title"]
    assert sum(text.startswith("node ") for text in tips) == 2 * len(first.states)
    assert any("step 12: best" in text for text in tips)


def test_the_path_says_what_each_step_gained(first) -> None:
    path = path_to_best(first)
    assert path[0].gain is None
    gains = [each.gain for each in path[1:]]
    assert sum(gains) == pytest.approx(first.best_score - 0.6)
    for each in path[1:]:
        assert bool(each.change) == (each.note != "the same program as before")


def test_a_path_of_large_changes_keeps_the_page_small(first, monkeypatch) -> None:
    monkeypatch.setattr("ttd_core.report.page.MOST_DIFF_LINES", 1)
    notes = [
        each.note for each in path_to_best(first) if each.note.endswith("left out to keep the page small")
    ]
    assert re.match(r"\d+ lines? added", notes[0])
    assert set(notes[1:]) == {"another program; left out to keep the page small"}
    monkeypatch.setattr("ttd_core.report.page.MOST_DIFF_LINES", 5000)
    monkeypatch.setattr("ttd_core.report.page.MOST_HIGHLIGHTED", 0)
    assert not any("<span" in line.html for each in path_to_best(first) for line in each.change)


def test_the_picture_is_the_problems_own(first) -> None:
    address, complaint = picture(first)
    assert complaint == ""
    svg = base64.b64decode(address.partition("base64,")[2])
    assert len(ET.fromstring(svg)) == 3


def test_a_picture_that_fails_or_is_huge_costs_only_itself(first) -> None:
    class Broken(type(first.problem)):
        def plot(self, state):
            raise RuntimeError("no <ink>")

    class Huge(type(first.problem)):
        def plot(self, state):
            return "<svg>" + " " * 2_000_000 + "</svg>"

    class Silent(type(first.problem)):
        def plot(self, state):
            return None

    for cls, said in ((Broken, "RuntimeError: no <ink>"), (Huge, "2.0 MB is too much"), (Silent, "")):
        facts = attrs.evolve(first, problem=cls(first.problem.options))
        address, complaint = picture(facts)
        assert address is None
        assert said in complaint
        assert said in Document(report_page([facts])).words()


def test_a_run_without_steps_has_a_page(pages) -> None:
    words = Document(pages["empty"]).words()
    assert "There is no reward yet." in words
    assert "0 of 0" in words
    assert "%" not in words[words.index("Rollouts") : words.index("Wall time")]
    assert "Repeats" not in words[: words.index("Rewards")]


def test_several_runs_are_compared_first(pages) -> None:
    words = Document(pages["several"]).words()
    assert words.index("Compared") < words.index("Overview")
    assert "no-reuse" in words
    assert "Lines are means over seeds" in Document(pages["compared"]).words()


def test_the_best_of_pooled_seeds_is_drawn_as_stairs(runs, first) -> None:
    arms = pool_seeds([first, read_facts(runs.second)])
    figures = {each.title: each for each in comparison_figures(arms)}
    for title in ("Best score by step", "Best score by rollouts", "Best score by seconds"):
        (line,) = re.findall(r'<path d="([^"]*)" class="line c1"', str(figures[title].wide))
        assert set(re.sub(r"[^A-Z]", "", line)) == {"M", "H", "V"}
    (slope,) = re.findall(r'<path d="([^"]*)" class="line c1"', str(figures["Mean reward"].wide))
    assert "L" in slope


def test_keys_that_equal_the_problems_defaults_are_not_told_as_changed(page, first) -> None:
    table = page[page.index("<caption>Keys that differ") :]
    cells = r"<th scope=.row.><code>([^<]*)</code></th><td[^>]*>([^<]*)</td><td>([^<]*)</td>"
    rows = re.findall(cells, table)
    changed = {key: (value, standard) for key, value, standard in rows}
    options = {key: value for key, value in changed.items() if key.startswith("options.")}
    standard = type(first.problem).options_type()
    assert options == {
        "options.start": ("program", standard.start),
        "options.timeout_s": ("20.0", str(standard.timeout_s)),
    }
    assert changed["groups"] == ("2", "8")


def test_the_close_up_names_a_published_result_only_where_there_is_one(first) -> None:
    # A beginning so far away that the rest would be one flat line.
    steps = [attrs.evolve(record, best_score=2.0 + 0.001 * record.step) for record in first.steps]

    class Unpublished(type(first.problem)):
        baselines = ()

    def captions(problem) -> list[str]:
        facts = attrs.evolve(first, steps=steps, problem=problem)
        return [each.caption for each in score_figures(facts) if each.title == "Close-up"]

    assert captions(Unpublished(first.problem.options)) == ["The last 10 steps."]

    class Near(Unpublished):
        baselines = (Baseline("somebody", 2.02),)

    assert captions(Near(first.problem.options)) == ["The last 10 steps and the best published result."]


def test_arrows_are_explained_where_there_are_some(first) -> None:
    captions = []
    for worst in (first.steps[0].best_score, first.steps[0].best_score - 1000.0):
        steps = [
            attrs.evolve(first.steps[0]),
            attrs.evolve(first.steps[1], best_score=worst),
            *first.steps[2:],
        ]
        drawing = score_figures(attrs.evolve(first, steps=steps))[0]
        captions.append(drawing.caption)
        assert ("beyond" in drawing.wide) == ("Arrows" in drawing.caption)
    assert captions == ["Larger is better.", "Larger is better. Arrows at the edge: beyond the axis."]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.52, "4.5 s"), (123.4, "2 min 03 s"), (3720, "1 h 02 min"), (59.99, "60.0 s"), (0, "0.0 s")],
)
def test_duration(seconds, text) -> None:
    assert duration(seconds) == text


def test_a_page_of_many_steps_stays_light(first) -> None:
    """400 steps of 64 rollouts with 1,200 states; 2.4 MB when every point was an element of its own."""
    facts = long_facts(first)
    text = report_page([facts])
    assert len(text.encode()) < 800_000
    best = max(record.best_score for record in facts.steps if record.best_score is not None)
    # Where steps share a column, pointing at it tells of its last one, and of the best until then.
    assert f"so far {best:.10g}, " in text
    # Nothing is lost without a word: every step is in the table.
    assert text.count('<tr><th scope="row">') >= 400
