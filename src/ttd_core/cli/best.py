"""``ttd best``: the best states of a run, evaluated again on request (paper C.1, D)."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import attrs
import click

from ttd_core import registry
from ttd_core.cli.folders import existing_folder, runs_dir_option, stored_config
from ttd_core.cli.output import json_option, print_json, table
from ttd_core.run.reading import RunReader
from ttd_core.run.select import recheck as recheck_states

_TIMES = re.compile(r"^([1-9]\d*)x([1-9]\d*)$")


class _Recheck(click.ParamType):
    name = "COUNTxTIMES"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """``20x3`` as two numbers."""
        match = _TIMES.match(str(value))
        if match is None:
            self.fail(f"{value!r} is not COUNTxTIMES, such as 20x3", param, ctx)
        return int(match[1]), int(match[2])


@click.command("best")
@click.argument("run_name", metavar="RUN")
@click.option("--count", type=click.IntRange(min=1), default=5, show_default=True, help="How many to show.")
@click.option("--recheck", type=_Recheck(), help="Evaluate the best COUNT again, TIMES times each.")
@runs_dir_option
@json_option
def best(
    run_name: str, count: int, recheck: tuple[int, int] | None, runs_dir: pathlib.Path, as_json: bool
) -> None:
    """Show a run's best states; evaluate them again on request.

    With --recheck, the best states are evaluated anew and ranked by their mean score: a score that was luck,
    as timings can be, does not stay at the top.

    \b
    Example:
      ttd best runs/erdos-20260101-120000
      ttd best erdos-20260101-120000 --recheck 20x3
    """
    folder = existing_folder(run_name, runs_dir)
    stored = stored_config(folder)
    problem = registry.load(stored.problem, stored.options)
    if recheck is None:
        found = _kept(folder, count)
        header = ["rank", "node", "step", problem.metric]
        rows = [(row["rank"], row["node"], row["step"], problem.format_score(row["score"])) for row in found]
    else:
        found = [attrs.asdict(each) for each in recheck_states(folder, *recheck)]
        header = ["rank", "node", "valid", f"mean {problem.metric}", "first"]
        rows = []
    if as_json:
        print_json(found)
    else:
        click.echo(table(header, rows) if rows else "no valid state yet")


def _kept(folder: pathlib.Path, count: int) -> list[dict[str, Any]]:
    """The best states as the run scored them."""
    with RunReader.open(folder) as run:
        return [
            {
                "rank": rank,
                "node": record.id,
                "step": record.step,
                "score": record.reward.score,
                "reward": record.reward.value,
                "digest": record.digest,
                "code": record.code,
            }
            for rank, record in enumerate(run.best(count), start=1)
            if record.reward is not None
        ]
