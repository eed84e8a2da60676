"""How a level of isolation is formed on this machine, and the user ids that jobs run under."""

from __future__ import annotations

import itertools
import os

import attrs

from ttd_core.sandbox.base import Level


@attrs.frozen
class IsolationMethod:
    """One way to form a level on this machine.

    :param level: what it amounts to.
    :param bubblewrap: path of ``bwrap`` that makes the namespaces; empty without.
    :param by_hand: make the namespaces ourselves.
    :param landlock: Landlock's ABI, 0 without.
    :param seccomp: whether system calls are filtered.
    """

    level: Level
    bubblewrap: str = ""
    by_hand: bool = False
    landlock: int = 0
    seccomp: bool = False

    @property
    def description(self) -> str:
        """How it is formed, for people."""
        if self.bubblewrap:
            return "namespaces (bubblewrap), Landlock, seccomp"
        if self.by_hand:
            return "namespaces (by hand), Landlock, seccomp"
        return "Landlock, seccomp" if self.landlock else "resource limits only"

    @property
    def kill(self) -> str:
        """What ends all processes of a job."""
        if self.namespaces:
            return "pid namespace"
        return "Landlock signal scope" if self.landlock >= 6 else "process group"

    @property
    def warning(self) -> str:
        """What is not protected when neither namespaces nor Landlock stand between a job and this machine."""
        reachable = ["the processes of this user"]
        if not self.landlock:
            reachable = ["every file of this user, to read and to write", *reachable]
        if not self.seccomp:
            reachable += ["the network"]
        return (
            f"sandbox: UNPROTECTED, as asked for by name: candidate programs reach {', '.join(reachable)}; "
            "run them in a virtual machine"
        )

    @property
    def namespaces(self) -> bool:
        """Whether jobs run in namespaces of their own."""
        return bool(self.bubblewrap) or self.by_hand


class UserIds:
    """User ids for jobs and servers that nobody else uses; none where we are not root.

    :param method: in namespaces, where ids are mapped, those of jobs start at 1; else at a high base.
    """

    def __init__(self, method: IsolationMethod) -> None:
        self._mapped = method.namespaces
        self._root = os.geteuid() == 0
        # 0x70000000 and up: assigned by no distribution, container runtime or systemd
        self._base = 0x70000000 + (os.getpid() % 1000) * 0x40000
        self._servers = itertools.count()

    def server_base(self) -> int:
        """The id outside that the root of the next server's user namespace maps to."""
        return self._base + (next(self._servers) % 4) * 0x10000

    def job_uid(self, number: int) -> int | None:
        """User id of a job as the job sees it; ``None`` where it keeps ours.

        :param number: of the job, which ids are told apart by.
        """
        if not self._root:
            return None
        inside = 1 + number % 60000
        return inside if self._mapped else self._base + inside
