"""The pages as a site, and what they say of the code held to the code."""

from __future__ import annotations

import importlib.util
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest
from tests.docs.code_names import defines
from tests.test_architecture import LAYER_OF

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
        name: int(row[0])
        for row in rows("| layer | modules | what they know |")
        for name in re.findall(r"`([\w.]+)`", row[1])
    }
    core = ROOT / "src" / "ttd_core"
    parts = {path.stem for path in core.glob("*.py")} | {
        path.parent.name for path in core.glob("*/__init__.py")
    }
    assert told.keys() == parts - {"__init__"}
    assert told == LAYER_OF


def test_the_tree_has_every_folder() -> None:
    told = {row[0].strip("`").rstrip("/") for row in rows("| folder | what is there |")}
    folders = [path for path in (ROOT / "src").rglob("*") if path.is_dir()]
    folders = [path for path in folders if path.name not in ("__pycache__", "package")]
    there = {str(path.relative_to(ROOT)) for path in folders}
    there |= {f"plugins/{path.name}" for path in (ROOT / "plugins").glob("ttd_*")}
    there |= {"tests", "benchmarks", "experiments", "docs", "tools"}
    assert told == there


def test_what_a_newcomer_looks_for_is_where_the_page_says() -> None:
    tasks = rows("| you want to | look at |")
    assert len(tasks) >= 10
    for task, places in tasks:
        for place in places.split("; "):
            file, names = re.fullmatch(r"`([\w/.]+\.py)`: (`.*)", place).groups()
            named = re.findall(r"`([\w.]+)`", names)
            assert named
            for name in named:
                assert defines(ROOT / file, name.split(".")), f"{task}: {file} has no {name}"


def test_the_site_holds_every_page() -> None:
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    named = re.findall(r"(?:- |: )(\S+\.md)$", nav, re.MULTILINE)
    there = [str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")]
    there = [path for path in there if not path.startswith("examples/")]
    assert sorted(named) == sorted(there), "name the new page under nav in mkdocs.yml"


def test_the_pages_are_sorted_by_what_a_reader_wants() -> None:
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    sections = re.findall(r"^  - ([^:]+):$", nav, re.MULTILINE)
    assert sections == ["Tutorials", "How-to guides", "Reference", "Explanation"]


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: pathlib.Path) -> None:
    if importlib.util.find_spec("material") is None or importlib.util.find_spec("mkdocstrings") is None:
        pytest.skip("the docs extra is not installed: pip install -e '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr
    page = (tmp_path / "write-a-problem" / "index.html").read_text()
    assert "Thirty lines" in page
    api = (tmp_path / "reference" / "api" / "types" / "index.html").read_text()
    # The constructor of an attrs class, a parameter's sentence, and a reference that became a link.
    assert 'id="ttd_core.types.State"' in api
    assert "the tail of what the program printed" in api
    assert ":class:" not in api
    sources = re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"(https?://[^\"]+)\"", page)
    assert [source for source in sources if "canonical" not in source] == []
