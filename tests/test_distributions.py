"""What the five distributions say of themselves: requirements, Pythons, licence, addresses."""

from __future__ import annotations

import ast
import importlib.metadata
import pathlib
import sys
from collections.abc import Iterator

import pytest
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from tools.distributions import ROOT, Distribution, distributions

OURS = distributions()
CORE = OURS[0]
#: Libraries that come with another: Triton with torch's builds for GPUs, and is used with those alone.
COMES_WITH = {"triton": "torch"}


def test_the_core_and_four_plugins() -> None:
    assert [each.name for each in OURS] == ["ttd-core", "ttd-ahc", "ttd-bio", "ttd-kernels", "ttd-math"]


def imported_libraries(package: pathlib.Path) -> Iterator[str]:
    """Top-level modules of others that a package imports; not by the sources it hands to candidates."""
    for path in sorted(package.rglob("*.py")):
        if not {"helpers", "programs"} & set(path.parts):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
                for top in {name.split(".")[0] for name in names} - sys.stdlib_module_names:
                    if not top.startswith("ttd_"):
                        yield top


@pytest.mark.parametrize("each", OURS, ids=lambda each: each.name)
def test_every_library_that_is_imported_is_required(each: Distribution) -> None:
    extras = [need for extra, needs in each.extras.items() if extra not in ("dev", "docs") for need in needs]
    required = {canonicalize_name(need.name) for need in [*each.dependencies, *extras]}
    homes = importlib.metadata.packages_distributions()
    imported = set(imported_libraries(each.folder / "src" / each.package))
    assert imported
    missing = {
        module
        for module in imported
        if not required & {canonicalize_name(name) for name in homes.get(module, [module])}
        and COMES_WITH.get(module) not in required
    }
    assert missing == set(), f"{each.name} imports these and requires none of what brings them"


@pytest.mark.parametrize("each", OURS, ids=lambda each: each.name)
def test_all_run_on_the_same_pythons(each: Distribution) -> None:
    assert each.pythons == CORE.pythons
    bound = SpecifierSet(each.project["requires-python"])
    assert [bound.contains(version) for version in each.pythons] == [True] * len(each.pythons)
    assert not bound.contains("3.10")


@pytest.mark.parametrize("each", OURS, ids=lambda each: each.name)
def test_every_distribution_carries_the_licence(each: Distribution) -> None:
    assert each.project["license-files"] == ["LICENSE"]
    assert (each.folder / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_addresses_are_the_papers_and_the_same_repository_everywhere() -> None:
    urls = [{**each.project.get("urls", {})} for each in OURS]
    assert urls[0].pop("Paper") == "https://arxiv.org/abs/2601.16175"
    assert urls == [urls[0]] * len(urls)
    assert set(urls[0]) <= {"Repository", "Issues"}
