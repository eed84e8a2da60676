"""Open the policy and the executor a config names, from whatever plugins bring them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from ttd_core.config import RunConfig
from ttd_core.errors import ConfigError, did_you_mean
from ttd_core.plugin.hooks import Hooks
from ttd_core.policy.base import Policy
from ttd_core.sandbox.base import Executor


def open_policy(hooks: Hooks, config: RunConfig) -> Policy:
    """The policy of ``policy.backend``.

    :raises ConfigError: when no plugin brings it.
    """
    return cast(Policy, _factory("policy.backend", config.policy.backend, hooks.policies())(config))


def open_executor(hooks: Hooks, config: RunConfig) -> Executor:
    """The executor of ``sandbox.executor``.

    :raises ConfigError: when no plugin brings it.
    """
    return cast(Executor, _factory("sandbox.executor", config.sandbox.executor, hooks.executors())(config))


def _factory(key: str, name: str, known: Mapping[str, Any]) -> Any:
    if name not in known:
        raise ConfigError(
            f"{key} = '{name}': no plugin brings it; known are {', '.join(sorted(known))}."
            f"{did_you_mean(name, known)}"
        )
    return known[name]
