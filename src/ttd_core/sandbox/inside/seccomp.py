"""A seccomp filter of our own: an allow-list, compiled to classic BPF and installed through prctl.

Not on the list: ``EPERM`` for what a candidate might want and may not have (so Python raises
``PermissionError`` and the verdict can say so), ``ENOSYS`` for the rest. A foreign architecture (``int
0x80``) and x32 kill the process: no honest program uses them.

What could leave a mark on a file that the next job reads too, or read one, is refused or answered as done:
locks, which pages of a file are in memory, and advice on that.

Four profiles. ``python``: threads, no fork, no exec. ``program``: the same, and one ``execveat`` of the
descriptor that holds the compiled program. ``tools``: fork and exec as well (compilers; Landlock decides
which files execute), no signals at all. ``pools``: for processes that work together in namespaces of their
own: ``tools``, and signals, links and modes in their own folder, sessions, pairs of sockets.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import struct
from collections.abc import Iterable

from ttd_core.sandbox.inside import kernel
from ttd_core.sandbox.inside.syscalls import SyscallTable

_LOAD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _JUMP_SET, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_NUMBER, _ARCHITECTURE = 0, 4
_ALLOW = 0x7FFF0000
_KILL = 0x80000000
_ERRNO = 0x00050000
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2

_CLONE_THREAD_FLAGS = 0x00010000 | 0x00000800 | 0x00000100
_CLONE_NAMESPACE_FLAGS = 0x7E020080
_AT_EMPTY_PATH = 0x1000
_AF_UNIX = 1

#: FIOCLEX, FIONCLEX, FIONREAD, FIONBIO, TCGETS, TIOCGWINSZ: asking about descriptors, no more.
_IOCTLS = (0x5451, 0x5450, 0x541B, 0x5421, 0x5401, 0x5413)
#: PR_GET_DUMPABLE, PR_SET_NAME, PR_GET_NAME, PR_GET_SECCOMP, PR_CAPBSET_READ, PR_GET_NO_NEW_PRIVS,
#: PR_SET_VMA.
_PRCTLS = (3, 15, 16, 21, 23, 39, 0x53564D41)
#: F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC, F_GETPIPE_SZ.
_FCNTLS = (0, 1, 2, 3, 4, 1030, 1032)
#: F_SETLK, F_SETLKW, F_OFD_SETLK, F_OFD_SETLKW; and F_GETLK, F_OFD_GETLK.
_TAKE_LOCKS, _ASK_FOR_LOCKS = (6, 7, 37, 38), (5, 36)
#: POSIX_FADV_NORMAL, RANDOM, SEQUENTIAL, NOREUSE: about the open file alone, not pages that others share.
_FILE_ADVICE = (0, 1, 2, 5)
#: MADV_WILLNEED, MERGEABLE, COLD, PAGEOUT: about pages that others share.
_SHARED_PAGES_ADVICE = (3, 12, 20, 21)
_O_TMPFILE = 0x400000
#: MAP_SHARED (or MAP_SHARED_VALIDATE) with MAP_ANONYMOUS.
_SHARED_ANONYMOUS = 0x21
_NO_ERROR = _ERRNO
#: CPUCLOCK_SCHED, of a process and of a thread.
_PROCESS_CLOCK, _THREAD_CLOCK = 2, 6

PROFILES = ("python", "program", "tools", "pools")
#: Those whose jobs start processes.
_STARTING = ("tools", "pools")
#: What ``pools`` gets of the calls that are denied to others.
_POOL_CALLS = (
    *("tkill", "link", "linkat", "chmod", "fchmod", "fchmodat", "fchmodat2", "setsid", "setpgid", "utime"),
    *("utimes", "utimensat", "futimesat", "sendto", "recvfrom", "sendmsg", "recvmsg", "shutdown"),
    *("getsockname", "getpeername", "setsockopt", "getsockopt"),
)


def _argument(index: int) -> int:
    return 16 + 8 * index


def _instruction(code: int, yes: int, no: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


class _Program:
    """Assembles the filter; each ``when_*`` block falls through to the next if it does not decide."""

    def __init__(self) -> None:
        self.code: list[bytes] = []

    def emit(self, code: int, value: int, yes: int = 0, no: int = 0) -> None:
        self.code.append(_instruction(code, yes, no, value))

    def decide(self, number: int, body: list[bytes]) -> None:
        """Run ``body``, which must return, when the call is ``number``."""
        self.emit(_JUMP_EQUAL, number, 0, len(body))
        self.code.extend(body)

    def ranges(self, numbers: Iterable[int], verdict: int) -> None:
        """Answer ``verdict`` for every call listed, neighbours folded into ranges."""
        ordered = sorted(numbers)
        start = 0
        for position, number in enumerate(ordered):
            if position + 1 < len(ordered) and ordered[position + 1] == number + 1:
                continue
            self.emit(_JUMP_GREATER_EQUAL, ordered[start], 0, 2)
            self.emit(_JUMP_GREATER_EQUAL, number + 1, 1, 0)
            self.emit(_RETURN, verdict)
            start = position + 1


def _one_of(index: int, values: Iterable[int], otherwise: int) -> list[bytes]:
    """Allow when the low half of an argument is one of ``values``, else answer ``otherwise``."""
    listed = list(values)
    body = [_instruction(_LOAD, 0, 0, _argument(index))]
    for position, value in enumerate(listed):
        body.append(_instruction(_JUMP_EQUAL, len(listed) - position, 0, value))
    body.append(_instruction(_RETURN, 0, 0, otherwise))
    body.append(_instruction(_RETURN, 0, 0, _ALLOW))
    return body


def _unless(index: int, values: Iterable[int], verdict: int) -> list[bytes]:
    """Answer ``verdict`` when the low half of an argument is one of ``values``; else go on."""
    listed = list(values)
    body = [_instruction(_LOAD, 0, 0, _argument(index))]
    for position, value in enumerate(listed):
        last = position + 1 == len(listed)
        body.append(_instruction(_JUMP_EQUAL, len(listed) - position - 1, 1 if last else 0, value))
    body.append(_instruction(_RETURN, 0, 0, verdict))
    return body


def _unless_all_set(index: int, bits: int, verdict: int) -> list[bytes]:
    """Answer ``verdict`` when an argument has all of ``bits``; else allow."""
    return [
        _instruction(_LOAD, 0, 0, _argument(index)),
        _instruction(_AND, 0, 0, bits),
        _instruction(_JUMP_EQUAL, 0, 1, bits),
        _instruction(_RETURN, 0, 0, verdict),
        _instruction(_RETURN, 0, 0, _ALLOW),
    ]


def _clock_of(pid: int, kind: int) -> int:
    """The number of the clock that counts a process's (or a thread's) processor time."""
    return (~pid << 3 | kind) & 0xFFFFFFFF


def _denied(number: int = errno.EPERM) -> int:
    return _ERRNO | number


def _clone(profile: str) -> list[bytes]:
    """Threads always; processes for tools only; new namespaces never."""
    load = _instruction(_LOAD, 0, 0, _argument(0))
    refuse = _instruction(_RETURN, 0, 0, _denied())
    allow = _instruction(_RETURN, 0, 0, _ALLOW)
    if profile in _STARTING:
        return [load, _instruction(_JUMP_SET, 0, 1, _CLONE_NAMESPACE_FLAGS), refuse, allow]
    return [
        load,
        _instruction(_JUMP_SET, 3, 0, _CLONE_NAMESPACE_FLAGS),
        _instruction(_AND, 0, 0, _CLONE_THREAD_FLAGS),
        _instruction(_JUMP_EQUAL, 0, 1, _CLONE_THREAD_FLAGS),
        allow,
        refuse,
    ]


def _exec_of(descriptor: int) -> list[bytes]:
    """One program, named by descriptor; the descriptor closes as it is executed."""
    return [
        _instruction(_LOAD, 0, 0, _argument(0)),
        _instruction(_JUMP_EQUAL, 0, 3, descriptor),
        _instruction(_LOAD, 0, 0, _argument(4)),
        _instruction(_JUMP_EQUAL, 0, 1, _AT_EMPTY_PATH),
        _instruction(_RETURN, 0, 0, _ALLOW),
        _instruction(_RETURN, 0, 0, _denied()),
    ]


def _lock_calls(build: _Program, special: dict[str, int], profile: str, drivers: bool) -> None:
    """File locks, which jobs on the same library could tell each other by.

    A job without processes of its own is granted every lock, as it would be, and none is taken. One with
    processes is refused, as where file systems have none; one with devices has real ones.
    """
    if drivers:
        build.decide(special["flock"], [_instruction(_RETURN, 0, 0, _ALLOW)])
        every = (*_FCNTLS, *_TAKE_LOCKS, *_ASK_FOR_LOCKS)
        build.decide(special["fcntl"], _one_of(1, every, _denied()))
        return
    answer = _denied(errno.ENOSYS) if profile in _STARTING else _NO_ERROR
    build.decide(special["flock"], [_instruction(_RETURN, 0, 0, answer)])
    allow = _one_of(1, _FCNTLS, _denied())
    granted = [] if profile in _STARTING else _unless(1, _TAKE_LOCKS, _NO_ERROR)
    build.decide(special["fcntl"], [*granted, *allow])


def _shared_files(build: _Program, special: dict[str, int]) -> None:
    """No flag asks whether a file's pages are in memory (RWF_NOWAIT); advice on them is taken and ignored."""
    for name in ("preadv2", "pwritev2"):
        build.decide(special[name], _one_of(5, [0], _denied(errno.EOPNOTSUPP)))
    build.decide(special["fadvise64"], _one_of(3, _FILE_ADVICE, _NO_ERROR))
    build.decide(special["readahead"], [_instruction(_RETURN, 0, 0, _NO_ERROR)])
    allow = [_instruction(_RETURN, 0, 0, _ALLOW)]
    build.decide(special["madvise"], [*_unless(2, _SHARED_PAGES_ADVICE, _NO_ERROR), *allow])


