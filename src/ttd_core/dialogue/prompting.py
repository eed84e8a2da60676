"""The default prompt: one user message that holds all a model needs to write a better program.

One message, because some chat templates refuse a system role, and no word more than needed, because a
small model on a CPU pays for every token. The parts, in order: the task, the limits in force, the last
program with its score before and after, the target and the gap, the tail of its output, the rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import attrs

from ttd_core import scores
from ttd_core.dialogue.edit_rules import edit_rules
from ttd_core.dialogue.merging import split_parts
from ttd_core.dialogue.protection import END, START, has_markers
from ttd_core.options import Options
from ttd_core.text import showable
from ttd_core.types import Message, ScoredState, State, Status

#: Backticks are kept up to this many, for models know them best.
_USUAL_FENCE = 10
#: The line by which :func:`shown_cut` says what it left out.
_CUT = re.compile(r"^\[\.\.\. \d+ characters are left out here, for it is too long \.\.\.\]$", re.MULTILINE)
#: Said of a program with such lines, whatever form replies have.
_KEEPS = (
    f"Only what stands between the lines with {START} and {END} may change; keep these and all other lines. "
)
#: Characters shown of what is wrong with an edit.
_EDIT_CHARS = 2400


@attrs.frozen
class Brief:
    """What the default prompt says of a problem, apart from the states it starts from.

    :param title: one line.
    :param task: the task in words, Markdown.
    :param metric: name of the score.
    :param direction: whether a smaller or a larger score is better.
    :param language: of a candidate.
    :param signature: of the function a Python candidate must define.
    :param options: those in force: limits, form of the reply, how much output is shown.
    :param tells_budget: whether the function is given ``budget_s``.
    :param target: the score to aim for, if there is one.
    :param format_score: a score as people read it.
    :param first_shares: of the budget, with which a program runs before it gets all of it.
    """

    title: str
    task: str
    metric: str
    direction: scores.Direction
    language: str
    signature: str
    options: Options
    tells_budget: bool
    target: float | None
    format_score: Callable[[float], str]
    first_shares: Sequence[float] = ()


def default_prompt(brief: Brief, state: State, history: Sequence[ScoredState]) -> list[Message]:
    """Chat messages asking for a better program than ``state``'s.

    :param brief: the task, the limits and the target.
    :param state: the start state; its code and output are shown.
    :param history: its lineage, oldest first, ending with ``state``; empty when it has no score yet.
    :return: one user message.
    """
    parts = [
        f"# {brief.title}\n\n{brief.task.strip()}",
        _limits(brief),
        _last_program(brief, state, history),
        _failed_edit(state, brief.language),
        _rules(brief, state),
    ]
    return [{"role": "user", "content": "\n\n".join(part for part in parts if part)}]


def fenced(text: str, language: str = "") -> str:
    """``text`` in a code block that nothing inside it can close: whatever a prompt quotes goes through here.

    It is longer than any run of its character inside: of backticks, or of tildes where those are fewer.
    """
    fence = min((_fence_around(text, mark) for mark in "`~"), key=lambda each: max(len(each), _USUAL_FENCE))
    return f"{fence}{language}\n{text.strip(chr(10))}\n{fence}"


def _fence_around(text: str, mark: str) -> str:
    longest = max((len(run) for run in re.findall(f"{mark}+", text)), default=0)
    return mark * max(3, longest + 1)


def shown_cut(text: str, characters: int) -> str:
    """``text`` if it has at most so many characters, else its beginning and its end with a line between."""
    if len(text) <= characters:
        return text
    head, tail = text[: characters // 2], text[len(text) - characters // 2 :]
    # Whole lines, where that leaves out little more.
    head = head[: head.rfind("\n")] if "\n" in head[characters // 4 :] else head
    tail = tail[tail.find("\n") + 1 :] if "\n" in tail[: characters // 4] else tail
    missing = len(text) - len(head) - len(tail)
    return f"{head}\n[... {missing} characters are left out here, for it is too long ...]\n{tail}"


def is_cut(text: str) -> bool:
    """Whether :func:`shown_cut` has left something out of a text."""
    return _CUT.search(text) is not None


def score_lines(brief: Brief, history: Sequence[ScoredState]) -> str:
    """Score before and after the last program, the target and the gap, one line each."""
    better = "lower" if brief.direction == "min" else "higher"
    lines = []
    score = history[-1].reward.score if history else None
    if score is not None and len(history) > 1:
        before = history[-2].reward.score
        lines.append(
            f"Score ({brief.metric}, {better} is better): {brief.format_score(before)} before it, "
            f"{brief.format_score(score)} after."
        )
    elif score is not None:
        lines.append(f"Score ({brief.metric}, {better} is better): {brief.format_score(score)}.")
    target = brief.target
    if target is not None:
        line = f"Target: {brief.format_score(target)}"
        if score is None:
            line += f" ({brief.metric}, {better} is better)."
        elif scores.better(brief.direction, score, target):
            line += f", beaten by {abs(target - score):.4g}: go further."
        else:
            line += f", gap {abs(target - score):.4g}."
        lines.append(line)
    return "\n".join(lines)


def _limits(brief: Brief) -> str:
    options = brief.options
    processors = "1 CPU" if options.cpus == 1 else f"{options.cpus} CPUs"
    line = (
        f"Limits: {options.timeout_s:g} s of wall time, {processors}, {options.memory_mb} MiB of memory, "
        "no network, no files."
    )
    if brief.tells_budget:
        first = ", then ".join(f"{share * options.budget:.4g}" for share in brief.first_shares)
        runs = f" (first {first}; the best go on)" if first else ""
        line += f" `budget_s` is {options.budget:g}{runs}: return before it is over."
    return line


def _last_program(brief: Brief, state: State, history: Sequence[ScoredState]) -> str:
    lines = score_lines(brief, history)
    if not state.code.strip():
        scored = f"There is no program yet; the construction to start from is scored below.\n{lines}"
        return scored if history else f"There is no program yet.\n{lines}".strip()
    text = f"## Last program\n\n{fenced(state.code, _tag(brief.language))}\n{lines}".rstrip()
    tail = _tail(state.output, brief.options.output_chars)
    if tail:
        text += f"\nIts output ended with:\n{fenced(tail)}"
    return text


def _failed_edit(state: State, language: str) -> str:
    """Why the last reply to this state could not be applied, with the nearest lines of the program."""
    failure = state.failures.get(Status.EDIT_ERROR)
    if failure is None:
        return ""
    text = f"## A reply that could not be applied\n\n{fenced(showable(failure.message)[:_EDIT_CHARS])}"
    if failure.output.strip():
        text += f"\nLines of the program:\n{fenced(failure.output[:_EDIT_CHARS], _tag(language))}"
    return f"{text}\nAvoid that."


def _tail(output: str, characters: int) -> str:
    """The last characters of a program's output."""
    if characters <= 0:
        return ""
    kept = output.rstrip()[-characters:]
    return kept.strip("\n")


