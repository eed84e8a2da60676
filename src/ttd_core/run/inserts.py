"""How a step becomes rows of ``run.db``: the writing counterpart of :mod:`ttd_core.run.records`."""

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
from ttd_core.types import Reward, Rollout

INSERT_STATE = """
    INSERT INTO states (id, parent, step, seed, value, score, digest, reward, code, output, data)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
INSERT_STATISTICS = """
    INSERT INTO node_stats (node, step, visits, best_child, attempts, duplicates, place)
    VALUES (?, ?, ?, ?, ?, ?, ?)
"""
INSERT_ROLLOUT = f"""
    INSERT INTO rollouts ({columns(RolloutRecord)})
    VALUES ({", ".join("?" * len(attrs.fields(RolloutRecord)))})
"""

#: Visits, best child, attempts, duplicates, place: the part of a node that changes.
Statistics = tuple[Any, ...]


def statistics(archive: Archive, written: Mapping[int, Statistics]) -> dict[int, Statistics]:
    """Every node's statistics; one that the archive no longer knows was dropped."""
    now = {node: (*row[:4], "dropped") for node, row in written.items()}
    for node in archive.nodes.values():
        place = "held" if node.held else "lineage"
        best = None if node.best_child is None else float(node.best_child)
        now[node.id] = (node.visits, best, node.attempts, node.duplicates, place)
    return now


def state_row(node: Node) -> tuple[Any, ...]:
    """A node's unchanging part, for :data:`INSERT_STATE`."""
    state, reward = node.state, node.reward
    value, score = (None, None) if reward is None else (float(reward.value), float(reward.score))
    place = (node.id, node.parent, node.step, node.seed, value, score, node.digest, write_reward(reward))
    data = json.dumps(state.to_json({})["data"])
    return (*place, write_text(state.code), write_text(state.output), data)


def rollout_row(rollout: Rollout, outcome: Outcome, advantage: float | None) -> tuple[Any, ...]:
    """What follows a rollout's place in :data:`INSERT_ROLLOUT`."""
    completion, verdict, reward = rollout.completion, rollout.verdict, rollout.verdict.reward
    value, score = (None, None) if reward is None else (float(reward.value), float(reward.score))
    code = verdict.code or (verdict.state.code if verdict.state is not None else "")
    return (
        verdict.status.value,
        outcome.fate.value,
        outcome.node,
        value,
        score,
        write_number(advantage),
        len(completion.tokens),
        int(completion.trained.sum()),
        completion.stop.value,
        verdict.seconds,
        verdict.level,
        outcome.digest,
        write_text(verdict.message),
        write_json(verdict.metrics),
        write_text(code),
        write_text(verdict.output),
        write_text(completion.text),
    )


def write_text(text: str) -> str | sqlite3.Binary:
    """A text as a column holds it: plain, or as bytes where it has lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return sqlite3.Binary(text.encode("utf-8", "surrogatepass"))
    return text


def write_number(value: float | None) -> float | None:
    """A number as a REAL column holds it; NaN becomes NULL."""
    return None if value is None or math.isnan(value) else float(value)


def write_json(value: Any) -> str:
    """Strict JSON for a column that SQL may look into."""
    return json.dumps(plain(value), allow_nan=False)


def write_reward(reward: Reward | None) -> str | None:
    """A reward, exact: Python's JSON, whose numbers include NaN and the infinities."""
    if reward is None:
        return None
    fields = {"value": reward.value, "score": reward.score, "metrics": reward.metrics}
    return json.dumps(fields, default=_numpy_to_json)


def _numpy_to_json(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)
