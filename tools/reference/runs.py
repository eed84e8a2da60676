"""What a run writes down: events, and the words for how a rollout ends."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

from tools.reference.markdown import code, page, parameters_of, summary, table
from ttd_core.metrics import Metric, Timing
from ttd_core.run import events
from ttd_core.sandbox.base import Level
from ttd_core.search.archive import Fate
from ttd_core.types import Status, StopReason


def events_page() -> str:
    """Every kind of event with its fields."""
    parts = []
    for kind, make in event_constructors().items():
        kept = "in `log.jsonl` alone" if kind in events.ROLLOUT_KINDS else "in `log.jsonl` and `run.db`"
        meanings = parameters_of(make)
        fields = [
            [code(name), json_type(str(parameter.annotation)), meanings[name].replace("`None`", "`null`")]
            for name, parameter in inspect.signature(make).parameters.items()
        ]
        parts.append(
            f"## {kind}\n\n{summary(make)} Kept {kept}.\n\n{table(['field', 'JSON', 'meaning'], fields)}"
        )
    return page(
        "Events",
        "What happens in a run, one JSON object each. Plugins get every event through "
        "[`ttd_event`](../hooks.md#ttd_event); `log.jsonl` of a [run folder](../run-folder.md) has one a "
        "line, as it happens. Beside the fields of its kind each has `kind` and `time`, seconds since the "
        "epoch.",
        *parts,
    )


def event_constructors() -> dict[str, Callable[..., Any]]:
    """Kind to constructor, in the order in which they happen."""
    return {
        name: made
        for name, made in vars(events).items()
        if inspect.isfunction(made) and made.__annotations__.get("return") == "Event" and name[0] != "_"
    }


def json_type(annotation: str) -> str:
    """A type in the words of JSON."""
    words = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false"}
    words |= {"None": "null", "Any": "value"}
    if annotation in words:
        return words[annotation]
    if " | " in annotation:
        return " or ".join(map(json_type, annotation.split(" | ")))
    if match := re.fullmatch(r"Sequence\[(.+)\]", annotation):
        return f"list of {json_type(match[1])}s"
    if match := re.fullmatch(r"Mapping\[str, (.+)\]", annotation):
        return f"{json_type(match[1])}s by name"
    raise ValueError(f"no JSON word for {annotation}")


def metrics_page() -> str:
    """Every number of a step."""
    return page(
        "Metrics",
        "The numbers of a step: in the `metrics` table of [`run.db`](../run-folder.md), in the event "
        "[`step_finished`](events.md#step_finished), in reports and trackers. One without a value in a step "
        "(no valid rollout, no training) is left out of it. A policy of another distribution may bring more.",
        table(
            ["name", "in charts", "unit", "meaning"],
            [[code(each.value), each.label, each.unit, each.meaning] for each in Metric],
        ),
        "## Timings",
        "Wall seconds of the parts of a step, in `run.db` alone.",
        table(["name", "meaning"], [[code(each.key), each.meaning] for each in Timing]),
    )


def endings_page() -> str:
    """Every status, stop reason, fate and sandbox level."""

    def sentences(kind: Any) -> str:
        return table(["word", "meaning"], [[code(each.value), each.sentence] for each in kind])

    levels = [[code(each.value), str(each.rank)] for each in sorted(Level, key=lambda each: -each.rank)]
    return page(
        "How a rollout ends",
        "The words that `run.db`, events and `--json` use, each a member of an enumeration.",
        "## Status",
        "How a rollout ended (`ttd_core.types.Status`). Only `ok` carries a state and a reward.",
        sentences(Status),
        "## Stop reason",
        "Why sampling of its completion ended (`ttd_core.types.StopReason`).",
        sentences(StopReason),
        "## Fate",
        "What the archive did with it (`ttd_core.search.archive.Fate`).",
        sentences(Fate),
        "## Sandbox level",
        "How its program was contained (`ttd_core.sandbox.base.Level`); a higher rank is stronger. "
        "[Security](../security.md) says what each level holds.",
        table(["word", "rank"], levels),
    )
