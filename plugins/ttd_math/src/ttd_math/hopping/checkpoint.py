"""Where a search of hops stands, and the file that keeps it."""

from __future__ import annotations

import pathlib
from typing import Any

import attrs
import numpy as np
import torch

from ttd_math import search_files
from ttd_math.hopping.pools import Pools
from ttd_math.plain import Floats

#: Marks the file, and its version.
FORMAT = "ttd hops 1"


@attrs.define
class Standing:
    """Where a search stands between two rounds.

    :param pools: of the lineages under way.
    :param attempts: optimisations made of each lineage.
    :param idle: of these, since its best function was found.
    :param retired: lineages that no longer got better, of as many heights; may be none.
    :param tests: for each test of lineages, the best scores of those that came to it.
    :param best: the best function of all lengths, with its score.
    :param stage: which length it works at, from 0.
    :param rounds: made at this length.
    :param seconds: spent in all.
    :param optimised: optimisations made in all.
    :param random: state of the generator of random numbers.
    :param curve: seconds, heights and score of the best after each round that found a better one.
    """

    pools: Pools
    attempts: list[int]
    idle: list[int]
    retired: Pools
    tests: list[list[float]]
    best: tuple[float, Floats]
    random: dict[str, Any]
    stage: int = 0
    rounds: int = 0
    seconds: float = 0.0
    optimised: int = 0
    curve: list[tuple[float, int, float]] = attrs.field(factory=list)


_PLAIN = ("attempts", "idle", "tests", "random", "stage", "rounds", "seconds", "optimised", "curve")


def save(path: pathlib.Path, standing: Standing, settings: dict[str, Any]) -> None:
    """Write the file whole or not at all.

    :param settings: JSON; those that a search must share to go on from here.
    :raises StorageError: when it cannot be written.
    """
    plain = {name: getattr(standing, name) for name in _PLAIN}
    said = {"format": FORMAT, "settings": settings, **plain, "best_score": standing.best[0]}
    arrays = {
        "functions": standing.pools.f,
        "scores": standing.pools.scores,
        "retired": standing.retired.f,
        "retired_scores": standing.retired.scores,
    }
    held = {name: tensor.cpu().numpy() for name, tensor in arrays.items()}
    search_files.write(path, said, held | {"best": standing.best[1]})


def load(path: pathlib.Path, settings: dict[str, Any], device: torch.device) -> Standing:
    """Where the search stood.

    :param settings: of the search that is to go on.
    :param device: where its functions are to be.
    :raises UsageError: when the file is none of a search, or belongs to another.
    """

    def built(said: dict[str, Any], held: Any) -> Standing:
        pools = _pools(held["functions"], held["scores"], device)
        retired = _pools(held["retired"], held["retired_scores"], device)
        best = np.asarray(held["best"], np.float64)
        lineages = len(pools.f)
        attempts, idle = ([int(count) for count in said[name]] for name in ("attempts", "idle"))
        sound = best.ndim == 1 and best.size > 0 and np.isfinite(best).all() and best.min() >= 0
        if not sound or not lineages or pools.f.shape[1:] != retired.f.shape[1:]:
            raise ValueError("its functions are damaged")
        if len(attempts) != lineages or len(idle) != lineages:
            raise ValueError("its lineages are damaged")
        np.random.default_rng().bit_generator.state = said["random"]
        return Standing(
            pools=pools,
            attempts=attempts,
            idle=idle,
            retired=retired,
            tests=[[float(score) for score in scores] for scores in said["tests"]],
            best=(float(said["best_score"]), best),
            random=said["random"],
            stage=int(said["stage"]),
            rounds=int(said["rounds"]),
            seconds=float(said["seconds"]),
            optimised=int(said["optimised"]),
            curve=[(float(s), int(n), float(score)) for s, n, score in said["curve"]],
        )

    return search_files.read(path, FORMAT, settings, built)


def _pools(functions: Any, scores: Any, device: torch.device) -> Pools:
    f, held = np.asarray(functions, np.float64), np.asarray(scores, np.float64)
    if f.ndim != 3 or f.shape[:2] != held.shape or not np.isfinite(f).all() or np.isnan(held).any():
        raise ValueError("its functions are damaged")
    return Pools(torch.from_numpy(f).to(device), torch.from_numpy(held).to(device))
