"""The checks of a release that read files alone: they pass here, and each fails where it should."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest
import tomlkit
from tools.distributions import ROOT, distributions
from tools.release import metadata
from tools.release.address import write_address
from tools.release.check import Check, CheckFailed, CheckSkipped, carry_out, run_program
from tools.release.interpreters import find_interpreter

ADDRESS = "https://forge.example/owner/ttd"


@pytest.fixture
def copy(tmp_path: pathlib.Path) -> pathlib.Path:
    """The files of the repository that the checks read, under git and committed."""
    for name in ("pyproject.toml", "CHANGELOG.md", "CITATION.cff", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    for path in ROOT.glob("plugins/*/pyproject.toml"):
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True)
        shutil.copy(path, target)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "all")
    return tmp_path


def git(folder: pathlib.Path, *arguments: str) -> None:
    who = ["-c", "user.name=nobody", "-c", "user.email=nobody@forge.example"]
    subprocess.run(["git", "-C", folder, *who, *arguments], check=True, timeout=60)


def replace(path: pathlib.Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("check", [metadata.check_versions, metadata.check_changelog, metadata.check_pins])
def test_what_must_hold_of_every_commit_holds(check: Callable[[pathlib.Path], str]) -> None:
    assert check(ROOT)


def test_versions_that_differ(copy: pathlib.Path) -> None:
    replace(copy / "plugins" / "ttd_bio" / "pyproject.toml", 'version = "0.1.0"', 'version = "0.1.1"')
    with pytest.raises(
        CheckFailed, match=r"versions differ: ttd-core 0.1.0, .*ttd-bio 0.1.1, .*CITATION.cff 0.1.0"
    ):
        metadata.check_versions(copy)


def test_a_plugin_that_refuses_the_core(copy: pathlib.Path) -> None:
    for path in [*copy.glob("plugins/*/pyproject.toml"), copy / "pyproject.toml"]:
        replace(path, 'version = "0.1.0"', 'version = "0.2.0"')
    replace(copy / "CITATION.cff", "version: 0.1.0", "version: 0.2.0")
    with pytest.raises(CheckFailed, match=r"ttd-ahc does not take ttd-core 0.2.0"):
        metadata.check_versions(copy)


def test_a_version_that_is_none(copy: pathlib.Path) -> None:
    for path in [*copy.glob("plugins/*/pyproject.toml"), copy / "pyproject.toml"]:
        replace(path, 'version = "0.1.0"', 'version = "one"')
    replace(copy / "CITATION.cff", "version: 0.1.0", "version: one")
    with pytest.raises(CheckFailed, match="one is no version"):
        metadata.check_versions(copy)


def test_a_changelog_without_the_version(copy: pathlib.Path) -> None:
    replace(copy / "CHANGELOG.md", "## 0.1.0", "## 0.0.9")
    with pytest.raises(CheckFailed, match=r"says nothing under '## 0.1.0'"):
        metadata.check_changelog(copy)
    replace(copy / "CHANGELOG.md", "## Unreleased\n", "")
    with pytest.raises(CheckFailed, match="no section Unreleased"):
        metadata.check_changelog(copy)


def test_a_section_is_a_versions_own() -> None:
    text = "# Changelog\n\n## Unreleased\n\n- c\n\n## 0.2.0 (2026-02-01)\n\n- b\n\n## 0.2\n\n- a\n"
    assert metadata.changelog_section(text, "0.2.0") == "- b"
    assert metadata.changelog_section(text, "0.2") == "- a"
    assert metadata.changelog_section(text, "0.20") is None


def test_a_tag_that_exists(copy: pathlib.Path) -> None:
    assert metadata.check_tag(copy) == "v0.1.0 does not exist yet"
    git(copy, "tag", "v0.1.0")
    with pytest.raises(CheckFailed, match=r"the tag v0.1.0 exists"):
        metadata.check_tag(copy)


def test_what_is_not_committed(copy: pathlib.Path) -> None:
    assert metadata.check_tree(copy) == "nothing uncommitted"
    (copy / "new.py").write_text("")
    with pytest.raises(CheckFailed, match=r"1 files are not committed: new.py"):
        metadata.check_tree(copy)


def test_outside_a_repository_git_is_not_asked(tmp_path: pathlib.Path) -> None:
    with pytest.raises(CheckSkipped, match="no git repository"):
        metadata.check_tree(tmp_path)


def test_a_missing_address_is_named_then_written(copy: pathlib.Path) -> None:
    for path in [copy / "pyproject.toml", *copy.glob("plugins/*/pyproject.toml")]:
        document = tomlkit.parse(path.read_text())
        document["project"].get("urls", {}).pop("Repository", None)
        path.write_text(tomlkit.dumps(document))
    with pytest.raises(
        CheckFailed, match=r"ttd-core, ttd-ahc, .*: no public repository under \[project.urls\]"
    ):
        metadata.check_address(copy)
    before = [each.table for each in distributions(copy)]
    for address in ("https://forge.example/older", ADDRESS):
        write_address(copy, address)
        assert metadata.check_address(copy) == address
    assert (copy / "CITATION.cff").read_text().count(f"repository-code: {ADDRESS}\n") == 1
    for old, new in zip(before, distributions(copy), strict=True):
        urls = new.project["urls"]
        assert (urls["Repository"], urls["Issues"]) == (ADDRESS, f"{ADDRESS}/issues")
        assert {**new.project, "urls": None} == {**old["project"], "urls": None}
        assert {**new.table, "project": None} == {**old, "project": None}
    assert "Paper" in distributions(copy)[0].project["urls"]


def test_addresses_that_differ(copy: pathlib.Path) -> None:
    write_address(copy, ADDRESS)
    replace(copy / "plugins" / "ttd_math" / "pyproject.toml", f'"{ADDRESS}"', '"https://forge.example/other"')
    with pytest.raises(CheckFailed, match="name different repositories"):
        metadata.check_address(copy)


@pytest.mark.parametrize(
    "address",
    [
        *("http://forge.example/owner/ttd", "https://forge.example", "https://forge/owner/ttd", "ttd"),
        *(f"{ADDRESS}/", f"{ADDRESS}.git", f"{ADDRESS}?tab=readme", 'https://forge.example/"'),
    ],
)
def test_what_is_no_address_is_refused_and_nothing_written(copy: pathlib.Path, address: str) -> None:
    with pytest.raises(ValueError, match="address of a repository"):
        write_address(copy, address)
    assert metadata.check_tree(copy)


def test_a_check_passes_is_skipped_or_fails() -> None:
    def fails() -> str:
        raise CheckFailed("why")

    def skips() -> str:
        raise CheckSkipped("no such thing")

    results = [
        carry_out(Check("a", lambda: "held")),
        carry_out(Check("b", skips)),
        carry_out(Check("c", fails)),
    ]
    assert [str(result).split(maxsplit=2) for result in results] == [
        ["ok", "a", "held"],
        ["skip", "b", "no such thing"],
        ["FAIL", "c", "why"],
    ]
    assert [result.failed for result in results] == [False, False, True]


def test_a_program_that_fails_says_so_with_its_last_lines() -> None:
    assert run_program([sys.executable, "-c", "print('all well')"]) == "all well\n"
    with pytest.raises(CheckFailed, match=r"exits with 3:\n +the reason"):
        run_program([sys.executable, "-c", "import sys; print('the reason'); sys.exit(3)"])
    with pytest.raises(CheckFailed, match="took more than 0 s"):
        run_program([sys.executable, "-c", "import time; time.sleep(60)"], timeout_s=0.1)


def test_interpreters_are_found_by_asking_them(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    shim = tmp_path / "bin" / f"python{version}"
    shim.parent.mkdir()
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    real = tmp_path / "pyenv" / "versions" / f"{version}.0" / "bin" / "python"
    real.parent.mkdir(parents=True)
    real.symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(shim.parent))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    assert find_interpreter(version) == real
    with pytest.raises(CheckSkipped, match=r"Python 3.4 is not installed"):
        find_interpreter("3.4")
