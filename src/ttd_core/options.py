"""The options of a problem: an attrs class whose every field has a default and a sentence of help."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from ttd_core.sandbox.base import MIB, Limits


def option(default: Any, help: str, **kwargs: Any) -> Any:
    """An attrs field for a problem's options, with the sentence shown by ``ttd show``."""
    return attrs.field(default=default, metadata={"help": help}, kw_only=True, **kwargs)


#: What the limits of every problem's options must be, whatever their defaults.
_LIMITS: Mapping[str, Callable[..., Any]] = {
    "timeout_s": attrs.validators.gt(0),
    "budget_s": attrs.validators.optional(attrs.validators.gt(0)),
    "cpus": attrs.validators.ge(1),
    "memory_mb": attrs.validators.ge(1),
}


@attrs.frozen
class Options:
    """Options every problem has; a problem adds its own in a subclass named in ``options_type``."""

    timeout_s: float = option(1100.0, "wall seconds a program may run")
    budget_s: float | None = option(None, "seconds a program is told it has; default 90 % of timeout_s")
    cpus: int = option(2, "processors a program may use")
    memory_mb: int = option(1024, "resident memory a program may use, MiB")
    start: str = option("empty", "where the first prompts start: 'empty' or 'program' (the starting program)")
    reply: str = option(
        "program",
        "what a reply holds: 'program' (all of it) or 'parts' (only the top-level parts it changes)",
        validator=attrs.validators.in_(("program", "parts")),
    )
    output_chars: int = option(500, "characters of the last program's output shown in the prompt")
    target: float | None = option(None, "score to aim for; default the best published one")

    def __attrs_post_init__(self) -> None:
        # not validators of the fields: a subclass that gives one another default would lose them
        for name, check in _LIMITS.items():
            check(self, getattr(attrs.fields(type(self)), name), getattr(self, name))

    @property
    def budget(self) -> float:
        """Seconds a program is told it has."""
        return self.budget_s if self.budget_s is not None else 0.9 * self.timeout_s

    def limits(self, **changes: Any) -> Limits:
        """The sandbox limits these options ask for."""
        base: dict[str, Any] = {
            "wall_s": self.timeout_s,
            "cpus": self.cpus,
            "memory": self.memory_mb * MIB,
        }
        return Limits(**(base | changes))
