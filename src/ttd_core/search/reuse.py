"""Where the next groups start: three ways to pick from the archive, behind one protocol.

``puct`` is the paper's (appendix A.2), ``epsilon-greedy`` and ``none`` its ablations (section 4.5). All
are deterministic given the archive and the random generator. Several states picked for one batch never
share a lineage: a picked state blocks its ancestors and its descendants, not its siblings. When fewer
states are eligible than groups are wanted, the picks are used again from the first.

The authors' own choices, where they differ from the paper's text, are options of
:class:`~ttd_core.config.SearchConfig`: ``count = "rollout"``, ``scale = "range-without-seeds"`` and
``scale_floor = 1e-6``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import attrs
import numpy as np
import numpy.typing as npt

from ttd_core.config import SearchConfig
from ttd_core.search.archive import Archive, Node
from ttd_core.search.puct import PuctTable, exploration_scale, puct_table, ranks


class Reuse(Protocol):
    """Picks the start states of one step."""

    def pick(self, archive: Archive, count: int, rng: np.random.Generator) -> list[Node]:
        """``count`` start states, one a group.

        :raises ValueError: when the archive is empty.
        """
        ...


class LineageBlocking:
    """Which nodes share no lineage with those picked so far in one batch."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._picked: set[int] = set()
        self._above: set[int] = set()
        #: Nodes known to be below a picked one: a walk up from another ends where it meets them.
        self._below: set[int] = set()

    def pick(self, node: Node) -> None:
        """Block the node, its ancestors and its descendants."""
        self._picked.add(node.id)
        self._above.update(self._archive.ancestors(node.id))

    def allows(self, node: Node) -> bool:
        """Whether the node is neither picked, nor above, nor below a picked one."""
        if node.id in self._picked or node.id in self._above or node.id in self._below:
            return False
        passed = [node.id]
        for ancestor in self._archive.ancestors(node.id):
            if ancestor in self._picked or ancestor in self._below:
                self._below.update(passed)
                return False
            passed.append(ancestor)
        return True


@attrs.frozen
class PuctReuse:
    """The best PUCT scores, one a lineage (paper A.2). Uses no randomness.

    :param exploration: c.
    :param without_seeds: leave the seeds out of the scale.
    :param scale_floor: least scale.
    """

    exploration: float = 1.0
    without_seeds: bool = False
    scale_floor: float = 0.0

    def table(self, archive: Archive) -> tuple[list[Node], PuctTable]:
        """Held nodes, oldest first, with the terms of their scores; at least one node."""
        nodes, rewards, best_children = archive.columns()
        seeds = np.array([node.seed for node in nodes], dtype=np.bool_)
        visits = np.array([node.visits for node in nodes], dtype=np.int64)
        return nodes, self.terms(rewards, best_children, visits, seeds, archive.expansions)

    def terms(
        self,
        rewards: npt.NDArray[np.float64],
        best_children: npt.NDArray[np.float64],
        visits: npt.NDArray[np.int64],
        seeds: npt.NDArray[np.bool_],
        expansions: int,
    ) -> PuctTable:
        """The terms of held states' scores, oldest state first; each array has one entry a state.

        :param best_children: best reward among a state's children, NaN without any.
        :param seeds: which are starting states.
        :param expansions: T, how many groups the search has expanded.
        """
        scale = exploration_scale(rewards, seeds, without_seeds=self.without_seeds, floor=self.scale_floor)
        return puct_table(
            rewards, best_children, visits, expansions, exploration=self.exploration, scale=scale
        )

    def pick(self, archive: Archive, count: int, rng: np.random.Generator) -> list[Node]:
        """See :meth:`Reuse.pick`."""
        _refuse_empty(archive)
        nodes, table = self.table(archive)
        blocking = LineageBlocking(archive)
        picked: list[Node] = []
        for node in (nodes[index] for index in table.order):
            if len(picked) == count:
                break
            if blocking.allows(node):
                blocking.pick(node)
                picked.append(node)
        return _repeated(picked, count)


@attrs.frozen
class EpsilonGreedyReuse:
    """The best reward; with chance ``epsilon`` any state instead, each equally likely (paper 4.5).

    :param epsilon: chance of a uniform pick, drawn for each group on its own.
    """

    epsilon: float = 0.1

    def pick(self, archive: Archive, count: int, rng: np.random.Generator) -> list[Node]:
        """See :meth:`Reuse.pick`."""
        _refuse_empty(archive)
        nodes, rewards, _ = archive.columns()
        best_first = [nodes[index] for index in np.argsort(ranks(rewards))]
        places = {node.id: place for place, node in enumerate(best_first)}
        children = archive.children()
        eligible = np.ones(len(best_first), dtype=np.bool_)
        picked: list[Node] = []
        while len(picked) < count and eligible.any():
            explore = rng.random() < self.epsilon
            left = np.flatnonzero(eligible) if explore else [np.argmax(eligible)]
            node = best_first[int(left[rng.integers(len(left)) if explore else 0])]
            picked.append(node)
            lineage = (node.id, *archive.ancestors(node.id), *_descendants(children, node.id))
            eligible[[places[member] for member in lineage if member in places]] = False
        return _repeated(picked, count)


def _descendants(children: Mapping[int, Sequence[int]], node: int) -> Iterator[int]:
    """Ids of all nodes below a node."""
    waiting = [*children.get(node, ())]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += children.get(node, ())


@attrs.frozen
class NoReuse:
    """Always the seeds, in turn: naive reinforcement learning and best-of-N (paper 4.5)."""

    def pick(self, archive: Archive, count: int, rng: np.random.Generator) -> list[Node]:
        """See :meth:`Reuse.pick`."""
        _refuse_empty(archive)
        return _repeated(archive.seeds(), count)


def reuse_from_config(config: SearchConfig) -> Reuse:
    """The strategy a config names."""
    if config.reuse == "epsilon-greedy":
        return EpsilonGreedyReuse(config.epsilon)
    if config.reuse == "none":
        return NoReuse()
    return puct_from_config(config)


def puct_from_config(config: SearchConfig) -> PuctReuse:
    """PUCT with a config's settings, whatever strategy it names."""
    return PuctReuse(config.exploration, config.scale == "range-without-seeds", config.scale_floor)


def _repeated(picked: Iterable[Node], count: int) -> list[Node]:
    """``count`` nodes: those picked, over and over."""
    return list(itertools.islice(itertools.cycle(picked), count))


def _refuse_empty(archive: Archive) -> None:
    if not any(node.held for node in archive.nodes.values()):
        raise ValueError("the archive is empty: add the seeds before picking start states")
