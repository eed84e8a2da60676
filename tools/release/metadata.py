"""What the files of the repository must say of a release, all without building or installing anything."""

from __future__ import annotations

import pathlib
import re
import subprocess

from packaging.version import InvalidVersion, Version

from tools.distributions import distributions, requirements
from tools.installed import installed_versions
from tools.lock import UNPINNED, pinned_version, read_pins, unpinned
from tools.release.check import CheckFailed, CheckSkipped

#: The label under ``[project.urls]`` that names the public repository.
ADDRESS = "Repository"


def check_versions(root: pathlib.Path) -> str:
    """All distributions and ``CITATION.cff`` have one version, and each plugin admits that of the core."""
    ours = distributions(root)
    core = ours[0]
    cited = re.search(r"^version: (\S+)$", (root / "CITATION.cff").read_text(), re.MULTILINE)
    versions = {each.name: each.version for each in ours} | {"CITATION.cff": cited[1] if cited else "none"}
    if len(set(versions.values())) > 1:
        raise CheckFailed("versions differ: " + ", ".join(f"{name} {v}" for name, v in versions.items()))
    try:
        version = Version(core.version)
    except InvalidVersion as error:
        raise CheckFailed(f"{core.version} is no version (PEP 440)") from error
    for plugin in ours[1:]:
        bounds = [each.specifier for each in plugin.dependencies if each.name == core.name]
        if not bounds or not bounds[0].contains(version, prereleases=True):
            raise CheckFailed(f"{plugin.name} does not take {core.name} {version}: widen its bound")
    return f"{len(ours)} distributions and CITATION.cff say {version}"


def changelog_section(text: str, version: str) -> str | None:
    """What a changelog holds under ``## VERSION`` or ``## VERSION (DATE)``; ``None`` without one."""
    heading = rf"^## {re.escape(version)}(?: \(\d{{4}}-\d\d-\d\d\))?\n"
    parts = re.split(heading, text, maxsplit=1, flags=re.MULTILINE)
    return None if len(parts) == 1 else re.split(r"^## ", parts[1], maxsplit=1, flags=re.MULTILINE)[0].strip()


def check_changelog(root: pathlib.Path) -> str:
    """``CHANGELOG.md`` has a section with entries for the version, and one for what is merged later."""
    text, version = (root / "CHANGELOG.md").read_text(), distributions(root)[0].version
    if not re.search(r"^## Unreleased$", text, re.MULTILINE):
        raise CheckFailed("CHANGELOG.md has no section Unreleased for what is merged next")
    section = changelog_section(text, version)
    entries = len(re.findall(r"^- ", section or "", re.MULTILINE))
    if not entries:
        raise CheckFailed(f"CHANGELOG.md says nothing under '## {version}': move what is released there")
    return f"{entries} entries under {version}"


def check_tag(root: pathlib.Path) -> str:
    """The version was not tagged before."""
    tag = f"v{distributions(root)[0].version}"
    if _git(root, "tag", "--list", tag).strip():
        raise CheckFailed(f"the tag {tag} exists: this version is released; raise it in every pyproject.toml")
    return f"{tag} does not exist yet"


def check_tree(root: pathlib.Path) -> str:
    """What is built is what is committed."""
    changed = _git(root, "status", "--porcelain").splitlines()
    if changed:
        named = ", ".join(line[3:] for line in changed[:4]) + (", ..." if len(changed) > 4 else "")
        raise CheckFailed(f"{len(changed)} files are not committed: {named}")
    return "nothing uncommitted"


def check_address(root: pathlib.Path) -> str:
    """Every distribution tells where the repository is."""
    addresses = {each.name: each.project.get("urls", {}).get(ADDRESS) for each in distributions(root)}
    missing = [name for name, address in addresses.items() if not address]
    if missing:
        raise CheckFailed(
            f"{', '.join(missing)}: no public repository under [project.urls]; "
            "`make release-check ADDRESS=https://...` writes it"
        )
    if len(set(addresses.values())) > 1:
        raise CheckFailed(f"the distributions name different repositories: {addresses}")
    return str(next(iter(addresses.values())))


def check_pins(root: pathlib.Path) -> str:
    """``constraints.txt`` pins all that our distributions name, for every Python that they name."""
    pins, needed = read_pins(root / "constraints.txt"), list(requirements(root))
    for python in distributions(root)[0].pythons:
        environment = {"python_version": python, "python_full_version": f"{python}.9"}
        wrong = unpinned(pins, needed, environment)
        if wrong:
            raise CheckFailed(f"on Python {python} {'; '.join(wrong)}: run `make lock`")
    return f"constraints.txt pins {len(pins)} packages, and each within its bounds"


def check_environment(root: pathlib.Path) -> str:
    """What is installed here, and so what the tests ran with, is what ``constraints.txt`` pins."""
    pins, versions = read_pins(root / "constraints.txt"), installed_versions(requirements(root))
    pinned = {name: pinned_version(pins, name, {}) or "none" for name in versions}
    # A build for one device, such as 2.13.0+cpu, is that version.
    wrong = [
        f"{name} {version} instead of {pinned[name]}"
        for name, version in sorted(versions.items())
        if name not in UNPINNED and Version(version).public != pinned[name]
    ]
    if wrong:
        raise CheckFailed(f"not as pinned: {', '.join(wrong)}: run `make setup`")
    return f"{len(versions)} packages are installed as pinned"


def _git(root: pathlib.Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", root, *arguments], capture_output=True, text=True, check=True, timeout=60
        )
    except FileNotFoundError as error:
        raise CheckSkipped("git is not installed") from error
    except subprocess.CalledProcessError as error:
        raise CheckSkipped(f"no git repository here: {error.stderr.strip()}") from error
    return done.stdout
