"""What each hook may return, checked at run time: a wrong type is caught where it is returned.

A complaint is one clause for a person; an empty one means the value fits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ttd_core.types import Action, Reward, State, Verdict

_ROLES = ("system", "user", "assistant")


def complaint_about(hook: str, result: Any, answers: bool = False) -> str:
    """What is wrong with one implementation's result.

    :param answers: whether ``None`` is refused even where it would pass the question on.
    """
    if result is None and hook in _FIRST_RESULT and not answers:
        return ""
    if hook in _VALUES:
        return _VALUES[hook](result)
    return ""


def complaint_about_outcome(hook: str, result: Any) -> str:
    """What is wrong with a hook's whole outcome: one value, or the list of all implementations' results."""
    if hook in _FIRST_RESULT:
        return _VALUES[hook](result)
    if not isinstance(result, list):
        return f"returned {_name(result)} instead of the list of results it was given"
    return next(filter(None, (complaint_about(hook, item) for item in result)), "")


def _messages(value: Any) -> str:
    if not _is_sequence(value) or not value:
        return f"returned {_name(value)} instead of a list of chat messages"
    for message in value:
        complete = isinstance(message, Mapping) and set(message) == {"role", "content"}
        if not complete or message["role"] not in _ROLES or not isinstance(message["content"], str):
            return f"returned a message that is not {{role: {' | '.join(_ROLES)}, content: text}}"
    return ""


def _action(value: Any) -> str:
    return "" if isinstance(value, Action) else _verdict(value, "an Action")


def _state(value: Any) -> str:
    return "" if isinstance(value, State) else _verdict(value, "a State")


def _verdict(value: Any, wanted: str) -> str:
    if not isinstance(value, Verdict):
        return f"returned {_name(value)} instead of {wanted} or a failed Verdict"
    if value.ok:
        return f"returned an ok Verdict; only check and reward decide that, return {wanted}"
    return _json(value.metrics, "the Verdict's metrics")


def _violations(value: Any) -> str:
    if not _is_sequence(value) or not all(isinstance(item, str) for item in value):
        return f"returned {_name(value)} instead of a list of sentences (empty when the state is valid)"
    return ""


def _reward(value: Any) -> str:
    if not isinstance(value, Reward):
        return f"returned {_name(value)} instead of a Reward"
    if not (math.isfinite(value.value) and math.isfinite(value.score)):
        return f"returned a Reward that is not finite: value {value.value!r}, score {value.score!r}"
    return _json(value.metrics, "the Reward's metrics")


def _states(value: Any) -> str:
    if not _is_sequence(value) or not all(isinstance(item, State) for item in value):
        return f"returned {_name(value)} instead of a list of States"
    return ""


def _factories(value: Any) -> str:
    if not isinstance(value, Mapping):
        return f"returned {_name(value)} instead of a mapping of names to factories"
    wrong = [name for name, factory in value.items() if not isinstance(name, str) or not callable(factory)]
    return f"names {wrong[0]!r}, which is no name with a factory that can be called" if wrong else ""


def _json(value: Any, what: str) -> str:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        return f"{what} are not JSON: {error}"
    return ""


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _name(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


_FIRST_RESULT = frozenset(
    ["ttd_render_prompt", "ttd_parse_action", "ttd_transition", "ttd_reward", "ttd_seed_states"]
)
_VALUES: dict[str, Callable[[Any], str]] = {
    "ttd_render_prompt": _messages,
    "ttd_parse_action": _action,
    "ttd_transition": _state,
    "ttd_check": _violations,
    "ttd_reward": _reward,
    "ttd_seed_states": _states,
    "ttd_policies": _factories,
    "ttd_executors": _factories,
}
