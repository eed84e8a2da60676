"""Open the policy and the executor a config names, from whatever plugins bring them."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, cast

from ttd_core.config import RunConfig
from ttd_core.errors import ConfigError, did_you_mean
from ttd_core.plugin.hooks import Hooks
from ttd_core.policy.base import DatesPrompts, Policy
from ttd_core.sandbox.base import Executor


def open_policy(hooks: Hooks, config: RunConfig) -> Policy:
    """The policy of ``policy.backend``.

    :raises ConfigError: when no plugin brings it.
    """
    factory = _named("policy.backend", config.policy.backend, hooks.policies())
    return cast(Policy, factory(config))


def date_prompts(policy: Policy, config: RunConfig, begun: float) -> None:
    """Have prompts tell one day for all of a run, whenever it goes on: ``policy.prompt_date``, or its first.

    :param begun: when the run was begun, in seconds since the epoch, as its folder says.
    """
    if isinstance(policy, DatesPrompts):
        first = datetime.datetime.fromtimestamp(begun, datetime.UTC).date()
        told = config.policy.prompt_date
        policy.date_prompts(datetime.date.fromisoformat(told) if told else first)


def open_executor(hooks: Hooks, config: RunConfig) -> Executor:
    """The executor of ``sandbox.executor``.

    :raises ConfigError: when no plugin brings it.
    """
    factory = _named("sandbox.executor", config.sandbox.executor, hooks.executors())
    return cast(Executor, factory(config))


def _named(key: str, name: str, known: Mapping[str, Any]) -> Any:
    """The factory of that name.

    :param key: of the config, for the message.
    """
    if name not in known:
        raise ConfigError(
            f"{key} = '{name}': no plugin brings it; known are {', '.join(sorted(known))}."
            f"{did_you_mean(name, known)}"
        )
    return known[name]
