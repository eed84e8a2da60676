"""How a step becomes rows of ``run.db``; :mod:`ttd_core.run.records` reads them back.

The statements name a table's columns, each ``encode_...`` function says how one kind of value is put into a
column. The tables are in :mod:`ttd_core.run.tables`.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping
from typing import Any

import attrs

from ttd_core.run.events import plain
from ttd_core.run.records import RolloutRecord, columns
from ttd_core.search.archive import Archive, Node, Outcome
from ttd_core.types import Reward, Rollout, Verdict

INSERT_STATE = """
    INSERT INTO states (id, parent, step, seed, value, score, digest, reward, code, output, data)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
INSERT_NODE_STATISTICS = """
    INSERT INTO node_stats (node, step, visits, best_child, attempts, duplicates, place)
    VALUES (?, ?, ?, ?, ?, ?, ?)
"""
INSERT_ROLLOUT = f"""
    INSERT INTO rollouts ({columns(RolloutRecord)})
    VALUES ({", ".join("?" * len(attrs.fields(RolloutRecord)))})
"""

#: Visits, best child, attempts, duplicates, place: the part of a node that changes.
NodeStatistics = tuple[Any, ...]
#: The place of a node that the archive has forgotten; it stays so.
DROPPED = "dropped"


def changed_statistics(archive: Archive, written: Mapping[int, NodeStatistics]) -> dict[int, NodeStatistics]:
    """The statistics of those nodes for which the database has others, by id.

    :param written: what the database has of the nodes that are not dropped; one of them that the archive no
        longer knows was dropped since.
    """
    changed = {}
    for node in archive.nodes.values():
        best_child = None if node.best_child is None else float(node.best_child)
        place = "held" if node.held else "lineage"
        present = (node.visits, best_child, node.attempts, node.duplicates, place)
        if written.get(node.id) != present:
            changed[node.id] = present
    for dropped in written.keys() - archive.nodes.keys():
        changed[dropped] = (*written[dropped][:4], DROPPED)
    return changed


def state_row(node: Node) -> tuple[Any, ...]:
    """The part of a node that never changes, for :data:`INSERT_STATE`."""
    state, reward = node.state, node.reward
    value, score = (None, None) if reward is None else (float(reward.value), float(reward.score))
    return (
        node.id,
        node.parent,
        node.step,
        node.seed,
        value,
        score,
        node.digest,
        encode_reward(reward),
        encode_text(state.code),
        encode_text(state.output),
        json.dumps(state.to_json({})["data"]),
    )


def rollout_columns(rollout: Rollout, outcome: Outcome, advantage: float | None) -> tuple[Any, ...]:
    """A rollout for :data:`INSERT_ROLLOUT`, without the step and the two indices that come first.

    :param outcome: what the archive did with it.
    :param advantage: NaN where the rollout was not counted, ``None`` where advantages are not recorded.
    """
    completion, verdict, reward = rollout.completion, rollout.verdict, rollout.verdict.reward
    value, score = (None, None) if reward is None else (float(reward.value), float(reward.score))
    code = verdict.code or (verdict.state.code if verdict.state is not None else "")
    return (
        verdict.status.value,
        outcome.fate.value,
        outcome.node,
        value,
        score,
        encode_number(advantage),
        len(completion.tokens),
        int(completion.trained.sum()),
        completion.stop.value,
        verdict.seconds,
        verdict.level,
        outcome.digest,
        encode_text(verdict.message),
        encode_json(_facts(verdict)),
        encode_text(code),
        encode_text(verdict.output),
        encode_text(completion.text),
    )


def _facts(verdict: Verdict) -> Mapping[str, Any]:
    """A verdict's metrics, with what each share of the budget came to where short runs came first."""
    if not verdict.stages:
        return verdict.metrics
    return {**verdict.metrics, "stages": [attrs.asdict(stage) for stage in verdict.stages]}


def encode_text(text: str) -> str | sqlite3.Binary:
    """A text as a column holds it: plain, or as bytes where it has lone surrogates, which UTF-8 has not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return sqlite3.Binary(text.encode("utf-8", "surrogatepass"))
    return text


def encode_number(value: float | None) -> float | None:
    """A number as a REAL column holds it; NaN becomes NULL."""
    return None if value is None or math.isnan(value) else float(value)


def encode_json(value: Any) -> str:
    """Strict JSON for a column that SQL may look into; NaN and the infinities become ``null``."""
    return json.dumps(plain(value), allow_nan=False)


def encode_reward(reward: Reward | None) -> str | None:
    """A reward, exact (:func:`exact_json`)."""
    if reward is None:
        return None
    return exact_json({"value": reward.value, "score": reward.score, "metrics": reward.metrics})


def exact_json(value: Any) -> str:
    """Python's JSON, whose numbers include NaN and the infinities; of numpy's values what they hold."""
    return json.dumps(value, default=_numpy_to_json)


def _numpy_to_json(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)