def _rules(brief: Brief, state: State) -> str:
    if state.code.strip():
        task, advice = (
            "Improve the program",
            "Change an idea or a parameter that can really help; what it prints",
        )
    else:
        task, advice = "Write the program", "What it prints"
    tag = _tag(brief.language)
    keeps = _KEEPS if has_markers(state.code) else ""
    if brief.options.reply == "parts" and state.code.strip():
        return (
            f"## Your turn\n\n{task}. Do not repeat it: in one ```{tag} block give only the top-level parts "
            "that you change or add (a constant, a function, each whole); all other parts stay as they are. "
            f"{keeps}{advice} is shown next time.{_example_of_a_part(state.code, tag)}"
        )
    if brief.options.reply == "edits" and state.code.strip():
        example, how = edit_rules(state.code, is_cut(state.code))
        return (
            f"## Your turn\n\n{task}. Do not repeat it: give only the lines that change, in SEARCH/REPLACE "
            f"blocks. {how} {keeps}{advice} is shown next time. A whole reply that changes one line, as an "
            f"example; make a change of your own:\n\n{fenced(example, tag)}"
        )
    must = f"It must define `{brief.signature}`. " if brief.language == "python" else ""
    return (
        f"## Your turn\n\n{task} and give all of it in one ```{tag} block. {must}{keeps}"
        f"{advice} is shown next time."
    )


def _example_of_a_part(program: str, tag: str) -> str:
    """What a short reply looks like, by the name of one of the program's own constants."""
    try:
        parts = split_parts(program)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    name = next((part.names[0] for part in parts if part.kind == "assign" and len(part.names) == 1), None)
    if name is None:
        return ""
    return f" A whole reply that changes one constant:\n\n{fenced(f'{name} = ...', tag)}"


def _tag(language: str) -> str:
    """What a language's code blocks are labelled with."""
    return {"c++": "cpp"}.get(language, language)
