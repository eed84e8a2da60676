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
import xml.etree.ElementTree
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import attrs

from tools.distributions import Distribution, distributions
from tools.lock import HELD, read_pins
from tools.release.build import wheel
from tools.release.check import Check, CheckFailed, run_program
from tools.release.interpreters import find_interpreter
from ttd_core.errors import UsageError

#: A reply for the problem that ``ttd new-problem`` writes: ten points on a diagonal.
REPLY = "```python\ndef run(seed, budget_s, **kwargs):\n    return [[i / 9, i / 9] for i in range(10)]\n```"
#: Tests that run with the oldest dependencies, and what they need besides the extra `testing`.
TESTED = [
    *("tests/cli", "tests/config", "tests/dialogue", "tests/learn", "tests/plugin", "tests/policy"),
    *("tests/run", "tests/search", "tests/testing", "plugins/ttd_bio", "plugins/ttd_ahc"),
]
TEST_TOOLS = ["mypy", "psutil", "pytest-timeout", "ruff"]
FAST = "not slow and not peer and not ray"
#: Libraries whose versions are shown.
SHOWN = ("numpy", "torch", "transformers")

#: Runs a program in the environment under test and gives what it prints.
Run = Callable[..., str]


@attrs.frozen
class Setting:
    """One fresh environment.

    :param distributions: whose wheels are installed, the one that is tried last.
    :param python: version of the interpreter, such as ``3.11``.
    :param oldest: take the oldest dependencies that the metadata admits, not the newest.
    :param extras: extras of the core that are installed as well.
    """

    distributions: Sequence[Distribution]
    python: str
    oldest: bool = False
    extras: Sequence[str] = ()

    @property
    def name(self) -> str:
        """For the line that is printed."""
        extras = "[all]" if self.extras else ""
        return f"{self.distributions[-1].name}{extras} {self.python} {'oldest' if self.oldest else 'newest'}"


def checks(root: pathlib.Path, wheels: pathlib.Path) -> Iterator[Check]:
    """A check for each environment, and one that runs tests with the oldest dependencies.

    :param wheels: where the wheels were built.
    """
    ours = distributions(root)
    core, pythons = ours[0], ours[0].pythons
    # `dev` and `docs` are for work on the project; nobody installs them with a wheel.
    extras = sorted(core.extras.keys() - {"dev", "docs"})
    everything = Setting(ours, pythons[0], oldest=True, extras=extras)
    yield Check(
        f"tests {pythons[0]} oldest", partial(_in_fresh_environment, root, wheels, everything, run_tests)
    )
    alone = [[core], *([core, plugin] for plugin in ours[1:])]
    settings = [Setting(each, pythons[0], oldest=True) for each in alone]
    settings += [Setting([core], pythons[0], oldest=True, extras=extras)]
    for python in pythons:
        settings += [Setting(each, python) for each in alone]
        settings += [Setting([core], python, extras=extras)]
    for setting in settings:
        yield Check(setting.name, partial(_in_fresh_environment, root, wheels, setting, use))


def _in_fresh_environment(
    root: pathlib.Path,
    wheels: pathlib.Path,
    setting: Setting,
    action: Callable[[pathlib.Path, Setting, pathlib.Path, pathlib.Path], str],
) -> str:
    """Install wheels as a user would, then do something with them.

    :raises CheckSkipped: there is no such interpreter on this machine.
    :raises CheckFailed: they do not install, or the action fails.
    """
    interpreter = find_interpreter(setting.python)
    # Not in the system's temporary folder: where it lies in memory, CUDA's libraries would fill it.
    (root / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root / "build", prefix="release-") as name:
        folder = pathlib.Path(name)
        environment = folder / "venv"
        run_program([*_uv("venv"), "--python", interpreter, environment])
        install(root, wheels, setting, environment / "bin" / "python")
        return action(root, setting, environment / "bin", folder)


def install(root: pathlib.Path, wheels: pathlib.Path, setting: Setting, python: pathlib.Path) -> None:
    """Install the wheels from the files that were built, and what they need."""
    core = setting.distributions[0]
    needed = [need for each in setting.distributions for need in each.dependencies]
    needed += [need for extra in setting.extras for need in core.extras[extra]]
    # Named once more: to uv only what it is given is direct, and so taken at its oldest.
    direct = sorted({str(need) for need in needed if need.name != core.name})
    held = [str(pin) for pin in read_pins(root / "constraints.txt") if pin.name in HELD]
    choice = ["--resolution", "lowest-direct"] if setting.oldest else held
    files = [wheel(wheels, each) for each in setting.distributions]
    run_program([*_uv("pip", "install"), "--python", python, *choice, *files, *direct])


def run_tests(root: pathlib.Path, setting: Setting, programs: pathlib.Path, folder: pathlib.Path) -> str:
    """Run fast tests of what the dependencies serve: a bound that is too low fails here.

    Warnings are no errors, since old libraries warn of what newer ones changed.
    """
    run_program([*_uv("pip", "install"), "--python", programs / "python", *TEST_TOOLS])
    options = ["-p", "no:cacheprovider", "-o", "filterwarnings=default", "-o", "timeout=300", "-m", FAST]
    report = folder / "report.xml"
    variables = _variables() | {"PATH": f"{programs}:{os.environ['PATH']}"}
    command = ["-m", "pytest", *options, f"--junit-xml={report}", *TESTED]
    run_program([programs / "python", *command], folder=root, environment=variables)
    suite = xml.etree.ElementTree.parse(report).getroot()[0].attrib
    return f"{int(suite['tests']) - int(suite['skipped'])} tests pass; {_versions(programs / 'python')}"


def use(root: pathlib.Path, setting: Setting, programs: pathlib.Path, folder: pathlib.Path) -> str:
    """Ask for the version and the problems, import every module, and with the core take a step of a run.

    :param programs: the environment's ``bin``.
    :param folder: an empty one to work in.
    """
    core, each = setting.distributions[0], setting.distributions[-1]
    run: Run = partial(_run, folder, _variables())
    if core.version not in run(programs / "ttd", "--version"):
        raise CheckFailed(f"ttd --version does not say {core.version}")
    listed = [row["name"] for row in json.loads(run(programs / "ttd", "list-problems", "--load", "--json"))]
    if sorted(listed) != each.problems:
        raise CheckFailed(f"ttd list-problems lists {listed}, not {each.problems}")
    # A mistake of the user is a sentence and this status; a traceback ends with 1.
    run(programs / "ttd", "show", "no-such-problem", status=UsageError.exit_code)
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


def _variables() -> dict[str, str]:
    """The environment without what would lead to other modules, and one thread a process."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return variables | {"OMP_NUM_THREADS": "1"}


def _run(
    folder: pathlib.Path, variables: dict[str, str], *command: str | pathlib.Path, status: int = 0
) -> str:
    return run_program(command, folder=folder, environment=variables, status=status)


def _versions(python: pathlib.Path) -> str:
    listing = run_program([*_uv("pip", "list"), "--python", python, "--format", "json"])
    versions = {row["name"]: row["version"] for row in json.loads(listing)}
    return ", ".join(f"{name} {versions[name]}" for name in SHOWN)


def _uv(*words: str) -> list[str]:
    return [sys.executable, "-m", "uv", *words]
