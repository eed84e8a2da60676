"""What the commands that improve step functions on a device share: device, problem, start, origin.

torch is needed here; the commands are in :mod:`ttd_math.commands`.
"""

from __future__ import annotations

import math
import pathlib
from collections.abc import Sequence
from typing import Any, Protocol

import attrs
import numpy as np
import torch

from ttd_core import certificate
from ttd_core.errors import UsageError
from ttd_core.input_files import read_data_file
from ttd_core.plugin import registry
from ttd_core.types import State, array_digest
from ttd_math import combs, device_failures
from ttd_math.base import StepProblem, start_file
from ttd_math.plain import Floats

#: What `--from` takes besides ``best`` and a file.
FROM_RANDOM, FROM_COMB = "random", "comb"

#: The problem that a comb is a start of.
COMB_PROBLEM = "ac2"


class Asked(attrs.AttrsInstance, Protocol):
    """What a command was asked for, a frozen attrs class whose fields are named as its options."""

    @property
    def problem(self) -> str:
        """Its name."""

    @property
    def start(self) -> str:
        """What to begin with: ``best``, ``random``, ``comb`` or a file."""

    @property
    def out(self) -> pathlib.Path:
        """Where the certificate is written."""

    @property
    def coarse(self) -> int | None:
        """Heights of random starts and combs."""


def device_of(text: str) -> torch.device:
    """The device of that name, of whose memory torch leaves some to its libraries.

    :raises UsageError: when torch cannot compute there.
    """
    try:
        device = torch.device(text)
        torch.zeros(1, device=device, dtype=torch.float64).item()
        device_failures.leave_room(device)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        first = str(error).partition("\n")[0]
        raise UsageError(f"--device {text}: torch cannot compute there: {first[:200]}") from error
    return device


def problem_of(name: str, length: int) -> StepProblem:
    """The problem, which allows as many heights as are needed.

    :raises UsageError: when it is not about step functions.
    """
    allowed: int = registry.load(name, {}).options.max_values  # type: ignore[attr-defined]
    problem = registry.load(name, {"max_values": length} if length > allowed else {})
    if not isinstance(problem, StepProblem):
        raise UsageError(f"{name} is not about step functions")
    return problem


def least_heights(problem: StepProblem) -> int:
    """The fewest heights that a construction may have."""
    return int(problem.options.min_values)  # type: ignore[attr-defined]


def require_length(problem: StepProblem, length: int) -> None:
    """See that the last stage has enough heights.

    :raises UsageError: when it has not.
    """
    if length < least_heights(problem):
        raise UsageError(
            f"{problem.name} needs at least {least_heights(problem)} heights, and the last stage has "
            f"{length}: give a larger --length"
        )


def halved(f: Floats, most: int | None) -> Floats:
    """Heights of a start with means of neighbours in place of two, as often as needed for at most ``most``.

    It stays longer than that where its number of heights cannot be halved so often, or nothing was asked for.
    """
    while most is not None and f.size > most and f.size % 2 == 0:
        f = np.asarray(f.reshape(-1, 2).mean(axis=1))
    return f


def doubled(first: int, most: int | None, whose: str) -> tuple[int, ...]:
    """Numbers of heights from the first on, doubled as often as fits.

    :param most: as many as the first where it is not given.
    :param whose: what the first is of, for the message.
    :raises UsageError: when that is less than the first.
    """
    most = first if most is None else most
    if most < first:
        raise UsageError(f"--length {most} is less than the {first} heights {whose}")
    return tuple(first << doubling for doubling in range(int(math.log2(most // first)) + 1))


def _start_file(asked: Asked) -> pathlib.Path | None:
    """The file that a search starts from; of random heights and combs there is none."""
    return None if asked.start in (FROM_RANDOM, FROM_COMB) else start_file(asked.problem, asked.start)


def start_of(problem: StepProblem, asked: Asked, coarse: int, rng: np.random.Generator) -> Floats:
    """The heights to begin with.

    :param coarse: heights of a random start.
    :raises UsageError: when a file cannot be read as a construction that is valid but for its length, or
        the problem has no such start.
    """
    if asked.start == FROM_COMB:
        if problem.name != COMB_PROBLEM:
            raise UsageError(f"--from {FROM_COMB} is a start of {COMB_PROBLEM}, not of {problem.name}")
        return combs.heights(combs.drawn(1, (), rng)[0], coarse, rng)
    path = _start_file(asked)
    if path is None:
        f = rng.random(coarse) + 0.1
        return np.asarray(f / (2 * f.mean()))
    state = problem.read_construction(path)
    f = next(iter(state.data.values()))
    broken = [sentence for sentence in problem.check(state) if "are allowed" not in sentence]
    if broken or not f.size:
        raise UsageError(f"{path}: {'; '.join(broken) or 'it has no heights'}")
    return np.asarray(f, np.float64)


def state_of(problem: StepProblem, f: Floats) -> State:
    """The construction as the problem takes it: scaled below its ceiling, or moved to where it is valid."""
    name = problem.file_keys[0]
    state = State(data={name: f if problem.name == "erdos" else f / f.max()})
    return problem.project(state)[0] if problem.name == "erdos" and problem.check(state) else state


def made_by(
    asked: Asked,
    command: str,
    start: Floats,
    device: torch.device,
    seconds: float,
    curve: Sequence[tuple[float, int, float]],
) -> dict[str, Any]:
    """How a result was made.

    :param command: of ``ttd math``.
    :param seconds: that the search took.
    :param curve: seconds, heights and score of the best after each round that found a better one.
    """
    return {
        "command": _command(asked, command),
        "start": _origin_of_start(asked, start),
        "seconds": round(seconds, 1),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "curve": [list(point) for point in curve],
    }


def _command(asked: Asked, command: str) -> str:
    """The command that made a result, without the folders of its files."""
    apart = ("problem", "start", "out", "resume")
    fields = [field for field in attrs.fields(type(asked)) if field.name not in apart]
    values = {field.name: getattr(asked, field.name) for field in fields}
    changed = [
        f"--{field.name.replace('_', '-')} {values[field.name]}"
        for field in fields
        if values[field.name] != field.default
    ]
    start = pathlib.Path(asked.start).name  # of best and random: themselves
    words = [f"ttd math {command}", asked.problem, "--from", start, *changed, "--out", asked.out.name]
    return " ".join(words)


def whole_origin(asked: Asked, made: dict[str, Any]) -> dict[str, Any]:
    """Where the start came from, if a certificate says so, and what was made of it since; else the latter."""
    path = _start_file(asked)
    stated = certificate.read(path)[0].get("origin") if path and _is_certificate(path) else None
    if not isinstance(stated, dict):
        return made
    before = stated.get("polished", [])
    return stated | {"polished": [*(before if isinstance(before, list) else []), made]}


def _is_certificate(path: pathlib.Path) -> bool:
    return certificate.is_certificate(read_data_file(path))


def _origin_of_start(asked: Asked, start: Floats) -> str:
    if asked.start == FROM_RANDOM:
        return f"{start.size} random heights: no construction was given"
    if asked.start == FROM_COMB:
        return f"random combs of {start.size} heights: no construction was given"
    return f"a construction of {start.size} heights with SHA-256 {array_digest(start)}"
