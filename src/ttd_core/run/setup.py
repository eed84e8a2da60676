"""A run before it begins or goes on: its config resolved, its problem built and its plugins found, once."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import attrs

from ttd_core import config as configs
from ttd_core.config import RunConfig
from ttd_core.errors import ConfigError, ResumeError, did_you_mean
from ttd_core.input_files import read_text_file
from ttd_core.plugin.hooks import Hooks
from ttd_core.plugin.registry import resolve
from ttd_core.problem import Problem
from ttd_core.run.judges import require_choices
from ttd_core.run.problem_record import ProblemRecord, require_problem_file, require_same_problem
from ttd_core.run.reading import RunReader

#: The resolved config, beside ``run.db``.
CONFIG_FILE = "config.toml"
#: Built-in backends whose models learn; of a plugin's, the policy tells once it is open.
_LEARNING_BACKENDS = frozenset({"local", "tinker"})


@attrs.frozen
class RunSetup:
    """A run before it begins or goes on: its config resolved, its problem built, its plugins found.

    :param problem: the problem, with its options.
    :param config: with every option spelled out and files made absolute.
    :param hooks: of the run; its ``failures`` name the plugins that could not be loaded.
    :param problem_change: how the problem differs from when the run began, where that was accepted; a line.
    """

    problem: Problem
    config: RunConfig
    hooks: Hooks
    problem_change: str = ""

    @classmethod
    def from_config(cls, config: RunConfig) -> RunSetup:
        """A new run, from its config as a person gave it.

        :raises TtdError: when there is no such problem, an option does not fit, the archive has no room, or a
            policy that is to learn has nothing to compare.
        """
        require_comparisons(config, config.policy.backend in _LEARNING_BACKENDS)
        return cls._built(config)

    @classmethod
    def from_folder(
        cls, folder: pathlib.Path, overrides: Mapping[str, Any], *, accept_problem: bool = False
    ) -> RunSetup:
        """A run that is to go on, from its folder.

        :param overrides: dotted keys; only those in ``RESUMABLE_KEYS`` and ``RESUMABLE_OPTIONS`` may
            differ from the stored config.
        :param accept_problem: whether the run goes on with a problem that was changed since it began.
        :raises ResumeError: when there is no run, a key that shapes steps differs (names every such key), or
            the problem was changed.
        """
        with RunReader.open(folder) as run:
            stored = configs.from_toml(run.config(), where=f"{folder}/run.db")
            recorded = ProblemRecord.of_run(run)
        config = _resumable(folder, stored, overrides)
        require_problem_file(folder, recorded)
        setup = cls._built(config)
        change = require_same_problem(folder, recorded, setup.problem, setup.config.problem, accept_problem)
        return attrs.evolve(setup, problem_change=change)

    @classmethod
    def _built(cls, config: RunConfig) -> RunSetup:
        problem, config = resolve(config)
        _require_room(config)
        hooks = Hooks(problem)
        require_choices(hooks, config)
        problem.first_shares = (config.cascade or ())[:-1]
        return cls(problem, config, hooks)


def require_comparisons(config: RunConfig, learns: bool) -> None:
    """Refuse groups of one rollout in a run that would train: an advantage compares a rollout with its group.

    :param learns: whether the run's policy can.
    :raises ConfigError: says what to do.
    """
    if learns and config.learn.train and config.group_size == 1:
        raise ConfigError(
            "group_size = 1 leaves nothing to learn from, since a rollout is compared with the others of its "
            "group; make it 2 or more, or add --variant no-training (learn.train = false)"
        )


def _require_room(config: RunConfig) -> None:
    """Refuse an archive that could hold nothing but its seeds, which are always kept, one a group."""
    if config.search.capacity <= config.groups:
        raise ConfigError(
            f"search.capacity = {config.search.capacity} leaves no room beside the {config.groups} seeds of "
            f"groups = {config.groups}; raise it"
        )


def _resumable(folder: pathlib.Path, stored: RunConfig, overrides: Mapping[str, Any]) -> RunConfig:
    """The config to resume under.

    :raises ResumeError: for changes, in ``config.toml`` or by ``overrides``, that would make it another run.
    """
    path = folder / CONFIG_FILE
    if path.is_file():
        edited = configs.from_toml(read_text_file(path), where=str(path))
        _refuse(folder, stored, edited, f"{path} was changed")
        stored = edited
    config = configs.override(stored, overrides)
    _refuse(folder, stored, config, "the options differ from the run's")
    return config


def _refuse(folder: pathlib.Path, stored: RunConfig, changed: RunConfig, why: str) -> None:
    differences = configs.diff(stored, changed)
    refused = [each for each in differences if each.key not in configs.RESUMABLE_OPTIONS]
    options = [f"options.{name}" for name in stored.options]
    for each in refused:
        if each.key.startswith("options.") and each.key not in options:
            hint = did_you_mean(each.key, options) or f" Known: {', '.join(sorted(options))}."
            raise ConfigError(f"{folder}: {each.key} is no option of the run's problem.{hint}")
    if refused:
        keys = "; ".join(str(difference) for difference in refused)
        raise ResumeError(
            f"{folder}: {why}: {keys}. A run goes on under its own config; start a new one with `ttd run`"
        )
