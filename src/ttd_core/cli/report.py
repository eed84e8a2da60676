"""``ttd report``: what runs came to, as one HTML file."""

from __future__ import annotations

import pathlib
import types
from collections.abc import Callable
from typing import Any

import click

from ttd_core.cli.extras import imported_from_extra
from ttd_core.cli.folders import existing_folder, runs_dir_option
from ttd_core.cli.output import json_option, print_json, say
from ttd_core.report.facts import RunFacts, read_facts
from ttd_core.report.pooling import pool_seeds
from ttd_core.report.transcripts import Links, transcript_pages
from ttd_core.run.files import storage_errors

#: ``-w FILE``: where a page is written.
output_option: Callable[[Any], Any] = click.option(
    "-w",
    "--output",
    type=click.Path(path_type=pathlib.Path, dir_okay=False),
    help="The page's file.",
)


@click.command("report")
@click.argument("run_names", metavar="RUN...", nargs=-1, required=True)
@output_option
@click.option("--full", is_flag=True, help="Also write what the model wrote, on pages beside it.")
@runs_dir_option
@json_option
def report(
    run_names: tuple[str, ...],
    output: pathlib.Path | None,
    full: bool,
    runs_dir: pathlib.Path,
    as_json: bool,
) -> None:
    """Write what runs came to as one HTML file.

    The file needs nothing else: no network, no scripts. A run may still be going on. It is written as
    report.html into the run's folder; for several runs beside the first one's. With --full, it links to
    pages of the rollouts beside it (report-rollouts-1.html and on), each of a few megabytes at most.

    \b
    Example:
      ttd report erdos-20260101-120000
      ttd report erdos-20260101-120000 --full
      ttd report runs/with runs/without -w both.html
    """
    pages = load_pages()
    runs = read_runs(run_names, runs_dir)
    folder = runs[0].folder if len(runs) == 1 else runs[0].folder.parent
    path = output if output is not None else folder / "report.html"
    links, beside = _write_rollouts(pages, runs, path) if full else (None, [])
    size = write_page(path, pages.report_page(runs, links))
    if as_json:
        facts: dict[str, Any] = {"page": str(path), "bytes": size}
        facts |= {"rollouts": [str(each) for each in beside]} if full else {}
        print_json(facts | {"runs": [arm.row() for arm in pool_seeds(runs)]})
        return
    say(f"{path} ({size / 1e3:.0f} kB)")
    if full:
        weight = sum(each.stat().st_size for each in beside)
        last = f" to {beside[-1].name}" if len(beside) > 1 else ""
        say(f"{beside[0]}{last} ({weight / 1e3:.0f} kB)" if beside else "there are no rollouts yet")


def _write_rollouts(
    pages: types.ModuleType, runs: list[RunFacts], report: pathlib.Path
) -> tuple[list[Links], list[pathlib.Path]]:
    """Write the pages of all rollouts beside a report; the links to them, and their files.

    :raises StorageError: when one cannot be written.
    """
    found, files = [], []
    for number, run in enumerate(runs, 1):
        links = Links(report.stem if len(runs) == 1 else f"{report.stem}-{number}")
        count = 0
        for page in transcript_pages(run, links):
            count = page.number
            files.append(report.with_name(links.page(count)))
            write_page(files[-1], pages.rollout_page(run, page, links, report.name))
        # Of an earlier report, which had more.
        while (stale := report.with_name(links.page(count := count + 1))).is_file():
            with storage_errors(stale):
                stale.unlink()
        found.append(links)
    return found, files


def load_pages() -> types.ModuleType:
    """The module that writes pages.

    :raises EnvironmentLacksError: when what it needs is not installed.
    """
    with imported_from_extra("report", "pages need"):
        from ttd_core.report import page  # noqa: PLC0415 - jinja2 and pygments come with an extra
    return page


def read_runs(names: tuple[str, ...], runs_dir: pathlib.Path) -> list[RunFacts]:
    """The runs named, each once.

    :raises ResumeError: when one does not exist.
    """
    folders = [existing_folder(name, runs_dir) for name in names]
    return [read_facts(folder) for folder in {folder.resolve(): folder for folder in folders}.values()]


def write_page(path: pathlib.Path, text: str) -> int:
    """Write a page; its size in bytes.

    :raises StorageError: when it cannot be written.
    """
    # What candidates printed may hold halves of characters, which UTF-8 does not have.
    content = text.encode("utf-8", "replace")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return len(content)
