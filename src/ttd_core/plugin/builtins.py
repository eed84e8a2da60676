"""The backends that come with ttd, registered in ``ttd.plugins`` as any third party's would be.

Each factory imports its backend when it is called: torch and its like load only for a run that uses them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from ttd_core.errors import EnvironmentLacksError
from ttd_core.plugin.spec import hookimpl

POLICIES = {
    "local": "ttd_core.policy.local.opening:open_local",
    "openai": "ttd_core.policy.openai.policy:open_openai",
    "scripted": "ttd_core.policy.scripted:open_scripted",
    "tinker": "ttd_core.policy.tinker.policy:open_tinker",
}
#: Libraries of backends that are not installed with the core; the extra has the library's name.
_EXTRAS = {"openai", "tinker"}
EXECUTORS = {
    "local": "ttd_core.sandbox.local:open_local",
    "ray": "ttd_core.sandbox.ray:open_ray",
}


@hookimpl
def ttd_policies() -> Mapping[str, Callable[[Any], Any]]:
    """``local``: transformers and peft on this machine; ``tinker``: a model that learns on a server;
    ``openai``: a frozen one there; ``scripted``: replies from a list."""
    return {name: _on_call(target) for name, target in POLICIES.items()}


@hookimpl
def ttd_executors() -> Mapping[str, Callable[[Any], Any]]:
    """``local``: the sandbox of this machine; ``ray``: the same on every node of a Ray cluster."""
    return {name: _on_call(target) for name, target in EXECUTORS.items()}


def _on_call(target: str) -> Callable[[Any], Any]:
    """A factory that imports ``module:function`` when it is called, and calls it."""

    def open_backend(config: Any) -> Any:
        module, _, factory = target.partition(":")
        try:
            loaded = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name not in _EXTRAS:
                raise
            raise EnvironmentLacksError(
                f"this backend needs {error.name}: pip install 'ttd-core[{error.name}]'"
            ) from error
        return getattr(loaded, factory)(config)

    return open_backend
