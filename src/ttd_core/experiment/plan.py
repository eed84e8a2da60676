"""The plan of an experiment: a TOML file with what its runs share and what they differ in.

::

    title = "Does learning beat search?"
    target = 0.38095                # optional: a score; the summary says how long each run took to it

    [run]                           # any key of a run's config, shared by all runs
    problem = "erdos"
    steps = 9
    options.start = "program"

    [grid]                          # every combination of these is one run
    variant = ["full", "no-training", "best-of-n"]
    seed = [0, 1, 2]

    [[arm]]                         # optional: named sets of keys, one more axis of the grid
    name = "hot"
    set.policy.temperature = 1.3

    [machine]                       # how the runs share this machine
    parallel = 2                    # default: one for each GPU, one on a machine without
    price_per_hour = 3.5            # of what one run has: a GPU, or half of one where two runs share it
    currency = "USD"
"""

from __future__ import annotations

import itertools
import math
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from ttd_core import config as configs
from ttd_core.config import RunConfig
from ttd_core.config.layers import read_toml
from ttd_core.config.settings import at_least, fill, setting
from ttd_core.errors import ConfigError, did_you_mean
from ttd_core.plugin.registry import resolve

_TABLES = ("name", "title", "target", "run", "grid", "arm", "machine")
#: Longest name of a run, a folder's: file systems allow 255 bytes.
_MOST_NAME_CHARS = 120
#: Most runs in one file: more is a mistake in an axis.
_MOST_RUNS = 1000


@attrs.frozen
class Choice:
    """One choice on an axis of the grid.

    :param word: in a run's name.
    :param label: in an arm's, for people.
    :param keys: of the config, with what they are set to.
    """

    word: str
    label: str
    keys: Mapping[str, Any]


#: The choices of one axis.
Axis = list[Choice]


@attrs.frozen
class MachineShare:
    """How an experiment's runs share the machine."""

    parallel: int | None = setting(
        None, "runs at a time; default one for each GPU, one on a machine without", validator=at_least(1)
    )
    price_per_hour: float = setting(
        0.0, "price of an hour of what one run has: a GPU, or its part of one", validator=at_least(0)
    )
    currency: str = setting("USD", "of the price")


@attrs.frozen
class PlannedRun:
    """One run of an experiment.

    :param name: of its folder, unique in the experiment.
    :param arm: what the runs are called together that differ from it in their seed only.
    :param config: all of its config, every option spelled out and files made absolute.
    :param choices: the keys in which the experiment's runs differ, with this one's values.
    """

    name: str
    arm: str
    config: RunConfig
    choices: Mapping[str, Any]

    @property
    def rollouts(self) -> int:
        """How many it makes in all."""
        return self.config.steps * self.config.groups * self.config.group_size


@attrs.frozen
class Plan:
    """A whole experiment.

    :param name: of its folder.
    :param title: one line for people.
    :param runs: in the order they are begun.
    :param machine: how they share this machine.
    :param target: a score in the problem's metric; how long each run took to it is told.
    """

    name: str
    title: str
    runs: Sequence[PlannedRun]
    machine: MachineShare
    target: float | None = None


def read_plan(path: pathlib.Path) -> Plan:
    """Read an experiment's file.

    :raises ConfigError: when it cannot be read, a key is unknown, a value does not fit, or two runs would be
        the same.
    :raises TtdError: when a run's problem cannot be built.
    """
    tree = read_toml(path)
    for key in tree:
        if key not in _TABLES:
            raise ConfigError(f"{path}: unknown key '{key}'.{did_you_mean(key, _TABLES)}")
    try:
        machine = fill(MachineShare, _table(tree, "machine"), prefix="machine.")
        runs = list(_runs(_table(tree, "run"), _axes(tree)))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    _refuse_twins(path, runs)
    name = tree.get("name", path.stem)
    if not isinstance(name, str) or _slug(name) != name:
        raise ConfigError(f"{path}: name must be letters, digits, '.', '_' and '-', not {name!r}")
    return Plan(name, str(tree.get("title", name)), runs, machine, _target(path, tree, runs))


