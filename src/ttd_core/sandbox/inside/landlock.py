"""Landlock through ctypes: an allow-list of paths, and scopes for signals and abstract sockets.

Rights that the running kernel does not know are left out, so the same rules work from ABI 1 on.
"""

from __future__ import annotations

import functools
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


@functools.cache
def abi() -> int:
    """The kernel's Landlock version; 0 where it is absent or switched off."""
    try:
        return kernel.syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)
    except OSError:
        return 0


def _handled(version: int) -> int:
    return _FILESYSTEM_BY_ABI[min(version, 5)] if version else 0


def rule(path: str, rights: int) -> bytes | None:
    """A rule that allows ``rights`` on ``path`` and all beneath it, for :func:`ruleset`.

    Holds a descriptor of the path open; ``None`` for a path that does not exist, which needs no rule.
    """
    try:
        target = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return None
    if not os.path.isdir(path):
        rights &= _FILE_RIGHTS
    return struct.pack("=Qi", rights & _handled(abi()), target)


def ruleset(
    rules: Iterable[bytes], *, filesystem: bool = True, scoped: bool = True, network: bool = True
) -> int:
    """A ruleset for :func:`enforce`.

    :param rules: what of the file system is allowed.
    :param filesystem: whether paths are restricted (all of them but those allowed).
    :param scoped: whether signals and abstract sockets are kept inside (ABI 6).
    :param network: whether TCP bind and connect are refused (ABI 4).
    :return: its descriptor.
    :raises OSError: when the kernel has no Landlock.
    """
    version = abi()
    handled = _handled(version) if filesystem else 0
    tcp = _TCP_BIND_AND_CONNECT if network and version >= 4 else 0
    scopes = _SCOPE_ABSTRACT_SOCKET_AND_SIGNAL if scoped and version >= 6 else 0
    attributes = struct.pack("=QQQ", handled, tcp, scopes)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    descriptor = kernel.syscall(_CREATE_RULESET, attributes, size, 0)
    allow(descriptor, rules)
    return descriptor


def allow(descriptor: int, rules: Iterable[bytes | None]) -> None:
    """Add rules to a ruleset.

    :raises OSError: when one is not a rule.
    """
    for packed in rules:
        if packed is not None:
            kernel.syscall(_ADD_RULE, descriptor, _RULE_PATH_BENEATH, packed, 0)


def enforce(descriptor: int) -> None:
    """Put the calling thread, and whatever it starts, under a ruleset for good. Needs ``no_new_privs``.

    :raises OSError: when the kernel refuses.
    """
    kernel.syscall(_RESTRICT_SELF, descriptor, 0)