def _own_process_only(build: _Program, allowed: dict[str, int], pid: int, own: list[int]) -> None:
    """Where process numbers are the machine's: ask about this process alone, and make no nameless files."""
    for name in ("sched_getaffinity", "sched_getparam", "sched_getscheduler", "sched_rr_get_interval"):
        build.decide(allowed.pop(name), _one_of(0, [0, *own], _denied()))
    for name in ("sched_getattr", "getpgid", "getsid", "get_robust_list"):
        build.decide(allowed.pop(name), _one_of(0, [0, *own], _denied()))
    of_this = _one_of(1, [0, *own], _denied())
    build.decide(allowed.pop("getpriority"), [*_unless(0, (1, 2), _denied()), *of_this])
    build.decide(allowed.pop("capget"), [_instruction(_RETURN, 0, 0, _denied())])
    clocks = [_clock_of(number, kind) for number in (0, *own) for kind in (_PROCESS_CLOCK, _THREAD_CLOCK)]
    for name in ("clock_gettime", "clock_getres", "clock_nanosleep", "timer_create"):
        # clocks of processes are negative numbers
        body = [
            _instruction(_LOAD, 0, 0, _argument(0)),
            _instruction(_JUMP_GREATER_EQUAL, 1, 0, 0x80000000),
            _instruction(_RETURN, 0, 0, _ALLOW),
        ]
        build.decide(allowed.pop(name), [*body, *_one_of(0, clocks, _denied(errno.EINVAL))])
    allowed.pop("openat2")  # its flags lie in memory, where no filter can look
    for name, flags in (("open", 1), ("openat", 2)):
        if name in allowed:
            build.decide(allowed.pop(name), _unless_all_set(flags, _O_TMPFILE, _denied(errno.EOPNOTSUPP)))