def _target(path: pathlib.Path, tree: Mapping[str, Any], runs: Sequence[PlannedRun]) -> float | None:
    """The score whose time is asked for, if one is."""
    target = tree.get("target")
    if target is None:
        return None
    if isinstance(target, bool) or not isinstance(target, int | float) or not math.isfinite(target):
        raise ConfigError(f"{path}: target must be a score, a finite number, not {target!r}")
    problems = {run.config.problem for run in runs}
    if len(problems) > 1:
        raise ConfigError(f"{path}: target is a score of one problem; the runs have {len(problems)}")
    return float(target)


def _table(tree: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = tree.get(key, {})
    if not isinstance(value, dict):
        raise ConfigError(f"{key} must be a table: [{key}]")
    return value


def _axes(tree: Mapping[str, Any]) -> list[Axis]:
    """The grid's axes."""
    axes: list[Axis] = []
    arms = tree.get("arm", [])
    if not isinstance(arms, list) or not all(isinstance(arm, dict) for arm in arms):
        raise ConfigError("arm must be a list of tables: [[arm]]")
    if arms:
        axes.append([_arm(arm) for arm in arms])
    for key, values in _flat(_table(tree, "grid")):
        if not isinstance(values, list) or not values:
            raise ConfigError(f"grid.{key} must be a list of at least one value")
        axes.append([_choice(key, value) for value in values])
    return axes


def _choice(key: str, value: Any) -> Choice:
    if key in ("variant", "problem"):
        return Choice(_slug(str(value)), str(value), {key: value})
    return Choice(_slug(f"{key.rpartition('.')[2]}{value}"), f"{key} = {value}", {key: value})


def _arm(arm: Mapping[str, Any]) -> Choice:
    for key in arm:
        if key not in ("name", "set"):
            raise ConfigError(f"arm: unknown key '{key}'; an arm has a name and keys under set")
    name = arm.get("name")
    if not isinstance(name, str) or not name:
        raise ConfigError("arm: each needs a name")
    return Choice(_slug(name), name, dict(_flat(_table(arm, "set"))))


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of nested tables."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _runs(shared: Mapping[str, Any], axes: Sequence[Axis]) -> Iterator[PlannedRun]:
    count = math.prod(len(axis) for axis in axes)
    if count > _MOST_RUNS:
        raise ConfigError(f"the grid has {count} runs; at most {_MOST_RUNS} are made")
    for combination in itertools.product(*axes):
        choices: dict[str, Any] = {}
        for choice in combination:
            choices |= choice.keys
        config = configs.from_layers([shared, choices])
        if not config.problem:
            raise ConfigError("no problem named; set run.problem, or list several under grid.problem")
        words = [choice.word for choice in combination] or [_slug(config.problem)]
        labels = [choice.label for choice in combination if choice.keys.keys() != {"seed"}]
        arm = ", ".join(labels) or config.problem
        _, config = resolve(config)
        yield PlannedRun("-".join(words), arm, config, choices)


def _refuse_twins(path: pathlib.Path, runs: Sequence[PlannedRun]) -> None:
    """Refuse names that two runs share, configs that two runs share, and names too long for a folder."""
    names: dict[str, PlannedRun] = {}
    digests: dict[str, str] = {}
    for run in runs:
        if len(run.name) > _MOST_NAME_CHARS:
            raise ConfigError(
                f"{path}: a run's name would have {len(run.name)} characters ({run.name[:60]}...); "
                "name sets of keys as [[arm]]s"
            )
        if run.name in names:
            raise ConfigError(f"{path}: two runs would be named {run.name}; name sets of keys as [[arm]]s")
        digest = configs.digest(run.config)
        if digest in digests:
            raise ConfigError(f"{path}: {digests[digest]} and {run.name} have the same config")
        names[run.name] = run
        digests[digest] = run.name


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", text).strip("-.")
