"""How quick `ttd ui` is on a large run: 50 steps of 512 rollouts, in a headless Chromium.

    .venv/bin/python benchmarks/ui.py [--steps 50] [--keep FOLDER]
    .venv/bin/python benchmarks/ui.py --pictures FOLDER

Writes the run (`benchmarks/scripted_run.py`), serves it with `ttd ui` in a process of its own, and prints one
table: first paint of each page and when it is all there, a click on a state, filters over all rollouts, the
server's memory, and what a step of a real run costs with the page open against without. With `--pictures` it
measures nothing, and takes pictures of every page over smaller runs (`benchmarks/ui_pictures.py`).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import browser
import ui_pictures
from command_line import leave, positive_int, run_benchmark
from scripted_run import TTD, run_command, write_run
from ui_pictures import whole

from ttd_core.run.reading import RunReader

PAGES = {
    "runs": "/",
    "run": "/run?run=large",
    "lineage": "/lineage?run=large",
    "rollouts": "/rollouts?run=large",
    "rollout": "/rollout?run=large&at=3/0/12&beside=3/0/13",
    "compare": "/compare?run=full-0&run=full-1&run=no-reuse-0&run=no-reuse-1",
}
#: What each filter types or chooses: control, value.
FILTERS = {
    "verdict": ("[name=status]", "timeout"),
    "text found often": ("[name=text]", "width=7"),
    "text found nowhere": ("[name=text]", "no such words"),
    "sorted by reward": ("[name=sort]", "reward"),
}
#: Timed in the page itself: from the act until what it asks for is painted.
TIMED = """
async ([act, selector, value]) => {
    const painted = () => new Promise(done => requestAnimationFrame(() => setTimeout(done)));
    const place = document.querySelector(act === 'node' ? '#state' : '#rollout-rows');
    const changed = new Promise(done => new MutationObserver((_, each) => { each.disconnect(); done(); })
        .observe(place, {childList: true}));
    const begun = performance.now();
    if (act === 'node') {
        const canvas = document.querySelector('#tree-canvas'), box = canvas.getBoundingClientRect();
        const at = {clientX: box.left + value[0], clientY: box.top + value[1], pointerId: 1, bubbles: true};
        canvas.setPointerCapture = () => {};
        for (const kind of ['pointerdown', 'pointerup']) canvas.dispatchEvent(new PointerEvent(kind, at));
    } else {
        const control = document.querySelector(selector);
        control.value = value;
        control.form.requestSubmit();
    }
    const late = new Promise((_, fail) => setTimeout(() => fail(new Error(`no answer to ${value}`)), 9000));
    await Promise.race([changed, late]);
    await painted();
    return performance.now() - begun;
}
"""


#: Where states of the path to the best stand on the canvas; its last one is chosen already.
PLACES = """
async () => {
    const place = document.querySelector('#tree'), box = place.getBoundingClientRect();
    const tree = await (await fetch(place.dataset.tree)).json();
    return tree.path.slice(0, -1).filter((_, turn) => turn % 2 === 0).map(node => {
        const index = tree.id.indexOf(node);
        return [24 + tree.step[index] * (box.width - 50) / tree.last_step,
                14 + (tree.row[index] + 0.5) * (box.height - 42) / tree.leaves];
    });
}
"""


@contextlib.contextmanager
def served(runs: pathlib.Path) -> Iterator[tuple[str, int]]:
    """The page's address, and the id of its server's process."""
    process = subprocess.Popen(
        [*TTD, "ui", str(runs), "--port", "0", "--json"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield json.loads("".join(process.stdout.readline() for _ in range(4)))["address"], process.pid
    finally:
        process.terminate()
        process.wait(20)


def memory(pid: int) -> float:
    """Megabytes that a process has in memory."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1e3


