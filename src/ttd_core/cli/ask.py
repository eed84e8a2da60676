"""``ttd hint`` and ``ttd stop``: what people ask of a run while it works, or before it goes on."""

from __future__ import annotations

import pathlib
import sys
from typing import Any

import click

from ttd_core.cli.folders import existing_folder, runs_dir_option
from ttd_core.cli.output import json_option, print_json, say, table
from ttd_core.errors import StorageError, UsageError
from ttd_core.run.files import other_machine, resume_command, writing_process
from ttd_core.run.hint_standing import HintStanding, hint_standings
from ttd_core.run.overview import finished_steps
from ttd_core.run.requests import MOST_HINT_CHARS, ask_to_stop, leave_hint, remove_hint
from ttd_core.text import decode_text, showable_line

#: Characters of a hint in the table.
_TABLE_CHARS = 60
#: Bytes of standard input that may hold a hint: a character takes up to four; blanks around it do not count.
_MOST_BYTES = 4 * MOST_HINT_CHARS + 1000


@click.command("hint")
@click.argument("run_name", metavar="RUN")
@click.argument("text", metavar="[TEXT]", required=False)
@click.option("--list", "as_list", is_flag=True, help="List the run's hints and the steps that had them.")
@click.option("--remove", type=click.IntRange(1), metavar="NUMBER", help="Take a hint back.")
@runs_dir_option
@json_option
def hint(
    run_name: str,
    text: str | None,
    as_list: bool,
    remove: int | None,
    runs_dir: pathlib.Path,
    as_json: bool,
) -> None:
    """Leave a hint for a run.

    From the run's next step on, its prompts end with the hint, quoted as what a person says, until it is
    taken back. Steps that a resumed run repeats have the hints that they had. TEXT is read from standard
    input where it is -; at most 4,000 characters.

    \b
    Example:
      ttd hint erdos-20260101-120000 "Try a gradient step on the Fourier coefficients."
      ttd hint erdos-20260101-120000 --list
      ttd hint erdos-20260101-120000 --remove 1
    """
    if (text is not None) + as_list + (remove is not None) != 1:
        raise click.UsageError("one is needed: TEXT, --list or --remove NUMBER", click.get_current_context())
    folder = existing_folder(run_name, runs_dir)
    if as_list:
        facts = hints_of(folder)
        print_json(facts) if as_json else say(_as_table(facts))
        return
    # Refuses a folder that became no run before anything is written there.
    when = _from_when(folder)
    if text is not None:
        number, done = leave_hint(folder, _standard_input() if text == "-" else text), "left"
    else:
        assert remove is not None
        remove_hint(folder, remove)
        number, done = remove, "removed"
    if as_json:
        print_json({"run": str(folder), "number": number, "done": done})
    else:
        say(f"hint {number} {done}; {when}")


@click.command("stop")
@click.argument("run_name", metavar="RUN")
@runs_dir_option
@json_option
def stop(run_name: str, runs_dir: pathlib.Path, as_json: bool) -> None:
    """Stop a run after the step under way.

    The step is finished and committed; then the run ends as an interrupted one does: with exit code 130 and
    the words "stopped as asked after step N", and `ttd resume` goes on with it.

    \b
    Example:
      ttd stop erdos-20260101-120000
    """
    folder = existing_folder(run_name, runs_dir)
    process, machine = writing_process(folder), other_machine(folder)
    if process is None and _finished(folder):
        raise UsageError(f"{folder}: the run is finished; there is nothing to stop")
    if process is None and not machine:
        raise UsageError(f"{folder}: no process writes this run, so there is nothing to stop")
    ask_to_stop(folder)
    if as_json:
        print_json({"run": str(folder), "process": process, "machine": machine or None})
    elif process is not None:
        say(f"asked process {process} to stop: it ends after the step under way")
    else:
        say(f"asked; if {machine} still writes this run, it ends after the step under way")


def hints_of(folder: pathlib.Path) -> list[dict[str, Any]]:
    """A run's hints with the steps that had them, JSON; those that no step has begun with yet are last.

    :raises StorageError: when they cannot be read.
    """
    return [
        {
            "number": each.number,
            "state": _state(each),
            "began": each.began,
            "ended": each.ended,
            "written": each.written,
            "text": each.text,
        }
        for each in hint_standings(folder)
    ]


def _state(hint: HintStanding) -> str:
    if hint.began is None:
        return "removed before any step" if hint.removed else "waits for the next step"
    if hint.ended is not None:
        return "removed"
    return "removed, from the next step on" if hint.removed else "in prompts"


def _as_table(facts: list[dict[str, Any]]) -> str:
    if not facts:
        return "no hints"
    rows = []
    for each in facts:
        began, ended = each["began"], each["ended"]
        steps = "-" if began is None else f"{began} to {ended - 1}" if ended else f"from {began}"
        text = showable_line(each["text"])
        shown = text if len(text) <= _TABLE_CHARS else f"{text[: _TABLE_CHARS - 3]}..."
        rows.append([each["number"], each["state"], steps, shown])
    return table(["hint", "state", "steps", "text"], rows)


def _from_when(folder: pathlib.Path) -> str:
    """When a hint or its removal takes effect."""
    if writing_process(folder) is not None or other_machine(folder):
        return "the run heeds that from its next step on"
    go_on = resume_command(folder)
    if _finished(folder):
        return f"the run is finished, and heeds that if it is given more steps: {go_on} --steps N"
    return f"the run heeds that when it goes on: {go_on}"


def _finished(folder: pathlib.Path) -> bool:
    try:
        return finished_steps(folder) is not None
    except StorageError:
        # Another machine's database may be unreadable from here.
        return False


def _standard_input() -> str:
    content = sys.stdin.buffer.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise UsageError(f"the hint on standard input is longer than {MOST_HINT_CHARS} characters")
    try:
        return decode_text(content)
    except ValueError as error:
        raise UsageError(f"the hint on standard input is {error}") from error
