"""The namespaces and the view of the file system that bubblewrap would make, made without it."""

from __future__ import annotations

import contextlib
import os
import signal
import struct
from typing import Any

from ttd_core.sandbox.inside import kernel

#: Folders that systems have; one is hidden, in our own mount namespace only, under the new root being built.
_STAGES = ("/tmp", "/mnt", "/run", "/var")
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_MOUNT_SETATTR = 442
_AT_RECURSIVE = 0x8000
_AT_FDCWD = -100
_ATTR_RDONLY, _ATTR_NOSUID, _ATTR_NODEV = 0x1, 0x2, 0x4
_PROC_FLAGS = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
#: An empty folder of every view, for copies that are mounted elsewhere.
_COPIES = "/tmp"
_NAMESPACES = (
    kernel.CLONE_NEWNS
    | kernel.CLONE_NEWPID
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWNET
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWCGROUP
)


def enter() -> None:
    """Enter new namespaces; a new user namespace first where we are not root. Forks next come first in them.

    :raises OSError: when the kernel or its policy refuses.
    """
    if os.geteuid() == 0:
        kernel.unshare(_NAMESPACES)
        return
    uid, gid = os.geteuid(), os.getegid()
    kernel.unshare(kernel.CLONE_NEWUSER | _NAMESPACES)
    for name, line in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(line)


def _set_attributes(path: str, flags: int, recursive: bool) -> None:
    """Set attributes of a mount, such as read-only."""
    attributes = struct.pack("=QQQQ", flags, 0, 0, 0)
    options = _AT_RECURSIVE if recursive else 0
    kernel.syscall(_MOUNT_SETATTR, _AT_FDCWD, path.encode() + b"\0", options, attributes, len(attributes))


def _make_mount_point(path: str, like: str) -> None:
    """Make an empty folder or file to mount on, whichever ``like`` is."""
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    if os.path.isdir(like):
        os.makedirs(path, mode=0o755, exist_ok=True)
    elif not os.path.lexists(path):
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o444))


def _bind(source: str, stage: str, device: bool = False) -> None:
    target = stage + source
    _make_mount_point(target, source)
    kernel.mount(source, target, "", kernel.MS_BIND | kernel.MS_REC)
    flags = _ATTR_NOSUID if device else _ATTR_RDONLY | _ATTR_NOSUID | _ATTR_NODEV
    _set_attributes(target, flags, recursive=True)


def _stage(shown: list[str]) -> str:
    """A folder to build the new root on that hides nothing which is to be shown.

    :raises OSError: when there is none.
    """
    for stage in _STAGES:
        if os.path.isdir(stage) and not any(path.startswith(stage + "/") for path in shown):
            return stage
    raise OSError(f"none of {', '.join(_STAGES)} is free to build the sandbox's root on")


def show_proc() -> None:
    """Put a whole ``/proc`` over one that bubblewrap has covered in parts: only beside a whole one may a user
    namespace mount its own. Nothing where the kernel refuses.
    """
    with contextlib.suppress(OSError):
        kernel.mount("proc", "/proc", "proc", _PROC_FLAGS)


def close_proc(counters: list[str]) -> bool:
    """Put a ``/proc`` of this pid namespace in the place of the one around it, for a server.

    It shows only processes that the one who looks may inspect. What is mounted from then on shows in the
    views that :func:`enter_own_proc` makes, too. Where the kernel refuses, all stays as it was: then process
    numbers of the namespace around can be told.

    :param counters: files of ``/proc`` to be shown as they are now.
    :return: whether it is there.
    """
    with contextlib.suppress(OSError):
        _mount_proc()
        kernel.mount("tmpfs", _COPIES, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755")
        for path in counters:
            copy = os.path.join(_COPIES, os.path.basename(path))
            with open(path, "rb") as file, open(copy, "wb") as target:
                target.write(file.read())
            os.chmod(copy, 0o444)
            kernel.mount(copy, path, "", kernel.MS_BIND)
            _set_attributes(path, _ATTR_RDONLY | _ATTR_NOSUID | _ATTR_NODEV, recursive=False)
        kernel.umount(_COPIES, kernel.MNT_DETACH)
        kernel.mount("none", "/", "", kernel.MS_SHARED)
        return True
    return False


def enter_own_proc(counters: list[str]) -> None:
    """Move this process into a mount namespace with the ``/proc`` of its own pid namespace, for a job.

    In the server's, a process goes by another number than it knows itself by: who names its threads there,
    as ``pthread_setname_np`` and a GPU's driver do, would find none, or another's. What the server mounts
    later, a job's scratch folder, shows here too; what is mounted here shows nowhere else.

    :param counters: files of ``/proc`` that :func:`close_proc` has put copies over.
    :raises OSError: when the kernel refuses.
    """
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", "", kernel.MS_SLAVE)
    copies = [(os.open(path, os.O_PATH | os.O_CLOEXEC), path) for path in counters]
    _mount_proc()
    for descriptor, path in copies:
        kernel.mount(f"/proc/self/fd/{descriptor}", path, "", kernel.MS_BIND)
        os.close(descriptor)


def _mount_proc() -> None:
    kernel.mount("proc", "/proc", "proc", _PROC_FLAGS, "hidepid=2")


def build(view: dict[str, Any]) -> None:
    """Leave only ``view`` of the file system, in the first process of the namespaces that :func:`enter` made.

    :param view: ``bind``, paths shown read only; ``devices``, paths shown as they are; ``links``, pairs of
        path and target; ``folders``, empty ones; ``covered``, paths shown empty.
    :raises OSError: when the kernel or its policy refuses.
    """
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    stage = _stage(view["bind"])
    kernel.mount("tmpfs", stage, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755")
    os.umask(0o022)
    for path, target in view["links"]:
        os.makedirs(stage + os.path.dirname(path), exist_ok=True)
        os.symlink(target, stage + path)
    for path in view["folders"]:
        os.makedirs(stage + path, mode=0o755, exist_ok=True)
    for path in view["bind"]:
        _bind(path, stage)
    for path in view["devices"]:
        _bind(path, stage, device=True)
    for path in view["covered"]:
        if os.path.isdir(stage + path):
            kernel.mount("tmpfs", stage + path, "tmpfs", kernel.MS_RDONLY | kernel.MS_NOSUID, "mode=755")
        else:
            kernel.mount("/dev/null", stage + path, "", kernel.MS_BIND)
    os.makedirs(stage + "/proc", exist_ok=True)
    kernel.mount("proc", stage + "/proc", "proc", _PROC_FLAGS)
    os.chdir(stage)
    kernel.syscall(_PIVOT_ROOT[os.uname().machine], b".\0", b".\0")
    kernel.umount(".", kernel.MNT_DETACH)
    os.chdir("/")
    _set_attributes("/", _ATTR_RDONLY, recursive=False)
