"""ttd: a language model learns while it attacks one hard problem.

The public names are imported on first use, so that ``import ttd_core`` and ``ttd list-problems`` stay fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ttd_core.config import RunConfig
    from ttd_core.errors import (
        ConfigError,
        EnvironmentLacksError,
        ModelUnavailableError,
        PluginError,
        RegistryClashError,
        ResumeError,
        SandboxUnavailableError,
        StorageError,
        TtdError,
        UnknownProblemError,
        UsageError,
    )
    from ttd_core.plugin.spec import hookimpl
    from ttd_core.policy.base import Policy, Sample, SamplingParams, Sequences, Trainer
    from ttd_core.problem import Baseline, Examples, Execute, Options, Problem, option
    from ttd_core.sandbox.base import (
        Artifact,
        CompileJob,
        Executor,
        Job,
        JobResult,
        Level,
        Limits,
        ProgramJob,
        PythonJob,
    )
    from ttd_core.types import (
        Action,
        Completion,
        Group,
        Message,
        Reward,
        Rollout,
        ScoredState,
        State,
        Status,
        StopReason,
        Verdict,
    )

__all__ = [
    "Action",
    "Artifact",
    "Baseline",
    "CompileJob",
    "Completion",
    "ConfigError",
    "EnvironmentLacksError",
    "Examples",
    "Execute",
    "Executor",
    "Group",
    "Job",
    "JobResult",
    "Level",
    "Limits",
    "Message",
    "ModelUnavailableError",
    "Options",
    "PluginError",
    "Policy",
    "Problem",
    "ProgramJob",
    "PythonJob",
    "RegistryClashError",
    "ResumeError",
    "Reward",
    "Rollout",
    "RunConfig",
    "Sample",
    "SamplingParams",
    "SandboxUnavailableError",
    "ScoredState",
    "Sequences",
    "State",
    "Status",
    "StopReason",
    "StorageError",
    "Trainer",
    "TtdError",
    "UnknownProblemError",
    "UsageError",
    "Verdict",
    "hookimpl",
    "option",
]

_HOMES = {
    "config": ["RunConfig"],
    "plugin.spec": ["hookimpl"],
    "policy.base": ["Policy", "Sample", "SamplingParams", "Sequences", "Trainer"],
    "problem": ["Baseline", "Examples", "Execute", "Options", "Problem", "option"],
    "sandbox.base": [
        *("Artifact", "CompileJob", "Executor", "Job", "JobResult", "Level", "Limits", "ProgramJob"),
        "PythonJob",
    ],
    "types": [
        *("Action", "Completion", "Group", "Message", "Reward", "Rollout", "ScoredState", "State", "Status"),
        *("StopReason", "Verdict"),
    ],
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'ttd_core' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"ttd_core.{_HOME_OF.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
