"""Hypothesis strategies for tests of problems: values a candidate may return, replies a model may write.

Valid values shrink towards the simplest ones; hostile ones cover what has fooled verifiers before: masked
arrays that hide entries, object arrays, numbers whose operators lie, NaN, foreign dtypes, odd shapes, numbers
so large or small that arithmetic overflows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ttd_core.testing.extremes import EXTREME_FLOATS
from ttd_core.testing.hostile import LyingFloat, Unwilling
from ttd_core.testing.leaves import Leaf, leaves, replaced

__all__ = [
    "Floats",
    "LyingFloat",
    "Unwilling",
    "arrays",
    "broken_replies",
    "extreme_floats",
    "hostile_arrays",
    "hostile_values",
    "point_sets",
    "replies",
    "spoiled_answers",
    "step_functions",
    "wire_values",
]

#: A float64 array, its shape given where it is used.
Floats = npt.NDArray[np.float64]


def arrays(
    shape: int | tuple[int, ...] | st.SearchStrategy[Any],
    low: float = -1e6,
    high: float = 1e6,
) -> st.SearchStrategy[Floats]:
    """Finite float64 arrays of a shape, or of shapes from a strategy."""
    elements = st.floats(low, high, allow_nan=False, allow_infinity=False)
    return hnp.arrays(np.float64, shape, elements=elements)


def step_functions(
    min_size: int = 1, max_size: int = 64, low: float = 0.0, high: float = 1.0
) -> st.SearchStrategy[Floats]:
    """Heights of step functions, float64 [n]: free values, few distinct levels, or mostly zeros."""
    sizes = st.integers(min_size, max_size)
    levels = st.lists(st.floats(low, high), min_size=1, max_size=3)

    def few(size_and_levels: tuple[int, list[float], int]) -> Floats:
        size, values, seed = size_and_levels
        return np.random.default_rng(seed).choice(np.array(values), size)

    def sparse(drawn: tuple[Floats, int]) -> Floats:
        values, seed = drawn
        keep = np.random.default_rng(seed).random(values.size) < 0.2
        keep[seed % values.size] = True
        return np.where(keep, values, max(low, 0.0))

    free = arrays(sizes, low, high)
    seeds = st.integers(0, 2**32 - 1)
    return st.one_of(free, st.tuples(sizes, levels, seeds).map(few), st.tuples(free, seeds).map(sparse))


def point_sets(
    count: int, dimensions: int = 2, low: float = 0.0, high: float = 1.0
) -> st.SearchStrategy[Floats]:
    """Points in a box, float64 [count, dimensions]."""
    return arrays((count, dimensions), low, high)


def hostile_arrays(max_side: int = 40) -> st.SearchStrategy[Any]:
    """Arrays of any dtype and shape: masked, object, complex, boolean, text, structured, non-finite."""
    shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=max_side)
    numeric = hnp.arrays(
        st.one_of(
            hnp.floating_dtypes(),
            hnp.integer_dtypes(),
            hnp.complex_number_dtypes(),
            hnp.boolean_dtypes(),
            hnp.unicode_string_dtypes(max_len=3),
        ),
        shapes,
    )
    masked = st.tuples(arrays(shapes, 0.0, 1.0), st.booleans()).map(
        lambda drawn: np.ma.masked_array(drawn[0], mask=np.full(drawn[0].shape, drawn[1]))
    )
    objects = shapes.map(lambda shape: np.full(shape, LyingFloat(0.5), dtype=object))
    special = st.sampled_from([np.nan, np.inf, -np.inf])
    spoiled = st.tuples(arrays(shapes, 0.0, 1.0), special).map(lambda drawn: _spoil(drawn[0], drawn[1]))
    return st.one_of(numeric, masked, objects, spoiled)


def hostile_values() -> st.SearchStrategy[Any]:
    """Anything a candidate, or whoever sits between it and us, might hand over."""
    leaves = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.complex_numbers(),
        st.text(max_size=5),
        st.binary(max_size=5),
        st.floats(0.0, 1.0).map(LyingFloat),
        st.builds(Unwilling),
        hostile_arrays(8),
    )

    def grow(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        lists = st.lists(inner, max_size=6)
        return st.one_of(lists, lists.map(tuple), st.dictionaries(st.text(max_size=3), inner, max_size=3))

    return st.recursive(leaves, grow, max_leaves=20)


def extreme_floats() -> st.SearchStrategy[float]:
    """Any float, and often one at the ends of what there is: denormals, -0.0, 1e308, infinities, NaN."""
    return st.one_of(st.sampled_from(EXTREME_FLOATS), st.floats())


def spoiled_answers(answers: Sequence[Any]) -> st.SearchStrategy[Any]:
    """One of some answers, the numbers in one place of it replaced by others of any size, the shape kept.

    :param answers: values as a program returns them.
    """
    places = [(answer, leaf) for answer in answers for leaf in leaves(answer)]
    if not places:
        return st.nothing()

    def spoil(drawn: tuple[Any, Leaf]) -> st.SearchStrategy[Any]:
        answer, leaf = drawn
        if not leaf.is_array:
            return extreme_floats().map(lambda value: replaced(answer, leaf.path, value))
        floats = extreme_floats()
        numbers = hnp.arrays(np.float64, leaf.array.shape, elements=floats, fill=floats)
        return numbers.map(lambda array: replaced(answer, leaf.path, leaf.like(array)))

    return st.sampled_from(places).flatmap(spoil)


def wire_values() -> st.SearchStrategy[Any]:
    """What can really come out of the sandbox: JSON values and plain arrays of numbers, in any nesting."""
    leaves = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=5),
        hnp.arrays(
            st.sampled_from([np.float64, np.float32, np.int64, np.uint8, np.bool_]),
            hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6),
        ),
    )

    def grow(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        keys = st.text(max_size=3)
        return st.one_of(st.lists(inner, max_size=6), st.dictionaries(keys, inner, max_size=3))

    return st.recursive(leaves, grow, max_leaves=20)


@st.composite
def replies(draw: st.DrawFn, program: str, language: str = "python") -> str:
    """Replies that hold ``program`` in a fence: indented prose around it, odd labels, unclosed, twice."""
    fence = draw(st.sampled_from(["```", "````", "~~~"]))
    labels = {"python": ["python", "py", "Python", ""], "c++": ["cpp", "c++", "C++", ""]}
    label = draw(st.sampled_from(labels[language]))
    words = st.text(st.characters(exclude_characters="`~", exclude_categories=["Cs", "Cc"]), max_size=40)
    before, after = draw(words), draw(words)
    closing = draw(st.sampled_from([f"\n{fence}\n{after}", f"\n{fence} ", ""]))
    earlier = draw(st.sampled_from(["", f"{fence}{label}\nx = 1\n{fence}\n", "```bash\nls\n```\n"]))
    text = f"{before}\n{earlier}{fence}{label}\n{program.strip()}{closing}"
    return text.replace("\n", "\r\n") if draw(st.booleans()) else text


def broken_replies() -> st.SearchStrategy[str]:
    """Replies with hardly ever a usable program: prose, fences at odd places, halves of programs."""
    pieces = st.sampled_from(
        [
            "```",
            "~~~",
            "````",
            "```python",
            "def run(",
            "def run():",
            "    return (",
            "\n",
            " ",
            "x",
            "\0",
            "'''",
        ]
    )
    return st.lists(st.one_of(pieces, st.text(max_size=8)), max_size=30).map("".join)


def _spoil(values: Floats, special: float) -> Floats:
    if values.size:
        values = values.copy()
        values.reshape(-1)[-1] = special
    return values
