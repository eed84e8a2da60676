"""The reference pages say what the code says, and the API pages hold every public name."""

from __future__ import annotations

import pathlib
import re

import click
import pytest
from tests.docs.code_names import ROOTS, exists
from tools.reference import commands, names, runs, settings
from tools.reference.__main__ import PAGES
from tools.reference.markdown import REFERENCE

import ttd_core
from ttd_core import config
from ttd_core.cli import COMMANDS
from ttd_core.errors import TtdError
from ttd_core.plugin import entries, registry
from ttd_core.run import events

SOURCES = sorted((ROOTS[0] / "ttd_core").rglob("*.py"))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_what_the_code_says(name: str) -> None:
    told = (REFERENCE / name).read_text(encoding="utf-8")
    assert told == PAGES[name](), "run: python -m tools.reference"


def test_every_page_is_drawn_or_describes_modules() -> None:
    drawn = {f"docs/reference/{name}" for name in PAGES}
    described = {f"docs/reference/api/{name}" for name in names.api_pages().values()}
    there = {str(path.relative_to(REFERENCE.parents[1])) for path in REFERENCE.rglob("*.md")}
    assert there == drawn | described


def test_every_key_every_command_and_every_event_is_there() -> None:
    keys = settings.config_page()
    for key, *_ in config.describe_settings():
        assert _marked(keys, key) == (key in config.RESUMABLE_KEYS)
    for variant in config.VARIANTS:
        assert f"| `{variant}` |" in keys
    told = commands.commands_page()
    for name, lazy in COMMANDS.items():
        section = re.search(rf"^## ttd {name}$(.*?)(?=^## |\Z)", told, re.MULTILINE | re.DOTALL)
        assert section is not None
        for parameter in lazy.load().params:
            if isinstance(parameter, click.Option):
                told_flags = [f"`{flag}`" in section[1] for flag in parameter.opts]
                assert told_flags == [not parameter.hidden] * len(told_flags), name
    kinds = {kind for kind in vars(events) if f"## {kind}\n" in runs.events_page()}
    assert kinds == set(runs.event_constructors())
    assert kinds >= events.ROLLOUT_KINDS | events.DURABLE_KINDS


def _marked(page: str, key: str) -> bool:
    """Whether a key's row says that it may change on resume."""
    row = next(line for line in page.splitlines() if line.startswith(f"| `{key}` |"))
    return row.split(" | ")[3] == "may change"


def test_every_problem_of_ours_is_there_with_every_option() -> None:
    told = settings.problems_page()
    ours = [entry for entry in entries.entries() if entry.distribution in settings.our_plugins()]
    assert len(ours) >= 13
    for entry in ours:
        assert f"### {entry.name}\n" in told
        for option in registry.load_class(entry).options_type.__attrs_attrs__:
            assert f"| `{option.name}` |" in told, f"{entry.name}: {option.name}"


def test_every_error_is_there() -> None:
    told = commands.exit_codes_page()
    for name in ttd_core.__all__:
        value = getattr(ttd_core, name)
        if isinstance(value, type) and issubclass(value, TtdError):
            assert re.search(rf"^\| `{name}` \| .* \| {value.exit_code} \|", told, re.MULTILINE), name


@pytest.mark.parametrize("name", ttd_core.__all__)
def test_every_public_name_has_a_page(name: str) -> None:
    module, sentence = names.documented(name)
    assert module in names.api_pages()
    assert sentence.endswith(".")


def test_the_pages_of_modules_name_modules_that_exist() -> None:
    promised = {
        *("ttd_core.plugin.spec", "ttd_core.policy.base", "ttd_core.sandbox.base", "ttd_core.types"),
        *("ttd_core.errors", "ttd_core.config.layers", "ttd_core.config.schema"),
        *("ttd_core.testing.contract", "ttd_core.testing.strategies"),
    }
    assert promised <= names.api_pages().keys()
    assert all(map(exists, names.api_pages()))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOTS[0] / "ttd_core")))
def test_references_in_docstrings_lead_somewhere(path: pathlib.Path) -> None:
    for target in re.findall(r":\w+:`~?(ttd_core[\w.]*)`", path.read_text(encoding="utf-8")):
        assert exists(target), f"{path.name}: {target}"
