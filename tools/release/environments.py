"""Each wheel in a fresh environment: on every Python it names, with the newest and the oldest dependencies.

*Newest* is what a user gets today, but for torch, which stays at the pinned version: a new one is tested
before it is taken. *Oldest* is the least version of each direct dependency that the metadata admits, on the
oldest Python, since later ones have no wheels of such versions. uv installs from its cache by hard links, so
that an environment with CUDA's libraries takes seconds after the first.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import attrs

from tools.distributions import Distribution, distributions
from tools.lock import HELD, read_pins
from tools.release.build import wheel
from tools.release.check import Check, CheckFailed, run_program
from tools.release.interpreters import find_interpreter

#: A reply for the problem that ``ttd new-problem`` writes: ten points on a diagonal.
REPLY = "```python\ndef run(seed, budget_s, **kwargs):\n    return [[i / 9, i / 9] for i in range(10)]\n```"
#: Libraries whose versions are shown.
SHOWN = ("numpy", "torch", "transformers")

#: Runs a program in the environment under test and gives what it prints.
Run = Callable[..., str]


@attrs.frozen
class Setting:
    """One fresh environment.

    :param distribution: whose wheel is tried; the core's is installed with a plugin's.
    :param python: version of the interpreter, such as ``3.11``.
    :param oldest: take the oldest dependencies that the metadata admits, not the newest.
    :param extras: extras that are installed as well.
    """

    distribution: Distribution
    python: str
    oldest: bool = False
    extras: Sequence[str] = ()

    @property
    def name(self) -> str:
        """For the line that is printed."""
        extras = "[all]" if self.extras else ""
        return f"{self.distribution.name}{extras} {self.python} {'oldest' if self.oldest else 'newest'}"


def checks(root: pathlib.Path, wheels: pathlib.Path) -> Iterator[Check]:
    """A check for each environment.

    :param wheels: where the wheels were built.
    """
    ours = distributions(root)
    core, pythons = ours[0], ours[0].pythons
    # `dev` and `docs` are for work on the project; nobody installs them with a wheel.
    extras = sorted(core.extras.keys() - {"dev", "docs"})
    settings = [Setting(each, pythons[0], oldest=True) for each in ours]
    settings += [Setting(core, pythons[0], oldest=True, extras=extras)]
    for python in pythons:
        settings += [Setting(each, python) for each in ours]
        settings += [Setting(core, python, extras=extras)]
    for setting in settings:
        yield Check(setting.name, partial(try_wheel, root, wheels, setting))


def try_wheel(root: pathlib.Path, wheels: pathlib.Path, setting: Setting) -> str:
    """Install a wheel as a user would, then use it.

    :raises CheckSkipped: there is no such interpreter on this machine.
    :raises CheckFailed: it does not install, import or run.
    """
    interpreter = find_interpreter(setting.python)
    # Not in the system's temporary folder: where it lies in memory, CUDA's libraries would fill it.
    (root / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root / "build", prefix="release-") as name:
        folder = pathlib.Path(name)
        environment = folder / "venv"
        run_program([*_uv("venv"), "--python", interpreter, environment])
        install(root, wheels, setting, environment / "bin" / "python")
        return use(root, setting, environment / "bin", folder)


def install(root: pathlib.Path, wheels: pathlib.Path, setting: Setting, python: pathlib.Path) -> None:
    """Install the wheel, and the core's with a plugin's, from the files that were built."""
    core, each = distributions(root)[0], setting.distribution
    needed = [*core.dependencies, *each.dependencies]
    needed += [requirement for extra in setting.extras for requirement in each.extras[extra]]
    # Named once more: to uv only what it is given is direct, and so taken at its oldest.
    direct = sorted({str(need) for need in needed if need.name != core.name})
    held = [str(pin) for pin in read_pins(root / "constraints.txt") if pin.name in HELD]
    choice = ["--resolution", "lowest-direct"] if setting.oldest else held
    files = sorted({wheel(wheels, core), wheel(wheels, each)})
    run_program([*_uv("pip", "install"), "--python", python, *choice, *files, *direct])


def use(root: pathlib.Path, setting: Setting, programs: pathlib.Path, folder: pathlib.Path) -> str:
    """Ask for the version and the problems, import every module, and with the core take one step of a run.

    :param programs: the environment's ``bin``.
    :param folder: an empty one to work in.
    """
    core, each = distributions(root)[0], setting.distribution
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    run: Run = partial(_run, folder, {**variables, "OMP_NUM_THREADS": "1"})
    if core.version not in run(programs / "ttd", "--version"):
        raise CheckFailed(f"ttd --version does not say {core.version}")
    listed = [row["name"] for row in json.loads(run(programs / "ttd", "list-problems", "--load", "--json"))]
    if sorted(listed) != each.problems:
        raise CheckFailed(f"ttd list-problems lists {listed}, not {each.problems}")
    # A module may lack what comes with an extra, unless the extras are there.
    optional = {need.name for needs in core.extras.values() for need in needs if not setting.extras}
    script = pathlib.Path(__file__).parent / "import_all.py"
    imported = run(programs / "python", "-I", script, each.package, *sorted(optional)).strip()
    done = take_a_step(run, programs / "ttd", folder) if each == core else ", ".join(listed)
    return f"{imported} modules; {done}; {_versions(programs / 'python')}"


def take_a_step(run: Run, ttd: pathlib.Path, folder: pathlib.Path) -> str:
    """Begin a problem as its author would and run it for a step, in the sandbox, with a scripted policy.

    :raises CheckFailed: the best state is not what the reply's program returns.
    """
    run(ttd, "new-problem", "far-points", "--minimal")
    (folder / "replies.json").write_text(json.dumps([REPLY]))
    problem = "./far_points.py:FarPoints"
    policy = ["--policy", "scripted", "--set", "policy.options.file=replies.json"]
    size = ["--steps", "1", "--groups", "1", "--group-size", "1", "--name", "first", "--quiet"]
    run(ttd, "run", problem, *policy, *size)
    best = run(ttd, "best", "first")
    # Ten points evenly on the unit square's diagonal are sqrt(2) / 9 apart.
    if "0.1571348" not in best:
        raise CheckFailed(f"a step of a run ends with:\n{best}")
    return "a step of a run"


def _run(folder: pathlib.Path, variables: dict[str, str], *command: str | pathlib.Path) -> str:
    return run_program(command, folder=folder, environment=variables)


def _versions(python: pathlib.Path) -> str:
    listing = run_program([*_uv("pip", "list"), "--python", python, "--format", "json"])
    versions = {row["name"]: row["version"] for row in json.loads(listing)}
    return ", ".join(f"{name} {versions[name]}" for name in SHOWN)


def _uv(*words: str) -> list[str]:
    return [sys.executable, "-m", "uv", *words]
