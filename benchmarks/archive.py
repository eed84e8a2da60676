"""What one step costs outside the model: select starts, admit the rollouts, commit durably.

    python benchmarks/archive.py [--folder DIR] [--steps 20] [--text 6000]

An archive of 1000 states of 1,500 float64 values; steps of 8 groups of 64 rollouts, every one valid and new,
which is the most that admission can be asked to do. Ours writes the whole step: the texts of all 512
rollouts, the new constructions, the statistics. The peer is the paper's own package, ``ttt-discover``, in a
virtual environment of its own under the working folder; it saves its archive and no rollouts. The floor is
the bytes of our step written to one file and synced once. All of it on the same disk.

Exits with 1 when our median step takes longer than the bar, with 3 when the peer cannot be installed.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import numpy as np
from command_line import non_negative_int, positive_int, run_benchmark
from rich.console import Console
from rich.table import Table

from ttd_core.config import SearchConfig
from ttd_core.run.store import RunStore
from ttd_core.search.archive import Archive, Node
from ttd_core.search.reuse import reuse_from_config
from ttd_core.types import Completion, Group, Reward, Rollout, State, Status, Verdict

PEER = "ttt-discover==0.2.0"
STATES, LENGTH, GROUPS, SIZE = 1000, 1500, 8, 64
BAR = 0.150

Times = dict[str, float]
Command = Sequence[str | pathlib.Path]


def group(start: Node, size: int, rng: np.random.Generator, text: int, code: int) -> Group:
    """A group of valid rollouts, all new."""
    rollouts = []
    for _ in range(size):
        value = float(start.value + rng.normal())
        state = State(code=f"# {value}\n" + "x" * code, data={"h": rng.random(LENGTH)}, output="done\n")
        verdict = Verdict(Status.OK, state=state, reward=Reward(value, -value), code=state.code, seconds=1.0)
        tokens = np.zeros(text // 4, np.int64)
        trained = np.ones(len(tokens), np.bool_)
        completion = Completion(rng.bytes(text // 2).hex(), tokens, tokens.astype(np.float32), trained)
        rollouts.append(Rollout(completion, verdict))
    return Group(start.id, [{"role": "user", "content": "p" * 4000}], np.zeros(1000, np.int64), rollouts)


def full_archive(store: RunStore, rng: np.random.Generator) -> tuple[Archive, int]:
    """An archive filled by a search, as a run would fill it, and the last step."""
    archive = Archive(SearchConfig(capacity=STATES))
    archive.add_seeds([(State(), None)] * GROUPS)
    store.commit_seeds(archive)
    step = 0
    while len(archive) < STATES:
        step += 1
        starts = reuse_from_config(archive.config).pick(archive, GROUPS, rng)
        groups = [group(start, 2, rng, text=100, code=2000) for start in starts]
        archive.admit(step, groups)
        store.commit_step(step, groups, archive, {}, {})
    return archive, step


def ours(folder: pathlib.Path, steps: int, text: int) -> tuple[list[Times], float, list[int]]:
    """Seconds of each step's parts, seconds to open and load the archive, and bytes of each step."""
    rng = np.random.default_rng(0)
    times, sizes = [], []
    with RunStore.create(folder, "benchmark") as store:
        archive, step = full_archive(store, rng)
        reuse = reuse_from_config(archive.config)
        for number in range(step + 1, step + 1 + steps):
            start = time.perf_counter()
            starts = reuse.pick(archive, GROUPS, rng)
            selected = time.perf_counter()
            groups = [group(node, SIZE, rng, text, code=2000) for node in starts]
            sampled = time.perf_counter()
            archive.admit(number, groups)
            admitted = time.perf_counter()
            store.commit_step(number, groups, archive, {"loss": 0.1}, {"sample": 1.0})
            committed = time.perf_counter()
            times.append(
                {"select": selected - start, "admit": admitted - sampled, "commit": committed - admitted}
            )
            fresh = [node for node in archive.nodes.values() if node.step == number]
            sizes.append(
                sum(
                    len(rollout.completion.text) + len(rollout.verdict.code)
                    for item in groups
                    for rollout in item
                )
                + sum(len(node.state.code) + 8 * LENGTH for node in fresh)
            )
    start = time.perf_counter()
    with RunStore.open(folder) as store:
        loaded = store.load_archive(SearchConfig(capacity=STATES))
        seconds = time.perf_counter() - start
    if loaded.snapshot()[0] != archive.snapshot()[0]:
        raise SystemExit("the archive that was loaded is not the one that was committed")
    return times, seconds, sizes


