"""``ttd list-runs``: the runs of a folder, the newest first."""

from __future__ import annotations

import pathlib
import time
from typing import Any

import attrs
import click

from ttd_core.cli.folders import runs_dir_option
from ttd_core.cli.output import complain, json_option, print_json, say, table
from ttd_core.run.overview import RunOverview, runs_in


@click.command("list-runs")
@runs_dir_option
@json_option
def list_runs(runs_dir: pathlib.Path, as_json: bool) -> None:
    """List the runs of a folder, the newest first.

    A run is running while a process writes it, else finished, interrupted (by Ctrl-C or a signal), or
    stopped: its process is gone without a word. `ttd resume` goes on with the last two.

    \b
    Example:
      ttd list-runs
      ttd list-runs --runs-dir elsewhere --json
    """
    runs = runs_in(runs_dir)
    if as_json:
        print_json([attrs.asdict(run) for run in runs])
        return
    readable = [run for run in runs if not run.error]
    if readable:
        header = ["name", "problem", "policy", "variant", "seed", "steps", "state", "best", "begun"]
        say(table(header, [_row(run) for run in readable]))
    elif not runs:
        say(f"no run in {runs_dir}")
    for run in runs:
        if run.error:
            complain(run.error, "warning")


def _row(run: RunOverview) -> list[Any]:
    best = "-" if run.best_score is None else f"{run.best_score:.10g}"
    best += f" ({run.caution})" if run.caution and run.best_score is not None else ""
    begun = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.begun))
    steps = f"{run.done}/{run.steps}"
    return [run.name, run.problem, run.policy, run.variant, run.seed, steps, run.state, best, begun]
