"""Start a fork server in the strongest way that probing found: under bubblewrap, by hand, or bare."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import subprocess
import tempfile
from typing import Any

import attrs

from ttd_core.sandbox import layout
from ttd_core.sandbox.base import Level
from ttd_core.sandbox.inside import kernel

_BOOT = """
import sys, types
for name, folder in (("ttd_core", ""), ("ttd_core.sandbox", sys.argv[1])):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [folder]
from ttd_core.sandbox.inside import supervisor
supervisor.main()
"""

_CAPABILITIES_AS_ROOT = ("CAP_SETUID", "CAP_SETGID")


@attrs.frozen
class Means:
    """How a level is formed on this machine.

    :param level: what it amounts to.
    :param bubblewrap: path of ``bwrap``, or empty.
    :param by_hand: make the namespaces without it.
    :param landlock: Landlock's ABI, 0 without.
    :param seccomp: whether filters install.
    """

    level: Level
    bubblewrap: str = ""
    by_hand: bool = False
    landlock: int = 0
    seccomp: bool = False

    @property
    def namespaces(self) -> bool:
        """Whether jobs run in namespaces of their own."""
        return bool(self.bubblewrap) or self.by_hand


def _folders_above(paths: list[str]) -> list[str]:
    """The chain of folders that leads to each path, outermost first."""
    chain: dict[str, None] = {}
    for path in paths:
        parent = os.path.dirname(path)
        above = []
        while parent not in {"/", ""}:
            above.append(parent)
            parent = os.path.dirname(parent)
        chain.update(dict.fromkeys(reversed(above)))
    return list(chain)


def _bubblewrap(means: Means, view: layout.Layout) -> list[str]:
    """The bwrap command line: the interpreter, its libraries, the system's, and no home."""
    command = [means.bubblewrap, "--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-net"]
    command += ["--unshare-uts", "--unshare-cgroup-try", "--hostname", "sandbox"]
    if os.geteuid() == 0:
        command += ["--cap-drop", "ALL"]
        for name in _CAPABILITIES_AS_ROOT:
            command += ["--cap-add", name]
    else:
        command += ["--unshare-user", "--uid", "0", "--gid", "0", "--cap-add", "ALL"]
    shown = [*view.prefix, *view.libraries, os.path.join(view.program, "inside")]
    for path in _folders_above([*layout.SETTINGS, *layout.KERNEL_FACTS, *layout.DEVICES, *shown]):
        # left to bubblewrap, they would be open to its own user only
        if not path.startswith("/proc"):
            command += ["--dir", path]
    for path in (*layout.SYSTEM, *layout.SETTINGS):
        if os.path.islink(path):
            command += ["--symlink", os.readlink(path), path]
        elif os.path.exists(path):
            command += ["--ro-bind", path, path]
    for path in layout.KERNEL_FACTS:
        if path.startswith("/sys/"):
            command += ["--ro-bind-try", path, path]
    command += ["--proc", "/proc", "--dir", layout.SCRATCH]
    for path in layout.DEVICES:
        command += ["--dev-bind", path, path]
    for path in shown:
        command += ["--ro-bind", path, path]
    for path in view.hidden:
        if os.path.isdir(path):
            command += ["--tmpfs", path, "--remount-ro", path]
        else:
            command += ["--ro-bind", "/dev/null", path]
    command += ["--remount-ro", "/"]
    return [*command, "--chdir", "/", "--clearenv", "--"]


def _environment() -> dict[str, str]:
    """The whole environment of a job."""
    names = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "BLIS", "VECLIB", "RAYON")
    threads = {f"{name}_NUM_THREADS": "1" for name in names}
    fixed = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8"}
    return fixed | threads | {"PYTHONDONTWRITEBYTECODE": "1", "MPLBACKEND": "Agg"}


