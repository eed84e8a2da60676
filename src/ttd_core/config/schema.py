"""What a run's config holds: every setting with its default, what fits it and a sentence of help.

:mod:`ttd_core.config` resolves one from its layers; take :class:`RunConfig` from there.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, Literal

import attrs

from ttd_core.config.settings import (
    MOST_SECONDS,
    absent_as_word,
    at_least,
    at_most,
    between,
    is_day,
    is_share,
    setting,
)

#: More jobs at once than any cluster has processors; each takes a thread of the run's process.
MOST_WORKERS = 100_000


@attrs.frozen
class SearchConfig:
    """Which states are kept and where the next groups start (paper A.2)."""

    reuse: Literal["puct", "epsilon-greedy", "none"] = setting("puct", "how start states are picked")
    exploration: float = setting(1.0, "PUCT's c", validator=at_least(0))
    scale: Literal["range", "range-without-seeds"] = setting("range", "what the exploration term scales with")
    scale_floor: float = setting(
        0.0, "least value of that scale (the authors' code: 1e-6)", validator=at_least(0)
    )
    count: Literal["group", "rollout"] = setting("group", "what counts as one visit")
    epsilon: float = setting(0.1, "chance of a uniform pick under epsilon-greedy", validator=at_least(0))
    capacity: int = setting(1000, "most states kept, seeds included", validator=at_least(1))
    keep_children: int = setting(2, "best children kept of each expansion", validator=at_least(1))


@attrs.frozen
class LearnConfig:
    """The objective and the optimiser (paper A.1, Table 9)."""

    train: bool = setting(True, "whether the policy learns at all")
    advantage: Literal["entropic-adaptive", "entropic", "mean"] = setting("entropic-adaptive", "objective")
    beta: float = setting(
        2.0, "constant entropic objective's beta, per unit of reward", validator=at_least(0)
    )
    kl_budget: float = setting(
        math.log(2), "KL(q_beta || uniform) that the adaptive beta solves for", validator=at_least(0)
    )
    beta_cap: float = setting(1e12, "largest adaptive beta", validator=at_least(0))
    beta_cap_on: Literal["scaled", "raw"] = setting("scaled", "whether the cap is on range-scaled rewards")
    repeats: Literal["count", "drop", "fail"] = setting(
        "count",
        "a program that merely repeats its start: count its reward, drop it from its group, or fail it (0)",
    )
    kl_coefficient: float = setting(0.1, "weight of the KL to the base model", validator=at_least(0))
    kl_center: bool = setting(True, "subtract the batch mean of the per-token KL estimate")
    learning_rate: float = setting(4e-5, "Adam's step size", validator=at_least(0))
    beta1: float = setting(0.9, "Adam's first-moment decay", validator=between(0, 1))
    beta2: float = setting(0.95, "Adam's second-moment decay", validator=between(0, 1))
    epsilon: float = setting(1e-8, "Adam's denominator term", validator=at_least(0))
    loss: Literal["importance", "truncated", "clipped"] = setting(
        "importance", "form of the policy-gradient loss"
    )
    clip_low: float = setting(0.8, "lower ratio bound of the clipped loss", validator=at_least(0))
    clip_high: float = setting(
        1.2, "upper ratio bound of the clipped and truncated losses", validator=at_least(0)
    )
    micro_batch_tokens: int = setting(8192, "tokens per forward pass in training", validator=at_least(1))
    activation_checkpointing: Literal["auto", "on", "off"] = setting(
        "auto", "recompute activations in the backward pass; auto does so when memory is short"
    )


@attrs.frozen
class PolicyConfig:
    """The model that proposes, and how it samples (paper Table 9)."""

    backend: str = setting("local", "policy backend")
    model: str = setting("qwen2.5-coder-0.5b", "folder, hub id or catalogue name")
    device: str = setting("auto", "auto, cpu, cuda or cuda:N")
    dtype: Literal["auto", "float32", "bfloat16"] = setting("auto", "weights of the base model")
    lora_rank: int = setting(32, "rank of the adapter", validator=at_least(1))
    lora_alpha: float = setting(32.0, "scale of the adapter, divided by its rank")
    temperature: float = setting(1.0, "softmax temperature", validator=at_least(1e-3))
    context: int = setting(32768, "most tokens of prompt and reply together", validator=at_least(2))
    max_new_tokens: int | None = setting(None, "most tokens of one reply", validator=at_least(1))
    thinking_tokens: int | None = setting(
        None, "prompt plus thinking before the answer is forced", validator=at_least(1)
    )
    prefill: str = setting("", "text that starts every reply: forced, never trained")
    reasoning_effort: str = setting("", "passed to the chat template of models that take it")
    prompt_date: str = setting(
        "",
        "day, like 2026-01-31, that chat templates which ask for the date are told; default the run's first",
        validator=is_day,
    )
    batch: int | None = setting(
        None, "most replies decoded at once; default 64, with the lean engine 512", validator=at_least(1)
    )
    options: dict[str, Any] = attrs.field(
        factory=dict, converter=absent_as_word, metadata={"help": "backend's own options"}, kw_only=True
    )

    def __attrs_post_init__(self) -> None:
        if self.thinking_tokens is not None and self.thinking_tokens >= self.context:
            raise ValueError(
                f"thinking_tokens must be below context ({self.context}), not {self.thinking_tokens}: "
                "the answer needs room"
            )


@attrs.frozen
class SandboxConfig:
    """Where candidate code runs."""

    executor: str = setting("local", "executor backend")
    level: Literal["best", "strong", "standard", "unprotected"] = setting(
        "best", "least isolation to accept; 'unprotected' must be asked for by name"
    )
    workers: int | None = setting(
        None,
        "jobs at once; default one per core that is not kept",
        validator=[at_least(1), at_most(MOST_WORKERS)],
    )
    reserve: int | None = setting(
        None,
        "cores that no candidate runs on; default one for each GPU that the model is sampled on, a quarter "
        "of the cores at most",
        validator=at_least(0),
    )


def _growing_shares(_instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Attrs validator: shares of a whole, each larger than the one before, the last of them all of it."""
    if value is None:
        return
    grows = all(first < second for first, second in itertools.pairwise(value))
    if not (value and value[0] > 0 and grows and value[-1] == 1):
        raise ValueError(
            f"{attribute.name} needs shares of the budget that grow from above 0 to 1, like [0.1, 1.0], "
            f"not {list(value)}"
        )


