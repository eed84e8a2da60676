"""The pages as a site, and what they say of the code held to the code."""

from __future__ import annotations

import importlib.util
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
DOCS = ROOT / "docs"
ARCHITECTURE = (DOCS / "architecture.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def name_of(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None
    return found[0].lower()


def rows(header: str) -> list[list[str]]:
    """Cells of the table that begins with ``header``."""
    _, _, rest = ARCHITECTURE.partition(header)
    lines = rest.strip().split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def test_every_dependency_has_its_reason_and_nothing_else_has() -> None:
    told = [row[0].strip("`") for row in rows("| package | what it does here | why not without |")]
    assert sorted(told) == sorted(map(name_of, PROJECT["dependencies"]))


def test_every_extra_is_told() -> None:
    extras = set(PROJECT["optional-dependencies"]) - {"dev"}
    assert {extra for extra in extras if f"`{extra}`" not in ARCHITECTURE} == set()


def test_every_part_of_the_core_is_in_a_layer() -> None:
    told = {
        name
        for row in rows("| layer | modules | what they know |")
        for name in re.findall(r"`([\w.]+)`", row[1])
    }
    core = ROOT / "src" / "ttd_core"
    parts = {path.stem for path in core.glob("*.py")} | {
        path.parent.name for path in core.glob("*/__init__.py")
    }
    assert {name.split(".")[0] for name in told} == parts - {"__init__"}


def test_the_site_holds_every_page() -> None:
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    named = re.findall(r": (\S+\.md)$", nav, re.MULTILINE)
    there = [path.name for path in DOCS.glob("*.md")]
    assert sorted(named) == sorted(there), "name the new page under nav in mkdocs.yml"


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_links_between_pages_lead_somewhere(page: pathlib.Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: pathlib.Path) -> None:
    if importlib.util.find_spec("material") is None:
        pytest.skip("mkdocs-material is not installed: pip install -e '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr
    page = (tmp_path / "write-a-problem" / "index.html").read_text()
    assert "Thirty lines" in page
    sources = re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"(https?://[^\"]+)\"", page)
    assert [source for source in sources if "canonical" not in source] == []
