"""The page in a real browser: nothing runs, overflows or is out of reach; it moves, or says why not."""

from __future__ import annotations

import importlib.resources
import importlib.util
import json
import re
import runpy
import shutil
import subprocess
import sys
import textwrap
import time

import pytest

from ttd_core.run.requests import hints

from .conftest import serving

pytestmark = [
    pytest.mark.slow,
    # Playwright's own event loop and pipes are closed at exit.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]
PAGES = {
    "runs": "/",
    "run": "/run?run=first",
    "lineage": "/lineage?run=first",
    "rollouts": "/rollouts?run=first",
    "rollout": "/rollout?run=first&at=1/0/3",
    "two": "/rollout?run=first&at=2/1/0&beside=3/0/3",
    "compared": "/compare?run=first&run=second",
    "missing": "/run?run=nothing",
}
TTD = [sys.executable, "-m", "ttd_core.cli"]
SLOW = """```python
import time


def run(seed, budget_s, **kwargs):
    time.sleep(0.3)
    return [0.5, 0.75, 1.0]
```"""


@pytest.fixture(scope="module")
def browser(benchmark_script):
    """A running Chromium."""
    tools = benchmark_script("browser.py")
    lacking = tools["lacking"]()
    if lacking:
        pytest.skip(lacking)
    with tools["chromium"]() as running:
        yield running


@pytest.fixture
def visit(browser):
    """Open an address of a server; gives the tab, and what it complained about and asked others for."""
    contexts = []

    def visited(client, path: str = "/", width: int = 1200, **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        tab = context.new_page()
        base = client.server.address.partition("/?")[0]
        wrong: list[str] = []
        tab.on("console", lambda message: wrong.append(message.text))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        tab.on(
            "request",
            lambda asked: wrong.extend([] if asked.url.startswith((base, "data:")) else [asked.url]),
        )
        tab.goto(client.server.address)
        assert "token" not in tab.url
        tab.goto(base + path)
        settled(tab)
        return tab, wrong

    yield visited
    for context in contexts:
        context.close()


def settled(tab) -> None:
    """Wait until the page has what it asks for first; its policy forbids the driver's own waiting."""
    wait(lambda: not tab.evaluate("document.querySelectorAll('[aria-busy=true]').length"))
    wait(lambda: not tab.evaluate("document.body.innerText.includes('Reading the')"))


def wait(happens, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.03)


def where(tab) -> str:
    """The page's address by now: the driver learns of a new one while it waits."""
    tab.wait_for_timeout(10)
    return str(tab.url)


def said(tab) -> str:
    """What the page says of trouble."""
    return tab.evaluate("$('#notice').hidden ? '' : $('#notice').textContent")


@pytest.mark.parametrize("page", PAGES)
def test_nothing_that_candidates_wrote_runs(visit, client, page) -> None:
    tab, wrong = visit(client, PAGES[page])
    tab.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    # A page that is not there is told to the console by the browser itself.
    assert [each for each in wrong if "404" not in each] == []


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("page", PAGES)
def test_nothing_overflows(visit, client, page, width) -> None:
    tab, _ = visit(client, PAGES[page], width)
    tab.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    sticking_out = tab.evaluate(
        """[...document.querySelectorAll('body *')].filter(each => {
            if (each.closest('.scroll, .skip, .hidden, svg')) return false;
            const box = each.getBoundingClientRect();
            return box.width > 0 && (box.right > innerWidth + 1 || box.left < -1);
        }).map(each => each.outerHTML.slice(0, 80))"""
    )
    assert sticking_out == []


@pytest.mark.parametrize("width", [400, 1100, 1400, 1600])
@pytest.mark.parametrize("page", ["run", "compared"])
def test_words_of_figures_are_legible(visit, client, page, width) -> None:
    """Columns within columns made them four pixels high."""
    tab, _ = visit(client, PAGES[page], width)
    heights = tab.evaluate(
        """[...document.querySelectorAll('.figures svg.chart text')]
            .map(each => each.getBoundingClientRect().height).filter(height => height > 0)"""
    )
    assert len(heights) > 20
    assert min(heights) > 7


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", PAGES)
def test_axe_finds_nothing(visit, client, page, scheme) -> None:
    if importlib.util.find_spec("axe_playwright_python") is None:
        pytest.skip("axe-core is not installed; pip install axe-playwright-python")
    axe = importlib.resources.files("axe_playwright_python").joinpath("axe.min.js").read_text()
    tab, _ = visit(client, PAGES[page], color_scheme=scheme)
    tab.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    tab.evaluate(axe)
    found = tab.evaluate("axe.run(document)")["violations"]
    assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", PAGES)
def test_words_stand_out_and_controls_have_names(visit, client, request, page, scheme) -> None:
    """Contrast of at least 4.5 to 1 (WCAG 2.1, 1.4.3) of all that is written."""
    checks = runpy.run_path(str(request.config.rootpath / "tests" / "report" / "test_browser.py"))
    tab, _ = visit(client, PAGES[page], color_scheme=scheme)
    tab.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert [each for each in tab.evaluate(checks["_CONTRAST"]) if not each.startswith("skip")] == []
    nameless = tab.evaluate(
        """$$('input:not([type=hidden]), select, textarea, button, a, [tabindex="0"]').filter(
            each => !(each.labels?.length || each.getAttribute('aria-label') || each.textContent.trim())
        ).map(each => each.outerHTML.slice(0, 80))"""
    )
    assert nameless == []


def test_the_keyboard_alone_reads_a_run(visit, client) -> None:
    tab, _ = visit(client)
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the content"
    tab.locator("a", has_text="first").first.focus()
    tab.keyboard.press("Enter")
    wait(lambda: "/run?run=first" in where(tab))
    tab.locator(".tabs a", has_text="Lineage").focus()
    tab.keyboard.press("Enter")
    wait(lambda: "/lineage" in where(tab))
    settled(tab)
    tab.locator("#tree-canvas").focus()
    best = tab.evaluate("document.querySelector('#state h2').textContent")
    tab.keyboard.press("ArrowLeft")
    wait(lambda: tab.evaluate("document.querySelector('#state h2').textContent") != best)
    assert re.match(
        r"Node \d+, sum <i> [\d.]+, step \d, \d+ visits, held", tab.locator("#tree-said").text_content()
    )
    for key in ("+", "+", "-", "0", "ArrowUp", "ArrowDown", "ArrowRight", "Home"):
        tab.keyboard.press(key)
    wait(lambda: tab.evaluate("document.querySelector('#state h2').textContent") == best)
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "state"


def test_a_click_on_a_state_shows_it(visit, client) -> None:
    tab, _ = visit(client, "/lineage?run=first", 1600)
    before = tab.locator("#state h2").text_content()
    box = tab.locator("#tree-canvas").bounding_box()
    # Seeds stand at the left: look for one along that edge.
    for y in range(10, int(box["height"]) - 24, 8):
        tab.mouse.click(box["x"] + 24, box["y"] + y)
        if where(tab).endswith(("#node=0", "#node=1")):
            break
    wait(lambda: tab.locator("#state h2").text_content() != before)
    assert "a seed" in tab.locator("#state").inner_text()
    for colour in ("step", "place", "visits", "score"):
        tab.locator("#tree-colour").select_option(colour)
    assert "best score" in tab.locator("#tree-legend").inner_text()


def test_runs_are_filtered_sorted_and_compared(visit, client) -> None:
    tab, _ = visit(client)
    names = "$$('#runs tbody tr').filter(each => each.checkVisibility()).map(each => each.dataset.name)"
    tab.locator("[data-sort=name]").click()
    assert tab.evaluate(names) == ["first", "grid/third", "second"]
    tab.locator("[data-sort=seed]").click()
    tab.locator("[data-sort=seed]").click()
    assert tab.evaluate(names) == ["grid/third", "second", "first"]
    assert tab.locator("th[aria-sort=descending]").inner_text() == "Seed"
    tab.locator("#run-filter").fill("grid")
    assert tab.evaluate(names) == ["grid/third"]
    tab.locator("#run-filter").fill("")
    assert tab.locator("#compare").is_disabled()
    for name in ("first", "second"):
        tab.get_by_role("checkbox", name=f"Compare {name}").check()
    tab.locator("#compare").click()
    wait(lambda: "/compare?run=" in where(tab))
    assert tab.locator("h1").inner_text() == "2 runs compared"


def test_rollouts_are_filtered_as_one_types(visit, client) -> None:
    tab, _ = visit(client, "/rollouts?run=first")
    tab.locator("[name=status]").select_option("crash")
    wait(lambda: tab.locator("#found").inner_text() == "6 rollouts")
    tab.locator("[name=text]").fill("number 2/1")
    wait(lambda: tab.locator("#found").inner_text() == "1 rollout")
    assert "status=crash" in where(tab)
    tab.locator("#rollout-rows tbody a").click()
    wait(lambda: tab.locator("h1").inner_text() == "Rollout 2/1/3")
    tab.wait_for_load_state("load")
    tab.keyboard.press("ArrowLeft")
    wait(lambda: tab.locator("h1").inner_text() == "Rollout 2/1/2")


def test_a_hint_is_left_and_taken_back(visit, folder, tmp_path) -> None:
    run = shutil.copytree(folder / "first", tmp_path / "first")
    with serving(tmp_path) as client:
        tab, _ = visit(client, "/run?run=first")
        tab.locator(".doors summary").click()
        tab.locator("#hint-text").fill("Try <b>a</b> smaller step.")
        tab.locator("#hint-form button[type=submit]").click()
        wait(lambda: "Hint 1 is left" in tab.locator("#door-said").inner_text())
        assert tab.locator("#hints pre").inner_text() == "Try <b>a</b> smaller step."
        tab.get_by_role("button", name="Take back hint 1").click()
        wait(lambda: "Hint 1 is taken back" in tab.locator("#door-said").inner_text())
        assert [each.removed for each in hints(run)] == [True]
        assert tab.locator("#stop").is_disabled()


def test_a_run_moves_while_it_is_watched_and_is_stopped_from_the_page(
    visit, tmp_path, problem_source
) -> None:
    (tmp_path / "sums.py").write_text(textwrap.dedent(problem_source))
    (tmp_path / "slow.json").write_text(json.dumps([SLOW]))
    settings = ["--set", f"policy.options.file={tmp_path}/slow.json", "-o", "timeout_s=20"]
    sizes = ["--groups", "2", "--group-size", "4", "--steps", "60"]
    command = [
        *TTD,
        "run",
        "sums.py:Sum",
        "--name",
        "live",
        "--policy",
        "scripted",
        "--quiet",
        *settings,
        *sizes,
    ]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        (tmp_path / "runs").mkdir(exist_ok=True)
        with serving(tmp_path / "runs") as client:
            wait(lambda: (tmp_path / "runs/live/log.jsonl").exists(), 60)
            tab, wrong = visit(client, "/run?run=live")
            wait(lambda: tab.locator("#under-way").is_visible(), 30)
            steps = "document.querySelector('[data-now=steps]').textContent"
            first = tab.evaluate(steps)
            wait(lambda: tab.locator("#cells .o").count() > 0, 30)
            assert tab.locator("#cells i").count() == 8
            assert "sampled" in tab.locator("[data-now=counts]").inner_text()
            wait(lambda: tab.evaluate(steps) != first, 30)
            wait(lambda: tab.locator("#part svg.chart:visible").count() > 0, 30)
            tab.locator(".doors summary").click()
            tab.locator("#stop").click()
            tab.locator("#stop").click()
            wait(lambda: "Asked: the run ends" in tab.locator("#door-said").inner_text())
            process.communicate(timeout=60)
            wait(lambda: tab.locator("[data-now=state]").inner_text() == "interrupted")
            assert "Continue with: ttd resume" in tab.locator("[data-now=sentence]").inner_text()
            assert wrong == []
    finally:
        process.kill()
        process.communicate()


def test_a_run_folder_that_goes_and_a_server_that_goes_are_one_sentence_each(visit, folder, tmp_path) -> None:
    run = shutil.copytree(folder / "first", tmp_path / "first")
    with serving(tmp_path) as client:
        tab, _ = visit(client, "/run?run=first")
        shown = tab.locator("#part").inner_text()
        shutil.rmtree(run)
        wait(lambda: "its folder was removed or moved" in said(tab))
        shutil.copytree(folder / "first", run)
        wait(lambda: said(tab) == "")
    wait(lambda: "The server of this page does not answer. What is shown is as of" in said(tab))
    assert tab.locator("#part").inner_text() == shown


def test_a_server_started_anew_asks_for_its_own_address(visit, folder, tmp_path) -> None:
    shutil.copytree(folder / "first", tmp_path / "first")
    with serving(tmp_path) as client:
        tab, _ = visit(client, "/run?run=first")
        port = int(client.host.rpartition(":")[2])
    with serving(tmp_path, port):
        wait(lambda: "This page is out of date: the token is missing or wrong" in said(tab), 20)
