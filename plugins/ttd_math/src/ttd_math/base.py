"""What the five problems share: prompts and programs from files, starts of runs, reading constructions."""

from __future__ import annotations

import abc
import pathlib
import string
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np

from ttd_core import certificate
from ttd_core.errors import UsageError
from ttd_core.input_files import read_data_file
from ttd_core.package_files import package_text
from ttd_core.problem import Examples, Options, Problem, option
from ttd_core.text import showable_line
from ttd_core.types import State
from ttd_math import files
from ttd_math.plain import Floats, plain_vector

#: Where this package keeps its best constructions.
BEST = pathlib.Path(__file__).parent / "best"
#: What names the one of a problem, where a file may be named as well.
FROM_BEST = "best"
#: Heights looked at before a list is refused by its length alone, unless the options allow more.
READ_AT_MOST = 1_000_000


def start_file(name: str, start: str) -> pathlib.Path:
    """The file of a construction to begin with.

    :param name: of the problem.
    :param start: :data:`FROM_BEST` for the one that this package keeps, or a file.
    """
    return BEST / f"{name}.json" if start == FROM_BEST else pathlib.Path(start)


@attrs.frozen
class MathOptions(Options):
    """Options of every problem of this plugin; some add their own in a subclass."""

    start: str = option(
        "empty",
        "where the first prompts start: 'empty', 'program' (the starting program) or 'best' (that program, "
        "with the best construction that this package keeps)",
    )
    program: str = option(
        "short",
        "the starting program: 'short' (a small model can retype it) or 'strong' (our best method)",
        validator=attrs.validators.in_(("short", "strong")),
    )


@attrs.frozen
class StepOptions(MathOptions):
    """Options of the three problems about step functions, whose programs are called with a seed."""

    program_seed: int = option(0, "the seed that programs are called with", validator=attrs.validators.ge(0))


def at_least_min_values(options: Any, attribute: attrs.Attribute[int], value: int) -> None:
    """attrs validator of a ``max_values`` option: no less than ``min_values``, which is declared before it.

    :raises ValueError: when it is less.
    """
    if value < options.min_values:
        raise ValueError(f"{attribute.name} = {value} is below min_values = {options.min_values}")


def wrong_length(size: int, least: int, most: int, floor: int) -> str:
    """What is said of a length that is not allowed, with the option that allows it, where one does.

    :param floor: the least that ``min_values`` may be.
    """
    name, change = ("min_values", "fewer") if size < least else ("max_values", "more")
    hint = f" (-o {name}={size} allows {change})" if size >= floor else ""
    return f"{least} to {most} are allowed{hint}"


def plain_heights(value: Any, name: str, max_values: int) -> Floats:
    """A read-only float64 copy of the heights of a step function, of any length that may be allowed.

    :param name: what to call them in messages.
    :param max_values: of the problem's options.
    :return: float64 [n], entries as given (finite or not).
    :raises ValueError: when it is no list or array of numbers, or too long to be looked at.
    """
    most = max(READ_AT_MOST, max_values)
    size = value.size if type(value) is np.ndarray else len(value) if type(value) in (list, tuple) else 0
    if size > most:
        raise ValueError(
            f"{name} has {size} values; at most {most} are read (-o max_values={size} reads more)"
        )
    return plain_vector(value, name, most)


