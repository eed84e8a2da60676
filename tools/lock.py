"""Pins every dependency, direct or not, in ``constraints.txt``: ``make lock``.

uv resolves what the ``pyproject.toml`` files name for every platform and every Python at once, so that a
pin that holds on some machines only carries the marker that says which. Versions that are pinned already stay
as long as they fit; ``--upgrade`` moves all to the newest. torch moves by hand alone: change its line, then
lock again.
"""

from __future__ import annotations

import argparse
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.distributions import ROOT, distributions, requirements

#: Packages whose version is chosen by hand.
HELD = ["torch"]
#: Packages that no line pins. A CUDA build of torch asks for the one Triton that it was built with; a build
#: for CPUs asks for none, and interpreting kernels there needs a newer one: no version fits both.
UNPINNED = frozenset(["triton"])
HEADER = """\
# Every dependency of the development environment, pinned: what the tests pass with. `make setup` installs
# under these, so that two machines get the same; who installs a wheel is not bound by them. Written by
# `make lock` from the pyproject.toml files; `make lock UPGRADE=1` moves all but torch, whose line is changed
# by hand. Triton has no line: it comes with torch where that is a CUDA build, and the newest one elsewhere.
"""


def read_pins(path: pathlib.Path) -> list[Requirement]:
    """The pins of a constraints file: ``name==version``, with a marker where it holds on some machines only.

    :raises ValueError: a line is no pin.
    """
    pins = []
    for line in path.read_text().splitlines():
        text = line.partition("#")[0].strip()
        if text:
            pins.append(Requirement(text))
            if [specifier.operator for specifier in pins[-1].specifier] != ["=="]:
                raise ValueError(f"{path.name} pins no version in {line!r}")
    return pins


def pinned_version(pins: Iterable[Requirement], name: str, environment: Mapping[str, str]) -> str | None:
    """The version of a package on a machine, or ``None`` where it is not pinned.

    :param environment: values of PEP 508's markers, such as ``python_full_version``; the others are those of
        this machine.
    :raises ValueError: two lines pin it.
    """
    versions = [
        specifier.version
        for pin in pins
        if canonicalize_name(pin.name) == canonicalize_name(name)
        if pin.marker is None or pin.marker.evaluate(dict(environment))
        for specifier in pin.specifier
    ]
    if len(versions) > 1:
        raise ValueError(f"{name} is pinned twice: {', '.join(versions)}")
    return versions[0] if versions else None


def unpinned(
    pins: Iterable[Requirement], needed: Iterable[Requirement], environment: Mapping[str, str]
) -> list[str]:
    """What a constraints file lacks on a machine, or pins outside its bound; one sentence each."""
    pins = list(pins)
    wrong = []
    for requirement in needed:
        if canonicalize_name(requirement.name) in UNPINNED:
            continue
        if requirement.marker is None or requirement.marker.evaluate(dict(environment)):
            version = pinned_version(pins, requirement.name, environment)
            if version is None:
                wrong.append(f"{requirement.name} is not pinned")
            elif not requirement.specifier.contains(version, prereleases=True):
                wrong.append(f"{requirement.name} is pinned to {version}, outside {requirement.specifier}")
    return wrong


def lock(path: pathlib.Path, *, upgrade: bool) -> None:
    """Resolve and write the pins.

    :param path: the constraints file; its pins are kept where they fit.
    :param upgrade: take the newest versions instead.
    :raises subprocess.CalledProcessError: nothing fits, or the index cannot be reached; uv has said why.
    """
    before = read_pins(path)
    held = [str(pin) for pin in before if pin.name in HELD]
    oldest = distributions()[0].pythons[0]
    with tempfile.TemporaryDirectory() as folder:
        wanted, resolved = pathlib.Path(folder, "wanted.in"), pathlib.Path(folder, "resolved.txt")
        wanted.write_text("\n".join([*sorted({str(each) for each in requirements()}), *held]) + "\n")
        resolved.write_text("".join(f"{pin}\n" for pin in before))
        subprocess.run(
            [
                *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--no-header"),
                *("--no-annotate", "--python-version", oldest, "--output-file", resolved, wanted),
                *(["--upgrade"] if upgrade else []),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        lines = resolved.read_text().splitlines(keepends=True)
        path.write_text(HEADER + "".join(line for line in lines if line.partition("=")[0] not in UNPINNED))


def main() -> None:
    """The command line of ``make lock``."""
    parser = argparse.ArgumentParser(prog="python -m tools.lock", description=__doc__)
    parser.add_argument("--upgrade", action="store_true", help="move all but torch to the newest versions")
    path = ROOT / "constraints.txt"
    before = {str(pin) for pin in read_pins(path)}
    lock(path, upgrade=parser.parse_args().upgrade)
    after = {str(pin) for pin in read_pins(path)}
    for line in sorted(before - after):
        print(f"- {line}")
    for line in sorted(after - before):
        print(f"+ {line}")
    print(f"constraints.txt pins {len(after)} packages, {len(after - before)} of them changed")


if __name__ == "__main__":
    main()
