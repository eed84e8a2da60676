"""``ttd experiment``: a grid of runs from one file."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import click
import rich.console
import rich.live
import rich.table
import rich.text

from ttd_core.cli.compare import as_text
from ttd_core.cli.group import INTERRUPTED
from ttd_core.cli.output import complain, json_option, print_json, say, table
from ttd_core.cli.report import load_pages, write_page
from ttd_core.cli.wording import duration
from ttd_core.experiment.plan import Plan, read_plan
from ttd_core.experiment.progress import Folders, Stage, Standing, standings
from ttd_core.experiment.runner import ExperimentRunner
from ttd_core.experiment.slots import make_slots
from ttd_core.experiment.summary import cost_row, pairs, time_to
from ttd_core.plugin.registry import resolve
from ttd_core.report.facts import read_facts
from ttd_core.report.pooling import by_problem, notes_on, pool_seeds
from ttd_core.run.interrupts import signals_as_interrupt
from ttd_core.text import counted, showable_line


@click.command("experiment")
@click.argument("file", type=click.Path(path_type=pathlib.Path, dir_okay=False))
@click.option(
    "--folder",
    type=click.Path(path_type=pathlib.Path, file_okay=False),
    help="Where the experiment is kept; default experiments/NAME.",
)
@click.option("--parallel", type=click.IntRange(1), help="Runs at a time; default one for each GPU.")
@click.option("--skip-failed", is_flag=True, help="Do not try runs again that failed before.")
@click.option("--dry-run", is_flag=True, help="Print the runs and what they may cost; make none.")
@click.option("--summary", "only_summary", is_flag=True, help="Print what the runs came to; make none.")
@json_option
def experiment(
    file: pathlib.Path,
    folder: pathlib.Path | None,
    parallel: int | None,
    skip_failed: bool,
    dry_run: bool,
    only_summary: bool,
    as_json: bool,
) -> int:
    """Make a grid of runs and say what they came to.

    FILE is a TOML file: what the runs share under [run], what they differ in under [grid]. Each run is an
    ordinary run folder. A command that was killed goes on where it was when it is given again; finished runs
    are not made again, and one that fails does not stop the others.

    \b
    Example:
      ttd experiment experiments/laptop.toml --dry-run
      ttd experiment experiments/laptop.toml
      ttd experiment experiments/laptop.toml --summary --json
    """
    plan = read_plan(file)
    folders = Folders(folder if folder is not None else pathlib.Path("experiments") / plan.name)
    if dry_run:
        return _dry_run(plan, folders, as_json)
    if not only_summary:
        slots = make_slots([run.config for run in plan.runs], parallel or plan.machine.parallel)
        runner = ExperimentRunner(plan, folders, slots, retry_failed=not skip_failed)
        try:
            with signals_as_interrupt():
                _make(plan, folders, runner)
        except KeyboardInterrupt:
            complain(f"interrupted; continue with: ttd experiment {file}")
            return INTERRUPTED
    return _summarise(plan, folders, as_json)


def _dry_run(plan: Plan, folders: Folders, as_json: bool) -> int:
    """Print the runs, and the most that they may cost."""
    now = standings(plan, folders)
    rows: list[dict[str, Any]] = []
    for run in plan.runs:
        problem, config = resolve(run.config)
        context = config.policy.max_new_tokens or config.policy.context
        rows.append(
            {
                "run": run.name,
                "stage": now[run.name].stage.value,
                "problem": problem.name,
                "steps": config.steps,
                "rollouts": run.rollouts,
                "tokens_at_most": run.rollouts * context,
                "program_seconds_at_most": run.rollouts * problem.options.timeout_s,
            }
        )
    if as_json:
        print_json({"experiment": plan.name, "folder": str(folders.root), "runs": rows})
        return 0
    say(f"{plan.title}: {counted(len(rows), 'run')} in {folders.root}\n")
    header = ["run", "stage", "problem", "steps", "rollouts", "tokens, at most", "program time, at most"]
    cells = [[*list(row.values())[:6], duration(row["program_seconds_at_most"])] for row in rows]
    say(table(header, cells))
    rollouts, tokens = (sum(row[key] for row in rows) for key in ("rollouts", "tokens_at_most"))
    seconds = sum(row["program_seconds_at_most"] for row in rows)
    in_all = f"{counted(rollouts, 'rollout')}, at most {counted(tokens, 'token')}"
    say(f"\nin all {in_all} and {duration(seconds)} of programs")
    done = [standing for standing in now.values() if standing.stage is Stage.FINISHED]
    if done:
        mean = sum(standing.seconds for standing in done) / len(done)
        say(f"{len(done)} are finished, in {duration(mean)} each on average")
    return 0


def _make(plan: Plan, folders: Folders, runner: ExperimentRunner) -> None:
    """Make the runs with a live table on a terminal, else with a line for each that ends."""
    console = rich.console.Console(file=sys.stderr)
    if not console.is_terminal:
        for ended in runner.go():
            now = standings(plan, folders)
            say(_ended_line(plan, now, ended.run.name, ended.error), err=True)
        return
    with rich.live.Live(console=console, refresh_per_second=2, auto_refresh=False) as live:
        looks = 0

        def look() -> None:
            nonlocal looks
            looks += 1
            if looks % 5 == 1:
                live.update(_live_table(plan, standings(plan, folders)), refresh=True)

        for ended in runner.go(look):
            line = _ended_line(plan, standings(plan, folders), ended.run.name, ended.error)
            live.console.print(rich.text.Text(line))
        live.update(_live_table(plan, standings(plan, folders)), refresh=True)


def _ended_line(plan: Plan, now: Mapping[str, Standing], name: str, error: str) -> str:
    finished = sum(standing.stage is Stage.FINISHED for standing in now.values())
    standing = now[name]
    what = f"failed: {error}" if error else f"{standing.stage} after {standing.step} steps"
    score = "" if standing.best_score is None else f", best {standing.best_score:.10g}"
    line = f"[{finished}/{len(plan.runs)}] {name}: {what}{score}, {duration(standing.seconds)}"
    return showable_line(line)


def _live_table(plan: Plan, now: Mapping[str, Standing]) -> rich.table.Table:
    drawn = rich.table.Table(title=rich.text.Text(showable_line(plan.title)))
    for column in ("run", "stage", "steps", "valid", "best", "time"):
        drawn.add_column(column)
    for run in plan.runs:
        standing = now[run.name]
        drawn.add_row(
            rich.text.Text(showable_line(run.name)),
            standing.stage.value,
            f"{standing.step}/{run.config.steps}",
            "" if standing.valid_share is None else f"{standing.valid_share:.0%}",
            "" if standing.best_score is None else f"{standing.best_score:.10g}",
            duration(standing.seconds) if standing.seconds else "",
        )
    return drawn


def _summarise(plan: Plan, folders: Folders, as_json: bool) -> int:
    """Print what the runs came to and write their page; 1 when a run failed or is owed."""
    now = standings(plan, folders)
    runs = [read_facts(folders.run(run.name)) for run in plan.runs if now[run.name].step > 0]
    names = {run.name: run.arm for run in plan.runs}
    groups = by_problem(pool_seeds(runs, names))
    page = folders.root / "compare.html"
    if runs:
        write_page(page, load_pages().compare_page(runs, names))
    whole = all(standing.stage is Stage.FINISHED for standing in now.values())
    if as_json:
        print_json(
            {
                "experiment": plan.name,
                "folder": str(folders.root),
                "page": str(page) if runs else None,
                "runs": {name: attrs.asdict(standing) for name, standing in now.items()},
                "arms": [arm.row() for group in groups.values() for arm in group],
                "pairs": [attrs.asdict(each) for group in groups.values() for each in pairs(group)],
                "costs": [cost_row(arm, plan.machine) for group in groups.values() for arm in group],
                "times": [
                    attrs.asdict(time_to(arm, plan.target))
                    for group in groups.values()
                    for arm in group
                    if plan.target is not None
                ],
            }
        )
    else:
        for line in _summary_lines(plan, now, groups):
            say(line)
        if runs:
            say(f"\ncurves in {page}")
    return 0 if whole else 1


def _summary_lines(plan: Plan, now: Mapping[str, Standing], groups: Mapping[str, Any]) -> Iterator[str]:
    for group in groups.values():
        yield as_text(group[0].runs[0].problem, [arm.row() for arm in group])
        yield ""
        yield from notes_on(group)
        for each in pairs(group):
            yield each.sentence()
        if plan.target is not None:
            for arm in group:
                yield time_to(arm, plan.target).sentence()
        for arm in group:
            row, cost = arm.row(), cost_row(arm, plan.machine)
            seeds = ", ".join(
                f"seed {seed} " + _from_to(row["start_scores"][seed], score)
                for seed, score in row["best_scores"].items()
            )
            reward = "none" if row["last_mean_reward"] is None else f"{row['last_mean_reward']:.6g}"
            price = f", {cost['price']:.2f} {cost['currency']}" if cost["price"] else ""
            yield (
                f"{cost['arm']}: {cost['minutes']:.1f} minutes, {cost['tokens']} tokens, "
                f"{cost['evaluations']} evaluations{price}; best: {seeds}; "
                f"mean reward of the last three steps {reward}"
            )
    for name, standing in now.items():
        if standing.stage is not Stage.FINISHED:
            why = f": {showable_line(standing.error)}" if standing.error else f" after step {standing.step}"
            yield f"{name} is {standing.stage}{why}"


def _from_to(start: float | None, best: float | None) -> str:
    """A best score, and what the run began with where its starts have a score."""
    return ("none" if best is None else f"{best:.10g}") + ("" if start is None else f" from {start:.10g}")
