"""Opening the ``local`` backend: what is wrong with a model's name is said before anything heavy loads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ttd_core.config import RunConfig
from ttd_core.policy.models import fetch

if TYPE_CHECKING:
    from ttd_core.policy.local.parallel import ParallelPolicy
    from ttd_core.policy.local.policy import LocalPolicy


def open_local(config: RunConfig) -> LocalPolicy | ParallelPolicy:
    """Fetch, load and adapt the model a config names, on as many devices as it asks for.

    :raises ModelUnavailableError: when there is no such model to be had.
    :raises EnvironmentLacksError: when the devices asked for are not here.
    :raises ConfigError: for a wrong option.
    """
    fetch.local_path(config.policy.model)
    from ttd_core.policy.local import policy  # noqa: PLC0415 - torch, transformers, peft: seconds to import

    return policy.open_local(config)