def floor(folder: pathlib.Path, size: int, repeats: int) -> float:
    """Median seconds to write so many bytes to one file and sync it."""
    content, taken = os.urandom(size), []
    for number in range(repeats):
        start = time.perf_counter()
        with open(folder / f"floor-{number}", "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def install_peer() -> pathlib.Path:
    """Python of the peer's environment, made and filled when missing; ends the program when it cannot be."""
    root = pathlib.Path(__file__).resolve().parent.parent
    home = root / ".venv-bench-ttt-discover"
    python = home / "bin" / "python"
    ready: Command = [python, "-c", "import ttt_discover.tinker_utils.sampler"]
    if python.exists() and subprocess.run(ready, capture_output=True).returncode == 0:
        return python
    print(f"installing {PEER} into {home.name} (about 2 GB, once) ...", file=sys.stderr)
    pip: Command = [python, "-m", "pip", "install", "--quiet", "-c", root / "constraints.txt", PEER]
    venv: Command = [sys.executable, "-m", "venv", home]
    for command in (venv, pip, ready):
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            lines = (result.stderr or result.stdout).strip().splitlines() or ["no message"]
            print(
                f"{PEER} cannot be installed, so there is nothing to compare with: {lines[-1]}",
                file=sys.stderr,
            )
            raise SystemExit(3)
    return python


def peer(folder: pathlib.Path, code: int = 2000) -> Times:
    """Seconds of one step's parts in the peer's archive, and the bytes it wrote."""
    python = install_peer()
    script = pathlib.Path(__file__).with_name("archive_peer.py")
    sizes = [str(number) for number in (STATES, LENGTH, GROUPS, SIZE, code, 0)]
    result = subprocess.run([python, script, folder, *sizes], capture_output=True, text=True)
    if result.returncode:
        print(f"{PEER} failed: {result.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        raise SystemExit(3)
    return dict(json.loads(result.stdout.splitlines()[-1]))


def total(times: Times) -> float:
    """Seconds of a whole step."""
    return times["select"] + times["admit"] + times["commit"]


def show(rows: list[tuple[str, Times | None, float]], least: float) -> None:
    """One table, milliseconds, each with its ratio to the floor."""
    table = Table(title=f"one step of {GROUPS}x{SIZE}, archive of {STATES} states of {LENGTH:,} float64")
    table.add_column("milliseconds")
    for name in ("select", "admit", "commit", "total", "MB of content", "to the floor"):
        table.add_column(name, justify="right")
    for label, times, size in rows:
        parts = (
            ["", "", ""]
            if times is None
            else [f"{times[part] * 1e3:.1f}" for part in ("select", "admit", "commit")]
        )
        whole = least if times is None else total(times)
        table.add_row(label, *parts, f"{whole * 1e3:.1f}", f"{size / 1e6:.1f}", f"{whole / least:.1f}x")
    Console(width=110).print(table)


def main() -> int:
    """Measure, print, compare with the bar."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path.cwd(), help="disk to measure on")
    parser.add_argument("--steps", type=positive_int, default=20, help="steps of ours to measure")
    parser.add_argument(
        "--text", type=non_negative_int, default=6000, help="characters of each rollout's completion"
    )
    options = parser.parse_args()
    install_peer()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix=".bench-archive-") as name:
        folder = pathlib.Path(name)
        times, load, sizes = ours(folder / "run", options.steps, options.text)
        size = int(statistics.median(sizes))
        least = floor(folder, size, options.steps)
        (folder / "peer").mkdir()
        theirs = peer(folder / "peer")
    order = sorted(times, key=total)
    median, slowest = order[len(order) // 2], order[-1]
    show(
        [
            (f"ttd, median of {len(times)}", median, size),
            ("ttd, slowest", slowest, size),
            (f"{PEER}, one step", theirs, theirs["bytes"]),
            ("floor: the same bytes, one fsync", None, size),
        ],
        least,
    )
    print(f"ttd opens the run and loads the archive in {load * 1e3:.0f} ms")
    print(f"{PEER} takes {total(theirs) / total(median):,.0f} times as long")
    met = total(median) < BAR
    print(f"bar: {BAR * 1e3:.0f} ms a step: {'met' if met else 'NOT met'} ({total(median) * 1e3:.1f} ms)")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(run_benchmark(main))