def _setup(
    means: Means, view: layout.Layout, preload: tuple[str, ...], id_base: int, scratch: str
) -> dict[str, Any]:
    root = os.geteuid() == 0
    system = [*layout.SYSTEM, *layout.SETTINGS, *layout.KERNEL_FACTS]
    return {
        "layers": {
            "landlock": means.landlock > 0,
            "seccomp": means.seccomp,
            "own_pids": means.namespaces,
            "scoped": not means.namespaces and means.landlock >= 6,
            "mounts": means.namespaces,
        },
        "by_hand": None,
        "own_namespaces": means.namespaces,
        "id_base": id_base if means.namespaces and root else 0,
        "preload": list(preload),
        "sys_path": list(view.search),
        "environment": _environment(),
        "scratch": scratch or layout.SCRATCH,
        "keep_capabilities": 0 if means.namespaces else _capability_to_read(view),
        "other_processes": 0 if root else 8 if means.namespaces else 4096,
        "paths": {
            "devices": list(layout.DEVICES),
            "listed": list(view.libraries),
            "readable": view.readable(covered=means.namespaces),
            "writable": [os.path.dirname(layout.SCRATCH)] if means.namespaces else [scratch],
            "system": system,
            "loaders": _loaders(),
            "tools": ["/usr", "/bin", "/lib", "/lib64"],
        },
    }


def _capability_to_read(view: layout.Layout) -> int:
    """The capability a job needs to reach an interpreter that lies in a folder closed to other users.

    Only without namespaces, where it cannot be shown under open folders: Landlock still decides what may
    be read.
    """
    needed = [*view.prefix, *view.libraries]
    closed = [path for path in (*_folders_above(needed), *needed) if not os.stat(path).st_mode & 0o001]
    if not closed or os.geteuid() != 0:
        return 0
    held = kernel.effective_capabilities()
    for number in (kernel.CAP_DAC_READ_SEARCH, kernel.CAP_DAC_OVERRIDE):
        if held >> number & 1:
            return 1 << number
    return 0


def _loaders() -> list[str]:
    """The dynamic loaders that a compiled program starts with."""
    listed = ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")
    return [path for path in listed if os.path.exists(path)]


@attrs.frozen
class Launched:
    """A running server.

    :param process: the outermost process: bubblewrap, or the supervisor.
    :param control: packet socket to the server.
    :param log: file with what the server itself printed.
    :param scratch: folder on disk for its jobs' files, where no tmpfs can be made for them.
    """

    process: subprocess.Popen[bytes]
    control: socket.socket
    log: int
    scratch: str


def start(means: Means, preload: tuple[str, ...], id_base: int) -> Launched:
    """Start a server; it answers ``ready`` on its control socket once its modules are imported.

    The calling thread must outlive the server: with its end the kernel ends bubblewrap too.
    """
    view = layout.find()
    command = _bubblewrap(means, view) if means.bubblewrap else []
    scratch = "" if means.namespaces else tempfile.mkdtemp(prefix="ttd-job-")
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    log = os.memfd_create("sandbox-log", os.MFD_CLOEXEC)
    try:
        process = subprocess.Popen(
            [*command, view.python, "-I", "-S", "-B", "-c", _BOOT, view.program, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={},
            cwd="/",
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        mine.send(json.dumps(_setup(means, view, preload, id_base, scratch)).encode())
    except BaseException:
        mine.close()
        os.close(log)
        raise
    finally:
        theirs.close()
    return Launched(process, mine, log, scratch)


def find_bubblewrap() -> str:
    """Path of bubblewrap's program, or empty."""
    return shutil.which("bwrap") or ""


class IdRange:
    """User ids for jobs and servers that nobody else uses; none where we are not root.

    :param means: how the level is formed: inside a mapped user namespace ids start at 1, else at the base.
    """

    def __init__(self, means: Means) -> None:
        self._mapped = means.namespaces
        self._root = os.geteuid() == 0
        # 0x70000000 and up: assigned by no distribution, container runtime or systemd
        self._base = 0x70000000 + (os.getpid() % 1000) * 0x40000
        self._servers = itertools.count()

    def server_base(self) -> int:
        """Outer id that the next server's own root maps to."""
        return self._base + (next(self._servers) % 4) * 0x10000

    def job_id(self, number: int) -> int | None:
        """User id of a job, as it counts inside."""
        if not self._root:
            return None
        inside = 1 + number % 60000
        return inside if self._mapped else self._base + inside
