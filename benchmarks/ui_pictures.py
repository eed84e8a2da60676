"""Pictures of `ttd ui` for the documentation: `benchmarks/ui.py --pictures FOLDER` takes them.

The runs are of modest size, written by `benchmarks/scripted_run.py`, and one real run with replies from a
list is under way meanwhile. Each picture is saved with a palette, to weigh little.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import pathlib
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image
from scripted_run import PROGRAM, TTD, run_command, write_run

from ttd_core.run.reading import RunReader

#: Widths and heights of windows.
WIDE, NARROW = (1600, 1000), (400, 860)
#: Bytes that a picture may weigh.
MOST_BYTES = 150_000
#: The pages and their addresses.
PAGES = {
    "runs": "/",
    "finished": "/run?run=erdos-30-steps",
    "lineage": "/lineage?run=erdos-30-steps",
    "rollouts": "/rollouts?run=erdos-30-steps",
    "rollout": "/rollout?run=erdos-30-steps&at=3/0/12&beside=3/0/13",
    "compare": "/compare?run=full-0&run=full-1&run=no-reuse-0&run=no-reuse-1",
}
LIVE = "under-way"
#: What replies of the run under way hold beside good programs.
FAILING = (
    "I would first look at the overlap where two neighbours meet.",
    "```python\ndef run(seed, budget_s, **kwargs):\n    raise ValueError('no shape fits')\n```",
    "```python\ndef run(seed, budget_s, **kwargs):\n    return [2.0] * 90\n```",
)


def write_runs(folder: pathlib.Path) -> None:
    """The runs that are over."""
    write_run(folder / "erdos-30-steps", steps=30, groups=8, size=16)
    for variant, seed in itertools.product(("full", "no-reuse"), range(2)):
        write_run(folder / f"{variant}-{seed}", steps=8, groups=4, size=8, seed=seed, variant=variant)


def write_replies(path: pathlib.Path, radius: tuple[float, float], seconds: tuple[float, float]) -> None:
    """Replies of a model that there is none of, some of them failing."""
    rng = np.random.default_rng(5)
    replies = []
    for number in range(40):
        width = int(rng.choice([3, 5, 7]))
        program = PROGRAM.format(width=width, seed=number, radius=rng.uniform(*radius))
        program = program.replace("    rng =", f"    time.sleep({rng.uniform(*seconds):.2f})\n    rng =")
        replies.append(f"```python\nimport time\n{program}```")
        if number % 3 == 0:
            replies.append(FAILING[number // 3 % len(FAILING)])
    path.write_text(json.dumps(replies))


@contextlib.contextmanager
def run_under_way(folder: pathlib.Path) -> Iterator[None]:
    """A real run whose third step is about half over."""
    replies = folder.parent / "slow.json"
    write_replies(replies, (0.01, 0.3), (0.2, 0.8))
    size = ["--steps", "12", "--groups", "8", "--group-size", "16", "-o", "timeout_s=20"]
    run = subprocess.Popen(run_command(folder, LIVE, replies, *size))
    try:
        wait_for(folder / LIVE, step=3, judged=60)
        yield
    finally:
        run.terminate()
        run.wait()


def wait_for(folder: pathlib.Path, step: int, judged: int) -> None:
    """Until so many rollouts of a step are judged."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        time.sleep(0.1)
        log = folder / "log.jsonl"
        lines = log.read_text().splitlines() if log.exists() else []
        told = [json.loads(line) for line in lines if '"rollout_evaluated"' in line]
        if sum(event["step"] == step for event in told) >= judged:
            return
    with RunReader.open(folder) as run:
        raise TimeoutError(f"the run came to step {run.last_step()} in 300 s")


def take(chromium: Any, address: str, folder: pathlib.Path, runs: pathlib.Path) -> None:
    """Pictures of each page at both widths, light and dark, and of a report."""
    folder.mkdir(parents=True, exist_ok=True)
    with run_under_way(runs):
        # A step under way stands still for nobody: its pictures come first.
        _take_pages(chromium, address, folder, {"live": f"/run?run={LIVE}"})
        _take_pages(chromium, address, folder, {"runs": PAGES["runs"]})
    _take_pages(chromium, address, folder, {name: path for name, path in PAGES.items() if name != "runs"})
    _take_report(chromium, folder, runs)


def _take_report(chromium: Any, folder: pathlib.Path, runs: pathlib.Path) -> None:
    """Pictures of the report of a real run: its top, its lineage, and its rewards on a phone."""
    replies = runs.parent / "quick.json"
    write_replies(replies, (0.003, 0.05), (0.0, 0.01))
    size = ["--steps", "25", "--groups", "4", "--group-size", "4", "-o", "timeout_s=20"]
    subprocess.run(run_command(runs, "erdos-25-steps", replies, *size), check=True)
    subprocess.run([*TTD, "report", "erdos-25-steps", "--runs-dir", str(runs)], check=True)
    address = (runs / "erdos-25-steps" / "report.html").resolve().as_uri()
    for name, window, scheme, place in (
        ("report", (1280, 890), "light", ""),
        ("report-lineage", (1280, 860), "light", "#run1-lineage figure"),
        ("report-phone", NARROW, "dark", "#run1-rewards"),
    ):
        viewport = {"width": window[0], "height": window[1]}
        context = chromium.new_context(viewport=viewport, color_scheme=scheme, reduced_motion="reduce")
        tab = context.new_page()
        tab.goto(address)
        if name.endswith("phone"):
            tab.evaluate(f"document.querySelector('{place}').scrollIntoView()")
        whole_of = tab.locator(place).first if name.endswith("lineage") else tab
        save(whole_of, folder / f"{name}.png")
        context.close()


def _take_pages(chromium: Any, address: str, folder: pathlib.Path, pages: dict[str, str]) -> None:
    base = address.partition("/?")[0]
    for size, scheme in itertools.product((WIDE, NARROW), ("dark", "light")):
        window = {"width": size[0], "height": size[1]}
        context = chromium.new_context(viewport=window, color_scheme=scheme)
        tab = context.new_page()
        tab.goto(address)
        for name, path in pages.items():
            tab.goto(base + path)
            deadline = time.monotonic() + 20
            while not whole(tab) and time.monotonic() < deadline:
                time.sleep(0.05)
            time.sleep(1.0)
            # What is below the last line of a short page is empty.
            end = tab.evaluate("document.querySelector('footer').getBoundingClientRect().bottom")
            clip = {"x": 0, "y": 0, "width": size[0], "height": min(size[1], end + 24)}
            save(tab, folder / f"ui-{name}-{size[0]}-{scheme}.png", clip=clip)
        context.close()


def whole(tab: Any) -> bool:
    """Whether a page has all that it asks for first."""
    # What has come of a page that is on its way may end before its body.
    busy = (
        "!document.body || document.querySelector('[aria-busy=true]')"
        " || document.body.innerText.includes('Reading the')"
    )
    return not tab.evaluate(busy)


def save(shown: Any, path: pathlib.Path, **options: Any) -> None:
    """Take a picture of a tab, or of a part, with as many colours as its weight allows."""
    shown.screenshot(path=str(path), **options)
    picture = Image.open(path).convert("RGB")
    for colours in (256, 128, 64, 32):
        picture.quantize(colours, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            path, optimize=True
        )
        if path.stat().st_size <= MOST_BYTES:
            break
    print(f"{path.name:36}{path.stat().st_size / 1e3:8.0f} kB", flush=True)
