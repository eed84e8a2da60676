"""The tokens of one rollout for people: coloured by log-probability on a terminal, else a table."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import Any

import attrs
import click
import numpy as np
import numpy.typing as npt

from ttd_core.cli.output import say, table
from ttd_core.run.tokens import TokenRecord
from ttd_core.text import counted, showable

#: Colours of log-probabilities above a bound; the first that holds counts.
_SHADES = ((-0.1, None), (-1.0, "green"), (-3.0, "yellow"), (-math.inf, "red"))
_FORCED = "blue"


def tokens_as_json(record: TokenRecord) -> dict[str, Any]:
    """The tokens as lists; ``null`` for what is not known."""
    arrays = attrs.asdict(record)
    return {
        name: [_plain(value) for value in values] if isinstance(values, np.ndarray) else list(values)
        for name, values in arrays.items()
    }


def show_tokens(record: TokenRecord) -> None:
    """Print them."""
    if sys.stdout.isatty() and any(record.texts):
        _show_coloured(record)
    else:
        header = ["token", "id", "text", "sampled", "base", "recomputed"]
        say(table(header, _rows(record)))
    say(f"\n{_summary(record)}")


def _show_coloured(record: TokenRecord) -> None:
    for text, trained, value in zip(record.texts, record.trained, record.sampled, strict=True):
        colour = _FORCED if not trained else next(name for bound, name in _SHADES if not value < bound)
        click.secho(showable(text), fg=colour, nl=False)
    say()
    words = [f"{name or 'plain'} above {bound:g}" for bound, name in _SHADES[:-1]]
    say(f"\nlog-probability when sampled: {', '.join(words)}, {_SHADES[-1][1]} below; {_FORCED}: forced")


def _rows(record: TokenRecord) -> Iterator[list[Any]]:
    for index, text in enumerate(record.texts):
        numbers = [_number(array[index]) for array in (record.sampled, record.base, record.recomputed)]
        shown = showable(text).replace("\n", "\\n").replace("\t", "\\t").replace(" ", "\u2423")
        yield [index, record.ids[index], shown, *(numbers if record.trained[index] else ["forced", "", ""])]


def _summary(record: TokenRecord) -> str:
    """What the tokens come to in a line."""
    trained = record.trained
    words = [f"{counted(len(record.ids), 'token')}, {int(trained.sum())} of them chosen"]
    for name, array in (("sampled", record.sampled), ("base", record.base)):
        if np.isfinite(array[trained]).any():
            words.append(f"mean log-probability {name} {np.nanmean(array[trained]):.4g}")
    gap: npt.NDArray[np.float32] = np.abs(record.recomputed - record.sampled)[trained]
    if np.isfinite(gap).any():
        words.append(f"recomputed differs by {np.nanmax(gap):.2g} at most")
    return "; ".join(words)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def _plain(value: Any) -> Any:
    value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
