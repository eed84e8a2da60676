"""Numbers of any size in the places of an answer's own: what `ttd check-problem` feeds to every verifier.

A program can return any float at all. A sum of large ones overflows (``math.fsum`` raises), a product of
small ones is 0, and a list may be longer than anything meant. Each must end in a verdict, and soon.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ttd_core.errors import PluginError
from ttd_core.testing.leaves import Leaf, leaves, replaced
from ttd_core.testing.subject import Finding, Subject, shorten
from ttd_core.types import Action, State

#: Floats at the ends of what there is, and where arithmetic changes its ways.
EXTREME_FLOATS = (
    *(0.0, -0.0, 5e-324, -5e-324, 2.0**-1023, 2.2250738585072014e-308, 1e-308, 6e-305, 1e-200, 1e-160),
    *(1e-154, 1e-16, 1.0 - 2.0**-53, 1.0 + 2.0**-52, -1.0, 2.0**31, 2.0**53, 2.0**53 + 2, 2.0**63, 2.0**64),
    *(1e100, 1e154, 1.4e154, -1.4e154, 1e200, 1e308, -1e308, 1.7e308, 1.7976931348623157e308),
    *(-1.7976931348623157e308, float("inf"), float("-inf"), float("nan")),
)
#: Whole numbers that no float holds exactly, or at all, and what Python takes for a number.
EXTREME_SCALARS = (
    2**53 + 1,
    -(2**63),
    2**64,
    10**19,
    2**1024,
    -(10**400),
    True,
    False,
    1 + 1j,
    "1e308",
    None,
)
#: Names of what is no finite number, or read as none. That `check` accepts it is for another check to tell.
_NOT_FINITE = ("nan", "inf", "None")
#: How many numbers stand in place of an answer's own; each only where the one before was judged in time.
LENGTHS = (10_000, 100_000, 1_000_000, 10_000_000)
#: The most of them where they stand in lists, which take ten times the room of an array.
LIST_LENGTH = 1_000_000
#: Processor seconds within which an answer of any length must be judged.
SECONDS = 10.0
#: Places of an answer that are tried; more would show nothing new.
_PLACES = 8


def extreme_arrays(array: npt.NDArray[Any]) -> Iterator[tuple[str, npt.NDArray[np.float64]]]:
    """Arrays of the same shape that hold extreme floats, each named: everywhere, once, with both signs.

    :param array: any shape, not empty.
    """
    signs = np.where(np.arange(array.size) % 2, -1.0, 1.0).reshape(array.shape)
    for value in EXTREME_FLOATS:
        yield f"{value!r} everywhere", np.full(array.shape, value)
        once = np.array(array, dtype=np.float64)
        once.reshape(-1)[-1] = value
        yield f"{value!r} once", once
    for value in (5e-324, 1e154, 1.7e308):
        yield f"{value!r} with both signs", value * signs
    exponents = np.linspace(-1074, 1023, array.size).reshape(array.shape)
    yield "every power of two", np.exp2(exponents)
    yield "every power of two with both signs", np.exp2(exponents) * signs


def find_overflows(subject: Subject) -> Iterator[Finding]:
    """Numbers of any size, in the places where a valid answer has its own, end in a verdict."""
    for base in _bases(subject):
        for leaf in _places(base):
            for name, value in _instead_of(leaf):
                finding = _judge(subject, base, leaf, value, name)
                if finding is not None:
                    yield finding
                    return


def find_unbounded(subject: Subject) -> Iterator[Finding]:
    """An answer of any length is judged soon: refused by its length before anything is computed."""
    for base in _bases(subject):
        for leaf in _places(base):
            if not leaf.is_array:
                continue
            for length in LENGTHS:
                if length > LIST_LENGTH and not isinstance(leaf.value, np.ndarray):
                    break
                name, value = f"{length} zeros", _long(leaf, length)
                started = time.thread_time()
                finding = _judge(subject, base, leaf, value, name)
                seconds = time.thread_time() - started
                if finding is None and seconds > SECONDS:
                    finding = Finding(
                        f"judging {name} as {leaf.where(_label(base))} takes {seconds:.0f} s",
                        "compare the length with the most you mean before anything is computed",
                    )
                if finding is not None:
                    yield finding
                    return


def _bases(subject: Subject) -> Iterator[Any]:
    """A valid state, and a valid answer as a program returns it."""
    for valid in subject.valid_answers[:1]:
        yield valid.state
    for answer, verdict in zip(subject.examples.good, subject.good_verdicts, strict=True):
        if verdict.ok and not isinstance(answer, State | Action):
            yield answer
            return


def _places(base: Any) -> list[Leaf]:
    found = leaves(base.data if isinstance(base, State) else base)
    return [leaf for leaf, _ in zip(found, range(_PLACES), strict=False)]


def _instead_of(leaf: Leaf) -> Iterator[tuple[str, Any]]:
    if not leaf.is_array:
        yield from ((shorten(value), value) for value in (*EXTREME_FLOATS, *EXTREME_SCALARS))
        return
    for name, array in extreme_arrays(leaf.array):
        yield name, leaf.like(array)
    for value in EXTREME_SCALARS:
        values = leaf.array.astype(object)
        values.reshape(-1)[-1] = value
        yield f"{shorten(value)} once", values.tolist()


def _long(leaf: Leaf, length: int) -> Any:
    """Zeros in rows as long as the leaf's own."""
    row = np.zeros(leaf.array.shape[1:])
    rows = length // max(row.size, 1)
    return np.zeros((rows, *row.shape)) if isinstance(leaf.value, np.ndarray) else [row.tolist()] * rows


def _judge(subject: Subject, base: Any, leaf: Leaf, value: Any, name: str) -> Finding | None:
    """What is wrong with the judgement of ``base`` with a value in place of one of its leaves."""
    try:
        if isinstance(base, State):
            subject.evaluate(State(data=replaced(base.data, leaf.path, value)))
        else:
            subject.evaluate(replaced(base, leaf.path, value))
    except PluginError as error:
        hook = error.hook.removeprefix("ttd_")
        if hook == "reward" and any(word in name for word in _NOT_FINITE):
            return None
        return Finding(
            f"{hook} fails on {name} as {leaf.where(_label(base))}: {error.reason}",
            "refuse numbers that are too large, too small or too many before you compute with them",
        )
    except TypeError:
        return None  # no state can hold the value
    return None


def _label(base: Any) -> str:
    return "data" if isinstance(base, State) else "the answer"
