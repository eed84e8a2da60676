"""Replies that give only what they change: top-level parts of a program, merged into the last one.

A part of the reply replaces the parts of the program that bind the same names, and what filled their values;
a new one is added where what it reads is there and what reads it is not yet. So a small model that cannot
retype forty lines without a slip can still change one of them, for a tenth of the tokens.

What the reply's parts read of each other they read in the reply's order, and nothing of the old program
comes between: a reply that needs nothing of the program runs as it would alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ttd_core.dialogue.fences import with_line_ends
from ttd_core.dialogue.linking import Links
from ttd_core.dialogue.parts import Part, source_lines
from ttd_core.dialogue.parts import split_parts as split_parts
from ttd_core.dialogue.syntax import UNPARSABLE, checked_program, syntax_failure
from ttd_core.types import Action, Status, Verdict

#: Most top-level statements of a program and a reply together that are merged.
MAX_PARTS = 2000


class MergeError(ValueError):
    """A reply's part that has no place in the program; the message names it."""


def complete_program(program: str, action: Action, entry: str) -> Action | Verdict:
    """The whole program that an action made of parts stands for.

    :param program: the last program; empty when there is none, then the parts must be a whole one.
    :param action: parts that parse.
    :param entry: name the whole must define.
    :return: the merged program, or a verdict when it does not parse, lacks the entry, or when a part has no
        place in the program.
    """
    reply = with_line_ends(action.code)
    failure = syntax_failure(reply) or syntax_failure(with_line_ends(program))
    if failure is not None:
        return failure
    try:
        merged = merge_parts(program, reply, entry)
    except UNPARSABLE as error:
        reason = str(error) if isinstance(error, MergeError) else "a statement is nested too deeply"
        return Verdict.failed(Status.PARSE_ERROR, reason, code=action.code)
    failure = checked_program(merged, entry)
    return failure if failure is not None else Action(merged, action.language)


def merge_parts(program: str, reply: str, entry: str = "") -> str:
    """``program`` with the reply's parts put in.

    A part stands where the first part stood that it replaces. New imports and assignments go after the
    leading imports and assignments, or as far down as what they read; new definitions go to the end, or as
    far up as they are needed. ``from __future__`` imports come first. Left out are values that nobody takes,
    ``if __name__ == "__main__":`` and calls that merely try the program out: ``print(...)``, calls of
    ``entry`` and of functions that change nothing.

    With ``entry`` given, parts of the program that are computed from what is replaced and that nothing needs
    any more are left out too.

    :raises SyntaxError, RecursionError, MemoryError: when either does not parse.
    :raises MergeError: when a part of the reply must stand both before and after a part of the program, or
        when there are more than :data:`MAX_PARTS` parts.
    """
    old, given = split_parts(program), split_parts(reply)
    if len(old) + len(given) > MAX_PARTS:
        count = len(old) + len(given)
        raise MergeError(f"{count} top-level statements are too many: at most {MAX_PARTS} are merged")
    try:
        merge = _Merge(old, given, entry)
        slots = merge.slots()
    except MergeError:
        if _stands_alone(old, given, entry):
            return "\n".join(source_lines(reply)).strip("\n") + "\n"
        raise
    except OverflowError as error:
        raise MergeError("the reply is too entangled to be merged; give the whole program") from error
    return _layout(source_lines(program), old, merge, slots)


def _stands_alone(old: Sequence[Part], given: Sequence[Part], entry: str) -> bool:
    """Whether the reply is a whole program, which reads nothing of the old one."""
    own = {name for part in given for name in part.effects.binds | part.effects.changes_later}
    others = {name for part in old for name in part.effects.binds | part.effects.changes_later} - own
    return entry in own and not any((part.effects.reads | part.effects.later) & others for part in given)


