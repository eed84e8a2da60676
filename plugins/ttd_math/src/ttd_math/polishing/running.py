"""From a start to a certificate: the start read, the search made or gone on with, its result proven."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import numpy as np
import torch

from ttd_core import certificate, certifying
from ttd_core.certificate import Certificate
from ttd_core.errors import UsageError
from ttd_core.input_files import read_data_file
from ttd_core.plugin import registry
from ttd_core.types import State, array_digest
from ttd_math.base import BEST, StepProblem
from ttd_math.plain import Floats
from ttd_math.polishing import checkpoint
from ttd_math.polishing.checkpoint import Standing
from ttd_math.polishing.objectives import OBJECTIVES
from ttd_math.polishing.population import Plan, Search

#: What `--from` takes besides a file.
FROM_BEST, FROM_RANDOM = "best", "random"


@attrs.frozen
class Settings:
    """What was asked for; see ``ttd math polish --help``."""

    problem: str
    start: str
    out: pathlib.Path
    length: int | None = None
    coarse: int = 1000
    batch: int = 64
    cells: int = 1 << 22
    keep: int = 8
    lineages: int = 16
    iterations: int = 100
    explore: int = 20_000
    seconds: float = 600.0
    rounds: int | None = None
    device: str = "cpu"
    precision: str = "float64"
    seed: int = 0
    resume: bool = False

    @property
    def state_file(self) -> pathlib.Path:
        """Where the search leaves how far it came."""
        return self.out.with_name(f"{self.out.stem}.polish.npz")

    def shared(self, start: Floats) -> dict[str, Any]:
        """What a search must share to go on from where another stood."""
        names = ("problem", "start", "length", "coarse", "keep", "lineages", "seed")
        return {name: getattr(self, name) for name in names} | {"heights": int(start.size)}


def polish(settings: Settings, told: Callable[[str], None]) -> tuple[Certificate, list[pathlib.Path]]:
    """Improve a construction and write its certificate.

    :param told: is given a line after every round.
    :return: the certificate, and the files written.
    :raises UsageError: when something that was asked for cannot be.
    """
    device = _device(settings.device)
    problem = _problem(settings.problem, settings.length or 0)
    rng = np.random.default_rng(settings.seed)
    start = _start(problem, settings, rng)
    lengths = _lengths(start.size, settings.length)
    problem = _problem(settings.problem, lengths[-1])
    _require_length(problem, lengths[-1])
    plan = Plan(
        lengths=lengths,
        device=device,
        precision={"float32": torch.float32, "float64": torch.float64}[settings.precision],
        explore=settings.explore if settings.start == FROM_RANDOM else 0,
        **{
            name: getattr(settings, name)
            for name in ("problem", "batch", "cells", "keep", "lineages", "iterations", "seconds", "rounds")
        },
    )
    certificate.make_folder(settings.out)
    search = Search(plan, _standing(settings, start, rng))
    try:
        for line in _rounds(search, settings, start):
            told(line)
    except torch.OutOfMemoryError as error:
        raise UsageError(
            f"{plan.batch_at(lengths[search.standing.stage])} functions of {lengths[search.standing.stage]} "
            f"heights do not fit on {device}: give a smaller --batch or --cells, and --resume"
        ) from error
    proof = certifying.certify(problem, _state(problem, search.best()[1]))
    made = {
        "command": _command(settings),
        "start": _origin_of_start(settings, start),
        "seconds": round(search.standing.seconds, 1),
        "device": _device_name(device),
        "curve": [list(point) for point in search.standing.curve],
    }
    return proof, certificate.write(proof, settings.out, origin=_whole_origin(settings, made))


def _rounds(search: Search, settings: Settings, start: Floats) -> Iterator[str]:
    """Make the rounds, keep each on disk, and say what came of it."""
    shared = settings.shared(start)
    for better in search.run():
        checkpoint.save(settings.state_file, search.standing, shared)
        score, f = search.best()
        standing = search.standing
        yield (
            f"{standing.seconds:8.1f} s  {f.size:8} heights  round {standing.rounds:5}  {score:.10f}"
            f"{f'  {search.kind}' if better else ''}"
        )


def _standing(settings: Settings, start: Floats, rng: np.random.Generator) -> Standing:
    """A new one, or where a search stood.

    :raises UsageError: when there is one and nobody asked to go on, or none to go on with.
    """
    path = settings.state_file
    if settings.resume:
        if not path.exists():
            raise UsageError(f"{path}: nothing to go on with; leave --resume out")
        return checkpoint.load(path, settings.shared(start))
    if path.exists():
        raise UsageError(f"{path}: left by a search; add --resume to go on with it, or remove it")
    objective = OBJECTIVES[settings.problem]()
    loss = float(objective.exact(torch.from_numpy(start.copy())[None])[0])
    return Standing([[(loss, start)]], 0, 0, 0.0, dict(rng.bit_generator.state), [])


def _device(text: str) -> torch.device:
    try:
        device = torch.device(text)
        torch.zeros(1, device=device, dtype=torch.float64).item()
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        first = str(error).partition("\n")[0]
        raise UsageError(f"--device {text}: torch cannot compute there: {first[:200]}") from error
    return device


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _problem(name: str, length: int) -> StepProblem:
    """The problem, which allows as many heights as are needed.

    :raises UsageError: when there is no objective for it.
    """
    if name not in OBJECTIVES:
        raise UsageError(f"{name} is not one of {', '.join(OBJECTIVES)}")
    allowed: int = registry.load(name, {}).options.max_values  # type: ignore[attr-defined]
    problem = registry.load(name, {"max_values": length} if length > allowed else {})
    if not isinstance(problem, StepProblem):
        raise UsageError(f"{name} is not about step functions")
    return problem


def _require_length(problem: StepProblem, length: int) -> None:
    least = int(problem.options.min_values)  # type: ignore[attr-defined]
    if length < least:
        raise UsageError(
            f"{problem.name} needs at least {least} heights, and the last stage has {length}: "
            "give a larger --length"
        )


def _start_file(settings: Settings) -> pathlib.Path | None:
    """The file that a search starts from; of random heights there is none."""
    if settings.start == FROM_BEST:
        return BEST / f"{settings.problem}.json"
    return None if settings.start == FROM_RANDOM else pathlib.Path(settings.start)


def _start(problem: StepProblem, settings: Settings, rng: np.random.Generator) -> Floats:
    """The heights to begin with."""
    path = _start_file(settings)
    if path is None:
        f = rng.random(settings.coarse) + 0.1
        return np.asarray(f / (2 * f.mean()))
    state = problem.read_construction(path)
    f = next(iter(state.data.values()))
    broken = [sentence for sentence in problem.check(state) if "are allowed" not in sentence]
    if broken or not f.size:
        raise UsageError(f"{path}: {'; '.join(broken) or 'it has no heights'}")
    return np.asarray(f, np.float64)


def _lengths(first: int, most: int | None) -> tuple[int, ...]:
    """Numbers of heights, doubled as often as fits.

    :raises UsageError: when the start is longer than what is asked for.
    """
    if most is not None and most < first:
        raise UsageError(f"--length {most} is less than the {first} heights of the start")
    doublings = int(math.log2(most // first)) if most else 0
    return tuple(first << doubling for doubling in range(doublings + 1))


def _state(problem: StepProblem, f: Floats) -> State:
    """The construction as the problem takes it: scaled below its ceiling, or moved to where it is valid."""
    name = problem.file_keys[0]
    state = State(data={name: f if problem.name == "erdos" else f / f.max()})
    return problem.project(state)[0] if problem.name == "erdos" and problem.check(state) else state


def _command(settings: Settings) -> str:
    """The command that made a result, without the folders of its files."""
    apart = ("problem", "start", "out", "resume")
    fields = [field for field in attrs.fields(Settings) if field.name not in apart]
    values = {field.name: getattr(settings, field.name) for field in fields}
    changed = [
        f"--{field.name} {values[field.name]}" for field in fields if values[field.name] != field.default
    ]
    start = pathlib.Path(settings.start).name  # of best and random: themselves
    words = ["ttd math polish", settings.problem, "--from", start, *changed, "--out", settings.out.name]
    return " ".join(words)


def _whole_origin(settings: Settings, made: dict[str, Any]) -> dict[str, Any]:
    """Where the start came from, if a certificate says so, and what was made of it since; else the latter."""
    path = _start_file(settings)
    stated = certificate.read(path)[0].get("origin") if path and _is_certificate(path) else None
    if not isinstance(stated, dict):
        return made
    before = stated.get("polished", [])
    return stated | {"polished": [*(before if isinstance(before, list) else []), made]}


def _is_certificate(path: pathlib.Path) -> bool:
    return certificate.is_certificate(read_data_file(path))


def _origin_of_start(settings: Settings, start: Floats) -> str:
    if settings.start == FROM_RANDOM:
        return f"{start.size} random heights: no construction was given"
    return f"a construction of {start.size} heights with SHA-256 {array_digest(start)}"
