"""Start a fork server by a method of isolation: under bubblewrap, in namespaces of our own, or in none."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import socket
import stat
import subprocess
import tempfile
import time
from typing import Any

import attrs

from ttd_core.sandbox import cgroup, layout
from ttd_core.sandbox.base import SEARCH_PATH, Access
from ttd_core.sandbox.inside import folders, kernel
from ttd_core.sandbox.isolation import IsolationMethod
from ttd_core.sandbox.priority import lower_session

#: Makes the modules of :mod:`.inside` importable where the rest of ``ttd_core`` is not, and starts them.
BOOT = """
import sys, types
for name, folder in (("ttd_core", ""), ("ttd_core.sandbox", sys.argv[1])):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [folder]
from ttd_core.sandbox.inside import supervisor
supervisor.main()
"""

#: Age at which a folder of a process that is gone is removed.
_STALE_S = 24 * 3600
#: For the supervisor, which closes /proc with the last and then drops it.
_CAPABILITIES_AS_ROOT = ("CAP_SETUID", "CAP_SETGID", "CAP_SYS_ADMIN")


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


def _leads_to(path: str, granted: list[str]) -> bool:
    return any(each == path or each.startswith(path + "/") for each in granted)


def _filesystem_view(shown: layout.Layout, access: Access) -> dict[str, list[Any]]:
    """What of the file system a server in namespaces sees; everything else is absent.

    :return: see :func:`ttd_core.sandbox.inside.namespaces.build`.
    """
    system = [path for path in (*layout.SYSTEM, *layout.SETTINGS) if os.path.lexists(path)]
    facts = [path for path in layout.KERNEL_FACTS if path.startswith("/sys/") and os.path.exists(path)]
    python = [*shown.prefix, *shown.libraries, os.path.join(shown.program, "inside")]
    granted = [os.path.realpath(path) for path in (*access.readable, *access.executables)]
    # what lies in /proc comes with the /proc that is mounted there anew
    granted = [path for path in granted if not path.startswith("/proc/")]
    bind = [path for path in system if not os.path.islink(path)] + facts + python + granted
    devices = [*layout.DEVICES, *access.devices]
    links = [[path, os.readlink(path)] for path in system if os.path.islink(path)]
    links += [[layout.SHARED_MEMORY, f"{layout.SCRATCH}/shm"]] if access.pools else []
    links += [list(pair) for pair in access.links]
    empty = [path for path in layout.EMPTY if not (access.pools and path == layout.SHARED_MEMORY)]
    return {
        "folders": [*_folders_above([*bind, *devices, layout.SCRATCH]), layout.SCRATCH, *empty],
        "links": links,
        "bind": bind,
        "devices": devices,
        "covered": [path for path in shown.covered if not _leads_to(path, granted)],
    }


def _bubblewrap(
    method: IsolationMethod, view: dict[str, list[Any]], access: Access, program: str
) -> list[str]:
    """The bwrap command line that shows ``view``, and what starts inside."""
    command = [method.bubblewrap, "--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-net"]
    command += ["--unshare-uts", "--unshare-cgroup-try", "--hostname", "sandbox"]
    if os.geteuid() == 0:
        command += ["--cap-drop", "ALL"]
        for name in _CAPABILITIES_AS_ROOT:
            command += ["--cap-add", name]
    else:
        command += ["--unshare-user", "--uid", "0", "--gid", "0", "--cap-add", "ALL"]
    for path in view["folders"]:
        # left to bubblewrap, they would be open to its own user only
        command += ["--dir", path]
    for path, target in view["links"]:
        command += ["--symlink", target, path]
    for path in view["bind"]:
        command += ["--ro-bind", path, path]
    for path in view["devices"]:
        command += ["--dev-bind", path, path]
    folders_covered = [path for path in view["covered"] if os.path.isdir(path)]
    for path in view["covered"]:
        command += ["--tmpfs", path] if path in folders_covered else ["--ro-bind", "/dev/null", path]
    # what starts inside lies in a folder that is covered, where ttd itself is among the libraries
    inside = os.path.join(program, "inside")
    command += ["--ro-bind", inside, inside]
    for path in folders_covered:
        command += ["--remount-ro", path]
    command += ["--proc", "/proc", "--remount-ro", "/"]
    command += ["--chdir", "/", "--clearenv"]
    for name, value in access.environment:
        command += ["--setenv", name, value]
    return [*command, "--"]


def _environment(scratch: str) -> dict[str, str]:
    """The whole environment of a job.

    :param scratch: its own folder, empty when it starts: numba keeps compiled code there, never where another
        job could find it.
    """
    names = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "BLIS", "VECLIB", "RAYON")
    threads = {f"{name}_NUM_THREADS": "1" for name in names}
    fixed = {"PATH": SEARCH_PATH, "HOME": "/nonexistent", "LANG": "C.UTF-8"}
    fixed |= {"PYTHONDONTWRITEBYTECODE": "1", "MPLBACKEND": "Agg", "NUMBA_CACHE_DIR": f"{scratch}/numba"}
    return fixed | threads


@attrs.frozen
class ServerSpec:
    """What kind of server a job needs; an idle one of an equal spec serves again.

    :param preload: modules that it imports before any job.
    :param access: what its jobs may reach beyond the usual.
    :param nice: how much lower its priority is than this process's, and that of its jobs, 0 to 19.
    """

    preload: tuple[str, ...] = ()
    access: Access = attrs.field(factory=Access)
    nice: int = 0


def _landlock_paths(
    method: IsolationMethod, shown: layout.Layout, access: Access, bounded: bool
) -> dict[str, list[str]]:
    """The paths of the Landlock rules; see :func:`ttd_core.sandbox.inside.confine.landlock_rules`.

    :param bounded: whether a control group bounds memory: without, ``/dev/zero`` is left out, whose mapping
        holds pages that are counted nowhere.
    """
    every = [*layout.SYSTEM, *layout.SETTINGS]
    return {
        "devices": [path for path in layout.DEVICES if bounded or path != "/dev/zero"],
        "drivers": list(access.devices),
        "listed": list(shown.libraries),
        "readable": [*shown.readable(covered=method.namespaces), *map(os.path.realpath, access.readable)],
        "writable": [os.path.dirname(layout.SCRATCH)] if method.namespaces else [],
        "executable": [
            *(os.path.realpath(path) for path in access.executables),
            # what its processes make for each other, a compiled program say, they may start too
            *([os.path.dirname(layout.SCRATCH)] if access.pools and method.namespaces else []),
        ],
        "system": [*(every if method.namespaces else shown.system()), *layout.KERNEL_FACTS],
        "loaders": _loaders(),
        "tools": ["/usr", "/bin", "/lib", "/lib64"],
    }


def _setup(
    method: IsolationMethod, spec: ServerSpec, id_base: int, scratch: str, bounded: bool
) -> dict[str, Any]:
    """What the supervisor is told; see :func:`ttd_core.sandbox.inside.supervisor.main`."""
    shown = layout.find()
    root = os.geteuid() == 0
    return {
        "layers": {
            "landlock": method.landlock > 0,
            "seccomp": method.seccomp,
            "own_pids": method.namespaces,
            "scoped": not method.namespaces and method.landlock >= 6,
            "mounts": method.namespaces,
            "bounded": bounded,
        },
        "by_hand": _filesystem_view(shown, spec.access) if method.by_hand else None,
        "own_namespaces": method.namespaces,
        "nice": spec.nice,
        "counters": list(layout.COUNTERS),
        "id_base": id_base if method.namespaces and root else 0,
        "preload": list(spec.preload),
        "sys_path": list(shown.search),
        "environment": _environment(scratch or layout.SCRATCH) | dict(spec.access.environment),
        "scratch": scratch or layout.SCRATCH,
        "keep_capabilities": 0 if method.namespaces else _capability_to_read(shown),
        "other_processes": 0 if root else 8 if method.namespaces else 4096,
        "drivers": bool(spec.access.devices),
        "processes": bool(spec.access.executables),
        "pools": spec.access.pools and method.namespaces,
        "paths": _landlock_paths(method, shown, spec.access, bounded),
    }


def _capability_to_read(shown: layout.Layout) -> int:
    """The capability a job needs to reach an interpreter that lies in a folder closed to other users.

    Only without namespaces, where it cannot be shown under open folders: Landlock still decides what may
    be read.
    """
    needed = [*shown.prefix, *shown.libraries]
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
class ServerProcess:
    """A fork server that was started.

    :param process: the outermost process: bubblewrap, or the supervisor.
    :param control: packet socket to the server.
    :param log: descriptor of a file with what the server itself prints.
    :param scratch: folder on disk that those of its jobs are made in, where no tmpfs can be; else empty.
    :param groups: its control groups.
    """

    process: subprocess.Popen[bytes]
    control: socket.socket
    log: int
    scratch: str
    groups: cgroup.ControlGroups


def start_server(method: IsolationMethod, spec: ServerSpec, id_base: int) -> ServerProcess:
    """Start a server; it answers on its control socket once its modules are imported.

    The calling thread must outlive the server: with its end the kernel ends bubblewrap too.

    :param id_base: of the ids that are mapped into its user namespace; not used without.
    """
    shown = layout.find()
    command: list[str] = []
    if method.bubblewrap:
        command = _bubblewrap(method, _filesystem_view(shown, spec.access), spec.access, shown.program)
    with contextlib.ExitStack() as undo:
        folder = "" if method.namespaces else tempfile.mkdtemp(prefix=f"ttd-job-{os.getpid()}-")
        undo.callback(remove_folder, folder)
        if folder and os.geteuid() == 0:
            os.chmod(folder, 0o711)  # jobs, which run as others, pass through it to their own folder
        scratch = os.path.join(folder, "job") if folder else ""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        undo.callback(ours.close)
        log = os.memfd_create("sandbox-log", os.MFD_CLOEXEC)
        undo.callback(os.close, log)
        groups = cgroup.ControlGroups.make(spec.nice)
        undo.callback(groups.remove)
        with theirs:
            process = subprocess.Popen(
                [*command, shown.python, "-I", "-S", "-B", "-c", BOOT, shown.program, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(spec.access.environment),
                cwd="/",
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        if spec.nice:
            lower_session(process.pid, spec.nice)
        procs_files = groups.open_procs()
        try:
            bounded = groups.memory is not None
            setup = json.dumps(_setup(method, spec, id_base, scratch, bounded)).encode()
            # an outermost process that failed at once says so on its own, when its answer is awaited
            with contextlib.suppress(BrokenPipeError):
                socket.send_fds(ours, [setup], procs_files)
        finally:
            for procs_file in procs_files:
                os.close(procs_file)
        undo.pop_all()
    return ServerProcess(process, ours, log, folder, groups)


def remove_stale() -> None:
    """Remove folders and control groups that a process of ours left behind when it was killed."""
    cgroup.remove_stale()
    for folder in pathlib.Path(tempfile.gettempdir()).glob("ttd-job-*-*"):
        number = folder.name.split("-")[2]
        with contextlib.suppress(OSError):  # another sweep was faster
            status = folder.lstat()
            ours = os.geteuid() in {0, status.st_uid} and stat.S_ISDIR(status.st_mode)
            # a day, since the process may live in a container that shares this folder
            old = time.time() - status.st_mtime > _STALE_S
            if ours and old and number.isdigit() and not os.path.exists(f"/proc/{number}"):
                remove_folder(str(folder))


def remove_folder(path: str) -> None:
    """Remove a folder whatever a job left in it; nothing where there is none."""
    if path and os.path.isdir(path):
        folders.empty(path)
        with contextlib.suppress(OSError):  # what cannot be removed must not stop the rest of a closing
            os.rmdir(path)
