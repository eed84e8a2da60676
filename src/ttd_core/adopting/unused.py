"""What a config says and nothing here uses: a line for each group of keys, with the reason."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

from ttd_core.text import showable_line

#: Keys of OpenEvolve's and SkyDiscover's configs that are read, and those below them.
_READ: dict[str, frozenset[str]] = {
    "evaluator": frozenset({"timeout", "cascade_evaluation", "cascade_thresholds", "evaluation_file"}),
    "prompt": frozenset({"system_message"}),
}
_READ_WHOLE = frozenset({"language", "file_suffix"})
#: Of the others, by what takes their place here.
_REASONS: tuple[tuple[str, frozenset[str]], ...] = (
    ("the model is that of the run (--model)", frozenset({"llm"})),
    ("where programs start from is the run's search", frozenset({"database", "search"})),
    ("what else a prompt shows is ttd's", frozenset({"prompt"})),
    (
        "how long a run goes on is its --steps",
        frozenset(
            {
                *("max_iterations", "checkpoint_interval", "convergence_threshold", "random_seed"),
                *("early_stopping_patience", "early_stopping_metric", "max_parallel_iterations"),
                *("parallel_evaluations", "max_tasks_per_child"),
            }
        ),
    ),
    (
        "how a program is changed is -o reply=edits or -o reply=program",
        frozenset(
            {
                *("diff_based_evolution", "diff_based_generation", "diff_pattern", "allow_full_rewrites"),
                *("max_code_length", "max_solution_length"),
            }
        ),
    ),
    (
        "logs and pages are ttd's",
        frozenset(
            {
                *("log_level", "log_dir", "evolution_trace", "monitor", "human_feedback_enabled"),
                *("human_feedback_file", "human_feedback_mode"),
            }
        ),
    ),
    ("no agent looks at files", frozenset({"agentic"})),
    ("data sets of other problems are not fetched", frozenset({"benchmark"})),
)
#: Of an evaluator's settings, those that would change a score.
_JUDGES = frozenset({"use_llm_feedback", "llm_as_judge", "llm_feedback_weight"})


def unused_keys(config: Mapping[str, Any], where: pathlib.Path, folder: pathlib.Path) -> list[str]:
    """A line for each group of a config's keys that nothing uses."""
    name = where.relative_to(folder) if where.is_relative_to(folder) else where.name
    lines = [f"{name}: {_listed(config, keys)}: {why}" for why, keys in _REASONS if _left(config, keys)]
    evaluator = config.get("evaluator")
    if isinstance(evaluator, dict):
        judges = [key for key in _JUDGES & evaluator.keys() if evaluator[key]]
        if set(judges) - {"llm_feedback_weight"}:
            lines.append(f"{name}: evaluator.{', '.join(sorted(judges))}: no model adds to a score")
        rest = sorted(str(key) for key in evaluator.keys() - _READ["evaluator"] - _JUDGES)
        if rest:
            lines.append(f"{name}: evaluator ({_short(rest)}): limits and retries are the run's sandbox's")
    known = _READ_WHOLE | _READ.keys() | frozenset().union(*(keys for _, keys in _REASONS))
    if unknown := sorted(config.keys() - known):
        lines.append(f"{name}: {_short(unknown)}: not known")
    return lines


def _left(config: Mapping[str, Any], keys: frozenset[str]) -> list[str]:
    return [key for key in config if key in keys and (key not in _READ or _below(config, key))]


def _listed(config: Mapping[str, Any], keys: frozenset[str]) -> str:
    """Keys with those below them: ``llm (api_base, models)``."""
    parts = [(key, _below(config, key)) for key in _left(config, keys)]
    return ", ".join(f"{key} ({_short(below)})" if below else key for key, below in parts)


def _below(config: Mapping[str, Any], key: str) -> list[str]:
    value = config[key]
    if not isinstance(value, dict):
        return []
    return [str(each) for each in value if each not in _READ.get(key, frozenset())]


def _short(names: list[str], most: int = 6) -> str:
    shown = [showable_line(name)[:40] for name in names[:most]]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")
