"""``ttd list-problems``: what is installed, with nothing imported unless ``--load`` asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ttd_core.cli.output import complain, json_option, print_json, say, table
from ttd_core.plugin.entries import clashes, entries, title_in_source

if TYPE_CHECKING:
    from ttd_core.problem import Baseline, Problem


@click.command("list-problems")
@click.option(
    "--load",
    is_flag=True,
    help="Import every problem, show what is published, report those that fail.",
)
@json_option
def list_problems(load: bool, as_json: bool) -> int:
    """List the installed problems.

    Reads package metadata and sources, and imports no plugin unless --load is given.

    \b
    Example:
      ttd list-problems
      ttd list-problems --load --json
    """
    rows = _loaded_rows() if load else [_row(entry) for entry in entries()]
    if as_json:
        print_json(rows)
    elif not rows:
        say("no problem is installed; try: pip install ttd-math")
    else:
        say(_as_table(rows, load))
    for row in rows:
        if "error" in row and not as_json:
            complain(row["error"])
    clashing = clashes(entries())
    for clash in clashing:
        complain(str(clash))
    return clashing[0].exit_code if clashing else 0


def _row(entry: Any) -> dict[str, Any]:
    return {
        "name": entry.name,
        "distribution": entry.distribution,
        "version": entry.version,
        "class": entry.value,
        "title": title_in_source(entry),
    }


def _loaded_rows() -> list[dict[str, Any]]:
    from ttd_core.plugin.registry import load_all  # noqa: PLC0415 - imports numpy and every plugin

    rows = []
    for loaded in load_all():
        row = _row(loaded.entry)
        if loaded.error is not None:
            row["error"] = str(loaded.error)
        else:
            cls = loaded.value
            best = _published(cls)
            row |= {"title": cls.title, "metric": cls.metric, "direction": cls.direction}
            row["best_published"] = best.score if best else None
        rows.append(row)
    return rows


def _published(cls: type[Problem]) -> Baseline | None:
    """The best published result; of several things measured, of what the defaults measure."""
    if not any(each.on for each in cls.baselines):
        return cls.best_baseline()
    try:
        return cls().best_comparable()
    except Exception:  # noqa: BLE001 - a plugin's own code, which must not end the list
        return None


def _as_table(rows: list[dict[str, Any]], load: bool) -> str:
    header = ["name", "distribution", "version"]
    cells = [[row[key] for key in header] for row in rows]
    if not load:
        return table(
            [*header, "title"], [[*line, row["title"]] for row, line in zip(rows, cells, strict=True)]
        )
    for row, line in zip(rows, cells, strict=True):
        published = row.get("best_published")
        line.append("" if published is None else f"{published:.10g}")
        line.append("cannot be loaded, see below" if "error" in row else row["title"])
    return table([*header, "published", "title"], cells)
