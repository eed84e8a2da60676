"""The few Linux calls that Python's ``os`` lacks, through ctypes.

Numbers below 424 differ between architectures and go through libc's wrappers; those from 424 on are the
same everywhere.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct

CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000
MNT_DETACH = 0x2

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_CAPBSET_DROP = 24
PR_SET_SECUREBITS = 28
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2

#: SECBIT_NOROOT, SECBIT_NO_CAP_AMBIENT_RAISE and their locks.
_NO_ROOT_EVER = 0x1 | 0x2 | 0x40 | 0x80
#: CAP_CHECKPOINT_RESTORE, the newest there is.
_LAST_CAPABILITY = 40

_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(number: int, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """Make a system call by its number; integers, bytes and ``None`` are passed as C would.

    :raises OSError: when it fails.
    """
    converted = [ctypes.c_long(item) if isinstance(item, int) else item for item in arguments]
    return _checked(int(_libc.syscall(ctypes.c_long(number), *converted)), f"system call {number}")


def unshare(flags: int) -> None:
    """Leave the namespaces named by ``CLONE_NEW*`` flags for new ones.

    :raises OSError: when the kernel or its policy refuses.
    """
    _checked(_libc.unshare(flags), "unshare")


def setns(descriptor: int, flags: int) -> None:
    """Enter the namespace behind a descriptor.

    :raises OSError: when the kernel refuses.
    """
    _checked(_libc.setns(descriptor, flags), "setns")


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    """Mount; all arguments as for ``mount(2)``.

    :raises OSError: when the kernel refuses.
    """
    _checked(
        _libc.mount(
            source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode() or None
        ),
        f"mount {kind or source} on {target}",
    )


def umount(target: str, flags: int = 0) -> None:
    """Unmount.

    :raises OSError: when the kernel refuses.
    """
    _checked(_libc.umount2(target.encode(), flags), f"umount {target}")


def prctl(option: int, *arguments: int) -> int:
    """Call ``prctl(2)``.

    :raises OSError: when the kernel refuses.
    """
    padded = [ctypes.c_ulong(item) for item in (*arguments, 0, 0, 0, 0)[:4]]
    return _checked(_libc.prctl(option, *padded), f"prctl {option}")


def drop_capabilities(keep: int = 0) -> None:
    """Give up every capability of this process but those in the bit mask ``keep``, for good.

    :raises OSError: when the kernel refuses.
    """
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    data = struct.pack("=6I", keep, keep, 0, 0, 0, 0)
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    _checked(_libc.capset(header, data), "capset")


def lock_capabilities() -> None:
    """Make sure that no program executed from here on gains a capability, not even as root.

    Lets go of the bounding set; a capability now held stays until it is dropped. Silent without the
    capability to do so: then there is nothing to let go of.
    """
    with contextlib.suppress(OSError):
        for number in range(_LAST_CAPABILITY + 1):
            prctl(PR_CAPBSET_DROP, number)
        prctl(PR_SET_SECUREBITS, _NO_ROOT_EVER)


def effective_capabilities() -> int:
    """Bit mask of the capabilities in force."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    data = ctypes.create_string_buffer(24)
    _checked(_libc.capget(header, data), "capget")
    low, _, _, high, _, _ = struct.unpack("=6I", data.raw)
    return int(low | high << 32)
