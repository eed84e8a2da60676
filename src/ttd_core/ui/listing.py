"""The list of a run's rollouts: what a page's address asks for, found and cut into pages."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from ttd_core.run.browsing import RunBrowser
from ttd_core.run.records import Place, RolloutRecord
from ttd_core.run.rollout_query import FIELDS, SORTS, RolloutQuery
from ttd_core.types import Status
from ttd_core.ui.cached import Newest
from ttd_core.ui.folders import NotFoundError

#: Rollouts on one page.
PAGE = 100
#: Seconds that one search may take.
SEARCH_SECONDS = 15.0
#: Characters of a text that is looked for.
_MOST_TEXT = 200


@attrs.frozen
class RolloutPage:
    """A page of the list.

    :param query: what was asked for.
    :param page: from 1.
    :param pages: how many there are, at least 1.
    :param found: rollouts in all of them.
    :param rollouts: those on this page, without program, output and text.
    """

    query: RolloutQuery
    page: int
    pages: int
    found: int
    rollouts: list[RolloutRecord]


def query_of(parameters: Mapping[str, str]) -> RolloutQuery:
    """What an address asks for; what is not known in it counts as not said."""
    status, sort, within = (parameters.get(name, "") for name in ("status", "sort", "within"))
    return RolloutQuery(
        status=Status(status) if status in set(Status) else None,
        step=whole_number(parameters.get("step", "")),
        text=parameters.get("text", "")[:_MOST_TEXT],
        within=within if within in FIELDS else "anything",
        sort=sort if sort in SORTS else "place",
        descending=parameters.get("way") == "down",
    )


def whole_number(text: str) -> int | None:
    """A number as an address has it; ``None`` for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def place_of(text: str) -> Place:
    """``3/0/12`` as three numbers.

    :raises NotFoundError: when it is none.
    """
    numbers = [whole_number(part) for part in text.split("/")]
    if len(numbers) != 3 or None in numbers:
        raise NotFoundError(f"{text[:40]!r} names no rollout: STEP/GROUP/INDEX does, such as 3/0/12")
    step, group, index = (number or 0 for number in numbers)
    return step, group, index


class RolloutLists:
    """Finds rollouts, and remembers what the last searches found."""

    def __init__(self) -> None:
        #: int32 [found, 3] each.
        self._found: Newest[npt.NDArray[np.int32]] = Newest(8)

    def page(self, folder: pathlib.Path, query: RolloutQuery, page: int) -> RolloutPage:
        """One page of what a query finds; the last one, where there are fewer.

        :raises UsageError: when the search takes too long.
        :raises TtdError: when the run cannot be read.
        """
        with RunBrowser.open(folder) as run:
            places = self._found.get(
                (folder, query), run.version(), lambda: _as_array(run.find_rollouts(query, SEARCH_SECONDS))
            )
            pages = max(1, -(-len(places) // PAGE))
            page = min(max(1, page), pages)
            shown = run.short_rollouts(places[(page - 1) * PAGE : page * PAGE].tolist())
        return RolloutPage(query, page, pages, len(places), shown)


def _as_array(places: list[Place]) -> npt.NDArray[np.int32]:
    return np.array(places, dtype=np.int32).reshape(-1, 3)


def parameters_of(query: RolloutQuery) -> dict[str, Any]:
    """Inverse of :func:`query_of`: what differs from asking for everything."""
    written = {
        "status": query.status and str(query.status),
        "step": query.step,
        "text": query.text,
        "within": query.within if query.within != "anything" else "",
        "sort": query.sort if query.sort != "place" else "",
        "way": "down" if query.descending else "",
    }
    return {name: value for name, value in written.items() if value not in (None, "")}
