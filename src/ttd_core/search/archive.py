"""The archive: states found so far, their lineage and statistics, and which are let in (paper, appendix A.2).

A node is *held* while it may be picked as a start. An evicted node whose descendants are still held stays
as a lineage record, so that visits, histories and blocking keep working across it; any other evicted node
is forgotten here (the run's database keeps it).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from ttd_core.config import SearchConfig
from ttd_core.types import Failure, Group, Reward, ScoredState, State, Status

#: Version of the JSON that :meth:`Archive.snapshot` returns.
SNAPSHOT_FORMAT = 1


#: Statuses that say nothing a model could learn from: they are not remembered for the next prompt.
NOT_FOR_PROMPTS = frozenset([Status.OK, Status.PROBLEM_ERROR, Status.INFRASTRUCTURE])


@attrs.define(eq=False)
class Node:
    """One state in the archive with its statistics.

    :param id: unique in the run, growing with age.
    :param state: the solution.
    :param reward: what it is worth; ``None`` for an unscored seed.
    :param parent: id of the start state it came from; ``None`` for a seed.
    :param step: step that found it; 0 for a seed.
    :param seed: seeds are never evicted.
    :param digest: the state's identity for deduplication.
    :param visits: n: how often it or a descendant was expanded.
    :param best_child: m: best reward of a direct child; ``None`` until one succeeds.
    :param attempts: rollouts that started here.
    :param duplicates: rollouts that arrived at this very state again.
    :param held: whether it may be picked; False for a lineage record.
    :param failures: of the rollouts that started here and failed, the last of each status.
    """

    id: int
    state: State
    reward: Reward | None
    parent: int | None
    step: int
    seed: bool
    digest: str
    visits: int = 0
    best_child: float | None = None
    attempts: int = 0
    duplicates: int = 0
    held: bool = True
    failures: dict[Status, Failure] = attrs.field(factory=dict)

    @property
    def start(self) -> State:
        """The state as a prompt is rendered for it: with what failed from here."""
        return attrs.evolve(self.state, failures=dict(self.failures))

    @property
    def value(self) -> float:
        """R: the reward's value; 0 for an unscored seed."""
        return self.reward.value if self.reward is not None else 0.0

    def to_json(self, arrays: dict[str, npt.NDArray[Any]]) -> dict[str, Any]:
        """JSON form; arrays are collected in ``arrays`` by digest."""
        fields = {field.name: getattr(self, field.name) for field in attrs.fields(Node)}
        fields["state"] = self.state.to_json(arrays)
        fields["reward"] = None if self.reward is None else attrs.asdict(self.reward)
        fields["failures"] = {
            status.value: attrs.asdict(failure) for status, failure in self.failures.items()
        }
        return fields

    @classmethod
    def from_json(cls, value: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> Node:
        """Inverse of :meth:`to_json`."""
        reward = None if value["reward"] is None else Reward(**value["reward"])
        state = State.from_json(value["state"], arrays)
        failures = {
            Status(status): Failure(**failure) for status, failure in value.get("failures", {}).items()
        }
        return cls(**{**value, "state": state, "reward": reward, "failures": failures})


class Fate(enum.StrEnum):
    """What the archive did with a rollout."""

    FAILED = "failed"
    ADMITTED = "admitted"
    DUPLICATE = "duplicate"
    SURPLUS = "surplus"
    BELOW_CAPACITY = "below_capacity"

    @property
    def sentence(self) -> str:
        """A sentence for people."""
        return _FATE_SENTENCES[self]


_FATE_SENTENCES = {
    Fate.FAILED: "No valid state came out of it.",
    Fate.ADMITTED: "Its state joined the archive.",
    Fate.DUPLICATE: "Its state was in the archive already.",
    Fate.SURPLUS: "Other rollouts of its group were better.",
    Fate.BELOW_CAPACITY: "The full archive holds only better states.",
}


@attrs.frozen
class Outcome:
    """What the archive did with one rollout.

    :param node: id of the node that it became or repeats; ``None`` for neither.
    :param digest: identity of its state; ``None`` when it failed.
    """

    fate: Fate
    node: int | None = None
    digest: str | None = None


@attrs.frozen
class Admission:
    """What the archive did with one step's rollouts.

    :param outcomes: ``outcomes[group][rollout]``, in the groups' order.
    """

    step: int
    outcomes: tuple[tuple[Outcome, ...], ...]


class Archive:
    """States found so far, with lineage and statistics.

    :param config: capacity, children kept per expansion, and what counts as a visit.
    """

    def __init__(self, config: SearchConfig) -> None:
        self.config = config
        #: Held nodes and lineage records by id, oldest first.
        self.nodes: dict[int, Node] = {}
        #: T: expansions so far.
        self.expansions = 0
        #: What :meth:`admit` did last; ``None`` before, and after a restore.
        self.admission: Admission | None = None
        self.next_id = 0

    # -- reading ------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.held())

    def __getitem__(self, node: int) -> Node:
        return self.nodes[node]

    def held(self) -> list[Node]:
        """Nodes that may be picked, oldest first."""
        return [node for node in self.nodes.values() if node.held]

    def seeds(self) -> list[Node]:
        """The seeds, in the order they were added."""
        return [node for node in self.nodes.values() if node.seed]

    def best(self) -> Node | None:
        """The scored node with the highest reward, the oldest of equals; ``None`` if none is scored."""
        scored = [node for node in self.nodes.values() if node.reward is not None]
        return max(scored, key=lambda node: (node.value, -node.id), default=None)

    def ancestors(self, node: int) -> Iterator[int]:
        """Ids of a node's ancestors, nearest first."""
        parent = self.nodes[node].parent
        while parent is not None:
            yield parent
            parent = self.nodes[parent].parent

    def children(self) -> dict[int, list[int]]:
        """Ids of each node's children that are known here, oldest first; nodes without any are left out."""
        children: dict[int, list[int]] = {}
        for node in self.nodes.values():
            if node.parent is not None:
                children.setdefault(node.parent, []).append(node.id)
        return children

    def history(self, node: int) -> tuple[ScoredState, ...]:
        """The scored states of a node's lineage, oldest first, ending with the node itself.

        Empty for an unscored seed.
        """
        lineage = [self.nodes[node], *(self.nodes[ancestor] for ancestor in self.ancestors(node))]
        return tuple(
            ScoredState(member.state, member.reward)
            for member in reversed(lineage)
            if member.reward is not None
        )

    # -- admitting ---------------------------------------------------------------------------------

    def add_seeds(self, seeds: Iterable[tuple[State, Reward | None]]) -> list[Node]:
        """Add the states a run starts from. They are never evicted, nor compared with each other.

        :param seeds: each with its reward, or ``None`` when it has no score (it then counts as 0).
        """
        return [self._add(state, reward, None, 0, state.digest) for state, reward in seeds]

    def admit(self, step: int, groups: Sequence[Group], keep: Iterable[int] = ()) -> Admission:
        """Take in a step's groups: statistics, the best children, then the capacity (paper A.2).

        Every group is one expansion of its start, also when nothing in it succeeded; but late rollouts join
        an expansion that was counted in their own step.

        :param step: the step the groups belong to, 1 for the first.
        :param keep: nodes from which rollouts of a later step are under way: they stay, as lineage at least.
        :raises ValueError: when a group's start is not in the archive; nothing has changed then.
        """
        for group in groups:
            if group.start not in self.nodes:
                raise ValueError(f"step {step}: start state {group.start} is not in the archive")
        for group in groups:
            self._count(group)
        known = {node.digest: node.id for node in reversed(self.held())}
        first_new = self.next_id
        outcomes = [self._admit_group(step, group, known) for group in groups]
        evicted = {node for node in self._enforce_capacity(keep) if node >= first_new}
        self.admission = Admission(
            step, tuple(tuple(_after_eviction(outcome, evicted) for outcome in row) for row in outcomes)
        )
        return self.admission

    def _count(self, group: Group) -> None:
        """Back up one expansion: T, n on the start and its ancestors, m and failures on the start alone."""
        rollouts = len(group.rollouts)
        weight = rollouts if self.config.count == "rollout" else int(not group.late)
        start = self.nodes[group.start]
        start.attempts += rollouts
        self.expansions += weight
        for node in (group.start, *self.ancestors(group.start)):
            self.nodes[node].visits += weight
        for rollout in group:
            verdict = rollout.verdict
            if verdict.status not in NOT_FOR_PROMPTS:
                # The newest comes last, in a run that was resumed too: it reads them back in this order.
                start.failures.pop(verdict.status, None)
                start.failures[verdict.status] = Failure.of(verdict.message, verdict.output)
        values = [rollout.verdict.value for rollout in group if rollout.verdict.ok]
        if values:
            best = max(values)
            start.best_child = best if start.best_child is None else max(start.best_child, best)

    def _admit_group(self, step: int, group: Group, known: dict[str, int]) -> list[Outcome]:
        """Admit the best new states of one expansion; ``known`` (digest to node) grows with them."""
        outcomes = [Outcome(Fate.FAILED)] * len(group.rollouts)
        valid = [index for index, rollout in enumerate(group) if rollout.verdict.ok]
        places = self.config.keep_children
        for index in sorted(valid, key=lambda index: -group.rollouts[index].verdict.value):
            verdict = group.rollouts[index].verdict
            assert verdict.state is not None
            digest = verdict.state.digest
            if digest in known:
                outcomes[index] = Outcome(Fate.DUPLICATE, known[digest], digest)
                self.nodes[known[digest]].duplicates += 1
            elif places > 0:
                node = self._add(verdict.state, verdict.reward, group.start, step, digest)
                outcomes[index] = Outcome(Fate.ADMITTED, node.id, digest)
                known[digest] = node.id
                places -= 1
            else:
                outcomes[index] = Outcome(Fate.SURPLUS, None, digest)
        return outcomes

    def _add(self, state: State, reward: Reward | None, parent: int | None, step: int, digest: str) -> Node:
        node = Node(self.next_id, state, reward, parent, step, parent is None, digest)
        self.nodes[node.id] = node
        self.next_id += 1
        return node

    def _enforce_capacity(self, keep: Iterable[int]) -> set[int]:
        """Keep the best by reward, seeds always, and of the rest the lineage; return the ids evicted.

        :param keep: nodes that stay as if they were held.
        """
        others = [node for node in self.held() if not node.seed]
        places = max(self.config.capacity - len(self.seeds()), 0)
        others.sort(key=lambda node: (-node.value, node.id))
        evicted = others[places:]
        if not evicted:
            return set()
        for node in evicted:
            node.held = False
        needed: set[int] = set()
        for node_id in [*(node.id for node in self.held()), *keep]:
            needed.add(node_id)
            for ancestor in self.ancestors(node_id):
                if ancestor in needed:
                    break
                needed.add(ancestor)
        self.nodes = {key: node for key, node in self.nodes.items() if key in needed}
        return {node.id for node in evicted}

    # -- storing ------------------------------------------------------------------------------------

    def snapshot(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """The whole archive as JSON and the arrays it refers to by digest."""
        arrays: dict[str, npt.NDArray[Any]] = {}
        nodes = [node.to_json(arrays) for node in self.nodes.values()]
        return {
            "format": SNAPSHOT_FORMAT,
            "expansions": self.expansions,
            "next_id": self.next_id,
            "nodes": nodes,
        }, arrays

    @classmethod
    def restore(
        cls, config: SearchConfig, snapshot: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]
    ) -> Archive:
        """Inverse of :meth:`snapshot`: picks and admits exactly as the original would.

        :raises ValueError: when the snapshot has another format.
        :raises KeyError: when an array is missing.
        """
        if snapshot["format"] != SNAPSHOT_FORMAT:
            raise ValueError(f"archive snapshot of format {snapshot['format']}, expected {SNAPSHOT_FORMAT}")
        nodes = [Node.from_json(value, arrays) for value in snapshot["nodes"]]
        return cls.from_nodes(config, nodes, snapshot["expansions"], snapshot["next_id"])

    @classmethod
    def from_nodes(
        cls, config: SearchConfig, nodes: Iterable[Node], expansions: int, next_id: int
    ) -> Archive:
        """An archive of these nodes, each of whose parents must be among them.

        :param expansions: T.
        :param next_id: id of the next node; above every id given out before.
        """
        archive = cls(config)
        archive.nodes = {node.id: node for node in sorted(nodes, key=lambda node: node.id)}
        archive.expansions = expansions
        archive.next_id = next_id
        return archive

    def columns(self) -> tuple[list[Node], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Held nodes, with their rewards R and best children m (NaN for none), float64 [held] each."""
        held = self.held()
        # Without the property: it takes most of the time where there are many states.
        values = [0.0 if node.reward is None else node.reward.value for node in held]
        rewards = np.array(values, dtype=np.float64)
        best = [np.nan if node.best_child is None else node.best_child for node in held]
        return held, rewards, np.array(best, dtype=np.float64)


def _after_eviction(outcome: Outcome, evicted: set[int]) -> Outcome:
    """An outcome without its node, where that was admitted and evicted (``evicted``) in the same step."""
    if outcome.node not in evicted:
        return outcome
    if outcome.fate is Fate.ADMITTED:
        return attrs.evolve(outcome, fate=Fate.BELOW_CAPACITY, node=None)
    return attrs.evolve(outcome, node=None)
