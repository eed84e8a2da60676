"""Which isolation this machine can form, found by forming it; never by a version number.

Each method is tried in full: a server is started, and a job in it attempts what its level must refuse. What
works becomes the :class:`SandboxReport` that ``ttd doctor`` prints.
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
from ttd_core.sandbox.artifacts import ArtifactStore
from ttd_core.sandbox.attempt import Attempt
from ttd_core.sandbox.base import Level, Limits, PythonJob
from ttd_core.sandbox.connection import Connection, ServerLost
from ttd_core.sandbox.isolation import IsolationMethod, UserIds

_PROBE_JOB = """
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
class LayerCheck:
    """Whether one layer of isolation works on this machine.

    :param name: what it is called in the documentation.
    :param present: whether it works here.
    :param detail: its version or kind, or why it does not work.
    :param remedy: what to install or set, when it is missing.
    """

    name: str
    present: bool
    detail: str
    remedy: str = ""


@attrs.frozen
class SandboxReport:
    """What isolation this machine can form.

    :param level: the strongest level.
    :param how: how it is formed, in words.
    :param kill: what ends all processes of a job.
    :param user: as whom jobs run.
    :param layers: each layer, present or missing.
    :param methods: every method that works, strongest first.
    """

    level: Level
    how: str
    kill: str
    user: str
    layers: tuple[LayerCheck, ...]
    methods: tuple[IsolationMethod, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON form, for ``ttd doctor --json``."""
        return {
            "level": self.level.value,
            "how": self.how,
            "kill": self.kill,
            "user": self.user,
            "levels": [method.level.value for method in self.methods],
            "layers": [attrs.asdict(layer) for layer in self.layers],
        }

    @property
    def missing(self) -> tuple[LayerCheck, ...]:
        """The layers that do not work here."""
        return tuple(layer for layer in self.layers if not layer.present)


@functools.cache
def _kernel_layers() -> dict[str, Any]:
    """What :mod:`ttd_core.sandbox.inside.trial` says of the kernel's layers, in a process of its own."""
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
    layers: dict[str, Any] = json.loads(run.stdout)
    return layers


@functools.cache
def _why_unusable(method: IsolationMethod) -> str:
    """Form a level by a method and attack it a little.

    :return: empty when it holds, else why it does not.
    """
    user_ids, spec = UserIds(method), launch.ServerSpec()
    artifacts = ArtifactStore()
    with tempfile.NamedTemporaryFile(prefix="ttd-canary-") as canary:
        os.fchmod(canary.fileno(), 0o644)
        job = PythonJob(_PROBE_JOB, "run", args=[canary.name], limits=Limits(wall_s=20.0))
        try:
            connection = Connection(launch.start_server(method, spec, user_ids.server_base()), spec)
        except (SandboxUnavailableError, OSError) as error:
            return str(error)
        never_cancelled, other_end = os.pipe()
        try:
            with Attempt(job, artifacts, method.level, 0, None) as attempt:
                result, clean = attempt.run(connection, 0, (), user_ids.job_uid(0), never_cancelled)
        except ServerLost as error:
            return str(error)
        finally:
            os.close(never_cancelled)
            os.close(other_end)
            connection.close()
    if not result.ok or not clean:
        return result.message or "processes were left behind"
    return f"not refused: {', '.join(result.value)}" if result.value else ""


_WITHOUT_GROUPS = (
    "none writable: memory and page tables are polled every 20 ms, shared memory without a file is refused, "
    "and of jobs that start processes (compilers), time of those that end within 20 ms and that nobody waits "
    "for is not told"
)


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


def _layer_checks(
    kernel: dict[str, Any], methods: dict[str, IsolationMethod], failures: dict[str, str]
) -> list[LayerCheck]:
    """Every layer, present or missing.

    :param kernel: of :func:`_kernel_layers`.
    :param methods: those that were tried, by name.
    :param failures: why each does not work, empty where it does.
    """
    groups = cgroup.ControlGroups.make()
    groups.remove()
    bounded = [name for name, made in (("memory", groups.memory), ("processes", groups.pids)) if made]
    abi = kernel["landlock_abi"]
    kernel_remedy = "boot a kernel with CONFIG_SECURITY_LANDLOCK and landlock in its lsm= list"
    spaces = {name: failures[name] for name, method in methods.items() if method.namespaces}
    formed = [name for name, failure in spaces.items() if not failure]
    reasons = "; ".join(f"{name}: {failure}" for name, failure in spaces.items() if failure)
    bubblewrap = shutil.which("bwrap")
    return [
        LayerCheck(
            "seccomp",
            not kernel["seccomp"],
            kernel["seccomp"] or "own filter",
            "a kernel with seccomp filters",
        ),
        LayerCheck("landlock", not kernel["landlock"], kernel["landlock"] or f"ABI {abi}", kernel_remedy),
        LayerCheck(
            "landlock scopes", not kernel["scope"], kernel["scope"] or f"ABI {abi}", "Linux 6.12 or newer"
        ),
        LayerCheck("bubblewrap", bool(bubblewrap), bubblewrap or "not installed", "apt install bubblewrap"),
        LayerCheck(
            "namespaces",
            bool(formed),
            f"formed {' and '.join(formed)}" if formed else reasons or kernel["namespaces"] or "not tried",
            _user_namespace_remedy(),
        ),
        LayerCheck(
            "control groups",
            bool(bounded),
            f"{' and '.join(bounded)} bounded" if bounded else _WITHOUT_GROUPS,
            "run in a delegated control group: systemd-run --user --scope -p Delegate=yes",
        ),
        LayerCheck(
            "user per job",
            os.geteuid() == 0,
            "jobs run as a user id of their own" if os.geteuid() == 0 else "jobs run as this user",
            "run as root",
        ),
    ]


def _methods(kernel: dict[str, Any]) -> dict[str, IsolationMethod]:
    """Every method that the kernel's layers allow, by name, strongest first."""
    methods: dict[str, IsolationMethod] = {}
    if kernel["seccomp"] or kernel["landlock"]:
        return methods
    common = {"landlock": kernel["landlock_abi"], "seccomp": True}
    if bubblewrap := shutil.which("bwrap"):
        methods["with bubblewrap"] = IsolationMethod(Level.STRONG, bubblewrap=bubblewrap, **common)
    methods["by hand"] = IsolationMethod(Level.STRONG, by_hand=True, **common)
    if not kernel["scope"]:
        methods["without namespaces"] = IsolationMethod(Level.STANDARD, **common)
    return methods


def _unprotected(kernel: dict[str, Any]) -> IsolationMethod:
    """What is left to apply where no level can be formed."""
    abi = 0 if kernel["landlock"] else kernel["landlock_abi"]
    return IsolationMethod(Level.REFUSED, landlock=abi, seccomp=not kernel["seccomp"])


@functools.cache
def probe() -> SandboxReport:
    """Try every layer and every method; the answer is kept for the life of the process."""
    kernel = _kernel_layers()
    methods = _methods(kernel)
    failures = {name: _why_unusable(method) for name, method in methods.items()}
    working = tuple(method for name, method in methods.items() if not failures[name])
    best = working[0] if working else _unprotected(kernel)
    return SandboxReport(
        level=best.level,
        how=best.description,
        kill=best.kill,
        user="a user id of its own" if os.geteuid() == 0 else "this user",
        layers=tuple(_layer_checks(kernel, methods, failures)),
        methods=working,
    )


def _unavailable(wanted: str) -> SandboxUnavailableError:
    report = probe()
    lacking = "; ".join(f"{layer.name}: {layer.detail} ({layer.remedy})" for layer in report.missing)
    return SandboxUnavailableError(
        f"sandbox level {wanted} cannot be formed here, only {report.level.value}: {lacking}"
    )


def choose(level: str, exactly: Level | IsolationMethod | None = None) -> IsolationMethod:
    """The method by which an executor forms its level.

    :param level: the least to accept: ``best`` (as ``standard``), ``strong``, ``standard``, ``unprotected``.
    :param exactly: form this level, or use this method, even if a stronger one can be formed.
    :raises SandboxUnavailableError: when it cannot be formed; names the missing layers and their remedies.
    """
    if isinstance(exactly, IsolationMethod):
        return exactly
    kernel = _kernel_layers()
    least = Level.STRONG if level == "strong" else Level.STANDARD
    for method in _methods(kernel).values():
        wanted = method.level is exactly if exactly is not None else method.level.rank >= least.rank
        if wanted and not _why_unusable(method):
            return method
    if level != "unprotected" and exactly is not Level.REFUSED:
        raise _unavailable(exactly.value if exactly is not None else level)
    unprotected = _unprotected(kernel)
    print(unprotected.warning, file=sys.stderr)
    return unprotected
