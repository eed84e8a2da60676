"""Try the kernel's layers one by one, in children that are thrown away; prints what works as JSON.

Run in a process of its own, never imported by the trusted one: what is tried here cannot be undone.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable

from ttd_core.sandbox.inside import kernel, landlock, namespaces, seccomp


def _in_child(attempt: Callable[[], None]) -> str:
    """Run ``attempt`` in a fork.

    :return: empty when it worked, else why not.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            attempt()
        except BaseException as error:  # noqa: BLE001 (reported to the parent as text)
            os.write(writing, (str(error) or type(error).__name__).encode()[:500])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        reason = file.read().decode(errors="replace")
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return reason or ("" if status == 0 else f"ended with status {status}")


def _refused(action: Callable[[], object], what: str) -> None:
    try:
        action()
    except PermissionError:
        return
    raise OSError(f"{what} is not refused")


def _try_seccomp() -> None:
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    try:
        seccomp.install(seccomp.assemble("python", os.getpid()))
    except KeyError:
        raise OSError(f"no system call tables for {os.uname().machine}") from None
    _refused(socket.socket, "a socket under the filter")


def _try_landlock() -> None:
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    landlock.enforce(landlock.ruleset([], scoped=False, network=False))
    _refused(lambda: os.listdir("/"), "listing / under an empty allow-list")


def _try_scope() -> None:
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    landlock.enforce(landlock.ruleset([], filesystem=False, network=False))
    _refused(lambda: os.kill(os.getppid(), 0), "a signal out of the scope")


def _try_namespaces() -> None:
    namespaces.enter()
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)


def main() -> None:
    """Print one JSON object: Landlock's ABI, and for each layer why it does not work, or an empty string."""
    version = landlock.abi()
    absent = "the kernel has no Landlock, or it is not in its list of security modules"
    facts = {
        "landlock_abi": version,
        "seccomp": _in_child(_try_seccomp),
        "landlock": _in_child(_try_landlock) if version else absent,
        "scope": _in_child(_try_scope) if version >= 6 else f"Landlock ABI {version} has no scopes (6 has)",
        "namespaces": _in_child(_try_namespaces),
    }
    json.dump(facts, sys.stdout)
