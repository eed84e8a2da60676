"""``ttd best``: the best states of a run, evaluated again on request (paper C.1, D)."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import attrs
import click

from ttd_core.cli.folders import existing_folder, problem_of, runs_dir_option, stored_config
from ttd_core.cli.output import json_option, print_json, say, table
from ttd_core.cli.wording import caution_about_scores
from ttd_core.problem import Problem
from ttd_core.run.reading import RunReader
from ttd_core.run.recheck import Rechecked
from ttd_core.run.recheck import recheck as recheck_states

_TIMES = re.compile(r"^([1-9]\d*)x([1-9]\d*)$")


def _count_and_times(
    ctx: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[int, int] | None:
    """``20x3`` as two numbers."""
    if text is None:
        return None
    match = _TIMES.match(text)
    if match is None:
        raise click.BadParameter(f"{text!r} is not COUNTxTIMES, such as 20x3", ctx, parameter)
    return int(match[1]), int(match[2])


@click.command("best")
@click.argument("run_name", metavar="RUN")
@click.option("--count", type=click.IntRange(min=1), default=5, show_default=True, help="How many to show.")
@click.option(
    "--recheck",
    metavar="COUNTxTIMES",
    callback=_count_and_times,
    help="Evaluate the best COUNT again, TIMES times each.",
)
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
    problem = problem_of(folder, stored)
    if recheck is None:
        states = _best_states(folder, count)
        header = ["rank", "node", "step", problem.metric]
        rows = [
            [each["rank"], each["node"], each["step"], problem.format_score(each["score"])] for each in states
        ]
    else:
        rechecked = recheck_states(folder, *recheck)
        states = [attrs.asdict(each) for each in rechecked]
        header = ["rank", "node", "step", f"mean {problem.metric}", "spread", "valid", "first", "failures"]
        rows = [_row(problem, each) for each in rechecked]
    if as_json:
        caution = problem.score_caution()
        print_json([each | {"caution": caution} for each in states] if caution else states)
    else:
        say(table(header, rows) if rows else "no valid state yet")
        if rows and (caution := caution_about_scores(problem)):
            say(f"\n{caution}")


def _row(problem: Problem, each: Rechecked) -> list[Any]:
    mean = "-" if each.mean is None else problem.format_score(each.mean)
    spread = "-" if each.mean is None else f"{each.spread:.2g}"
    valid = f"{each.valid}/{each.times}"
    failures = "; ".join(each.messages)
    return [each.rank, each.node, each.step, mean, spread, valid, problem.format_score(each.first), failures]


def _best_states(folder: pathlib.Path, count: int) -> list[dict[str, Any]]:
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
