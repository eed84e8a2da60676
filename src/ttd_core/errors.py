"""Every error ttd raises on purpose; each is one line for a person and knows its exit code.

::

    TtdError                     1   the candidate or a check failed
    ├── UsageError               2   the request is wrong (also a ValueError)
    │   ├── UnknownProblemError      no plugin registers this problem
    │   ├── ConfigError              a config key or value is wrong
    │   ├── PromptTooLongError       a prompt does not fit the model's context
    │   └── ResumeError              a run cannot be continued as asked
    ├── EnvironmentLacksError    3   something is missing here, and the message says what to do
    │   ├── ModelUnavailableError    a model is neither local nor reachable, or its hash is wrong
    │   ├── SandboxUnavailableError  the requested isolation cannot be formed
    │   └── StorageError             a file cannot be written or read (disk full, read-only)
    ├── RegistryClashError       3   two distributions claim one name
    └── PluginError              3   a plugin's own bug: names the plugin and the hook

A failed rollout is never an exception: it is a :class:`~ttd_core.types.Verdict` with a status.
"""

from __future__ import annotations

import difflib
import pathlib
import traceback
from collections.abc import Iterable


class TtdError(Exception):
    """Base of all errors meant for a person. ``str(error)`` is one line."""

    exit_code: int = 1


class UsageError(TtdError, ValueError):
    """The request itself is wrong: an unknown name, a bad option, a missing file."""

    exit_code = 2


class UnknownProblemError(UsageError):
    """No installed distribution registers the problem asked for."""


class ConfigError(UsageError):
    """A configuration key is unknown or its value does not fit."""


class PromptTooLongError(UsageError):
    """A prompt does not fit the model's context. A run then shows less of what candidates wrote."""


class ResumeError(UsageError):
    """A run cannot be continued as asked: it does not exist, or its config differs."""


class EnvironmentLacksError(TtdError):
    """This machine lacks something the request needs; the message says what to install or set."""

    exit_code = 3


class ModelUnavailableError(EnvironmentLacksError):
    """The model is neither a local folder, nor in the catalogue, nor reachable on the hub."""


class SandboxUnavailableError(EnvironmentLacksError):
    """The requested sandbox level cannot be formed on this machine."""


class StorageError(EnvironmentLacksError):
    """A file or folder cannot be written or read: the disk is full, it is read-only, it is damaged."""


class RegistryClashError(EnvironmentLacksError):
    """Two installed distributions claim one name: of a problem, a plugin, a backend or a command."""


class PluginError(EnvironmentLacksError):
    """A plugin failed to import, or one of its hooks raised or returned the wrong type.

    :param plugin: the plugin's name, with its distribution where known.
    :param hook: the hook that failed, or ``"import"``.
    :param reason: what happened, in one line.
    """

    def __init__(self, plugin: str, hook: str, reason: str) -> None:
        super().__init__(f"plugin {plugin}: {hook}: {reason}")
        self.plugin = plugin
        self.hook = hook
        self.reason = reason


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest candidate, or an empty string."""
    matches = difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.6)
    return f" Did you mean '{matches[0]}'?" if matches else ""


def one_line(error: BaseException, limit: int = 300) -> str:
    """An exception's type and message in one line, with the innermost file and line outside of ttd_core."""
    message = " ".join(str(error).split())
    if len(message) > limit:
        message = message[: limit - 3] + "..."
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    here = pathlib.Path(__file__).parent
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = pathlib.Path(frame.filename)
        if here not in path.parents and not frame.filename.startswith("<"):
            return f"{text} ({path.name}:{frame.lineno})"
    return text
