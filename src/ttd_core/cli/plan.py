"""``ttd plan``: what a run will take, before anything is loaded."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import click

from ttd_core import config as configs
from ttd_core.cli.flags import ProblemCommand
from ttd_core.cli.folders import existing_folder, runs_dir_option
from ttd_core.cli.output import json_option, print_json, say, table
from ttd_core.cli.parameters import FiniteNumber, option_option, problem_options, set_option
from ttd_core.cli.run import FLAGS
from ttd_core.cli.show import first_prompt
from ttd_core.cli.wording import duration
from ttd_core.config import RunConfig
from ttd_core.config.settings import MOST_SECONDS
from ttd_core.errors import TtdError, UsageError
from ttd_core.planning import plan as planning
from ttd_core.planning.former import FormerRun
from ttd_core.planning.machines import CARDS, Machine, named_machine, this_machine
from ttd_core.planning.models import default_machine, table_cells
from ttd_core.planning.plan import Assumptions, Plan
from ttd_core.plugin.registry import resolve
from ttd_core.policy.models.outline import outline_of
from ttd_core.problem import Problem
from ttd_core.text import counted

#: More than any machine has, or any figure is: GB of a card, cards or processors, tokens, and money an hour.
_MOST_GB, _MOST_COUNT, _MOST_TOKENS, _MOST_PRICE = 1e6, 1_000_000, 1 << 30, 1e9


@click.command("plan", cls=ProblemCommand)
@click.argument("problem_name", metavar="PROBLEM", required=False)
@click.option("--config", "file", type=click.Path(path_type=pathlib.Path), help="TOML file with config keys.")
@set_option
@option_option
@click.option(
    "--model", help="A local folder, a GGUF file, a catalogue name, a hub id, or its last part if published."
)
@click.option("--steps", type=int, help="Training steps.")
@click.option("--groups", type=int, help="Groups per step.")
@click.option("--group-size", type=int, help="Rollouts per group.")
@click.option("--variant", type=click.Choice(list(configs.VARIANTS)), help="Named set of choices.")
@click.option("--preset", type=click.Choice(list(configs.PRESETS)), help="A size to begin with.")
@click.option("--gpu", metavar="NAME", help=f"Plan for a card: {', '.join(CARDS)}; none: for a CPU.")
@click.option(
    "--gpu-memory", type=FiniteNumber(0, _MOST_GB, min_open=True), help="GB of each card, as its name has it."
)
@click.option("--gpus", type=click.IntRange(1, _MOST_COUNT), help="Cards in the machine.")
@click.option("--cores", type=click.IntRange(1, _MOST_COUNT), help="Processors in the machine.")
@click.option("--from", "run_name", metavar="RUN", help="Take the rates that this run measured of itself.")
@click.option("--measure", is_flag=True, help="Measure this machine's rates first, in a few seconds.")
@click.option("--prompt-tokens", type=click.IntRange(1, _MOST_TOKENS), help="Tokens of a prompt.")
@click.option("--reply-tokens", type=click.IntRange(1, _MOST_TOKENS), help="Tokens of a reply, on average.")
@click.option(
    "--evaluation-seconds",
    type=FiniteNumber(0, MOST_SECONDS),
    help="Seconds that judging a program takes, on average.",
)
@click.option("--price-per-hour", type=FiniteNumber(0, _MOST_PRICE), help="Of the machine, in any currency.")
@click.option("--models", is_flag=True, help="List the published models with their memory instead.")
@runs_dir_option
@json_option
def plan(
    problem_name: str | None,
    run_name: str | None,
    measure: bool,
    price_per_hour: float | None,
    models: bool,
    as_json: bool,
    **given: Any,
) -> int:
    """Say what a run will take: memory, hours, money.

    Nothing is loaded for it: of the model its config and the headers of its files are read. PROBLEM, the
    config and its flags are those of `ttd run`. Every figure is told with its source: a table of measured
    rates, scaled to the card; rates measured now (--measure); or what a former run measured of itself
    (--from), the best. Exit code 1 when the run does not fit the machine; what to change is said.

    \b
    Example:
      ttd plan erdos --preset laptop -o budget_s=3
      ttd plan erdos --model gpt-oss-120b --gpu h200 --price-per-hour 3.5
      ttd plan erdos --from runs/first --steps 50
    """
    here = this_machine()
    machine = named_machine(here, given["gpu"], given["gpu_memory"], given["gpus"], given["cores"])
    if models:
        if given["gpu"] == "none":
            raise UsageError("--gpu none: --models says what has room on a card; name one")
        return _list_models(machine, as_json)
    problem, config = _resolved(problem_name, given)
    planning.require_local(config)
    outline = outline_of(config.policy.model)
    told = Assumptions(
        prompt_characters=_prompt_characters(problem) if given["prompt_tokens"] is None else None,
        prompt_tokens=given["prompt_tokens"],
        reply_tokens=given["reply_tokens"],
        evaluation_s=given["evaluation_seconds"],
        former=None if run_name is None else FormerRun.of(existing_folder(run_name, given["runs_dir"])),
        measured=_measured(config, machine, here) if measure else None,
    )
    made = planning.make_plan(config, problem.options, outline, machine, told)
    if as_json:
        print_json(planning.as_json(made, price_per_hour))
    else:
        for line in lines(made, problem.name, price_per_hour):
            say(line)
    return 0 if made.memory.fits else 1


def _resolved(problem_name: str | None, given: dict[str, Any]) -> tuple[Problem, RunConfig]:
    """The problem, and the config as `ttd run` would have it."""
    keys = ("model", "steps", "groups", "group_size")
    overrides: dict[str, Any] = {FLAGS[key]: given[key] for key in keys if given[key] is not None}
    if given["options"]:
        overrides["options"] = problem_options(given["options"])
    layers = {name: given[name] for name in ("file", "sets", "variant", "preset")}
    return resolve(configs.load(problem_name or "", **layers, overrides=overrides))


def _prompt_characters(problem: Problem) -> int | None:
    """Characters of the first prompt; ``None`` where it needs what is not here."""
    try:
        return sum(len(message["content"]) for message in first_prompt(problem))
    except TtdError:
        return None


def _measured(config: RunConfig, machine: Machine, here: Machine) -> tuple[float, float, int]:
    """Rates of this machine."""
    if machine != here:
        raise UsageError("--measure is of this machine; leave out --gpu, --gpu-memory, --gpus and --cores")
    from ttd_core.policy.local.measuring import measure_device  # noqa: PLC0415 - torch: seconds to import

    return measure_device(config.policy.device, config.policy.dtype)


def _list_models(machine: Machine, as_json: bool) -> int:
    """Print the published models on a card, by default an H200."""
    head, rows = table_cells(machine if machine.on_gpu else default_machine())
    if as_json:
        print_json([dict(zip(head, row, strict=True)) for row in rows])
    else:
        say(table(head, rows))
    return 0


def lines(plan: Plan, problem: str, price_per_hour: float | None) -> Iterator[str]:
    """A plan for people."""
    shape, load, time = plan.shape, plan.load, plan.time
    size = f"{shape.weights / 1e9:.2f} billion weights"
    if shape.experts:
        size += f", {(shape.active_weights + shape.head_weights) / 1e9:.2f} for a token"
    devices = f"{load.devices} x " if load.devices > 1 else ""
    yield f"{problem} with {plan.model} ({size}) on {devices}{plan.machine.device}"
    yield f"engine: {plan.engine}"
    yield (
        f"a step: {counted(load.rollouts, 'rollout')}, prompts of {load.prompt:,} tokens, replies of "
        f"{load.reply:,} (at most {load.longest:,})"
    )
    yield ""
    yield table(["memory", "GB"], _memory_rows(plan))
    yield ""
    yield table(["a step", "seconds"], _time_rows(plan))
    yield ""
    hours = time.run / 3600
    money = "" if price_per_hour is None else f", {hours * price_per_hour:,.2f} at {price_per_hour:g} an hour"
    yield f"the run: {counted(time.steps, 'step')} of {duration(time.step)}, {hours:,.2f} hours{money}"
    yield ""
    yield table(["figure", "from"], plan.sources.items())
    yield from _remarks(plan)


def _remarks(plan: Plan) -> Iterator[str]:
    """Notes, and what to change where the run does not fit."""
    if planning.notes(plan) or plan.memory.advice:
        yield ""
    for note in planning.notes(plan):
        yield f"note: {note}"
    for advice in plan.memory.advice:
        yield f"does not fit: {advice}"


def _memory_rows(plan: Plan) -> Iterator[tuple[str, str]]:
    memory, load = plan.memory, plan.load
    rows = min(load.rows, load.rollouts_here)
    few = plan.engine.name == "lean" and memory.rows < rows
    at_once = f"{max(memory.rows, 1)} of {rows}" if few else f"{rows}"
    packed = " and MXFP4" if plan.shape.packed and plan.engine.name == "lean" else ""
    yield f"weights, {plan.dtype}{packed}", _gb(memory.weights)
    yield "adapter with Adam's state", _gb(memory.adapter)
    yield f"keys and values of {at_once} replies at once", _gb(memory.cache)
    yield "sampling besides", _gb(memory.sampling)
    if load.learns:
        yield f"learning from a pack of {load.longest_pack:,} tokens", _gb(memory.training)
    yield "libraries", _gb(memory.besides)
    yield "peak (learning begins when sampling has ended)", _gb(memory.peak)
    yield f"{plan.machine.device} has", _gb(memory.device)


def _time_rows(plan: Plan) -> Iterator[tuple[str, str]]:
    time = plan.time
    yield f"sampling, {plan.tokens_per_s:,.0f} tokens/s", f"{time.sampling:,.1f}"
    yield "evaluation", f"{time.evaluation:,.1f}"
    yield "both, " + ("side by side" if plan.machine.on_gpu else "on the same cores"), f"{time.rollouts:,.1f}"
    if plan.load.learns:
        yield "learning: base model", f"{time.base:,.1f}"
        yield "learning: gradients", f"{time.train:,.1f}"
    yield "in all", f"{time.step:,.1f}"


def _gb(value: float) -> str:
    return f"{value / 1e9:.2f}"
