"""A page in a headless Chromium: how long it takes to open, and what it looks like.

    .venv/bin/python benchmarks/browser.py PAGE.html PICTURE.png [--width 1200] [--height 900] [--dark]

Needs Debian's `chromium` and the package `playwright`, which drives it.
"""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import shutil
import sys
import time
from collections.abc import Iterator
from typing import Any

from command_line import leave, positive_int, run_benchmark

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def lacking() -> str:
    """Why no browser can be opened here; empty when one can."""
    if shutil.which("chromium") is None:
        return "there is no chromium; install Debian's package chromium"
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "playwright is not installed; pip install playwright"
    return ""


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A running browser, with a profile of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def opening_seconds(browser: Any, page: pathlib.Path) -> tuple[float, float]:
    """Seconds until a page is whole, and until its first content is painted, in a fresh context."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    try:
        tab = context.new_page()
        tab.goto(page.resolve().as_uri(), wait_until="load")
        # The driver's own waiting compiles code in the page, which the page's policy forbids.
        deadline = time.monotonic() + 30
        while not tab.evaluate("performance.getEntriesByName('first-contentful-paint').length"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{page} was not painted in 30 s")
            time.sleep(0.01)
        whole = tab.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
        painted = tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        return whole / 1000, painted / 1000
    finally:
        context.close()


def picture(
    browser: Any,
    page: pathlib.Path,
    target: pathlib.Path,
    width: int,
    height: int,
    *,
    dark: bool = False,
    whole: bool = False,
) -> None:
    """Take a picture of a page's top, or of all of it."""
    scheme = "dark" if dark else "light"
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    try:
        tab = context.new_page()
        tab.goto(page.resolve().as_uri(), wait_until="load")
        tab.screenshot(path=str(target), full_page=whole)
    finally:
        context.close()


def main() -> None:
    """Take one picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=pathlib.Path)
    parser.add_argument("target", type=pathlib.Path)
    parser.add_argument("--width", type=positive_int, default=1200)
    parser.add_argument("--height", type=positive_int, default=900)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--whole", action="store_true")
    arguments = parser.parse_args()
    reason = lacking()
    if reason:
        leave(reason)
    with chromium() as browser:
        picture(
            browser,
            arguments.page,
            arguments.target,
            arguments.width,
            arguments.height,
            dark=arguments.dark,
            whole=arguments.whole,
        )


if __name__ == "__main__":
    sys.exit(run_benchmark(main))
