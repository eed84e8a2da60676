"""Our distributions, read from their ``pyproject.toml`` files: the core first, then the plugins by name."""

from __future__ import annotations

import pathlib
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
from packaging.requirements import Requirement

#: The repository.
ROOT = pathlib.Path(__file__).resolve().parents[1]


@attrs.frozen
class Distribution:
    """One installable package of this repository.

    :param folder: where its ``pyproject.toml`` stands.
    :param table: that file, parsed.
    """

    folder: pathlib.Path
    table: Mapping[str, Any]

    @property
    def project(self) -> Mapping[str, Any]:
        """The ``[project]`` table."""
        table: Mapping[str, Any] = self.table["project"]
        return table

    @property
    def name(self) -> str:
        """Its name in requirements, such as ``ttd-core``."""
        return str(self.project["name"])

    @property
    def package(self) -> str:
        """The package it installs, such as ``ttd_core``."""
        return self.name.replace("-", "_")

    @property
    def version(self) -> str:
        """Its version, as written."""
        return str(self.project["version"])

    @property
    def problems(self) -> list[str]:
        """Names of the problems it registers, sorted."""
        return sorted(self.project.get("entry-points", {}).get("ttd.problems", {}))

    @property
    def extras(self) -> Mapping[str, list[Requirement]]:
        """Requirements of each optional extra."""
        tables = self.project.get("optional-dependencies", {})
        return {extra: [Requirement(line) for line in lines] for extra, lines in tables.items()}

    @property
    def dependencies(self) -> list[Requirement]:
        """What it always needs, our other distributions included."""
        return [Requirement(line) for line in self.project["dependencies"]]

    @property
    def pythons(self) -> list[str]:
        """Versions of Python it claims to run on, such as ``3.11``, oldest first."""
        prefix = "Programming Language :: Python :: "
        versions = [line.removeprefix(prefix) for line in self.project["classifiers"] if prefix in line]
        return sorted((version for version in versions if "." in version), key=_numbers)


def distributions(root: pathlib.Path = ROOT) -> list[Distribution]:
    """Every distribution of a copy of this repository: the core, then the plugins by name."""
    folders = [root, *sorted(path.parent for path in root.glob("plugins/*/pyproject.toml"))]
    return [
        Distribution(folder, tomllib.loads((folder / "pyproject.toml").read_text())) for folder in folders
    ]


def requirements(root: pathlib.Path = ROOT) -> Iterator[Requirement]:
    """All that our distributions name of others': dependencies, extras and what builds them."""
    ours = distributions(root)
    names = {each.name for each in ours}
    for each in ours:
        build = [Requirement(line) for line in each.table["build-system"]["requires"]]
        extras = [requirement for lines in each.extras.values() for requirement in lines]
        for requirement in [*build, *each.dependencies, *extras]:
            if requirement.name not in names:
                yield requirement


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]