class _Merge:
    """Which parts of the program stay, which of the reply are carried over, and where to."""

    def __init__(self, old: Sequence[Part], given: Sequence[Part], entry: str) -> None:
        self.old = old
        self.links = Links([*old, *given])
        self._readers = _readers([*old, *given])
        self.new = [part for part in given if self._matters(part, entry)]
        fresh = {name for part in self.new for name in part.effects.fresh}
        every = [*old, *given]
        # Setting an attribute of a module (a seed, say) is no part of what was imported.
        imported = {name for part in every if part.kind == "import" for name in part.names}
        imported -= {name for part in every if part.kind != "import" for name in part.effects.binds}
        defined = {name for part in self.new if part.kind == "define" for name in part.names}
        #: Indices of old parts that go, each with the names that it shared with the reply.
        self.replaced: dict[int, frozenset[str]] = {}
        texts = {part.text for part in self.new if part.kind == "other"}
        for index, part in enumerate(old):
            changed = self.links.changes(part) - imported - defined
            affected = part.effects.binds | changed
            rest = {
                name
                for name in affected - fresh
                if name not in part.effects.temporary or self._readers.get(name, set()) - {id(part)}
            }
            if (affected & fresh and not rest) or (part.kind == "other" and part.text in texts):
                self.replaced[index] = affected
        self.links = Links([*(part for i, part in enumerate(old) if i not in self.replaced), *self.new])
        self._imported = frozenset(imported)
        #: Indices of old parts that nothing needs any more.
        self._fresh = frozenset(fresh)
        self.unneeded: set[int] = set()
        if entry:
            self.unneeded = self._unneeded(entry)
        self._restore()

    def _matters(self, part: Part, entry: str) -> bool:
        """Whether leaving a part of the reply out can change what the program does."""
        effects = part.effects
        if part.kind in ("guard", "text"):
            return False
        if part.kind != "other" or effects.binds - effects.temporary or effects.changes - effects.temporary:
            return bool(effects.binds or effects.changes)
        if any(self._readers.get(name, set()) - {id(part)} for name in effects.temporary):
            return True
        if entry and entry in self.links.reached(part):
            return False
        unknown = any(not self.links.defines(name) for name in effects.calls)
        return unknown or bool(self.links.changes(part))

    def _unneeded(self, entry: str) -> set[int]:
        """Old parts that are computed from names that the reply binds anew, and that nothing reads."""
        alone = _stands_alone(self.old, self.new, entry)
        influenced = set(self._fresh.union(*self.replaced.values()))
        # What a replaced function set, its calls set no longer.
        influenced.update(*(self.old[index].effects.changes_later for index in self.replaced))
        if alone:
            influenced.update(*(self._affected(part) | part.effects.changes_later for part in self.new))
        computed: list[int] = []
        for index, part in enumerate(self.old):
            if index in self.replaced or part.kind in ("define", "import", "future", "guard"):
                continue
            found = self.links.reached(part) | (self._affected(part) if alone else frozenset())
            if found & influenced:
                computed.append(index)
                influenced |= self._affected(part)
        if alone or not computed:
            return set(computed)
        waiting = {entry}.union(*(part.effects.reads | part.effects.later for part in self.new))
        needed: set[str] = set()
        new = {id(part) for part in self.new}
        # What the reply binds anew, no old part gives.
        affecting: dict[str, list[Part]] = {}
        for part in self.links.parts:
            for name in self._affected(part) - (set() if id(part) in new else self._fresh):
                affecting.setdefault(name, []).append(part)
        while waiting:
            name = waiting.pop()
            needed.add(name)
            for part in affecting.pop(name, []):
                waiting |= (part.effects.reads | part.effects.later) - needed
        needed -= self._fresh
        return {index for index in computed if not self._affected(self.old[index]) & needed}

    def _restore(self) -> None:
        """Keep what a part reads that must stay before the reply's new value of it."""
        again = True
        while again:
            lost = frozenset().union(*self.replaced.values())
            last: dict[str, int] = {}
            kept = [number for number in range(len(self.old)) if self._runs(number)]
            for index in kept:
                last |= dict.fromkeys(self._affected(self.old[index]) & lost, index)
            early: dict[str, int] = {}
            for index in kept:
                names = self.links.reached(self.old[index]) & lost
                early |= {name: index for name in names if last.get(name, -1) >= index}
            needed = [
                index
                for index, names in self.replaced.items()
                if any(index < early.get(name, -1) for name in names)
            ]
            for index in needed:
                del self.replaced[index]
            again = bool(needed)

    def _runs(self, index: int) -> bool:
        """Whether a part of the old program is in the merged one and runs there."""
        return self.stays(index) and self.old[index].kind not in ("guard", "text")

    def _sets(self, part: Part) -> frozenset[str]:
        """Modules in which a part sets something."""
        return self.links.changes(part) & self._imported

    def _affected(self, part: Part) -> frozenset[str]:
        """Names that hold another value after a part ran."""
        return part.effects.binds | (self.links.changes(part) - self._imported)

    def stays(self, index: int) -> bool:
        """Whether a part of the old program is in the merged one."""
        return index not in self.replaced and index not in self.unneeded

    def slots(self) -> list[int]:
        """For each new part the index of the old part that it stands before, or the number of old parts.

        :raises MergeError: when there is no such place.
        """
        self._lost: frozenset[str] = frozenset().union(*self.replaced.values())
        self._kept = [
            (index, self._affected(part), self.links.reached(part))
            for index, part in enumerate(self.old)
            if self._runs(index)
        ]
        bounds = [self._bounds(part) for part in self.new]
        before = self._order()
        wanted = [self._wanted(part, low) for part, (low, _) in zip(self.new, bounds, strict=True)]
        highest = [high for _, high in bounds]
        for number in range(len(self.new) - 1, -1, -1):
            for earlier in before[number]:
                highest[earlier] = min(highest[earlier], highest[number])
                wanted[earlier] = min(wanted[earlier], wanted[number])
        found: list[int] = []
        for number, part in enumerate(self.new):
            low = max([bounds[number][0], *(found[earlier] for earlier in before[number])])
            if low > highest[number]:
                after, reader = self.old[low - 1], self.old[highest[number]]
                raise MergeError(
                    f"{part.title} (line {part.first} of the reply) has no place in the program: it must "
                    f"come after {after.title} and before {reader.title}; give these parts as well"
                )
            found.append(min(max(wanted[number], low), highest[number]))
        return found

    def _bounds(self, part: Part) -> tuple[int, int]:
        """The first and the last place where a new part finds what it reads and is found by what reads it."""
        if part.kind == "future":
            return 0, 0
        affected = self._affected(part)
        needed = affected | self.links.reached(part)
        low, high = 0, len(self.old)
        while high and self.old[high - 1].kind == "guard":
            high -= 1
        for index, theirs, _ in self._kept:
            if not theirs.isdisjoint(needed):
                low = index + 1
        # What reads a value that is replaced must not come before it.
        lost = affected & self._lost
        for index, theirs, reached in self._kept:
            if index >= low or not lost:
                break
            if not reached.isdisjoint(lost - theirs):
                return low, index
            lost -= theirs
        for index, _, reached in self._kept:
            if low <= index < high and not reached.isdisjoint(affected):
                return low, index
        return low, max(low, high)

    def _order(self) -> list[set[int]]:
        """For each new part the earlier ones that must stay before it."""
        writer: dict[str, int] = {}
        readers: dict[str, set[int]] = {}
        before: list[set[int]] = []
        for number, part in enumerate(self.new):
            affected = part.effects.binds | self.links.changes(part)
            found: set[int] = set()
            for name in self.links.reached(part) - affected:
                if name in writer:
                    found.add(writer[name])
                readers.setdefault(name, set()).add(number)
            for name in affected:
                if name in writer:
                    found.add(writer[name])
                found |= readers.pop(name, set())
                writer[name] = number
            before.append(found - {number})
        return before

    def _wanted(self, part: Part, low: int) -> int:
        """Where a new part reads best, whatever else must hold."""
        own = part.effects.binds | self.links.changes(part)
        for index, shared in self.replaced.items():
            if shared & own:
                return index
        if part.kind == "define":
            return len(self.old)
        if part.kind == "other" and not self._affected(part):
            # It sets something in a module, a seed say: before what uses it, but after what sets the same.
            same = [i for i, other in enumerate(self.old) if self._runs(i) and self._sets(other) & own]
            return max([low, *(index + 1 for index in same)])
        leading = 0
        for index, other in enumerate(self.old):
            if other.kind not in ("import", "assign", "future") and not (index == 0 and other.kind == "text"):
                break
            leading = index + 1
        return max(leading, low)


