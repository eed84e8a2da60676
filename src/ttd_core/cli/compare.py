"""``ttd compare``: runs side by side, those of different seeds pooled."""

from __future__ import annotations

import pathlib
from typing import Any

import click

from ttd_core.cli.folders import runs_dir_option
from ttd_core.cli.output import json_option, print_json, table
from ttd_core.cli.report import load_pages, output_option, read_runs, write_page
from ttd_core.cli.tally import duration
from ttd_core.problem import Problem
from ttd_core.report.pooling import arms, by_problem
from ttd_core.scores import wish


@click.command("compare")
@click.argument("run_names", metavar="RUN...", nargs=-1, required=True)
@output_option
@runs_dir_option
@json_option
def compare(
    run_names: tuple[str, ...], output: pathlib.Path | None, runs_dir: pathlib.Path, as_json: bool
) -> None:
    """Compare runs; seeds count as one.

    Prints a table; with --output, also writes a page with the runs' curves side by side.

    \b
    Example:
      ttd compare erdos-a erdos-b
      ttd compare runs/full-* runs/best-of-n-* -w compare.html
    """
    pages = load_pages() if output is not None else None
    runs = read_runs(run_names, runs_dir)
    pools = by_problem(arms(runs))
    if pages is not None and output is not None:
        write_page(output, pages.compare_page(runs))
    if as_json:
        rows = [arm.row() for group in pools.values() for arm in group]
        print_json({"page": str(output) if output is not None else None, "arms": rows})
        return
    for number, group in enumerate(pools.values()):
        problem = group[0].runs[0].problem
        if number:
            click.echo()
        click.echo(as_text(problem, [arm.row() for arm in group]))
    if output is not None:
        click.echo(f"\ncurves in {output}")


def as_text(problem: Problem, rows: list[dict[str, Any]]) -> str:
    """One problem's arms as a table."""
    aim = wish(problem.direction)
    published = problem.best_baseline()
    known = ""
    if published is not None:
        known = f", published {problem.format_score(published.score)} by {published.label}"
    header = ["runs", "seeds", "steps", "rollouts", "valid", "repeats", "best", "mean best", "spread"]
    cells = [
        [
            row["arm"],
            len(row["seeds"]),
            ", ".join(dict.fromkeys(str(count) for count in row["steps"])),
            row["rollouts"],
            f"{row['valid_share']:.0%}",
            f"{row['repeat_share']:.0%}",
            _score(problem, row["best_score"]),
            _score(problem, row["mean_best_score"]),
            "-" if row["spread"] is None else f"{row['spread']:.2g}",
            row["tokens"],
            duration(row["seconds"]),
        ]
        for row in rows
    ]
    title = f"{problem.name}: {problem.metric}, {aim} is better{known}"
    return f"{title}\n\n{table([*header, 'tokens', 'time'], cells)}"


def _score(problem: Problem, score: float | None) -> str:
    return "-" if score is None else problem.format_score(score)
