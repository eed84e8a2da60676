"""Options of every contest: the limits of a case, which cases are judged, and how many run at once."""

from __future__ import annotations

from typing import Any

import attrs

from ttd_core.options import Options, option, reply_option

#: Seeds are unsigned numbers of 64 bits.
SEEDS = 1 << 64


def _leaves_room(options: Any, _attribute: Any, first_seed: int) -> None:
    if not 0 <= first_seed <= SEEDS - options.cases:
        raise ValueError(
            f"'first_seed' must be at least 0 and, for {options.cases} cases, at most 2^64 - {options.cases}"
        )


@attrs.frozen
class ContestOptions(Options):
    """Options of every contest; a contest adds its own in a subclass."""

    timeout_s: float = option(2.0, "processor seconds a program may use for one case")
    cpus: int = option(1, "processors a program may use", validator=attrs.validators.in_((1,)))
    cases: int = option(150, "cases a program is judged on", validator=attrs.validators.ge(1))
    first_seed: int = option(0, "seed of the first case", validator=_leaves_room)
    cores: int = option(
        0, "cases run at once, each on a core of its own; 0 for all cores", validator=attrs.validators.ge(0)
    )
    keep_going: bool = option(
        False, "judge the other cases too after one has failed, and say what they score; the verdict stays"
    )
    program: str = option(
        "short",
        "the starting program: 'short' (a small model can retype it) or 'strong' (our best method)",
        validator=attrs.validators.in_(("short", "strong")),
    )
    reply: str = reply_option(("program", "edits"), edits_of_a_program=True)

    @property
    def evaluation_s(self) -> float:
        """All cases one after the other; side by side they keep as many cores busy."""
        return self.cases * self.timeout_s
