"""Landlock through ctypes: an allow-list of paths, and scopes for signals and abstract sockets.

Rights that the running kernel does not know are left out, so the same rules work from ABI 1 on.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable

from ttd_core.sandbox.inside import kernel

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1

EXECUTE = 1 << 0
WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_DIR = 1 << 3
REMOVE_DIR = 1 << 4
REMOVE_FILE = 1 << 5
MAKE_CHAR = 1 << 6
MAKE_DIR = 1 << 7
MAKE_REG = 1 << 8
MAKE_SOCK = 1 << 9
MAKE_FIFO = 1 << 10
MAKE_BLOCK = 1 << 11
MAKE_SYM = 1 << 12
REFER = 1 << 13
TRUNCATE = 1 << 14
IOCTL_DEV = 1 << 15

READ = READ_FILE | READ_DIR
#: What a job may do in its own folder: files, folders and symbolic links; no devices, sockets or FIFOs.
WORK = READ | WRITE_FILE | TRUNCATE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SYM | REFER

_FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
_FILESYSTEM_BY_ABI = {
    1: (1 << 13) - 1,
    2: (1 << 14) - 1,
    3: (1 << 15) - 1,
    4: (1 << 15) - 1,
    5: (1 << 16) - 1,
}
_TCP_BIND_AND_CONNECT = 3
_SCOPE_ABSTRACT_SOCKET_AND_SIGNAL = 3


def abi() -> int:
    """The kernel's Landlock version; 0 where it is absent or switched off."""
    try:
        return kernel.raw(_CREATE_RULESET, None, 0, _VERSION_FLAG)
    except OSError:
        return 0


class Ruleset:
    """Rules being collected, for :func:`enforce`.

    :param filesystem: whether paths are restricted (all of them but those allowed).
    :param scoped: whether signals and abstract sockets are kept inside (ABI 6).
    :param network: whether TCP bind and connect are refused (ABI 4).
    :raises OSError: when the kernel has no Landlock.
    """

    def __init__(self, *, filesystem: bool = True, scoped: bool = True, network: bool = True) -> None:
        version = abi()
        self._handled = _FILESYSTEM_BY_ABI[min(version, 5)] if filesystem and version else 0
        tcp = _TCP_BIND_AND_CONNECT if network and version >= 4 else 0
        scopes = _SCOPE_ABSTRACT_SOCKET_AND_SIGNAL if scoped and version >= 6 else 0
        attributes = struct.pack("=QQQ", self._handled, tcp, scopes)
        size = 24 if version >= 6 else 16 if version >= 4 else 8
        self.descriptor = kernel.raw(_CREATE_RULESET, attributes, size, 0)

    def allow(self, path: str, rights: int) -> bool:
        """Allow ``rights`` on ``path`` and all beneath it.

        :return: whether the path exists; an absent one needs no rule.
        """
        try:
            target = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            if not os.path.isdir(path):
                rights &= _FILE_RIGHTS
            attributes = struct.pack("=Qi", rights & self._handled, target)
            kernel.raw(_ADD_RULE, self.descriptor, _RULE_PATH_BENEATH, attributes, 0)
        finally:
            os.close(target)
        return True

    def allow_all(self, paths: Iterable[str], rights: int) -> None:
        """Allow ``rights`` on every path that exists."""
        for path in paths:
            self.allow(path, rights)


def enforce(descriptor: int) -> None:
    """Put the calling thread, and whatever it starts, under a ruleset for good. Needs ``no_new_privs``.

    :raises OSError: when the kernel refuses.
    """
    kernel.raw(_RESTRICT_SELF, descriptor, 0)
