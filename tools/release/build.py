"""Builds the sdists, and from each sdist its wheel, into ``dist/``: ``make wheels``."""

from __future__ import annotations

import pathlib
import shutil
import sys
import tarfile

from tools.distributions import ROOT, Distribution, distributions
from tools.release.check import CheckFailed, run_program

#: What an sdist may hold in its top folder besides the sources of its own package.
SDIST_PARTS = {
    *("LICENSE", "README.md", "PKG-INFO", "pyproject.toml", ".gitignore", "src", "tests", "docs"),
    *("CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "SECURITY.md", "conftest.py", "chain.toml"),
}


def build(root: pathlib.Path, folder: pathlib.Path) -> str:
    """Build everything anew.

    :param folder: emptied first.
    :raises CheckFailed: something does not build, or an sdist holds what is not its own.
    """
    shutil.rmtree(folder, ignore_errors=True)
    ours = distributions(root)
    for each in ours:
        run_program([sys.executable, "-m", "build", "--installer", "uv", "--outdir", folder, each.folder])
        with tarfile.open(sdist(folder, each)) as archive:
            parts = {name.split("/")[1] for name in archive.getnames() if "/" in name}
        if parts - SDIST_PARTS:
            raise CheckFailed(f"the sdist of {each.name} holds {', '.join(sorted(parts - SDIST_PARTS))}")
    return f"{len(ours)} sdists and {len(ours)} wheels in {folder.name}/"


def sdist(folder: pathlib.Path, distribution: Distribution) -> pathlib.Path:
    """Where the sdist of a distribution was built."""
    return folder / f"{distribution.package}-{distribution.version}.tar.gz"


def wheel(folder: pathlib.Path, distribution: Distribution) -> pathlib.Path:
    """Where the wheel of a distribution was built."""
    return folder / f"{distribution.package}-{distribution.version}-py3-none-any.whl"


def check_with_twine(folder: pathlib.Path) -> str:
    """The metadata is whole and each README renders, by the judgement of the tool that uploads."""
    files = sorted([*folder.glob("*.whl"), *folder.glob("*.tar.gz")])
    run_program([sys.executable, "-m", "twine", "check", "--strict", *files])
    return f"{len(files)} files pass twine check --strict"


if __name__ == "__main__":
    try:
        print(build(ROOT, ROOT / "dist"))
    except CheckFailed as reason:
        sys.exit(str(reason))
