"""``ttd run`` and ``ttd resume``: begin a run in a new folder, or continue one."""

from __future__ import annotations

import contextlib
import functools
import pathlib
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
import click

from ttd_core import config as configs
from ttd_core.cli import estimate
from ttd_core.cli.flags import ProblemCommand
from ttd_core.cli.folders import existing_folder, new_folder, runs_dir_option
from ttd_core.cli.group import INTERRUPTED
from ttd_core.cli.output import complain, json_option, print_json, say, table
from ttd_core.cli.parameters import option_option, problem_options, run_name, sandbox_option, set_option
from ttd_core.cli.progress import ProgressView
from ttd_core.cli.wording import compare_with_published
from ttd_core.config.presets import in_words
from ttd_core.policy.models.catalogue import CATALOGUE
from ttd_core.problem import Problem
from ttd_core.report.trackers import open_trackers
from ttd_core.run.files import resume_command
from ttd_core.run.judges import budget_warning
from ttd_core.run.loop import RunResult, resume_run, start_run
from ttd_core.run.overview import finished_steps
from ttd_core.run.reading import RunReader
from ttd_core.run.seeds import require_start
from ttd_core.run.setup import CONFIG_FILE, RunSetup
from ttd_core.run.summary import RunSummary, summarise
from ttd_core.sandbox.cores import usable_cores
from ttd_core.sandbox.reserve import reserve_warning
from ttd_core.text import counted

#: Flags that are a config key under a shorter name.
FLAGS = {
    "model": "policy.model",
    "steps": "steps",
    "groups": "groups",
    "group_size": "group_size",
    "seed": "seed",
    "policy": "policy.backend",
    "executor": "sandbox.executor",
    "sandbox": "sandbox.level",
}

track_option: Callable[[Any], Any] = click.option(
    "--track",
    "trackers",
    multiple=True,
    metavar="NAME",
    help="Also log each step to tensorboard, trackio or wandb. Repeatable.",
)
quiet_option: Callable[[Any], Any] = click.option("-q", "--quiet", is_flag=True, help="Show no progress.")


