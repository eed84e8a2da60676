"""Which isolation this machine can form, found by forming it; never by a version number.

Each way to the level is tried in full: a server is started, and a job in it attempts what the level must
refuse. What works becomes the :class:`Report` that ``ttd doctor`` prints.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from typing import Any

import attrs

from ttd_core.errors import EnvironmentLacksError, SandboxUnavailableError
from ttd_core.sandbox import cgroup, launch, layout
from ttd_core.sandbox.artifacts import Artifacts
from ttd_core.sandbox.attempt import Task
from ttd_core.sandbox.base import Level, Limits, PythonJob
from ttd_core.sandbox.connection import Connection, ServerLost
from ttd_core.sandbox.isolation import IdRange, Means

_ATTEMPTS = """
import os, socket

def run(canary):
    passed = []
    for name, attempt in {
        "fork": os.fork,
        "socket": socket.socket,
        "file outside": lambda: open(canary).close(),
        "signal to the parent": lambda: os.kill(os.getppid(), 0),
    }.items():
        try:
            if attempt() == 0:
                os._exit(0)
        except OSError:
            continue
        passed.append(name)
    return passed
"""


@attrs.frozen
class Layer:
    """One layer of isolation on this machine.

    :param name: what it is called in the documentation.
    :param present: whether it works here.
    :param detail: what was found.
    :param remedy: what to install or set, when it is missing.
    """

    name: str
    present: bool
    detail: str
    remedy: str = ""


@attrs.frozen
class Report:
    """What this machine can form.

    :param level: the strongest level.
    :param how: how it is formed, in words.
    :param kill: what ends all processes of a job.
    :param user: as whom jobs run.
    :param layers: each layer, present or missing.
    :param means: each level that can be formed, with its means.
    """

    level: Level
    how: str
    kill: str
    user: str
    layers: tuple[Layer, ...]
    means: tuple[Means, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON form, for ``ttd doctor --json``."""
        return {
            "level": self.level.value,
            "how": self.how,
            "kill": self.kill,
            "user": self.user,
            "levels": [means.level.value for means in self.means],
            "layers": [attrs.asdict(layer) for layer in self.layers],
        }

    @property
    def missing(self) -> tuple[Layer, ...]:
        """The layers that do not work here."""
        return tuple(layer for layer in self.layers if not layer.present)


@functools.cache
def _facts() -> dict[str, Any]:
    """What :mod:`ttd_core.sandbox.inside.trial` finds, in a process of its own."""
    view = layout.find()
    boot = launch.BOOT.replace("supervisor", "trial")
    run = subprocess.run(
        [view.python, "-I", "-S", "-B", "-c", boot, view.program],
        env={},
        cwd="/",
        capture_output=True,
        check=False,
        timeout=60,
    )
    if run.returncode != 0:
        reason = run.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise EnvironmentLacksError(f"the sandbox's probe failed: {reason[0] if reason else run.returncode}")
    facts: dict[str, Any] = json.loads(run.stdout)
    return facts


@functools.cache
def _refused_by(means: Means) -> str:
    """Form a level and attack it a little.

    :return: empty when it holds, else why it does not.
    """
    ids = IdRange(means)
    artifacts = Artifacts()
    with tempfile.NamedTemporaryFile(prefix="ttd-canary-") as canary:
        os.fchmod(canary.fileno(), 0o644)
        job = PythonJob(_ATTEMPTS, "run", args=[canary.name], limits=Limits(wall_s=20.0))
        try:
            connection = Connection(launch.start(means, launch.Order(), ids.server_base()), launch.Order())
        except (SandboxUnavailableError, OSError) as error:
            return str(error)
        never, other = os.pipe()
        try:
            with Task(job, artifacts, means.level, 0, None) as task:
                result, clean = task.run(connection, 0, (), ids.job_id(0), never)
        except ServerLost as error:
            return str(error)
        finally:
            os.close(never)
            os.close(other)
            connection.close()
    if not result.ok or not clean:
        return result.message or "processes were left behind"
    return f"not refused: {', '.join(result.value)}" if result.value else ""


def _user_namespace_remedy() -> str:
    if os.path.exists("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"):
        return (
            "AppArmor restricts user namespaces: sysctl kernel.apparmor_restrict_unprivileged_userns=0, "
            "or install bubblewrap with its AppArmor profile"
        )
    if os.path.exists("/.dockerenv") or os.path.exists("/run/.containerenv"):
        return (
            "in a container: allow namespaces (--security-opt seccomp=unconfined, or a profile with unshare)"
        )
    return "allow user namespaces: sysctl user.max_user_namespaces=15000"


