"""Pages in a real browser: no complaint, no network, no overflow, all there, and quick to open."""

from __future__ import annotations

import pathlib
import time

import pytest
from tests.report.long_run import long_facts

from ttd_core.report.facts import read_facts
from ttd_core.report.page import compare_page, report_page, rollout_page
from ttd_core.report.transcripts import Links, transcript_pages

pytestmark = [
    pytest.mark.slow,
    # Playwright's own event loop and pipes are closed at exit.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]
WIDTHS = [400, 700, 1600]
KINDS = ["one", "several", "compared", "empty", "long", "rollouts"]


@pytest.fixture(scope="module")
def tools(benchmark_script):
    """The benchmark's browser, which prints the published times."""
    return benchmark_script("browser.py")


@pytest.fixture(scope="module")
def browser(tools):
    """A running Chromium."""
    lacking = tools["lacking"]()
    if lacking:
        pytest.skip(lacking)
    with tools["chromium"]() as running:
        yield running


@pytest.fixture(scope="module")
def files(runs, first, tmp_path_factory) -> dict[str, pathlib.Path]:
    """The pages of the test's runs."""
    folder = tmp_path_factory.mktemp("pages")
    both = [first, *(read_facts(each) for each in (runs.second, runs.other))]
    pages = {
        "one": report_page([first]),
        "several": report_page(both),
        "compared": compare_page(both),
        "empty": report_page([read_facts(runs.empty)]),
        "long": report_page([long_facts(first)]),
    }
    [page] = transcript_pages(first, links := Links("one"))
    pages["rollouts"] = rollout_page(first, page, links, "one.html")
    for name, text in pages.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in pages}