def _print_settings(ctx: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        say(table(["key", "needs", "default", "meaning"], configs.describe_settings()))
        ctx.exit()


@click.command("run", cls=ProblemCommand)
@click.argument("problem", metavar="PROBLEM", required=False)
@click.option("--config", "file", type=click.Path(path_type=pathlib.Path), help="TOML file with config keys.")
@set_option
@option_option
@click.option("--model", help=f"A local folder, a hub id, or one of the catalogue: {', '.join(CATALOGUE)}.")
@click.option("--steps", type=int, help="Training steps.")
@click.option("--groups", type=int, help="Groups per step.")
@click.option("--group-size", type=int, help="Rollouts per group.")
@click.option("--seed", type=int, help="Seeds search, sampling and start states.")
@click.option("--variant", type=click.Choice(list(configs.VARIANTS)), help="Named set of choices.")
@click.option(
    "--preset",
    type=click.Choice(list(configs.PRESETS)),
    help=f"A size to begin with. {' '.join(f'{name} sets {in_words(name)}.' for name in configs.PRESETS)}",
)
@click.option("--policy", help="Policy backend.")
@click.option("--executor", help="Executor backend.")
@sandbox_option
@click.option("--name", callback=run_name, help="Name of the run folder; default: problem and time.")
@runs_dir_option
@click.option(
    "--list-settings",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_settings,
    help="Print every key that --set and --config take, and exit.",
)
@track_option
@quiet_option
@json_option
def run(
    problem: str | None,
    file: pathlib.Path | None,
    sets: tuple[str, ...],
    options: tuple[str, ...],
    variant: str | None,
    preset: str | None,
    name: str | None,
    runs_dir: pathlib.Path,
    trackers: tuple[str, ...],
    quiet: bool,
    as_json: bool,
    **flags: Any,
) -> int:
    """Learn on a problem, in a new run folder.

    PROBLEM is a name from `ttd list-problems`, or FILE.py:Class; a --config file may name it instead.
    Later wins: defaults, the --preset, the file, then flags and --set.

    \b
    Example:
      ttd run erdos --preset laptop --name first -o start=program -o reply=parts -o budget_s=3 -o timeout_s=8
      ttd run erdos --config mine.toml --variant no-training --set policy.max_new_tokens=800
    """
    overrides: dict[str, Any] = {FLAGS[key]: value for key, value in flags.items() if value is not None}
    if options:
        overrides["options"] = problem_options(options)
    config = configs.load(
        problem or "", file=file, sets=sets, variant=variant, preset=preset, overrides=overrides
    )
    setup = RunSetup.from_config(config)
    require_start(setup.hooks, config.seed)
    folder = new_folder(runs_dir, name, setup.problem.name)
    for told in _warnings(setup):
        complain(told, "warning")
    return _follow(setup, folder, quiet, as_json, trackers, start_run)


@click.command("resume")
@click.argument("run_name", metavar="RUN")
@set_option
@click.option("--steps", type=int, help="Training steps in all.")
@click.option(
    "--back-to",
    type=click.IntRange(0),
    metavar="STEP",
    help="Go on from this step, and forget those after it; 0 is the start.",
)
@click.option(
    "--accept-problem", is_flag=True, help="Go on though the problem was changed since the run began."
)
@runs_dir_option
@track_option
@quiet_option
@json_option
def resume(
    run_name: str,
    sets: tuple[str, ...],
    steps: int | None,
    back_to: int | None,
    accept_problem: bool,
    runs_dir: pathlib.Path,
    trackers: tuple[str, ...],
    quiet: bool,
    as_json: bool,
) -> int:
    """Continue a run from its last committed step.

    RUN is the run's folder, or its name inside --runs-dir. A run goes on under the config it was started
    with: only steps, checkpoints_kept, on_problem_error, keep_rollouts, keep_tokens, sandbox.workers,
    sandbox.reserve, and the programs' time, options.budget_s and options.timeout_s, may change.
    Rollouts of a step that was stopped in its middle are used again. A run that has finished all its steps is
    left as it is; --steps gives it more.

    \b
    Example:
      ttd resume runs/erdos-20260101-120000
      ttd resume erdos-20260101-120000 --steps 100
    """
    folder = existing_folder(run_name, runs_dir)
    overrides = configs.parse_sets(sets, {} if steps is None else {"steps": steps})
    setup = RunSetup.from_folder(folder, overrides, accept_problem=accept_problem)
    if back_to is None and (done := finished_steps(folder)) is not None and done >= setup.config.steps:
        return _tell_finished(setup.problem, folder, done, sets, quiet, as_json)
    if "options" in overrides and (told := budget_warning(setup.hooks, setup.config)):
        complain(told, "warning")
    if "sandbox.reserve" in overrides and (told := reserve_warning(setup.config, usable_cores())):
        complain(told, "warning")
    go = functools.partial(resume_run, back_to=back_to)
    return _follow(setup, folder, quiet, as_json, trackers, go)


def _warnings(setup: RunSetup) -> Iterator[str]:
    """What to say before a run begins, a line each."""
    config = setup.config
    yield from configs.without_effect(config)
    said = (
        estimate.warning(config),
        budget_warning(setup.hooks, config),
        reserve_warning(config, usable_cores()),
    )
    yield from filter(None, said)


def _tell_finished(
    problem: Problem, folder: pathlib.Path, done: int, sets: Sequence[str], quiet: bool, as_json: bool
) -> int:
    """What a finished run came to; nothing in its folder changes and no model is loaded.

    :param sets: what was to change, by ``--set``; it does with more steps.
    """
    if not quiet:
        changes = [f"--set {shlex.quote(each)}" for each in sets if each.partition("=")[0].strip() != "steps"]
        go_on = f"go on with: {' '.join([resume_command(folder), *changes])} --steps {done + 1}"
        say(f"{folder}: finished after step {done} already; {go_on}", err=as_json)
    with RunReader.open(folder) as reader:
        summary = summarise(reader, problem)
    result = RunResult(folder, done, summary, adapter=("", ""), interrupted=False, seconds=0.0)
    _print_result(problem, result, as_json)
    return 0


def _print_result(problem: Problem, result: RunResult, as_json: bool) -> None:
    if as_json:
        print_json(result_as_json(problem, result))
    else:
        for line in closing_lines(problem, result):
            say(line)


def _warn(message: str) -> None:
    complain(message, "warning")


def _follow(
    setup: RunSetup,
    folder: pathlib.Path,
    quiet: bool,
    as_json: bool,
    tracker_names: Sequence[str],
    go: Callable[[RunSetup, pathlib.Path, list[Any]], RunResult],
) -> int:
    """Start or resume a run with its progress shown, then print what came of it; returns the exit code.

    :param go: starts or resumes it.
    """
    problem = setup.problem
    trackers = open_trackers(tracker_names, folder, setup.config, _warn)
    for failure in setup.hooks.failures:
        complain(str(failure), "warning")
    try:
        with contextlib.ExitStack() as closing:
            for tracker in trackers:
                closing.callback(tracker.close)
            view = closing.enter_context(ProgressView(problem, sys.stderr if as_json else sys.stdout, quiet))
            result = go(setup, folder, [view, *trackers])
    except KeyboardInterrupt:
        hint = f"; continue with: {resume_command(folder)}" if (folder / CONFIG_FILE).exists() else ""
        complain(f"interrupted{hint}")
        return INTERRUPTED
    _print_result(problem, result, as_json)
    if result.interrupted:
        how = "stopped as asked" if result.asked else "interrupted"
        complain(f"{how} after step {result.steps}; continue with: {resume_command(folder)}")
        return INTERRUPTED
    return 0


def closing_lines(problem: Problem, result: RunResult) -> Iterator[str]:
    """A run's outcome for people."""
    summary = result.summary
    yield _shares(summary)
    if summary.novel_score is not None:
        line = f"best new program: {problem.metric} {problem.format_score(summary.novel_score)}"
        if summary.novel_gain is not None and summary.start_score is not None:
            start = problem.format_score(summary.start_score)
            comparison = "better" if summary.novel_gain > 0 else "no better"
            line += f", {comparison} than the start's {start} (gain {summary.novel_gain:+.3g})"
        yield line
    before, after = result.adapter
    if before != after:
        # A server that trains may not tell how far.
        far = f" by {summary.update_norm:.3g}" if summary.update_norm else ""
        yield f"adapter moved{far}: {before[:12]} -> {after[:12]}"
    elif before:
        yield f"adapter unchanged: {before[:12]}"
    if summary.best_score is not None:
        yield f"best {problem.metric} {compare_with_published(problem, summary.best_score)}"
        yield f"kept in {result.folder / 'best'}"


def _shares(summary: RunSummary) -> str:
    """How many rollouts were valid and how many programs repeat, where there are any."""
    if not summary.rollouts:
        return "no step was made, so there are no rollouts"
    rollouts = counted(summary.rollouts, "rollout")
    line = f"{summary.valid} of {rollouts} valid ({summary.valid_share:.0%}); "
    if not summary.programs:
        return line + "no reply held a program"
    return line + f"{summary.repeats:.0%} of the programs repeat the one they started from"


def result_as_json(problem: Problem, result: RunResult) -> dict[str, Any]:
    """A run's outcome as JSON."""
    published = problem.best_comparable()
    before, after = result.adapter
    return {
        **attrs.asdict(result.summary),
        "adapter_before": before,
        "adapter_after": after,
        "run": str(result.folder),
        "problem": problem.name,
        "metric": problem.metric,
        "caution": problem.score_caution() or None,
        "steps": result.steps,
        "interrupted": result.interrupted,
        "best_score": result.best_score,
        "best_published": published.score if published else None,
        "seconds": result.seconds,
    }
