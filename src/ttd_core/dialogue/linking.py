"""What the parts of a program reach through the functions that they call."""

from __future__ import annotations

from collections.abc import Sequence

from ttd_core.dialogue.parts import Part

#: Steps from name to name that are followed; crafted programs would take forever.
MAX_STEPS = 2_000_000


class Links:
    """The functions that parts define, and what running a part reads and changes through them.

    :param parts: all parts whose functions count.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        self._steps = 0
        self._known: dict[int, tuple[frozenset[str], frozenset[str]]] = {}
        self._later: dict[str, set[str]] = {}
        self._changes: dict[str, set[str]] = {}
        for part in parts:
            effects = part.effects
            if part.kind == "define" or effects.later or effects.changes_later:
                for name in effects.binds:
                    self._later.setdefault(name, set()).update(effects.later)
                    self._changes.setdefault(name, set()).update(effects.changes_later)

    def defines(self, name: str) -> bool:
        """Whether a part binds the name to functions."""
        return name in self._later

    def reached(self, part: Part) -> frozenset[str]:
        """Names that running a part reads, by itself or through functions.

        :raises OverflowError: when that takes too long to find out.
        """
        return self._closure(part)[0]

    def changes(self, part: Part) -> frozenset[str]:
        """Names whose values running a part may change, by itself or through functions."""
        return self._closure(part)[1]

    def _closure(self, part: Part) -> tuple[frozenset[str], frozenset[str]]:
        if id(part) in self._known:
            return self._known[id(part)]
        changes = set(part.effects.changes)
        seen: set[str] = set()
        waiting = set(part.effects.reads)
        # A function that is only bound is not called.
        while waiting:
            name = waiting.pop()
            seen.add(name)
            later = self._later.get(name, set())
            self._steps += 1 + len(later)
            if self._steps > MAX_STEPS:
                raise OverflowError("too many steps")
            waiting |= later - seen
            changes |= self._changes.get(name, set())
        changes |= part.effects.calls - self._later.keys()
        found = frozenset(seen), frozenset(changes)
        self._known[id(part)] = found
        return found