@pytest.fixture
def open_page(browser):
    """Open a page; gives the tab, and lists of what it complained about and asked for."""
    contexts = []

    def opened(path: pathlib.Path, width: int = 1200, **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        tab = context.new_page()
        complaints: list[str] = []
        requests: list[str] = []
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(path.as_uri(), wait_until="load")
        return tab, complaints, requests

    yield opened
    for context in contexts:
        context.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_opens_without_a_word_or_a_request(open_page, files, kind) -> None:
    tab, complaints, requests = open_page(files[kind])
    tab.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [files[kind].as_uri()]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_overflows(open_page, files, kind, width) -> None:
    tab, _, _ = open_page(files[kind], width)
    tab.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    sticking_out = tab.evaluate(
        """[...document.querySelectorAll('main *')].filter(each => {
            if (each.closest('.scroll') || each.closest('svg')) return false;
            const box = each.getBoundingClientRect();
            return box.width > 0 && (box.right > innerWidth + 1 || box.left < -1);
        }).map(each => each.outerHTML.slice(0, 80))"""
    )
    assert sticking_out == []


@pytest.mark.parametrize("width", [400, 1600])
def test_curves_and_tree_are_there_and_words_are_legible(open_page, files, first, width) -> None:
    tab, _, _ = open_page(files["one"], width)
    for chart in tab.locator("svg.chart:visible").all():
        box = chart.bounding_box()
        assert box["width"] >= 200
        assert box["height"] >= 80
    lines = tab.locator("svg.chart:visible path.line")
    assert lines.count() >= 2
    assert all(line.evaluate("each => each.getTotalLength()") > 50 for line in lines.all())
    assert tab.locator("svg.tree:visible").count() == 1
    assert tab.locator("svg.tree:visible circle.node").count() == len(first.states)
    assert tab.locator("svg.tree:visible circle.on-path").count() == len(first.path_to_best())
    sizes = tab.evaluate(
        "[...document.querySelectorAll('svg.chart text')].map(each => each.getBoundingClientRect().height)"
    )
    assert min(size for size in sizes if size) >= 10
    assert tab.locator("img.picture").evaluate("each => each.complete && each.naturalWidth") == 60


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_wide_page_is_filled_and_dots_are_seen(open_page, files, scheme) -> None:
    """At 1600 pixels every section but the table of steps reaches into the right fourth of the page."""
    for kind in ("one", "long"):
        tab, _, _ = open_page(files[kind], 1600, color_scheme=scheme)
        reach = tab.evaluate(
            """Object.fromEntries([...document.querySelectorAll('main > section')].map(section => [
                section.id, Math.max(...[...section.querySelectorAll('svg, table, pre, figcaption, .path')]
                    .map(each => each.getBoundingClientRect()).filter(box => box.width > 0)
                    .map(box => box.right))]))"""
        )
        for name in ("overview", "rewards", "validity", "lineage", "best", "time"):
            assert reach[f"run1-{name}"] > 1200, (kind, name, reach)
    # What lies on top where the last improvement is: its dot, not the line.
    tab, _, _ = open_page(files["one"], 1600, color_scheme=scheme)
    assert tab.evaluate(
        """(() => { const dot = [...document.querySelectorAll('svg.chart circle.dot.c2')]
            .find(each => each.getBoundingClientRect().width > 0);
            const line = dot.ownerSVGElement.querySelector('path.line.c1');
            return Boolean(line.compareDocumentPosition(dot) & Node.DOCUMENT_POSITION_FOLLOWING); })()"""
    )


def test_words_of_charts_stay_inside_and_apart(open_page, files) -> None:
    for kind, width in (("one", 400), ("one", 1600), ("long", 400), ("long", 1600), ("compared", 1600)):
        tab, _, _ = open_page(files[kind], width)
        overlapping = tab.evaluate(_OVERLAPS)
        assert overlapping == []


def test_the_keyboard_reaches_everything_in_order(open_page, files) -> None:
    tab, _, _ = open_page(files["one"])
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert tab.locator(".skip").bounding_box()["x"] >= 0
    tab.keyboard.press("Enter")
    # A page tells its new address some time after the key: wait for it.
    tab.wait_for_url("**/one.html#main")
    reached = set()
    for _ in range(200):
        tab.keyboard.press("Tab")
        found = tab.evaluate(_FOCUSED)
        if found[0] == "BODY":
            break
        reached.add(tuple(found))
    names = {name for _, name in reached}
    assert {"The best program", "Kinds of failure"} <= names
    assert any(tag == "SUMMARY" and name.startswith("step ") for tag, name in reached)
    step = tab.locator(".path summary").first
    step.focus()
    tab.keyboard.press("Enter")
    assert tab.locator(".path details").first.evaluate("each => each.open")
    assert tab.locator(".path .diff .add").first.is_visible()


def test_a_screen_reader_finds_landmarks_headings_and_named_pictures(open_page, files) -> None:
    tab, _, _ = open_page(files["one"])
    for role, count in (("main", 1), ("banner", 1), ("contentinfo", 1), ("navigation", 1)):
        assert tab.get_by_role(role).count() == count
    assert tab.get_by_role("heading", level=1).inner_text() == "Heights <b>& more</b>"
    assert tab.get_by_role("heading", level=2).count() == 9
    named = tab.get_by_role("img", name="Best score by step: sum from 0.6 to")
    assert named.count() == 1
    assert tab.get_by_role("img", name="The best state as heights draws it").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_the_page_in_light_and_dark(open_page, files, scheme) -> None:
    """Contrast of at least 4.5 to 1 (WCAG 2.1, 1.4.3) of all that is written."""
    tab, _, _ = open_page(files["one"], color_scheme=scheme)
    tab.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    faint = tab.evaluate(_CONTRAST)
    assert faint == []


_FOCUSED = """
(() => {
    const each = document.activeElement;
    return [each.tagName, each.getAttribute('aria-label') || each.textContent.trim().slice(0, 40)];
})()
"""

_OVERLAPS = """
(() => {
    const meet = (a, b) => a.left < b.right - 1 && b.left < a.right - 1
        && a.top < b.bottom - 3 && b.top < a.bottom - 3;
    return [...document.querySelectorAll('svg.chart')].filter(svg => svg.checkVisibility()).flatMap(svg => {
        const all = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
        return all.flatMap(([name, box], place) => all.slice(place + 1)
            .filter(([, other]) => meet(box, other)).map(([other]) => name + ' / ' + other));
    });
})()
"""

_CONTRAST = """
(() => {
    const parse = text => text.match(/[\\d.]+/g).map(Number);
    const linear = v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
    const light = ([r, g, b]) =>
        .2126 * linear(r / 255) + .7152 * linear(g / 255) + .0722 * linear(b / 255);
    const behind = each => {
        for (let e = each; e; e = e.parentElement) {
            const colour = parse(getComputedStyle(e).backgroundColor);
            if (colour.length === 3 || colour[3] > 0) return colour;
        }
    };
    const found = new Set();
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const text = walker.currentNode.textContent.trim();
        const each = walker.currentNode.parentElement;
        if (!text || !each.checkVisibility() || each.closest('title')) continue;
        const style = getComputedStyle(each);
        const ink = each.closest('svg') ? style.fill : style.color;
        const [a, b] = [light(parse(ink)), light(behind(each))].sort((x, y) => y - x);
        if ((a + .05) / (b + .05) < 4.5) found.add(each.className + ' ' + ink + ' ' + text.slice(0, 30));
    }
    return [...found];
})()
"""


def test_a_page_opens_in_under_two_seconds(browser, tools, files) -> None:
    started = time.monotonic()
    whole, painted = tools["opening_seconds"](browser, files["one"])
    assert max(whole, painted) < 2
    assert time.monotonic() - started < 20