def worked(pid: int) -> float:
    """Milliseconds of processor time that a process has used."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return 1000 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def opened(tab: Any, address: str) -> tuple[float, float]:
    """Milliseconds until a page is painted first, and until it is all there."""
    begun = time.monotonic()
    tab.goto(address, wait_until="commit")
    while not whole(tab) or not tab.evaluate("performance.getEntriesByName('first-contentful-paint').length"):
        time.sleep(0.005)
    there = time.monotonic() - begun
    return tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"), 1000 * there


def show(name: str, *values: float) -> None:
    """One line of the table."""
    print(f"{name:44}" + "".join(f"{value:10.0f}" for value in values), flush=True)


def measure_pages(chromium: Any, runs: pathlib.Path) -> None:
    """First paints, clicks, filters and memory."""
    with served(runs) as (address, pid):
        base = address.partition("/?")[0]
        show("server's memory at first, MB", memory(pid))
        context = chromium.new_context(viewport={"width": 1600, "height": 1000})
        tab = context.new_page()
        tab.goto(address)
        print(f"{'page, ms':44}{'painted':>10}{'all there':>10}{'again':>10}{'all there':>10}")
        for name, path in PAGES.items():
            show(name, *opened(tab, base + path), *opened(tab, base + path))
        print(f"{'act, ms':44}{'median':>10}{'largest':>10}{'server CPU, mean':>20}")
        opened(tab, base + PAGES["lineage"])
        places = tab.evaluate(PLACES)
        before = worked(pid)
        took = [tab.evaluate(TIMED, ["node", "", place]) for place in places]
        show("click on a state", statistics.median(took), max(took), (worked(pid) - before) / len(took))
        for name, (selector, value) in FILTERS.items():
            took, busy = [], 0.0
            for _ in range(5):
                opened(tab, base + PAGES["rollouts"])
                # The server remembers what it found: each time another text is looked for.
                text = f"{value}{' ' * len(took)}" if "nowhere" in name else value
                before = worked(pid)
                took.append(tab.evaluate(TIMED, ["filter", selector, text]))
                busy += worked(pid) - before
            show(f"filter over all rollouts: {name}", statistics.median(took), max(took), busy / len(took))
        show("server's memory at last, MB", memory(pid))
        context.close()


def measure_steps(chromium: Any, folder: pathlib.Path, steps: int = 15) -> None:
    """Seconds a step of a real run, by turns without a page and with one open on it."""
    program = "import time\n\n\ndef run(seed, budget_s, **kwargs):\n    time.sleep(0.2)\n    raise ValueError"
    reply = f"```python\n{program}\n```"
    replies = folder / "replies.json"
    replies.write_text(json.dumps([reply]))
    sizes = ["--groups", "2", "--group-size", "4", "--steps", str(steps)]
    found: dict[str, list[float]] = {"without": [], "with": []}
    for turn in range(2):
        for how in found:
            name = f"{how}-{turn}"
            command = run_command(folder / "live", name, replies, *sizes, "-o", "timeout_s=20")
            run = subprocess.Popen(command)
            if how == "with":
                while not (folder / "live" / name / "log.jsonl").exists():
                    time.sleep(0.05)
                with served(folder / "live") as (address, _):
                    tab = chromium.new_page()
                    tab.goto(address)
                    tab.goto(f"{address.partition('/?')[0]}/run?run={name}")
                    while run.poll() is None:
                        tab.evaluate("1")
                        time.sleep(0.2)
                    tab.close()
            run.wait()
            with RunReader.open(folder / "live" / name) as reader:
                found[how] += [
                    event["seconds"] for event in reader.events() if event["kind"] == "step_finished"
                ][1:]
    print(f"{'seconds a step of a real run':44}{'median':>10}{'quartiles':>20}")
    for how, seconds in found.items():
        low, middle, high = statistics.quantiles(seconds, n=4)
        print(f"{how + ' the page open':44}{middle:10.3f}{low:12.3f}{high:8.3f}")


def main() -> None:
    """Write, serve and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=positive_int, default=50)
    parser.add_argument("--keep", type=pathlib.Path, help="folder for the runs, which a later call uses")
    parser.add_argument(
        "--pictures", type=pathlib.Path, help="folder for pictures of every page; measures nothing"
    )
    arguments = parser.parse_args()
    lacking = browser.lacking()
    if lacking:
        leave(lacking)
    with tempfile.TemporaryDirectory(prefix="ttd-") as temporary, browser.chromium() as chromium:
        runs = (arguments.keep or pathlib.Path(temporary)) / "runs"
        if arguments.pictures is not None:
            ui_pictures.write_runs(runs)
            with served(runs) as (address, _):
                ui_pictures.take(chromium, address, arguments.pictures, runs)
            return
        begun = time.monotonic()
        if not (runs / "large").exists():
            write_run(runs / "large", steps=arguments.steps)
        for variant in ("full", "no-reuse"):
            for seed in range(2):
                if not (runs / f"{variant}-{seed}").exists():
                    write_run(
                        runs / f"{variant}-{seed}", steps=8, groups=2, size=8, seed=seed, variant=variant
                    )
        print(f"{arguments.steps} steps of 512 rollouts, written in {time.monotonic() - begun:.0f} s")
        measure_pages(chromium, runs)
        measure_steps(chromium, pathlib.Path(temporary))


if __name__ == "__main__":
    sys.exit(run_benchmark(main))