def _readers(parts: Iterable[Part]) -> dict[str, set[int]]:
    """The parts that read each name, by their ids."""
    found: dict[str, set[int]] = {}
    for part in parts:
        for name in (part.effects.reads | part.effects.later) - part.effects.temporary:
            found.setdefault(name, set()).add(id(part))
    return found


def _layout(lines: Sequence[str], old: Sequence[Part], merge: _Merge, slots: Sequence[int]) -> str:
    """The merged program's text: what stays keeps its comments and blank lines."""
    result: list[str] = []
    order = sorted(range(len(slots)), key=lambda number: (slots[number], number))
    futures = [merge.new[number].text for number in order if merge.new[number].kind == "future"]
    order = [number for number in order if merge.new[number].kind != "future"]
    done = 0
    for index in range(len(old) + 1):
        part = old[index] if index < len(old) else None
        comments = lines[done : part.first - 1 if part else len(lines)]
        here = []
        while order and slots[order[0]] == index:
            here.append(merge.new[order.pop(0)])
        replacing = part is not None and index in merge.replaced and bool(here)
        if replacing:
            result += comments
        for number, new in enumerate(here):
            if new.kind == "define" and not (replacing and number == 0):
                result += ["", ""]
            result.append(new.text)
        if part is None:
            result += comments
        elif merge.stays(index):
            if here and here[-1].kind == "define" and not any(comments) and len(comments) < 2:
                result += ["", ""]
            result += [*comments, *lines[part.first - 1 : part.last]]
        done = part.last if part else done
    return "\n".join(_with_futures(result, futures, old)).strip("\n") + "\n"


def _with_futures(result: list[str], futures: Sequence[str], old: Sequence[Part]) -> list[str]:
    """``from __future__`` imports where Python wants them: behind the docstring, before all else."""
    if not futures:
        return result
    place = old[0].last if old and old[0].kind == "text" else 0
    return [*result[:place], *futures, *result[place:]]