def _layers(facts: dict[str, Any], ways: dict[str, Means], tried: dict[str, str]) -> list[Layer]:
    """What was found, layer by layer."""
    group = cgroup.Group.make()
    group.remove()
    bounded = [name for name, held in (("memory", group.memory), ("processes", group.pids)) if held]
    abi = facts["landlock_abi"]
    kernel_remedy = "boot a kernel with CONFIG_SECURITY_LANDLOCK and landlock in its lsm= list"
    spaces = {way: tried[way] for way, means in ways.items() if means.namespaces}
    strong = [way for way, reason in spaces.items() if not reason]
    reasons = "; ".join(f"{way}: {reason}" for way, reason in spaces.items() if reason)
    bubblewrap = shutil.which("bwrap")
    return [
        Layer(
            "seccomp", not facts["seccomp"], facts["seccomp"] or "own filter", "a kernel with seccomp filters"
        ),
        Layer("landlock", not facts["landlock"], facts["landlock"] or f"ABI {abi}", kernel_remedy),
        Layer("landlock scopes", not facts["scope"], facts["scope"] or f"ABI {abi}", "Linux 6.12 or newer"),
        Layer("bubblewrap", bool(bubblewrap), bubblewrap or "not installed", "apt install bubblewrap"),
        Layer(
            "namespaces",
            bool(strong),
            f"formed {' and '.join(strong)}" if strong else reasons or facts["namespaces"] or "not tried",
            _user_namespace_remedy(),
        ),
        Layer(
            "control groups",
            bool(bounded),
            f"{' and '.join(bounded)} bounded" if bounded else "none writable; memory is polled every 20 ms",
            "run in a delegated control group: systemd-run --user --scope -p Delegate=yes",
        ),
        Layer(
            "user per job",
            os.geteuid() == 0,
            "jobs run as a user id of their own" if os.geteuid() == 0 else "jobs run as this user",
            "run as root",
        ),
    ]


def _ways(facts: dict[str, Any]) -> dict[str, Means]:
    """Every way to form a level that the kernel's layers allow, strongest first."""
    ways: dict[str, Means] = {}
    if facts["seccomp"] or facts["landlock"]:
        return ways
    common = {"landlock": facts["landlock_abi"], "seccomp": True}
    if bubblewrap := shutil.which("bwrap"):
        ways["with bubblewrap"] = Means(Level.STRONG, bubblewrap=bubblewrap, **common)
    ways["by hand"] = Means(Level.STRONG, by_hand=True, **common)
    if not facts["scope"]:
        ways["without namespaces"] = Means(Level.STANDARD, **common)
    return ways


def _bare(facts: dict[str, Any]) -> Means:
    """What is left to apply where no level can be formed."""
    abi = 0 if facts["landlock"] else facts["landlock_abi"]
    return Means(Level.REFUSED, landlock=abi, seccomp=not facts["seccomp"])


@functools.cache
def probe() -> Report:
    """Try every layer and every way to form a level; the answer is kept for the life of the process."""
    facts = _facts()
    ways = _ways(facts)
    tried = {way: _refused_by(means) for way, means in ways.items()}
    formed = tuple(means for way, means in ways.items() if not tried[way])
    best = formed[0] if formed else _bare(facts)
    return Report(
        level=best.level,
        how=best.words,
        kill=best.kill,
        user="a user id of its own" if os.geteuid() == 0 else "this user",
        layers=tuple(_layers(facts, ways, tried)),
        means=formed,
    )


def _unavailable(wanted: str) -> SandboxUnavailableError:
    report = probe()
    lacking = "; ".join(f"{layer.name}: {layer.detail} ({layer.remedy})" for layer in report.missing)
    return SandboxUnavailableError(
        f"sandbox level {wanted} cannot be formed here, only {report.level.value}: {lacking}"
    )


def choose(level: str, exactly: Level | Means | None = None) -> Means:
    """The means to form a level.

    :param level: the least to accept: ``best`` (as ``standard``), ``strong``, ``standard``, ``unprotected``.
    :param exactly: form this one even if a stronger one can be formed.
    :raises SandboxUnavailableError: when it cannot be formed; names the missing layers and their remedies.
    """
    if isinstance(exactly, Means):
        return exactly
    facts = _facts()
    least = Level.STRONG if level == "strong" else Level.STANDARD
    for means in _ways(facts).values():
        wanted = means.level is exactly if exactly is not None else means.level.rank >= least.rank
        if wanted and not _refused_by(means):
            return means
    if level != "unprotected" and exactly is not Level.REFUSED:
        raise _unavailable(exactly.value if exactly is not None else level)
    bare = _bare(facts)
    print(bare.warning, file=sys.stderr)
    return bare
