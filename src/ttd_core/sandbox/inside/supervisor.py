"""The first process inside: forms the isolation that is left to form, then forks the server and waits for it.

It is given no data but paths and module names. Under bubblewrap the namespaces exist already; by hand it
makes them; at level ``standard`` there are none. As root it maps the server into a user namespace whose root
has no rights outside.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from typing import Any

from ttd_core.sandbox.inside import frames, kernel, landlock, namespaces
from ttd_core.sandbox.inside.server import Server

#: Ids in a user namespace.
_MAPPED_IDS = 65536
#: CAP_SETGID and CAP_SETUID, which writing the maps needs.
_TO_WRITE_MAPS = 1 << 6 | 1 << 7


def _write_maps(pid: int, base: int) -> None:
    """Map ids 0 to 65535 of a user namespace to a range of ours that nobody uses outside."""
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/{pid}/{name}", "w") as file:
            file.write(f"0 {base} {_MAPPED_IDS}")


def _enter_mapped_user(base: int) -> None:
    """Move this process into a user namespace mapped by a helper that stays outside."""
    parent = f"/proc/{os.readlink('/proc/self')}"
    ours, theirs = socket.socketpair()
    helper = os.fork()
    if helper == 0:
        code = 1
        try:
            theirs.recv(1)
            _write_maps(int(parent.rpartition("/")[2]), base)
            code = 0
        finally:
            os._exit(code)
    kernel.unshare(kernel.CLONE_NEWUSER)
    ours.send(b"x")
    if os.waitpid(helper, 0)[1] != 0:
        raise OSError("cannot map ids into the user namespace")
    ours.close()
    theirs.close()
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _continue_in_child() -> None:
    """Fork and return in the child; the parent waits and exits as the child does."""
    child = os.fork()
    if child == 0:
        return
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os._exit(status if status >= 0 else 128 - status)


def _enter_signal_scope() -> None:
    """Enter a Landlock scope: signals sent from here on reach only this process's own descendants.

    :raises OSError: when a signal still passes outside.
    """
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    rules = landlock.ruleset([], filesystem=False, network=False)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    landlock.enforce(rules)
    os.close(rules)
    try:
        os.kill(os.getppid(), 0)
    except PermissionError:
        return
    raise OSError("the Landlock signal scope does not hold")


def _isolate(setup: dict[str, Any]) -> None:
    """Make the namespaces and scopes of a setup; returns in the process that becomes the server."""
    if setup["by_hand"]:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        namespaces.enter()
        _continue_in_child()
        namespaces.build(setup["by_hand"])
    elif setup["own_namespaces"]:
        namespaces.show_proc()
    if setup["own_namespaces"]:
        if setup["id_base"]:
            kernel.drop_capabilities(_TO_WRITE_MAPS)
        _continue_in_child()
        if setup["id_base"]:
            _enter_mapped_user(setup["id_base"])
        kernel.unshare(kernel.CLONE_NEWPID | kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC)
        _continue_in_child()
        setup["own_proc"] = namespaces.close_proc(setup["counters"])
        return
    _continue_in_child()
    if setup["layers"]["scoped"]:
        _enter_signal_scope()


def main() -> None:
    """Receive the setup on the inherited control socket, isolate, serve, and leave when it closes.

    The setup is JSON: ``by_hand`` (the view of the file system to build, or null), ``own_namespaces``,
    ``nice`` (by how much the priority of all of it is lowered), ``id_base`` (where ids are mapped to, or 0),
    ``layers`` (of :class:`~.confine.Layers`), ``preload``, ``sys_path``, ``environment``, ``scratch``,
    ``paths`` (of :func:`~.confine.landlock_rules`), ``keep_capabilities`` (a bit mask), ``other_processes``
    (that the kernel counts for this user), ``counters`` (of :func:`~.namespaces.close_proc`), ``drivers`` and
    ``processes`` (whether jobs may use device drivers, and start processes). Descriptors of the
    ``cgroup.procs`` of its control groups come with it. The answer is ``{"ready": ..., "failure": ...}``.
    """
    control = socket.socket(fileno=int(sys.argv[2]))
    control.set_inheritable(False)
    message, procs_files, _, _ = socket.recv_fds(control, frames.PACKET, frames.PACKET_DESCRIPTORS)
    for procs_file in procs_files:
        os.write(procs_file, b"0")
        os.close(procs_file)
    setup = {**json.loads(message), "own_proc": False}
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        os.nice(setup["nice"])
        _isolate(setup)
        kernel.lock_capabilities()
        server = Server(control, setup)
        failure = server.prepare()
    except OSError as error:
        failure = str(error)
    control.send(json.dumps({"ready": not failure, "failure": failure}).encode())
    if not failure:
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        # the trusted process may leave at any moment, and then there is nobody to report to
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            server.serve()
    os._exit(0)
