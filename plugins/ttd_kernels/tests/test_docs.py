"""What the pages on kernels name is there: files from the root of the repository, modules, classes."""

from __future__ import annotations

import importlib
import pathlib
import pkgutil
import re

import pytest

ROOT = pathlib.Path(__file__).parents[3]
PAGES = [ROOT / "docs" / "kernels-harness.md", ROOT / "docs" / "kernels.md"]
README = ROOT / "plugins" / "ttd_kernels" / "README.md"
SOURCES = ROOT / "plugins" / "ttd_kernels" / "src" / "ttd_kernels"


def _code(page: pathlib.Path) -> str:
    """All that stands between backticks, and in blocks of commands."""
    return "\n".join(re.findall(r"```.*?```|`[^`\n]+`", page.read_text(), re.DOTALL))


@pytest.mark.parametrize("page", [*PAGES, README], ids=lambda page: page.name)
def test_paths_are_whole_and_lead_somewhere(page: pathlib.Path) -> None:
    paths = re.findall(r"(?<![\w/.])(?:plugins|benchmarks|docs|tests)/[\w./-]*\w", _code(page))
    assert page.name == "README.md" or paths
    own = README.parent if page == README else ROOT
    assert [path for path in paths if not (ROOT / path).exists() and not (own / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_and_classes_are_there(page: pathlib.Path) -> None:
    for name in re.findall(r"\bttd_kernels\.\w+(?:\.\w+)*", _code(page)):
        assert pkgutil.resolve_name(name) is not None


def test_a_kernel_problem_has_the_methods_that_the_page_names() -> None:
    last = PAGES[0].read_text().partition("## Another kernel problem")[2]
    problem = importlib.import_module("ttd_kernels.problem").KernelProblem
    named = set(re.findall(r"`([a-z]\w+)`", last)) - {"data"}
    assert set(problem.__abstractmethods__) - {"task", "construct", "check", "reward"} <= named
    assert [
        name for name in named if name not in problem.__annotations__ and not hasattr(problem, name)
    ] == []


def test_the_readme_gives_every_module_its_line() -> None:
    table = README.read_text().partition("## Files")[2]
    named = set(re.findall(r"`(?:helpers/)?(\w+\.py)`", table))
    modules = {path.name for folder in (SOURCES, SOURCES / "harness") for path in folder.glob("*.py")}
    assert named == modules - {"__init__.py"}
