"""RunConfig: everything that determines a run, from defaults, a file and the command line.

A config is stored as resolved (``config.toml`` and ``run.db``), so a run says what it did. Keys are dotted
(``learn.kl_coefficient``). Layers, later wins: defaults, the variant, a TOML file, ``--set``.
"""

from __future__ import annotations

import hashlib
import json
import math
import pathlib
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import attrs
import cattrs
import tomli_w

from ttd_core.errors import ConfigError, did_you_mean


def _setting(default: Any, help: str, **kwargs: Any) -> Any:
    return attrs.field(default=default, metadata={"help": help}, kw_only=True, **kwargs)


def _at_least(minimum: float) -> Any:
    def validate(_instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is not None and not value >= minimum:
            raise ValueError(f"{attribute.name} must be at least {minimum:g}, not {value!r}")

    return validate


@attrs.frozen
class SearchConfig:
    """Which states are kept and where the next groups start (paper A.2)."""

    reuse: Literal["puct", "epsilon-greedy", "none"] = _setting("puct", "how start states are picked")
    exploration: float = _setting(1.0, "PUCT's c", validator=_at_least(0))
    scale: Literal["range", "range-without-seeds"] = _setting("range", "what the exploration term scales with")
    scale_floor: float = _setting(0.0, "least value of that scale (the authors' code: 1e-6)")
    count: Literal["group", "rollout"] = _setting("group", "what counts as one visit")
    epsilon: float = _setting(0.1, "chance of a uniform pick under epsilon-greedy", validator=_at_least(0))
    capacity: int = _setting(1000, "most states kept, seeds not counted out", validator=_at_least(1))
    keep_children: int = _setting(2, "best children kept of each expansion", validator=_at_least(1))


@attrs.frozen
class LearnConfig:
    """The objective and the optimiser (paper A.1, Table 9)."""

    train: bool = _setting(True, "whether the policy learns at all")
    advantage: Literal["entropic-adaptive", "entropic", "mean"] = _setting("entropic-adaptive", "objective")
    beta: float = _setting(2.0, "beta of the constant entropic objective, per unit of reward")
    kl_budget: float = _setting(math.log(2), "KL(q_beta || uniform) that the adaptive beta solves for")
    beta_cap: float = _setting(1e12, "largest adaptive beta")
    beta_cap_on: Literal["scaled", "raw"] = _setting("scaled", "whether the cap is on range-scaled rewards")
    kl_coefficient: float = _setting(0.1, "weight of the KL to the base model", validator=_at_least(0))
    kl_center: bool = _setting(True, "subtract the batch mean of the per-token KL estimate")
    learning_rate: float = _setting(4e-5, "Adam's step size", validator=_at_least(0))
    beta1: float = _setting(0.9, "Adam's first-moment decay")
    beta2: float = _setting(0.95, "Adam's second-moment decay")
    epsilon: float = _setting(1e-8, "Adam's denominator term")
    loss: Literal["importance", "truncated", "clipped"] = _setting("importance", "form of the policy-gradient loss")
    clip_low: float = _setting(0.8, "lower ratio bound of the clipped loss")
    clip_high: float = _setting(1.2, "upper ratio bound of the clipped and truncated losses")
    micro_batch_tokens: int = _setting(8192, "tokens per forward pass in training", validator=_at_least(1))


@attrs.frozen
class PolicyConfig:
    """The model that proposes, and how it samples (paper Table 9)."""

    backend: str = _setting("local", "policy backend")
    model: str = _setting("qwen2.5-coder-0.5b", "folder, hub id or catalogue name")
    device: str = _setting("auto", "auto, cpu, cuda or cuda:N")
    dtype: Literal["auto", "float32", "bfloat16"] = _setting("auto", "weights of the base model")
    lora_rank: int = _setting(32, "rank of the adapter", validator=_at_least(1))
    lora_alpha: float = _setting(32.0, "scale of the adapter, divided by its rank")
    temperature: float = _setting(1.0, "softmax temperature", validator=_at_least(1e-3))
    context: int = _setting(32768, "most tokens of prompt and reply together", validator=_at_least(2))
    max_new_tokens: int | None = _setting(None, "most tokens of one reply", validator=_at_least(1))
    thinking_tokens: int | None = _setting(None, "prompt plus thinking before the answer is forced")
    prefill: str = _setting("", "text that starts every reply: forced, never trained")
    reasoning_effort: str = _setting("", "passed to the chat template of models that take it")
    batch: int = _setting(64, "sequences decoded at once", validator=_at_least(1))
    options: dict[str, Any] = _setting(attrs.Factory(dict), "backend's own options")


@attrs.frozen
class SandboxConfig:
    """Where candidate code runs."""

    executor: str = _setting("local", "executor backend")
    level: Literal["best", "strong", "standard", "unprotected"] = _setting(
        "best", "least isolation to accept; 'unprotected' must be asked for by name"
    )
    workers: int | None = _setting(None, "jobs at once; default one per core")


@attrs.frozen
class RunConfig:
    """Everything that determines a run."""

    problem: str = _setting("", "problem name, or FILE.py:Class")
    options: dict[str, Any] = _setting(attrs.Factory(dict), "the problem's own options")
    variant: str = _setting("full", "named set of search and learning choices")
    seed: int = _setting(0, "seeds search, sampling and start states")
    steps: int = _setting(50, "training steps", validator=_at_least(0))
    groups: int = _setting(8, "groups per step", validator=_at_least(1))
    group_size: int = _setting(64, "rollouts per group", validator=_at_least(1))
    checkpoint_every: int = _setting(1, "steps between checkpoints", validator=_at_least(1))
    checkpoints_kept: int = _setting(2, "checkpoints kept, newest first", validator=_at_least(1))
    search: SearchConfig = _setting(attrs.Factory(SearchConfig), "search")
    learn: LearnConfig = _setting(attrs.Factory(LearnConfig), "learning")
    policy: PolicyConfig = _setting(attrs.Factory(PolicyConfig), "policy")
    sandbox: SandboxConfig = _setting(attrs.Factory(SandboxConfig), "sandbox")


#: The eight rows of the paper's Table 8, as changes to the default config.
VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "epsilon-greedy": {"search.reuse": "epsilon-greedy"},
    "constant-beta": {"learn.advantage": "entropic"},
    "expected-reward": {"learn.advantage": "mean"},
    "no-training": {"learn.train": False},
    "no-reuse": {"search.reuse": "none"},
    "naive-rl": {"search.reuse": "none", "learn.advantage": "mean"},
    "best-of-n": {"search.reuse": "none", "learn.train": False},
}

#: Keys that may change when a run is resumed: they do not alter a step already made.
RESUMABLE_KEYS = frozenset({"steps", "checkpoints_kept", "sandbox.workers"})

_converter = cattrs.Converter(forbid_extra_keys=True)


def flatten(config: RunConfig) -> dict[str, Any]:
    """Dotted keys to values, options included."""
    flat: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                walk(f"{prefix}.{key}" if prefix else key, item)
        else:
            flat[prefix] = value

    walk("", attrs.asdict(config))
    return flat
