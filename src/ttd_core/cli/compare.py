"""``ttd compare``: runs side by side, those of different seeds pooled."""

from __future__ import annotations

import pathlib
from typing import Any

import click

from ttd_core.cli.folders import runs_dir_option
from ttd_core.cli.output import json_option, print_json, say, table
from ttd_core.cli.report import load_pages, output_option, read_runs, write_page
from ttd_core.cli.wording import duration
from ttd_core.problem import Problem
from ttd_core.report.facts import RunFacts
from ttd_core.report.pooling import by_problem, notes_on, pool_seeds
from ttd_core.scores import which_is_better
from ttd_core.text import showable_line


@click.command("compare")
@click.argument("run_names", metavar="RUN...", nargs=-1, required=True)
@output_option
@click.option(
    "--figures",
    type=click.Path(path_type=pathlib.Path, file_okay=False),
    help="A folder to write the curves into, an SVG file each.",
)
@runs_dir_option
@json_option
def compare(
    run_names: tuple[str, ...],
    output: pathlib.Path | None,
    figures: pathlib.Path | None,
    runs_dir: pathlib.Path,
    as_json: bool,
) -> None:
    """Compare runs; seeds count as one.

    Prints a table; with --output, also writes a page with the runs' curves side by side.

    \b
    Example:
      ttd compare erdos-a erdos-b
      ttd compare runs/full-* runs/best-of-n-* -w compare.html
      ttd compare runs/full-* runs/best-of-n-* --figures pictures
    """
    pages = load_pages() if output is not None or figures is not None else None
    runs = read_runs(run_names, runs_dir)
    arms = by_problem(pool_seeds(runs))
    if pages is not None and output is not None:
        write_page(output, pages.compare_page(runs))
    written = 0 if figures is None else _write_figures(figures, runs)
    if as_json:
        rows = [arm.row() for of_problem in arms.values() for arm in of_problem]
        print_json({"page": str(output) if output is not None else None, "arms": rows})
        return
    for number, of_problem in enumerate(arms.values()):
        if number:
            say()
        say(as_text(of_problem[0].runs[0].problem, [arm.row() for arm in of_problem]))
        for note in notes_on(of_problem):
            say(f"\n{note}")
    if figures is not None and not written:
        say("\nno curves to write: no step was finished")
    for place in (output, figures if written else None):
        if place is not None:
            say(f"\ncurves in {showable_line(str(place))}")


def _write_figures(folder: pathlib.Path, runs: list[RunFacts]) -> int:
    """Write each figure of a comparison as a file.

    :return: how many there were.
    :raises StorageError: when one cannot be written.
    """
    from ttd_core.report.standalone import figure_files  # noqa: PLC0415 - markupsafe comes with an extra

    files = figure_files(runs)
    for name, text in files.items():
        write_page(folder / name, text)
    return len(files)


def as_text(problem: Problem, rows: list[dict[str, Any]]) -> str:
    """One problem's arms as a table."""
    title = f"{problem.name}: {problem.metric}, {which_is_better(problem.direction)}"
    if caution := problem.score_caution():
        title += f" ({caution})"
    published = problem.best_comparable()
    if published is not None:
        title += f", published {problem.format_baseline(published)} by {published.by}"
    header = ["runs", "seeds", "steps", "rollouts", "valid", "repeats", "best", "mean best", "spread"]
    cells = [
        [
            row["arm"],
            len(row["seeds"]),
            ", ".join(dict.fromkeys(str(count) for count in row["steps"])),
            row["rollouts"],
            f"{row['valid_share']:.0%}" if row["rollouts"] else "-",
            f"{row['repeat_share']:.0%}" if row["rollouts"] else "-",
            _score(problem, row["best_score"]),
            _score(problem, row["mean_best_score"]),
            "-" if row["spread"] is None else f"{row['spread']:.2g}",
            row["tokens"],
            duration(row["seconds"]),
        ]
        for row in rows
    ]
    return f"{title}\n\n{table([*header, 'tokens', 'time'], cells)}"


def _score(problem: Problem, score: float | None) -> str:
    return "-" if score is None else problem.format_score(score)
