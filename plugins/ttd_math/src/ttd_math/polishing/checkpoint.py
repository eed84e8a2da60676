"""What a search keeps on disk: its pool and where it stands. Arrays and JSON; nothing is unpickled."""

from __future__ import annotations

import pathlib
from typing import Any

import attrs
import numpy as np

from ttd_math import search_files
from ttd_math.combs import Comb
from ttd_math.plain import Floats

#: Marks the file, and its version.
FORMAT = "ttd polish 1"


@attrs.define
class Standing:
    """Where a search stands between two rounds.

    :param lineages: losses and functions of each, the best first; all functions have as many heights.
    :param stage: which length it works at, from 0.
    :param rounds: made at this length.
    :param seconds: spent in all.
    :param random: state of the generator of random numbers.
    :param curve: seconds, heights and score of the best after each round that found a better one.
    :param combs: losses and parameters of the best combs so far, the best first.
    """

    lineages: list[list[tuple[float, Floats]]]
    stage: int
    rounds: int
    seconds: float
    random: dict[str, Any]
    curve: list[tuple[float, int, float]]
    combs: list[tuple[float, Comb]] = attrs.field(factory=list)


def save(path: pathlib.Path, standing: Standing, settings: dict[str, Any]) -> None:
    """Write the file whole or not at all.

    :param settings: JSON; those that a search must share to go on from here.
    :raises StorageError: when it cannot be written.
    """
    said = {"format": FORMAT, "settings": settings, **attrs.asdict(standing, filter=_is_small)}
    functions = [(owner, *held) for owner, pool in enumerate(standing.lineages) for held in pool]
    arrays = {
        "owners": np.array([owner for owner, _, _ in functions]),
        "losses": np.array([loss for _, loss, _ in functions]),
        "functions": np.stack([f for _, _, f in functions]),
    }
    search_files.write(path, said, arrays)


def _is_small(field: attrs.Attribute[Any], _: Any) -> bool:
    return field.name != "lineages"


def load(path: pathlib.Path, settings: dict[str, Any]) -> Standing:
    """Where the search stood.

    :param settings: of the search that is to go on.
    :raises UsageError: when the file is none of a search, or belongs to another.
    """
    return search_files.read(path, FORMAT, settings, _built)


def _built(said: dict[str, Any], held: Any) -> Standing:
    losses, owners = held["losses"].tolist(), held["owners"].tolist()
    functions = np.asarray(held["functions"], np.float64)
    lineages: list[list[tuple[float, Floats]]] = [[] for _ in range(max(owners) + 1)]
    for owner, loss, f in zip(owners, losses, functions, strict=True):
        lineages[owner].append((loss, f))
    curve = [(float(s), int(n), float(score)) for s, n, score in said["curve"]]
    place = (int(said["stage"]), int(said["rounds"]), float(said["seconds"]))
    # Those of before there were combs have none.
    known = [(float(loss), Comb(**comb)) for loss, comb in said.get("combs", [])]
    standing = Standing(lineages, *place, said["random"], curve, known)
    np.random.default_rng().bit_generator.state = standing.random
    if functions.ndim != 2 or not all(lineages) or not functions.min() >= 0 or not np.isfinite(losses).all():
        raise ValueError("its functions are damaged")
    return standing
