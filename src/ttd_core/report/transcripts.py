"""What the model wrote, rollout by rollout, on pages beside a report: each bounded, so that it opens at once.

A page holds whole rollouts, step by step, each closed until it is opened; a prompt stands
once for its group.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator
from typing import Any

import attrs

from ttd_core.dialogue.prompting import shown_cut
from ttd_core.report.facts import RunFacts
from ttd_core.run.reading import RunReader
from ttd_core.run.records import GroupRecord, RolloutRecord

#: Characters of one page, about; a group's prompt and one rollout may go beyond it.
PAGE_CHARS = 3_000_000
#: Characters shown of each text; what is longer loses its middle, and says so.
TEXT_CHARS = 60_000
#: Characters of markup beside a rollout's texts, about.
_MARKUP_CHARS = 700


@attrs.frozen(eq=False)
class Entry:
    """One rollout as its page shows it: the record, and its texts cut to :data:`TEXT_CHARS`.

    :param prompt: of its group, where it is the first of the group on the page; empty otherwise.
    """

    record: RolloutRecord
    text: str
    output: str
    prompt: list[tuple[str, str]]


@attrs.frozen(eq=False)
class TranscriptPage:
    """One page.

    :param number: 1 for the first.
    :param entries: its rollouts.
    :param last: whether no page follows.
    """

    number: int
    entries: list[Entry]
    last: bool


@attrs.define(eq=False)
class Links:
    """Where the rollouts of a run are, as addresses relative to the report: filled while pages are made.

    :param stem: what the pages' names begin with.
    :param steps: by step, its first rollout.
    :param nodes: by node, the rollout that found it.
    """

    stem: str
    steps: dict[int, str] = attrs.field(factory=dict)
    nodes: dict[int, str] = attrs.field(factory=dict)

    def page(self, number: int) -> str:
        """Name of a page's file."""
        return f"{self.stem}-rollouts-{number}.html"

    def address(self, number: int) -> str:
        """A page's file as a link names it."""
        return urllib.parse.quote(self.page(number))

    def add(self, number: int, record: RolloutRecord) -> None:
        """Note that a rollout is on a page."""
        address = f"{self.address(number)}#{anchor(record)}"
        self.steps.setdefault(record.step, address)
        if record.node is not None:
            self.nodes.setdefault(record.node, address)


def anchor(record: RolloutRecord) -> str:
    """A rollout's name on its page."""
    return f"r{record.step}-{record.group_index}-{record.rollout_index}"


def transcript_pages(facts: RunFacts, links: Links) -> Iterator[TranscriptPage]:
    """The pages of a run's rollouts, one after another; none where there are no rollouts.

    :param links: takes down what is where.
    """
    number, entries, size = 1, list[Entry](), 0
    with RunReader.open(facts.folder) as run:
        for step in facts.steps:
            prompts = {group.group_index: group for group in run.groups(step.step)}
            shown: set[int] = set()
            for record in run.rollouts(step.step):
                if size > PAGE_CHARS:
                    yield TranscriptPage(number, entries, last=False)
                    number, entries, size, shown = number + 1, [], 0, set()
                first = record.group_index not in shown
                shown.add(record.group_index)
                entry = _entry(record, prompts[record.group_index] if first else None)
                entries.append(entry)
                size += _MARKUP_CHARS + len(entry.text) + len(entry.output)
                size += sum(len(content) for _, content in entry.prompt)
                links.add(number, record)
    if entries:
        yield TranscriptPage(number, entries, last=True)


def _entry(record: RolloutRecord, group: GroupRecord | None) -> Entry:
    messages: list[Any] = [] if group is None else list(group.prompt)
    return Entry(
        record=record,
        text=shown_cut(record.text, TEXT_CHARS),
        output=shown_cut(record.output, TEXT_CHARS),
        prompt=[(each["role"], shown_cut(each["content"], TEXT_CHARS)) for each in messages],
    )
