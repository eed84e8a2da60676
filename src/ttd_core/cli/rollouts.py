"""``ttd rollouts``: what a run's model replied and what came of it, as a table or one by one."""

from __future__ import annotations

import itertools
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import attrs
import click

from ttd_core.cli.folders import existing_folder, runs_dir_option
from ttd_core.cli.output import json_option, print_json, say, table
from ttd_core.cli.tokens import show_tokens, tokens_as_json
from ttd_core.errors import UsageError
from ttd_core.policy.models.tags import answer_within
from ttd_core.run.events import plain
from ttd_core.run.reading import RunReader
from ttd_core.run.records import RolloutRecord
from ttd_core.run.tokens import TokenRecord
from ttd_core.text import counted, quoted_lines, showable_line
from ttd_core.types import Message, Status

_PLACE = re.compile(r"(\d{1,9})/(\d{1,9})/(\d{1,9})")
#: Characters of a message in the table.
_MESSAGE_CHARS = 60


def _place(ctx: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, int, int] | None:
    """``3/0/12`` as three numbers."""
    if text is None:
        return None
    match = _PLACE.fullmatch(text)
    if match is None:
        raise click.BadParameter(f"{text!r} is not STEP/GROUP/INDEX, such as 3/0/12", ctx, parameter)
    return int(match[1]), int(match[2]), int(match[3])


@click.command("rollouts")
@click.argument("run_name", metavar="RUN")
@click.option(
    "--status", type=click.Choice([each.value for each in Status]), help="Only those that ended in this way."
)
@click.option("--step", type=click.IntRange(min=1), help="Only those of this step.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many to list at most."
)
@click.option(
    "--show",
    "place",
    metavar="STEP/GROUP/INDEX",
    callback=_place,
    help="Print one of them whole: prompt, reply, verdict, program, output.",
)
@click.option(
    "--tokens", "as_tokens", is_flag=True, help="With --show: its tokens and their log-probabilities."
)
@runs_dir_option
@json_option
def rollouts(
    run_name: str,
    status: str | None,
    step: int | None,
    limit: int,
    place: tuple[int, int, int] | None,
    as_tokens: bool,
    runs_dir: pathlib.Path,
    as_json: bool,
) -> None:
    """List a run's rollouts, or print one of them.

    A rollout is named by its step (from 1), its group in the step and its index in the group (both from 0),
    as the table's first column shows.

    \b
    Example:
      ttd rollouts erdos-20260101-120000 --status crash
      ttd rollouts erdos-20260101-120000 --step 3
      ttd rollouts erdos-20260101-120000 --show 3/0/12
      ttd rollouts erdos-20260101-120000 --show 3/0/12 --tokens
    """
    if as_tokens and place is None:
        raise click.UsageError("--tokens goes with --show STEP/GROUP/INDEX", click.get_current_context())
    with RunReader.open(existing_folder(run_name, runs_dir)) as run:
        if place is not None:
            facts = one_rollout(run, *place)
            if as_tokens:
                tokens = _tokens(run, *place)
                print_json(tokens_as_json(tokens)) if as_json else show_tokens(tokens)
                return
            print_json(facts) if as_json else say(_as_text(facts))
            return
        _require_step(run, step)
        chosen = (each for each in run.rollouts(step, text=False) if status in (None, each.status.value))
        shown = list(itertools.islice(chosen, limit))
        more = sum(1 for _ in chosen)
    if as_json:
        print_json([plain(_short_facts(each)) for each in shown])
        return
    header = ["rollout", "status", "score", "advantage", "tokens", "seconds", "message"]
    say(table(header, [_row(each) for each in shown]) if shown else "no such rollout")
    if more:
        say(f"\n{more} more; --limit {len(shown) + more} lists them all")


