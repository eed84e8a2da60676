"""The pages for those who take part: every path, target, marker, name and command on them is real."""

from __future__ import annotations

import pathlib
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement
from tests.docs.reader import blocks, commands

ROOT = pathlib.Path(__file__).parents[2]
PAGES = {
    path.name: path.read_text()
    for path in [
        *(ROOT / name for name in ("CONTRIBUTING.md", "RELEASING.md", "SECURITY.md", "CODE_OF_CONDUCT.md")),
        ROOT / ".github" / "pull_request_template.md",
    ]
}
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
MARKERS = {line.partition(":")[0] for line in PYPROJECT["tool"]["pytest"]["ini_options"]["markers"]}
#: Python sources in which a name may stand; Makefile and pyproject are searched too.
SOURCES = [path for folder in ("src", "plugins", "tests", "tools") for path in (ROOT / folder).rglob("*.py")]
#: Text in code that has a slash and is no path here.
NO_PATHS = {"release/X.Y.Z", "dist/*"}


def code(page: str) -> list[str]:
    """Text in backticks outside of fenced blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL))


def typed(page: str) -> Iterator[list[str]]:
    """Every command of a page, as words: those in console blocks, and whole ones in backticks."""
    for block in blocks(page):
        if block.language == "console":
            for command, _ in commands(block.text):
                yield shlex.split(command, comments=True)
    for text in code(page):
        if re.match(r"(make|\.venv/bin/\S+) ", text):
            yield shlex.split(text)


COMMANDS = [words for page in PAGES.values() for words in typed(page)]
#: What follows `pytest` in them.
PYTEST = [words[1:] for words in COMMANDS if words[0].endswith("/pytest")]
#: Words in code that name nothing in the sources: what a reader fills in, and a file.
NO_NAMES = {"NAME", "MARKERS", "Makefile"}


def slug(heading: str) -> str:
    """The anchor that a heading gets."""
    return re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_files_and_headings(name: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", PAGES[name]):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            assert (ROOT / path).is_file(), target
            headings = re.findall(r"^#+ (.*)$", (ROOT / path).read_text(), re.MULTILINE)
            assert not anchor or anchor in map(slug, headings), target


@pytest.mark.parametrize("name", PAGES)
def test_paths_are_there(name: str) -> None:
    for text in code(PAGES[name]):
        if re.fullmatch(r"[\w.*-]*/[\w.*/-]*|[\w-]+\.(md|toml|txt|cff)", text) and text not in NO_PATHS:
            assert list(ROOT.glob(text.rstrip("/"))), f"{name}: {text}"


def test_paths_are_found_on_a_page() -> None:
    """The test above would pass on a page without any."""
    paths = [text for text in code(PAGES["CONTRIBUTING.md"]) if "/" in text]
    assert {"src/ttd_core/plugin/spec.py", "src/ttd_core/policy/base.py", "tests/docs"} <= set(paths)
    assert len(paths) > 40


def test_make_targets_exist() -> None:
    targets = [word for words in COMMANDS if words[0] == "make" for word in words[1:] if "=" not in word]
    for page in PAGES.values():
        targets += re.findall(r"`make ([a-z-]+)`", page)
    assert {"setup", "test", "test-all", "coverage", "lock", "wheels", "release-check"} <= set(targets)
    assert set(targets) <= TARGETS


@pytest.mark.parametrize("target", sorted(TARGETS - {"help"}))
def test_make_knows_how(target: str) -> None:
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_every_target_that_help_lists_is_declared_phony() -> None:
    text = (ROOT / "Makefile").read_text()
    declared = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert declared is not None
    assert set(declared[1].split()) == TARGETS


def test_markers_exist() -> None:
    page = PAGES["CONTRIBUTING.md"]
    table = page.partition("| tests | marker |")[2].partition("\n\n")[0]
    shown = set(re.findall(r"^\| [^|]+ \| `(\w+)` \|", table, re.MULTILINE))
    assert shown == MARKERS
    options = [words[words.index("-m") + 1] for words in PYTEST if "-m" in words]
    assert options
    for option in options:
        assert set(re.findall(r"\w+", option)) - {"not", "and", "or"} <= MARKERS


def test_programs_come_with_the_environment() -> None:
    installed = {Requirement(line).name for line in PYPROJECT["project"]["optional-dependencies"]["dev"]}
    installed |= set(PYPROJECT["project"]["scripts"])
    programs = {words[0] for words in COMMANDS if words[0] != "make"}
    assert {program.removeprefix(".venv/bin/") for program in programs} <= installed
    assert all(program.startswith(".venv/bin/") for program in programs)


@pytest.mark.slow  # one of them collects every test
@pytest.mark.parametrize("words", PYTEST, ids=lambda words: " ".join(words))
def test_a_choice_of_tests_chooses_some(words: list[str]) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_names_are_in_the_code() -> None:
    text = "\n".join(path.read_text() for path in SOURCES)
    known = set(re.findall(r"\w+", text))
    for name in code(PAGES["CONTRIBUTING.md"]):
        looks_like_a_name = re.fullmatch(r"[A-Z]\w*[a-z]\w*|[A-Z_]{4,}|ttd_\w+", name)
        if looks_like_a_name and name not in NO_NAMES:
            assert name in known, name


def test_the_lists_that_a_backend_joins_are_there() -> None:
    architecture = (ROOT / "tests" / "test_architecture.py").read_text()
    assert re.search(r"^HEAVY = ", architecture, re.MULTILINE)
    assert re.search(r"^BACKENDS = ", architecture, re.MULTILINE)


def test_every_check_of_a_release_is_described() -> None:
    main = (ROOT / "tools" / "release" / "__main__.py").read_text()
    checks = re.findall(r'^    "(\w+)": metadata\.', main, re.MULTILINE) + re.findall(r'Check\("(\w+)"', main)
    checks.append("tests")
    table = PAGES["RELEASING.md"].partition("| check | what must hold |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == checks
