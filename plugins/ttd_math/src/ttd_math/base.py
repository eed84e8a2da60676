"""What the five problems share: prompts and programs from files, starts of runs, reading constructions."""

from __future__ import annotations

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
from ttd_core.types import State


@attrs.frozen
class MathOptions(Options):
    """Options of every problem of this plugin; some add their own in a subclass."""

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


class MathProblem(Problem):
    """A problem whose construction is one or two float arrays."""

    options_type = MathOptions
    options: MathOptions
    preload: ClassVar[tuple[str, ...]] = ("numpy", "scipy.optimize", "scipy.signal")
    #: Name shared by the files of this problem in ``prompts/``, ``programs/`` and ``helpers/``.
    family: ClassVar[str]
    #: For each array of the construction the keys that it may have in a JSON file, tried in order.
    file_keys: ClassVar[tuple[tuple[str, ...], ...]]

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

        :raises UsageError: for any other ``start`` than ``empty``.
        """
        if self.options.start == "program":
            return [State(code=self.starting_program()) for _ in range(count)]
        if self.options.start != "empty":
            raise UsageError(f"start must be 'empty' or 'program', not {self.options.start!r}")
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
        """Read a construction from ``.npy`` or JSON: bare values, an object that names them, a certificate.

        :raises UsageError: when the file is not one, or says that it belongs to another problem.
        """
        value = read_data_file(path)
        if isinstance(value, dict) and value.get("format") == certificate.FORMAT:
            value = dict(certificate.read(path)[1].data) | {"problem": value.get("problem")}
        if isinstance(value, dict):
            if value.get("problem", self.name) != self.name:
                raise UsageError(f"{path}: holds a construction of {value['problem']!r}, not of {self.name}")
            value = [self._array_in(path, value, keys) for keys in self.file_keys]
        try:
            return State(data=self.construct(value))
        except (ValueError, TypeError) as error:
            raise UsageError(f"{path}: not a construction of {self.name}: {error}") from error

    def _array_in(self, path: pathlib.Path, value: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
        for key in keys:
            if key in value:
                return value[key]
        raise UsageError(f"{path}: has none of the keys {', '.join(keys)}")


class StepProblem(MathProblem):
    """A problem about a step function; its programs are called with a seed and a budget of seconds."""

    options_type = StepOptions
    options: StepOptions

    def arguments(self, state: State) -> Mapping[str, Any]:
        """``seed`` and ``budget_s``."""
        return {"seed": self.options.program_seed, "budget_s": self.options.budget}
