"""One rollout whole: prompt, thinking, reply, program, verdict, and its group."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from markupsafe import Markup

from ttd_core.errors import StorageError
from ttd_core.policy.models.tags import answer_within
from ttd_core.problem import Problem
from ttd_core.report.code import DiffLine, count_changes, diff, highlight_lines
from ttd_core.run.browsing import RunBrowser
from ttd_core.run.records import GroupRecord, Place, RolloutRecord, StateRecord
from ttd_core.text import showable
from ttd_core.ui.folders import NotFoundError
from ttd_core.ui.token_view import Token, tokens_shown

#: Characters of a text that a page shows at first.
SHOWN = 20_000
#: Characters of a text that are sent when all of it is asked for.
MOST = 20_000_000


@attrs.frozen
class LongText:
    """A text of which a page shows the beginning.

    :param name: of the part, as an address has it.
    :param title: for people.
    :param shown: its beginning.
    :param length: characters in all.
    """

    name: str
    title: str
    shown: str
    length: int

    @classmethod
    def of(cls, name: str, title: str, text: str) -> LongText:
        """A text, cut to what is shown."""
        return cls(name, title, text[:SHOWN], len(text))


@attrs.frozen(eq=False)
class RolloutView:
    """What a page shows of one rollout.

    :param place: ``3/0/12``.
    :param texts: prompt, thinking and answer, then what the program printed, those that are there.
    :param program: highlighted lines; empty where no program was found.
    :param change: of the program against the start's; empty where nothing differs.
    :param change_note: how large it is, or why none is shown.
    :param members: the group's rollouts, without their texts.
    :param tokens: of the reply, where the run kept and can spell them.
    :param complaint: why kept tokens cannot be read; empty otherwise.
    """

    place: str
    record: RolloutRecord
    group: GroupRecord
    start: StateRecord
    texts: Sequence[LongText]
    output: LongText | None
    program: Sequence[Markup]
    change: Sequence[DiffLine]
    change_note: str
    members: Sequence[RolloutRecord]
    tokens: Sequence[Token]
    complaint: str

    @property
    def position(self) -> int:
        """Its place among the members, from 0."""
        return next(
            place
            for place, each in enumerate(self.members)
            if each.rollout_index == self.record.rollout_index
        )

    @property
    def previous(self) -> str | None:
        """The place before it in the group; ``None`` at its beginning."""
        return _place(self.members[self.position - 1]) if self.position else None

    @property
    def next(self) -> str | None:
        """The place after it in the group; ``None`` at its end."""
        return _place(self.members[self.position + 1]) if self.position + 1 < len(self.members) else None


def _place(record: RolloutRecord) -> str:
    return f"{record.step}/{record.group_index}/{record.rollout_index}"


def rollout_view(run: RunBrowser, problem: Problem, place: Place) -> RolloutView:
    """One rollout.

    :raises NotFoundError: when there is none.
    """
    record = _record(run, place)
    group = run.group(record.step, record.group_index)
    start = run.state_record(group.start)
    parts = texts_of(record, group)
    titles = {name: title for name, (title, _) in parts.items()}
    shown = [
        LongText.of(name, titles[name], text)
        for name, (_, text) in parts.items()
        if name not in ("program", "output") and text.strip()
    ]
    output = LongText.of("output", titles["output"], record.output) if record.output.strip() else None
    tokens, complaint = _tokens(run, record)
    change = diff(start.code, record.code, problem.language) if record.code and start.code else []
    return RolloutView(
        place=_place(record),
        record=record,
        group=group,
        start=start,
        texts=shown,
        output=output,
        program=highlight_lines(record.code, problem.language) if record.code else (),
        change=change,
        change_note=_change_note(record, start, change),
        tokens=tokens,
        complaint=complaint,
        members=run.short_rollouts(run.group_places(record.step, record.group_index)),
    )


def whole_text(run: RunBrowser, place: Place, name: str) -> str:
    """One text of a rollout, safe to show.

    :raises NotFoundError: when there is no such rollout or text.
    """
    record = _record(run, place)
    parts = texts_of(record, run.group(record.step, record.group_index))
    if name not in parts:
        raise NotFoundError(f"a rollout has no text {name[:40]!r}")
    return showable(parts[name][1][:MOST])


def texts_of(record: RolloutRecord, group: GroupRecord) -> dict[str, tuple[str, str]]:
    """Title and text of everything that was written for a rollout, by name."""
    answer = answer_within(record.text)
    thinking = record.text.removesuffix(answer) if record.text.endswith(answer) else record.text
    prompts = {
        f"prompt{number}": (f"Prompt, {message['role']}", message["content"])
        for number, message in enumerate(group.prompt)
    }
    return {
        **prompts,
        "thinking": ("Thinking", thinking),
        "answer": ("Answer", answer),
        "program": ("Program", record.code),
        "output": ("Output", record.output),
    }


def _record(run: RunBrowser, place: Place) -> RolloutRecord:
    try:
        return run.rollout(*place)
    except KeyError as error:
        raise NotFoundError(f"the run has no rollout {'/'.join(map(str, place))}") from error


def _tokens(run: RunBrowser, record: RolloutRecord) -> tuple[Sequence[Token], str]:
    """A reply's tokens, and why they cannot be read, which takes nothing else away."""
    try:
        kept = run.tokens(record.step).get((record.group_index, record.rollout_index))
    except StorageError as error:
        return (), str(error)
    return (() if kept is None else tokens_shown(kept)), ""


def _change_note(record: RolloutRecord, start: StateRecord, change: Sequence[DiffLine]) -> str:
    if not record.code:
        return "no program was found in the reply"
    if not start.code:
        return f"node {start.id}, where it started, holds no program"
    if not change:
        return f"the program of node {start.id}, where it started, unchanged"
    return f"against node {start.id}, where it started: {count_changes(change)}"
