"""Run a command as an unprivileged user, from root, without changing anything on the machine.

In a mount namespace of its own, folders that only root may enter (``/root``, say) are replaced by open ones
that hold nothing but what the interpreter and this project need.
"""

from __future__ import annotations

import os
import pathlib
import sys

PROJECT = pathlib.Path(__file__).resolve().parents[2]
UID = 54321


def _needed() -> list[str]:
    prefixes = {sys.base_prefix, sys.prefix, str(PROJECT)}
    return sorted(os.path.realpath(path) for path in prefixes)


def _closed_above(path: str) -> str:
    """The outermost folder above ``path`` that others may not enter; empty if none."""
    closed = ""
    for folder in pathlib.Path(path).parents:
        if str(folder) != "/" and not folder.stat().st_mode & 0o001:
            closed = str(folder)
    return closed


def _open_up() -> None:
    sys.path.insert(0, str(PROJECT / "src"))
    from ttd_core.sandbox.inside import kernel

    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    by_closed: dict[str, list[tuple[str, int]]] = {}
    for path in _needed():
        closed = _closed_above(path)
        if closed:
            by_closed.setdefault(closed, []).append((path, os.open(path, os.O_PATH)))
    for closed, held in by_closed.items():
        kernel.mount("tmpfs", closed, "tmpfs", 0, "mode=755")
        for path, descriptor in held:
            os.makedirs(path, mode=0o755, exist_ok=True)
            kernel.mount(f"/proc/self/fd/{descriptor}", path, "", kernel.MS_BIND | kernel.MS_REC)
            os.close(descriptor)


def main() -> None:
    """Become the user and execute the arguments."""
    _open_up()
    os.setgroups([])
    os.setresgid(UID, UID, UID)
    os.setresuid(UID, UID, UID)
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LANG": "C.UTF-8"}
    os.execve(sys.argv[1], sys.argv[1:], environment)


if __name__ == "__main__":
    main()