@attrs.frozen
class DeadlineConfig:
    """When a step ends without its last verdicts; never, unless ``share`` or ``seconds`` is set."""

    share: float | None = setting(
        None,
        "share of a step's rollouts (above 0, up to 1) after whose verdicts the others are late",
        validator=is_share,
    )
    seconds: float | None = setting(
        None,
        "seconds after a step's last reply at which rollouts that are not judged are late",
        validator=[at_least(0), at_most(MOST_SECONDS)],
    )
    then: Literal["later", "timeout"] = setting(
        "later",
        "what becomes of them: judged on and learned from in a later step, or counted as timeouts at once",
    )

    @property
    def set(self) -> bool:
        """Whether there is one."""
        return self.share is not None or self.seconds is not None


@attrs.frozen
class RunConfig:
    """Everything that determines a run."""

    problem: str = setting("", "problem name, or FILE.py:Class")
    options: dict[str, Any] = attrs.field(
        factory=dict, converter=absent_as_word, metadata={"help": "the problem's own options"}, kw_only=True
    )
    variant: str = setting("full", "named set of search and learning choices")
    seed: int = setting(0, "seeds search, sampling and start states", validator=at_least(0))
    steps: int = setting(50, "training steps", validator=at_least(0))
    groups: int = setting(8, "groups per step", validator=at_least(1))
    group_size: int = setting(64, "rollouts per group", validator=at_least(1))
    checkpoint_every: int = setting(1, "steps between checkpoints", validator=at_least(1))
    checkpoints_kept: int = setting(2, "checkpoints kept, newest first", validator=at_least(1))
    schedule: Literal["sync", "pipelined"] = setting(
        "sync",
        "whether a step is over before the next is sampled, or the next is sampled while its programs run",
    )
    on_problem_error: Literal["count", "stop"] = setting(
        "count", "when the problem's own code fails on a reply: count a failed rollout and warn, or stop"
    )
    keep_rollouts: bool = setting(
        True,
        "a resumed step uses the rollouts that it had when the run was stopped; false samples and judges all "
        "of them again",
    )
    keep_tokens: int = setting(
        0,
        "most tokens of a step that are kept with their log-probabilities; 0 keeps none",
        validator=at_least(0),
    )
    cascade: tuple[float, ...] | None = setting(
        None,
        "shares of its budget that a program runs with, one after the other, like [0.1, 1.0]: the best of a "
        "group go on; for problems that tell programs a budget",
        validator=_growing_shares,
    )
    keep: float = setting(
        0.25,
        "share of a group that goes on to the cascade's next stage, beside all that beat their start",
        validator=is_share,
    )
    same_program: Literal["judge", "reuse", "reuse-anyway"] = setting(
        "judge",
        "a program that was judged from the same start: judge it again, reuse the verdict where the problem "
        "says that it would be the same, or reuse it whatever the problem says",
    )
    search: SearchConfig = attrs.field(factory=SearchConfig, kw_only=True)
    learn: LearnConfig = attrs.field(factory=LearnConfig, kw_only=True)
    policy: PolicyConfig = attrs.field(factory=PolicyConfig, kw_only=True)
    sandbox: SandboxConfig = attrs.field(factory=SandboxConfig, kw_only=True)
    deadline: DeadlineConfig = attrs.field(factory=DeadlineConfig, kw_only=True)


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
RESUMABLE_KEYS = frozenset(
    {
        "steps",
        "checkpoints_kept",
        "on_problem_error",
        "keep_rollouts",
        "keep_tokens",
        "sandbox.workers",
        "sandbox.reserve",
    }
)

#: Options that may change when a run is resumed, though they shape the steps from there on: they bound what a
#: program may take, and leave alone what its score means. Runs that differ in them are not the same run.
RESUMABLE_OPTIONS = frozenset({"options.budget_s", "options.timeout_s"})