def assemble(
    profile: str,
    pid: int,
    program: int = -1,
    machine: str = "",
    drivers: bool = False,
    *,
    shared: bool = False,
    unbounded: bool = False,
) -> bytes:
    """The filter as BPF instructions.

    :param profile: one of :data:`PROFILES`.
    :param pid: the process that may signal and limit itself, as it sees its own number.
    :param program: descriptor that the ``program`` profile may execute.
    :param machine: ``uname -m``; this machine's when empty.
    :param drivers: what a device driver's library needs: every ioctl, file locks, and a Unix socket to listen
        on, never to connect.
    :param shared: whether the job's process numbers and its folder are the machine's, without namespaces.
    :param unbounded: whether no control group bounds its memory; then it gets none that is counted nowhere.
    :raises KeyError: for an architecture without tables.
    """
    calls = SyscallTable(machine)
    build = _Program()
    build.emit(_LOAD, _ARCHITECTURE)
    build.emit(_JUMP_EQUAL, calls.audit, 1, 0)
    build.emit(_RETURN, _KILL)
    build.emit(_LOAD, _NUMBER)
    if calls.has_x32:
        build.emit(_JUMP_GREATER_EQUAL, 0x40000000, 0, 1)
        build.emit(_RETURN, _KILL)
    special = dict(calls.by_argument)
    own = [] if profile in _STARTING else [pid]
    build.decide(special["clone3"], [_instruction(_RETURN, 0, 0, _denied(errno.ENOSYS))])
    build.decide(special["clone"], _clone(profile))
    for name in ("kill", "tgkill"):
        all_of_its_own = [_instruction(_RETURN, 0, 0, _ALLOW)]
        build.decide(special[name], all_of_its_own if profile == "pools" else _one_of(0, own, _denied()))
    build.decide(special["prlimit64"], _one_of(0, [0, *own], _denied()))
    if not drivers:
        build.decide(special["ioctl"], _one_of(1, _IOCTLS, _denied(errno.ENOTTY)))
    build.decide(special["prctl"], _one_of(0, _PRCTLS, _denied(errno.EINVAL)))
    _lock_calls(build, special, profile, drivers)
    _shared_files(build, special)
    allowed, denied = dict(calls.allowed), dict(calls.denied)
    if shared:
        _own_process_only(build, allowed, pid, own)
    if unbounded and not drivers:
        build.decide(allowed.pop("mmap"), _unless_all_set(3, _SHARED_ANONYMOUS, _denied()))
    if drivers:
        allowed["ioctl"] = special["ioctl"]
        allowed |= {name: denied.pop(name) for name in ("bind", "listen")}
        build.decide(denied.pop("socket"), _one_of(0, [_AF_UNIX], _denied()))
    if profile in _STARTING:
        pools = _POOL_CALLS if profile == "pools" else ()
        for name in ("fork", "vfork", "execve", "execveat", *pools):
            if name in denied:
                allowed[name] = denied.pop(name)
        if pools:
            build.decide(denied.pop("socketpair"), _one_of(0, [_AF_UNIX], _denied()))
    elif profile == "program":
        build.decide(denied.pop("execveat"), _exec_of(program))
    build.ranges(allowed.values(), _ALLOW)
    build.ranges(denied.values(), _denied())
    build.emit(_RETURN, _denied(errno.ENOSYS))
    return b"".join(build.code)


