"""The lineage page's data: where every state stands, and why one was picked."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

from ttd_core.config import RunConfig, SearchConfig
from ttd_core.problem import Problem
from ttd_core.report.facts import lineage
from ttd_core.report.lineage import node_rows
from ttd_core.run.browsing import RunBrowser
from ttd_core.run.records import HeldNode
from ttd_core.search.puct import PuctTable
from ttd_core.search.reuse import puct_from_config
from ttd_core.text import counted

#: Picks of one state that are told.
_PICKS = 6
_PLACES = ("held", "lineage", "dropped")


def tree_values(run: RunBrowser, problem: Problem) -> dict[str, Any]:
    """Every state that ever entered the archive, in columns of equal length, JSON.

    ``row`` counts from the top in leaves, ``rank`` is the reward's among all, from 0 to 1, or -1 without one;
    ``place`` is an index into ``places``.
    """
    states = run.states(text=False)
    best = next(iter(run.best(1)), None)
    path = [state.id for state in lineage(states, best)]
    rows, leaves = node_rows(states, set(path))
    values = np.array([np.nan if each.reward is None else each.reward.value for each in states])
    known = np.unique(values[np.isfinite(values)])
    ranks = np.searchsorted(known, values) / max(1, len(known) - 1)
    return {
        "metric": problem.metric,
        "leaves": leaves,
        "last_step": max((state.step for state in states), default=0),
        "path": path,
        "best": best.id if best is not None else None,
        "places": list(_PLACES),
        "id": [state.id for state in states],
        "parent": [state.parent for state in states],
        "step": [state.step for state in states],
        "row": [round(rows[state.id], 2) for state in states],
        "rank": [-1 if np.isnan(v) else round(float(r), 4) for v, r in zip(values, ranks, strict=True)],
        "score": [
            None if each.reward is None else problem.format_score(each.reward.score) for each in states
        ],
        "visits": [state.visits for state in states],
        "place": [_PLACES.index(state.place) for state in states],
    }


@attrs.frozen
class PuctTerms:
    """How one state stood in the search's eyes at one moment.

    :param when: the moment, in words.
    :param visits: n.
    :param quality: Q: the best child's reward, else the state's own.
    :param prior: P.
    :param bonus: the exploration term, c and scale included.
    :param score: Q and the bonus.
    :param rank: of the score among all held states, 1 for the highest.
    :param held: how many those were.
    :param why: why it was picked, or where it stands, in a sentence.
    """

    when: str
    visits: int
    quality: float
    prior: float
    bonus: float
    score: float
    rank: int
    held: int
    why: str


def puct_terms(run: RunBrowser, config: RunConfig, node: int) -> list[PuctTerms]:
    """The terms of a state's score each time it was picked, the last times first, and as of now."""
    picked = [step for step, _ in run.groups_from(node)]
    last = run.last_step()
    moments = [(last, None), *((step - 1, step) for step in sorted(set(picked), reverse=True)[:_PICKS])]
    terms = (_terms(run, config, node, after, step) for after, step in moments)
    return [each for each in terms if each is not None]


def _terms(
    run: RunBrowser, config: RunConfig, node: int, after: int, picked_in: int | None
) -> PuctTerms | None:
    """The terms after a step; ``None`` where the state was not held then."""
    held = run.node_statistics(after)
    index = next((place for place, each in enumerate(held) if each.id == node), None)
    if index is None:
        return None
    table = _table(held, run.expansions(after), config.search)
    position = table.order.tolist().index(index)
    starts = run.starts(picked_in) if picked_in is not None else []
    better = {held[place].id for place in table.order[:position]}
    return PuctTerms(
        when="now" if picked_in is None else f"picked in step {picked_in}",
        visits=held[index].visits,
        quality=float(table.quality[index]),
        prior=float(table.prior[index]),
        bonus=float(table.bonus[index]),
        score=float(table.score[index]),
        rank=position + 1,
        held=len(held),
        why=_why(config.search, node, position, better, starts, int(table.rank[index])),
    )


def _table(held: Sequence[HeldNode], expansions: int, search: SearchConfig) -> PuctTable:
    rewards = np.array([each.value or 0.0 for each in held], dtype=np.float64)
    best = np.array([np.nan if e.best_child is None else e.best_child for e in held], dtype=np.float64)
    visits = np.array([each.visits for each in held], dtype=np.int64)
    seeds = np.array([each.seed for each in held], dtype=np.bool_)
    return puct_from_config(search).terms(rewards, best, visits, seeds, expansions)


def _why(
    search: SearchConfig, node: int, position: int, better: set[int], starts: Sequence[int], reward_rank: int
) -> str:
    """Why a state was picked, in a sentence; where it stands, when ``starts`` is empty.

    :param better: the states of a higher score.
    :param starts: those picked in that step, in order.
    """
    if search.reuse == "none":
        return "The run starts from its seeds alone, in turn."
    if search.reuse == "epsilon-greedy":
        return f"By reward, number {reward_rank + 1}; with chance {search.epsilon:g} any is picked instead."
    if not starts:
        return f"Its score is number {position + 1}; picks go down that list, one to a lineage."
    before = len(set(itertools.takewhile(lambda start: start != node, starts)))
    passed = len(better - set(starts))
    skipped = (
        f", {counted(passed, 'state')} of a higher score passed over for sharing a lineage with one of those"
    )
    groups = starts.count(node)
    return (
        f"Its score was number {position + 1}; {counted(before, 'state')} picked before it"
        f"{skipped if passed else ''}. {counted(groups, 'group')} of the step started here."
    )