class MathProblem(Problem):
    """A problem whose construction is one or two float arrays."""

    options_type = MathOptions
    options: MathOptions
    preload: ClassVar[tuple[str, ...]] = ("numpy", "scipy.optimize", "scipy.signal")
    #: Name shared by the files of this problem in ``prompts/``, ``programs/`` and ``helpers/``.
    family: ClassVar[str]

    def prompt_values(self) -> Mapping[str, Any]:
        """What the ``$placeholders`` of the prompt's file stand for, by name."""
        return {}

    def task(self) -> str:
        """The task in words, from ``prompts/``."""
        statement = string.Template(package_text("ttd_math", "prompts", f"{self.family}.md"))
        return statement.substitute(self.prompt_values())

    def starting_program(self) -> str:
        """The program the ``program`` option names."""
        suffix = "_start" if self.options.program == "short" else ""
        return package_text("ttd_math", "programs", f"{self.family}{suffix}.py")

    def seed_states(self, rng: np.random.Generator, count: int) -> Sequence[State]:
        """The starting program with ``start = "program"``, else the paper's start constructions.

        With ``start = "best"`` it is the starting program and the construction in ``best/``.

        :raises UsageError: for any other ``start`` than these and ``empty``.
        """
        if self.options.start == "program":
            return [State(code=self.starting_program()) for _ in range(count)]
        if self.options.start == FROM_BEST:
            kept = self.read_construction(start_file(self.name, FROM_BEST))
            return [attrs.evolve(kept, code=self.starting_program()) for _ in range(count)]
        if self.options.start != "empty":
            known = "'empty', 'program' or 'best'"
            raise UsageError(f"{self.name}: start must be {known}, not {self.options.start!r}")
        return [State(data=self.start_data(rng)) for _ in range(count)]

    def start_data(self, rng: np.random.Generator) -> Mapping[str, Any]:
        """One start construction, drawn as the paper draws it; empty where the paper starts from nothing."""
        return {}

    def examples(self) -> Examples:
        """Random starts; one with a negative height, with NaN, cut short; text in place of heights."""
        starts = [self.start_data(np.random.default_rng(seed)) for seed in range(2)]
        heights = [next(iter(start.values())) for start in starts]
        invalid = [np.concatenate([heights[0][:-1], [last]]) for last in (-0.1, np.nan)]
        return Examples(good=heights, bad=[*invalid, heights[0][:1], "heights"])

    def read_construction(self, path: pathlib.Path) -> State:
        """Read a construction from a file, in any form of :func:`~ttd_core.input_files.read_data_file`.

        Bare values, an object that names them (:mod:`ttd_math.files`), or a certificate.

        :raises UsageError: when the file is not one, or says that it belongs to another problem.
        """
        value = read_data_file(path)
        if certificate.is_certificate(value):
            value = dict(certificate.read(path)[1].data) | {"problem": value.get("problem")}
        if isinstance(value, dict) and "problem" in value:
            owner = value["problem"]
            # Of an .npz it is an array of one text.
            owner = owner.item() if isinstance(owner, np.ndarray) and owner.size == 1 else owner
            if not isinstance(owner, str) or owner != self.name:
                shown = showable_line(repr(owner))[:60]
                raise UsageError(f"{path}: holds a construction of {shown}, not of {self.name}")
        try:
            if isinstance(value, dict):
                value = files.by_position(value) or value
            return State(data=self.construct(self.meant(value)))
        except (ValueError, TypeError) as error:
            raise UsageError(f"{path}: not a construction of {self.name}: {error}") from error

    def read_valid(self, path: pathlib.Path) -> State:
        """Read a construction that breaks no rule.

        :raises UsageError: when the file holds none, or one that breaks a rule.
        """
        state = self.read_construction(path)
        broken = self.check(state)
        if broken:
            raise UsageError(f"{path}: {broken[0]}")
        return state

    @abc.abstractmethod
    def meant(self, value: Any) -> Any:
        """What a file holds, as ``construct`` takes it.

        :param value: JSON values or arrays; an object without its problem's name.
        :raises ValueError: when what is needed is not there.
        """


#: Names that people give to the heights of a step function, whatever the problem.
FILE_KEYS = ("values", "sequence", "step_function", "step_values", "construction", "solution", "data")


class StepProblem(MathProblem):
    """A problem about a step function; its programs are called with a seed and a budget of seconds."""

    options_type = StepOptions
    options: StepOptions
    #: The names that the heights may have in a file, tried in order.
    file_keys: ClassVar[tuple[str, ...]]

    def meant(self, value: Any) -> Any:
        """The heights under one of their names, or bare; a single column is read as a row."""
        while isinstance(value, dict):
            value = files.found(value, self.file_keys)
        return files.as_row(value)

    def arguments(self, state: State) -> Mapping[str, Any]:
        """``seed`` and ``budget_s``."""
        return {"seed": self.options.program_seed, "budget_s": self.options.budget}