_ANY_PID = 0x7EADBEEF


@functools.cache
def _template(profile: str, program: int, drivers: bool, shared: bool, unbounded: bool) -> bytes:
    return assemble(profile, _ANY_PID, program, drivers=drivers, shared=shared, unbounded=unbounded)


def filter_for(
    profile: str,
    pid: int,
    program: int = -1,
    drivers: bool = False,
    *,
    shared: bool = False,
    unbounded: bool = False,
) -> bytes:
    """As :func:`assemble`, for this machine, from a copy assembled once and given the process's number."""
    code = _template(profile, program, drivers, shared, unbounded)
    code = code.replace(struct.pack("=I", _ANY_PID), struct.pack("=I", pid))
    for kind in (_PROCESS_CLOCK, _THREAD_CLOCK) if shared else ():
        any_clock, clock = (struct.pack("=I", _clock_of(number, kind)) for number in (_ANY_PID, pid))
        code = code.replace(any_clock, clock)
    return code


class _FilterProgram(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def install(filter_code: bytes) -> None:
    """Put the calling thread, and whatever it starts, under a filter for good.

    Needs ``no_new_privs`` set.

    :raises OSError: when the kernel has no seccomp filters.
    """
    program = _FilterProgram(len(filter_code) // 8, filter_code)
    kernel.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(program))
