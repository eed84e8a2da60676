"""The rules of ahc058: inputs, plans of actions, and the apples they lead to. All in integers."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import attrs
import numpy as np
import numpy.typing as npt

from ttd_ahc.reading import integers
from ttd_ahc.stream import Stream, round_half_away

#: Kinds of machines at each level, levels, turns, apples before the first turn: the statement's N, L, T, K.
KINDS, LEVELS, TURNS, FIRST_APPLES = 10, 4, 500, 1
#: Machines in all; that of a level and a kind has the number ``level * KINDS + kind``.
MACHINES = KINDS * LEVELS
#: The action that buys nothing; every other action is the number of the machine to strengthen.
NOTHING = -1
#: A line that holds something; empty ones are passed over at once.
_LINE = re.compile(rb"[^\n]+")


@attrs.frozen
class Game:
    """One input of the contest.

    :param capacity: apples that a machine of level 0 makes in a turn, by kind, ascending (the statement's A).
    :param cost: price of a machine's first unit of power, by number of the machine (the statement's C).
    """

    capacity: tuple[int, ...]
    cost: tuple[int, ...]

    @property
    def text(self) -> str:
        """The input as the contest gives it."""
        rows = [self.capacity, *(self.cost[start : start + KINDS] for start in range(0, MACHINES, KINDS))]
        head = f"{KINDS} {LEVELS} {TURNS} {FIRST_APPLES}\n"
        return head + "".join(" ".join(map(str, row)) + "\n" for row in rows)


def draw_game(seed: int) -> Game:
    """The input of a seed.

    :param seed: unsigned 64-bit.
    :raises ValueError: when it is not.
    """
    stream = Stream(seed)
    rest = [round_half_away(10.0 ** stream.between(0.0, 2.0)) for _ in range(KINDS - 1)]
    capacity = sorted([1, *rest])
    cost = [1]
    for level in range(LEVELS):
        for kind in range(1 if level == 0 else 0, KINDS):
            factor = 10.0 ** stream.between(0.0, 2.0)
            cost.append(round_half_away(capacity[kind] * 500.0**level * factor))
    return Game(tuple(capacity), tuple(cost))


class InvalidPlan(ValueError):
    """A plan breaks a rule; the message says which, and in which turn."""


def read_plan(output: bytes) -> npt.NDArray[np.int32]:
    """Actions as a program prints them: int32 [TURNS, 1], ``level * KINDS + kind`` or ``NOTHING``.

    :raises InvalidPlan: for a line that is no action, or too few of them.
    """
    actions: list[int] = []
    for match in _LINE.finditer(output):
        line = match[0]
        words = line.split()
        if words and not words[0].startswith(b"#"):
            try:
                actions.append(_action(words))
            except ValueError as error:
                number = output.count(b"\n", 0, match.start()) + 1
                raise InvalidPlan(f"line {number}: {error}") from None
        if len(actions) == TURNS:
            return np.array(actions, np.int32).reshape(TURNS, 1)
    raise InvalidPlan(f"{len(actions)} actions were printed; {TURNS} are needed")


def _action(words: Sequence[bytes]) -> int:
    if len(words) > 2:
        raise InvalidPlan(f"{len(words)} numbers; a purchase is a level and a kind")
    first, *rest = integers(words)
    if first == NOTHING:
        if rest:
            raise InvalidPlan("2 numbers; a turn that buys nothing is -1 alone")
        return NOTHING
    if not rest:
        raise InvalidPlan("1 numbers; a purchase is a level and a kind")
    (kind,) = rest
    if not (0 <= first < LEVELS and 0 <= kind < KINDS):
        raise InvalidPlan(f"there is no machine of level {first} and kind {kind}")
    return first * KINDS + kind


@attrs.frozen
class Playout:
    """What a plan leads to.

    :param apples: apples after each turn.
    :param power: power of each machine after the last turn (the statement's P).
    :param count: how many there are of each machine after the last turn (the statement's B).
    """

    apples: tuple[int, ...]
    power: tuple[int, ...]
    count: tuple[int, ...]


def play(game: Game, actions: Sequence[int]) -> Playout:
    """Play a plan turn by turn.

    Only machines that have power are looked at, and most plans give power to few of them.

    :param actions: TURNS numbers, each ``NOTHING`` or a machine.
    :raises InvalidPlan: for the first purchase that cannot be paid, or a machine that does not exist.
    """
    if len(actions) != TURNS:
        raise InvalidPlan(f"{len(actions)} actions; {TURNS} are needed")
    apples, power, count = FIRST_APPLES, [0] * MACHINES, [1] * MACHINES
    powered: list[list[int]] = [[] for _ in range(LEVELS)]
    history = []
    for turn, machine in enumerate(actions):
        if machine != NOTHING:
            apples -= _price(game, power, machine, turn, apples)
            power[machine] += 1
            if power[machine] == 1:
                powered[machine // KINDS].append(machine)
        for kind in powered[0]:
            apples += game.capacity[kind] * count[kind] * power[kind]
        for machines in powered[1:]:
            for other in machines:
                count[other - KINDS] += count[other] * power[other]
        history.append(apples)
    return Playout(tuple(history), tuple(power), tuple(count))


def _price(game: Game, power: Sequence[int], machine: int, turn: int, apples: int) -> int:
    if not 0 <= machine < MACHINES:
        raise InvalidPlan(f"turn {turn}: there is no machine {machine}")
    price = game.cost[machine] * (power[machine] + 1)
    if price > apples:
        level, kind = divmod(machine, KINDS)
        raise InvalidPlan(
            f"turn {turn}: level {level} kind {kind} costs {price} apples, and there are {apples}"
        )
    return price


def score_of(apples: int) -> int:
    """The score of a case: ``round(1e5 * log2(apples))``, 0 for none."""
    return round_half_away(1e5 * math.log2(apples)) if apples > 0 else 0
