"""What an evaluator said of a program, as text for a prompt."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ttd_core.dialogue.prompting import fenced, shown_cut
from ttd_core.text import showable, showable_line

#: Characters of one metric; those of one artifact are half of all.
_METRIC_CHARS = 300
#: Metrics that are kept and not shown: the evaluator's author means them for people alone.
_PRIVATE = frozenset({"private"})


def as_text(value: Any) -> str:
    """A value of JSON as a line says it."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.10g}"
    return json.dumps(_plain(value), ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


def evaluator_section(data: Mapping[str, Any], characters: int) -> str:
    """The section of a prompt with a state's metrics and artifacts; empty where there are none.

    :param characters: most of it.
    """
    metrics, artifacts = data.get("metrics"), data.get("artifacts")
    lines = list(_metric_lines(metrics if isinstance(metrics, Mapping) else {}))
    parts = [shown_cut("\n".join(lines), characters)] if lines else []
    left = characters - sum(map(len, parts))
    texts = [
        (str(name), as_text(value))
        for name, value in (artifacts.items() if isinstance(artifacts, Mapping) else ())
        if as_text(value).strip()
    ]
    for name, text in texts:
        if left <= 0:
            break
        shown = shown_cut(showable(text), max(1, min(left, characters // 2)))
        parts.append(
            f"{showable_line(name)[:80]}:\n{fenced(shown)}"
            if "\n" in shown
            else f"{showable_line(name)[:80]}: {shown}"
        )
        left -= len(shown)
    if not parts:
        return ""
    return "## What the evaluator said of it\n\n" + "\n\n".join(parts)


def _metric_lines(metrics: Mapping[str, Any]) -> Iterator[str]:
    """One line a metric; those under ``public`` as if they stood by themselves."""
    for name, value in metrics.items():
        if name in _PRIVATE:
            continue
        if name == "public" and isinstance(value, Mapping):
            yield from _metric_lines(value)
        else:
            yield f"{showable_line(str(name))[:80]}: {showable_line(as_text(value))[:_METRIC_CHARS]}"
