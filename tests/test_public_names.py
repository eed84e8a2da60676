"""The public names and the command line's options are promises: a change here is a change for users."""

from __future__ import annotations

import importlib

import click
import pytest

import ttd_core
from ttd_core.cli import COMMANDS, main

NAMES = [
    "Action",
    "Artifact",
    "Baseline",
    "CompileJob",
    "Completion",
    "ConfigError",
    "EnvironmentLacksError",
    "Examples",
    "Execute",
    "Executor",
    "Group",
    "Job",
    "JobResult",
    "Level",
    "Limits",
    "Message",
    "ModelUnavailableError",
    "Options",
    "PluginError",
    "Policy",
    "Problem",
    "ProgramJob",
    "PythonJob",
    "RegistryClashError",
    "ResumeError",
    "Reward",
    "Rollout",
    "RunConfig",
    "Sample",
    "SamplingParams",
    "SandboxUnavailableError",
    "ScoredState",
    "Sequences",
    "State",
    "Status",
    "StopReason",
    "StorageError",
    "Trainer",
    "TtdError",
    "UnknownProblemError",
    "UsageError",
    "Verdict",
    "hookimpl",
    "option",
]

#: The module that documents and defines each of them; authors may import from either.
HOMES = {
    "ttd_core.config": "RunConfig",
    "ttd_core.errors": (
        "ConfigError EnvironmentLacksError ModelUnavailableError PluginError RegistryClashError ResumeError "
        "SandboxUnavailableError StorageError TtdError UnknownProblemError UsageError"
    ),
    "ttd_core.plugin.spec": "hookimpl",
    "ttd_core.policy.base": "Policy Sample SamplingParams Sequences Trainer",
    "ttd_core.problem": "Baseline Examples Execute Options Problem option",
    "ttd_core.sandbox.base": ("Artifact CompileJob Executor Job JobResult Level Limits ProgramJob PythonJob"),
    "ttd_core.types": (
        "Action Completion Group Message Reward Rollout ScoredState State Status StopReason Verdict"
    ),
}

#: Arguments and options of each command.
OPTIONS = {
    "list-problems": "--json --load",
    "show": "PROBLEM STATE --json --option --output --picture --program --prompt -o",
    "run": (
        "PROBLEM --config --executor --group-size --groups --json --list-settings --model --name --option "
        "--policy --preset --quiet --runs-dir --sandbox --seed --set --steps --track --variant -o -q"
    ),
    "resume": "RUN --accept-problem --back-to --json --quiet --runs-dir --set --steps --track -q",
    "list-runs": "--json --runs-dir",
    "plan": (
        "PROBLEM --config --cores --evaluation-seconds --from --gpu --gpu-memory --gpus --group-size "
        "--groups --json --measure --model --models --option --preset --price-per-hour --prompt-tokens "
        "--reply-tokens --runs-dir --set --steps --variant -o"
    ),
    "rollouts": "RUN --json --limit --runs-dir --show --status --step --tokens",
    "best": "RUN --count --json --recheck --runs-dir",
    "watch": "RUN --json --once --runs-dir",
    "ui": "[RUNS] --host --json --open --port",
    "hint": "RUN [TEXT] --json --list --remove --runs-dir",
    "stop": "RUN --json --runs-dir",
    "report": "RUN... --full --json --output --runs-dir -w",
    "compare": "RUN... --figures --json --output --runs-dir -w",
    "experiment": "FILE --dry-run --folder --json --parallel --skip-failed --summary",
    "eval": "PROBLEM FILE --from --json --option --picture --project --runs-dir --sandbox -o",
    "certify": "[PROBLEM] FILE --check --json --option --output --project -o -w",
    "adopt": "FOLDER --direction --json --metric --python --sandbox --score --write",
    "new-problem": "NAME --json --minimal --to",
    "check-problem": "PROBLEM --json --option --sandbox -o",
    "doctor": "--json",
}


def test_public_names() -> None:
    assert sorted(ttd_core.__all__) == sorted(NAMES)
    assert ttd_core.__all__ == sorted(ttd_core.__all__)
    assert set(NAMES) <= set(dir(ttd_core))


@pytest.mark.parametrize(
    ("home", "name"), [(home, name) for home, names in HOMES.items() for name in names.split()]
)
def test_a_public_name_is_the_one_of_its_home(home: str, name: str) -> None:
    value = getattr(ttd_core, name)
    assert value is getattr(importlib.import_module(home), name)
    if isinstance(value, type):
        assert value.__name__ == name


def test_every_public_name_has_one_home() -> None:
    assert sorted(name for names in HOMES.values() for name in names.split()) == sorted(NAMES)


def test_a_name_that_is_not_public() -> None:
    with pytest.raises(AttributeError, match="module 'ttd_core' has no attribute 'Nothing'"):
        ttd_core.Nothing  # noqa: B018
    with pytest.raises(ImportError):
        importlib.import_module("ttd_core.nothing")


def test_commands() -> None:
    assert set(OPTIONS) == set(COMMANDS)


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_command_options(name: str) -> None:
    command = COMMANDS[name].load()
    names = []
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            names.append(parameter.metavar or str(parameter.name).upper())
        else:
            names += parameter.opts
    arguments = [each for each in names if not each.startswith("-")]
    assert " ".join([*arguments, *sorted(set(names) - set(arguments))]) == OPTIONS[name]


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_every_command_prints_json_and_its_help_has_an_example(name: str) -> None:
    command = COMMANDS[name].load()
    assert "--json" in OPTIONS[name]
    text = command.get_help(click.Context(command, info_name=name))
    assert "Example:" in text
    assert f"ttd {name}" in text


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_the_listed_help_is_the_commands_own(name: str) -> None:
    assert COMMANDS[name].load().get_short_help_str(200) == COMMANDS[name].help


def test_the_entry_point_is_the_group() -> None:
    assert isinstance(main, click.Group)
