"""The options of a problem: an attrs class whose every field has a default and a sentence of help."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import attrs

from ttd_core.sandbox.base import MIB, Limits


def option(default: Any, help: str, **kwargs: Any) -> Any:
    """An attrs field for a problem's options, with the sentence shown by ``ttd show``."""
    return attrs.field(default=default, metadata={"help": help}, kw_only=True, **kwargs)


#: What the limits of every problem's options must be, whatever their defaults.
_LIMITS: Mapping[str, Callable[..., Any]] = {
    # No clock of the system takes a time like 1e300.
    "timeout_s": attrs.validators.and_(attrs.validators.gt(0), attrs.validators.le(1e9)),
    "budget_s": attrs.validators.optional(attrs.validators.gt(0)),
    "cpus": attrs.validators.ge(1),
    "memory_mb": attrs.validators.ge(1),
}


#: What a reply may hold, each in words.
REPLY_FORMS: Mapping[str, str] = {
    "program": "all of it",
    "parts": "only the top-level parts it changes",
    "edits": "search-and-replace blocks",
}


def reply_option(forms: Sequence[str], *, edits_of_a_program: bool = False) -> Any:
    """The option ``reply`` of a problem: what a reply holds.

    :param forms: those that the problem takes, of :data:`REPLY_FORMS`.
    :param edits_of_a_program: whether a run that starts from a program asks for edits where nothing else is
        said. The resolved form is stored with a run, so one that is resumed keeps its own.
    """
    known = [f"'{form}' ({REPLY_FORMS[form]})" for form in forms]
    sentence = f"what a reply holds: {', '.join(known[:-1])} or {known[-1]}"
    default: Any = forms[0]
    if edits_of_a_program:
        sentence += "; with start = 'program' the default is 'edits'"
        default = attrs.Factory(
            lambda options: "edits" if options.start == "program" else forms[0], takes_self=True
        )
    return option(default, sentence, validator=attrs.validators.in_(tuple(forms)))


@attrs.frozen
class Options:
    """Options every problem has; a problem adds its own in a subclass named in ``options_type``."""

    timeout_s: float = option(1100.0, "wall seconds a program may run")
    budget_s: float | None = option(None, "seconds a program is told it has; default 90 % of timeout_s")
    cpus: int = option(2, "processors a program may use")
    memory_mb: int = option(1024, "resident memory a program may use, MiB")
    start: str = option("empty", "where the first prompts start: 'empty' or 'program' (the starting program)")
    reply: str = reply_option(("program", "parts", "edits"))
    output_chars: int = option(500, "characters of the last program's output shown in the prompt")
    target: float | None = option(
        None, "score that prompts aim for; default the problem's own target, else the best published one"
    )

    def __attrs_post_init__(self) -> None:
        # not validators of the fields: a subclass that gives one another default would lose them
        for name, check in _LIMITS.items():
            check(self, getattr(attrs.fields(type(self)), name), getattr(self, name))

    @property
    def budget(self) -> float:
        """Seconds a program is told it has."""
        return self.budget_s if self.budget_s is not None else 0.9 * self.timeout_s

    def with_budget(self, share: float) -> Self:
        """These options with a share of the budget, and that much less time.

        The seconds between budget and ``timeout_s`` stay: what a program needs to start, and to end the round
        that it is in, does not shrink with its budget.

        :param share: above 0 and at most 1.
        """
        within = min(self.budget, self.timeout_s)
        timeout_s = share * within + (self.timeout_s - within)
        return attrs.evolve(self, budget_s=share * self.budget, timeout_s=timeout_s)

    def limits(self, **changes: Any) -> Limits:
        """The sandbox limits these options ask for."""
        base: dict[str, Any] = {
            "wall_s": self.timeout_s,
            "cpus": self.cpus,
            "memory": self.memory_mb * MIB,
        }
        return Limits(**(base | changes))

    @property
    def evaluation_s(self) -> float:
        """Seconds that judging one program keeps a worker of the sandbox busy, if it uses all its time."""
        return self.budget