def one_rollout(run: RunReader, step: int, group: int, index: int) -> dict[str, Any]:
    """Everything that is kept of one rollout, JSON.

    :raises UsageError: when there is none; says what there is.
    """
    _require_step(run, step)
    of_step = {(each.group_index, each.rollout_index): each for each in run.rollouts(step)}
    record = of_step.get((group, index))
    if record is None:
        size = sum(1 for each, _ in of_step if each == group)
        last = max((each for each, _ in of_step), default=0)
        have = f"group {group} has indices 0 to {size - 1}" if size else f"its groups are 0 to {last}"
        raise UsageError(f"{run.folder}: there is no rollout {step}/{group}/{index}: {have}")
    prompts = {each.group_index: each for each in run.groups(step)}
    answer = answer_within(record.text)
    thinking = record.text.removesuffix(answer) if record.text.endswith(answer) else record.text
    facts = {
        **_short_facts(record),
        "start": prompts[group].start,
        "hints": [attrs.asdict(hint) for hint in run.hints(step)],
        "prompt": prompts[group].prompt,
        "thinking": thinking,
        "reply": answer,
        "program": record.code,
        "output": record.output,
        "stop": record.stop.value,
        "trained_tokens": record.trained_tokens,
        "level": record.level,
        "fate": record.fate.value,
        "node": record.node,
        "metrics": record.metrics,
    }
    return plain(facts)  # type: ignore[no-any-return]


def _tokens(run: RunReader, step: int, group: int, index: int) -> TokenRecord:
    """The kept tokens of a rollout.

    :raises UsageError: when none are kept; says what there is, or why there is nothing.
    """
    of_step = run.tokens(step)
    record = of_step.get((group, index))
    if record is None:
        kept = counted(len(of_step), "rollout")
        why = (
            f"those of {kept} of this step are, as many as keep_tokens allows"
            if of_step
            else "a run keeps them where keep_tokens is set and its policy tells of tokens"
        )
        raise UsageError(f"{run.folder}: no tokens are kept of {step}/{group}/{index}; {why}")
    return record


def _require_step(run: RunReader, step: int | None) -> None:
    last = run.last_step()
    if step is not None and not 1 <= step <= last:
        have = f"it has steps 1 to {last}" if last else "it has no finished step yet"
        raise UsageError(f"{run.folder}: there is no step {step}: {have}")


def _short_facts(record: RolloutRecord) -> dict[str, Any]:
    return {
        "rollout": _name(record),
        "step": record.step,
        "group": record.group_index,
        "index": record.rollout_index,
        "status": record.status.value,
        "message": record.message,
        "score": record.score,
        "reward": record.value,
        "advantage": record.advantage,
        "tokens": record.tokens,
        "seconds": record.seconds,
    }


def _name(record: RolloutRecord) -> str:
    return f"{record.step}/{record.group_index}/{record.rollout_index}"


def _row(record: RolloutRecord) -> list[Any]:
    message = showable_line(record.message)
    if len(message) > _MESSAGE_CHARS:
        message = f"{message[: _MESSAGE_CHARS - 3]}..."
    numbers = [_number(record.score, ".10g"), _number(record.advantage, ".3g"), record.tokens]
    return [_name(record), record.status.value, *numbers, f"{record.seconds:.2f}", message]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def _as_text(facts: dict[str, Any]) -> str:
    """One rollout for people; what the model and its program wrote is quoted."""
    return "\n".join(_lines(facts))


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    yield f"rollout    {facts['rollout']}, from node {facts['start']}"
    verdict = " ".join([facts["status"], showable_line(facts["message"])]).strip()
    yield f"verdict    {verdict}"
    yield f"score      {_number(facts['score'], '.12g')}"
    yield f"reward     {_number(facts['reward'], '.6g')}"
    yield f"advantage  {_number(facts['advantage'], '.3g')}"
    yield f"tokens     {facts['tokens']}, {facts['trained_tokens']} of them chosen; ended by {facts['stop']}"
    ran = f"{facts['seconds']:.2f} s, sandbox {facts['level']}" if facts["level"] else "it never ran"
    yield f"program    {ran}"
    node = "" if facts["node"] is None else f", node {facts['node']}"
    yield f"archive    {facts['fate']}{node}"
    if facts["hints"]:
        numbers = ", ".join(str(hint["number"]) for hint in facts["hints"])
        yield f"hints      {numbers}, at the end of the prompt"
    messages: list[Message] = facts["prompt"]
    parts = [(f"prompt, {message['role']}", message["content"]) for message in messages]
    parts += [(name, facts[name]) for name in ("thinking", "reply", "program", "output")]
    for title, text in parts:
        if text.strip():
            yield f"\n{title}:\n{quoted_lines(text.rstrip())}"
