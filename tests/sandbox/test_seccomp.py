"""The system call filter, run by an interpreter of its own: every architecture, with no kernel involved."""

from __future__ import annotations

import ctypes
import errno
import os
import pathlib
import re
import struct

import pytest

from ttd_core.sandbox.inside import seccomp
from ttd_core.sandbox.inside.syscalls import ARCHITECTURES, SyscallTable

ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
AUDIT = {machine: audit for machine, (_, audit) in ARCHITECTURES.items()}
PID = 77


def verdict(code: bytes, audit: int, number: int, *arguments: int) -> int:
    """What the filter answers: a classic BPF machine for the instructions that it uses."""
    padded = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack("=IIQ6Q", number, audit, 0, *(value & 0xFFFFFFFFFFFFFFFF for value in padded))
    accumulator, place = 0, 0
    for _ in range(10_000):
        operation, yes, no, value = struct.unpack_from("=HBBI", code, 8 * place)
        place += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif operation == 0x54:
            accumulator &= value
        elif operation == 0x06:
            return value
        else:
            holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}
            place += yes if holds[operation] else no
    raise AssertionError("the filter does not end")


@pytest.fixture(params=sorted(ARCHITECTURES))
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def answer(machine: str, profile: str, name: str, *arguments: int, **options: int) -> int | str:
    """``allow``, ``kill``, or the error number, for a call by name."""
    calls = SyscallTable(machine)
    numbers = {**calls.allowed, **calls.denied, **calls.by_argument}
    shared, unbounded = bool(options.get("shared")), bool(options.get("unbounded"))
    drivers = bool(options.get("drivers"))
    code = seccomp.assemble(
        profile, PID, options.get("program", 9), machine, drivers, shared=shared, unbounded=unbounded
    )
    value = verdict(code, AUDIT[machine], numbers[name], *arguments)
    return {ALLOW: "allow", KILL: "kill"}.get(value, value & 0xFFFF)


@pytest.mark.parametrize("profile", seccomp.PROFILES)
def test_every_listed_call_is_answered_as_listed(machine: str, profile: str) -> None:
    calls = SyscallTable(machine)
    for name in calls.allowed:
        assert answer(machine, profile, name) == "allow", name
    starts = {"fork", "vfork", "execve", "execveat"}
    pools = {"link", "linkat", "chmod", "fchmod", "fchmodat", "fchmodat2", "setsid", "setpgid", "tkill"}
    pools |= {"utime", "utimes", "utimensat", "futimesat", "shutdown", "sendto", "recvfrom", "sendmsg"}
    pools |= {"recvmsg", "getsockname", "getpeername", "setsockopt", "getsockopt"}
    by_profile = {"tools": starts, "pools": starts | pools}.get(profile, set())
    for name in calls.denied:
        expected = "allow" if name in by_profile else errno.EPERM
        assert answer(machine, profile, name) == expected, name


def test_processes_of_a_pool_signal_each_other_and_reach_nobody_else(machine: str) -> None:
    for target in (PID, PID + 1, 0xFFFFFFFF):
        assert answer(machine, "pools", "kill", target, 9) == "allow"
        assert answer(machine, "pools", "tgkill", target, target, 9) == "allow"
    assert answer(machine, "pools", "socketpair", 1, 1) == "allow"
    for family in (2, 10, 16, 17):
        assert answer(machine, "pools", "socketpair", family, 1) == errno.EPERM
    for name in ("socket", "connect", "bind", "listen", "accept4", "ptrace", "process_vm_readv", "unshare"):
        assert answer(machine, "pools", name, 1) == errno.EPERM


@pytest.mark.parametrize("profile", seccomp.PROFILES)
def test_calls_on_no_list_do_not_exist(machine: str, profile: str) -> None:
    calls = SyscallTable(machine)
    listed = {*calls.allowed.values(), *calls.denied.values(), *calls.by_argument.values()}
    code = seccomp.assemble(profile, PID, 3, machine)
    for number in sorted(set(range(600)) - listed):
        assert verdict(code, AUDIT[machine], number) == ERRNO | errno.ENOSYS, number


@pytest.mark.parametrize("profile", seccomp.PROFILES)
def test_a_foreign_architecture_is_ended(machine: str, profile: str) -> None:
    code = seccomp.assemble(profile, PID, 3, machine)
    for audit in (0x40000003, 0x40000028, *(value for key, value in AUDIT.items() if key != machine)):
        assert verdict(code, audit, 39) == KILL


def test_the_x32_table_is_ended_where_it_exists() -> None:
    code = seccomp.assemble("python", PID, machine="x86_64")
    for number in (0x40000000, 0x40000000 + 39, 0x40000000 + 520, 0xFFFFFFFF):
        assert verdict(code, AUDIT["x86_64"], number) == KILL


def test_threads_but_no_processes_and_no_namespaces(machine: str) -> None:
    thread = 0x3D0F00
    for profile in ("python", "program"):
        assert answer(machine, profile, "clone", thread) == "allow"
        assert answer(machine, profile, "clone", 17) == errno.EPERM
        assert answer(machine, profile, "clone", 0x4111) == errno.EPERM, (
            "vfork shares memory, not the thread group"
        )
        assert answer(machine, profile, "clone3") == errno.ENOSYS
    assert answer(machine, "tools", "clone", 17) == "allow"
    for flag in (0x80, 0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        for profile in seccomp.PROFILES:
            assert answer(machine, profile, "clone", thread | flag) == errno.EPERM
            assert answer(machine, profile, "clone", 17 | flag) == errno.EPERM


def test_signals_and_limits_reach_the_job_alone(machine: str) -> None:
    minus_one = 0xFFFFFFFFFFFFFFFF
    for name in ("kill", "tgkill"):
        assert answer(machine, "python", name, PID) == "allow"
        for target in (0, 1, PID - 1, PID + 1, minus_one, minus_one - PID + 1):
            assert answer(machine, "python", name, target) == errno.EPERM
            assert answer(machine, "tools", name, target) == errno.EPERM
        assert answer(machine, "tools", name, PID) == errno.EPERM, "its number may belong to another by then"
    assert answer(machine, "python", "prlimit64", 0) == "allow"
    assert answer(machine, "python", "prlimit64", PID) == "allow"
    assert answer(machine, "python", "prlimit64", PID + 1) == errno.EPERM


def test_a_program_executes_its_own_descriptor_and_no_path(machine: str) -> None:
    at_empty_path = 0x1000
    assert answer(machine, "program", "execveat", 3, 0, 0, 0, at_empty_path, program=3) == "allow"
    assert answer(machine, "program", "execveat", 4, 0, 0, 0, at_empty_path, program=3) == errno.EPERM
    assert answer(machine, "program", "execveat", 3, 0, 0, 0, 0, program=3) == errno.EPERM
    assert answer(machine, "program", "execveat", 3, 0, 0, 0, 0x1100, program=3) == errno.EPERM
    assert answer(machine, "program", "execve", program=3) == errno.EPERM


def test_only_harmless_ioctls_prctls_and_fcntls(machine: str) -> None:
    assert answer(machine, "python", "ioctl", 0, 0x5401) == "allow"
    assert answer(machine, "python", "ioctl", 0, 0x5412) == errno.ENOTTY, "TIOCSTI types into a terminal"
    assert answer(machine, "python", "ioctl", 0, 0xC0104600, drivers=1) == "allow"
    assert answer(machine, "python", "socket", 1) == errno.EPERM
    assert answer(machine, "python", "socket", 1, drivers=1) == "allow", "a Unix socket, to listen on"
    assert answer(machine, "python", "socket", 2, drivers=1) == errno.EPERM
    assert answer(machine, "python", "bind", drivers=1) == "allow"
    assert answer(machine, "python", "connect", drivers=1) == errno.EPERM
    assert answer(machine, "python", "prctl", 15) == "allow"
    for option in (1, 4, 8, 22, 24, 28, 36, 38, 47, 0x59616D61):
        assert answer(machine, "python", "prctl", option) == errno.EINVAL
    for command in (8, 10, 15, 1024, 1026, 1031, 1033):
        assert answer(machine, "python", "fcntl", 0, command) == errno.EPERM
    assert answer(machine, "python", "fcntl", 0, 1030) == "allow"


GRANTED = 0  # answered as done, without being done


def test_file_locks_are_granted_and_not_taken_or_refused_where_there_are_processes(machine: str) -> None:
    for profile in ("python", "program"):
        assert answer(machine, profile, "flock", 3, 2) == GRANTED
        for command in (6, 7, 37, 38):
            assert answer(machine, profile, "fcntl", 3, command) == GRANTED
        for command in (5, 36):
            assert answer(machine, profile, "fcntl", 3, command) == errno.EPERM
    assert answer(machine, "tools", "flock", 3, 2) == errno.ENOSYS
    for command in (5, 6, 7, 36, 37, 38):
        assert answer(machine, "tools", "fcntl", 3, command) == errno.EPERM
        assert answer(machine, "python", "fcntl", 3, command, drivers=True) == "allow"
    assert answer(machine, "python", "flock", 3, 2, drivers=True) == "allow"


def test_no_call_tells_or_changes_which_pages_of_a_file_are_in_memory(machine: str) -> None:
    for profile in seccomp.PROFILES:
        for name in ("preadv2", "pwritev2"):
            assert answer(machine, profile, name, 3, 0, 1, 0, 0, 0) == "allow"
            for flag in (1, 2, 8, 0x10, 0x80):
                assert answer(machine, profile, name, 3, 0, 1, 0, 0, flag) == errno.EOPNOTSUPP
        assert answer(machine, profile, "mincore") == errno.EPERM
        for advice in range(6):
            expected = GRANTED if advice in {3, 4} else "allow"
            assert answer(machine, profile, "fadvise64", 3, 0, 0, advice) == expected
        assert answer(machine, profile, "readahead", 3, 0, 4096) == GRANTED
        for advice in (3, 12, 20, 21):
            assert answer(machine, profile, "madvise", 0, 4096, advice) == GRANTED
        for advice in (0, 1, 2, 4, 8, 14, 22, 23):
            assert answer(machine, profile, "madvise", 0, 4096, advice) == "allow"


@pytest.mark.parametrize("profile", seccomp.PROFILES)
def test_where_numbers_are_the_machine_s_a_process_asks_about_itself_alone(
    machine: str, profile: str
) -> None:
    own = [0] if profile in ("tools", "pools") else [0, PID]
    names = ("sched_getaffinity", "sched_getparam", "sched_getscheduler", "sched_rr_get_interval")
    names += ("sched_getattr", "getpgid", "getsid", "get_robust_list")
    for name in names:
        for pid in own:
            assert answer(machine, profile, name, pid, shared=True) == "allow", name
        assert answer(machine, profile, name, 1, shared=True) == errno.EPERM, name
        assert answer(machine, profile, name, 1) == "allow", "in namespaces there is nobody else"
    for which, who in ((0, 1), (1, 0), (2, 0)):
        assert answer(machine, profile, "getpriority", which, who, shared=True) == errno.EPERM
    assert answer(machine, profile, "getpriority", 0, 0, shared=True) == "allow"
    assert answer(machine, profile, "capget", shared=True) == errno.EPERM
    for name in ("clock_gettime", "clock_getres", "clock_nanosleep", "timer_create"):
        for clock in (0, 1, 2, 3, 7, 11, *(~pid << 3 | kind for pid in own for kind in (2, 6))):
            assert answer(machine, profile, name, clock, shared=True) == "allow", (name, clock)
        for clock in (~1 << 3 | 2, ~1 << 3 | 6, ~PID << 3 | 1, ~3 << 3 | 3):
            assert answer(machine, profile, name, clock, shared=True) == errno.EINVAL, (name, clock)


def test_where_its_folder_is_on_disk_a_process_makes_no_file_without_a_name(machine: str) -> None:
    nameless = 0x410002
    calls = SyscallTable(machine).allowed
    for name, flags in (("openat", (3, 0)), ("open", (0,))):
        if name in calls:
            assert answer(machine, "python", name, *flags, nameless, shared=True) == errno.EOPNOTSUPP
            assert answer(machine, "python", name, *flags, 0x10002, shared=True) == "allow"
            assert answer(machine, "python", name, *flags, nameless) == "allow"
    assert answer(machine, "python", "openat2", shared=True) == errno.ENOSYS


def test_shared_memory_without_a_file_is_refused_where_nothing_counts_it(machine: str) -> None:
    for flags in (0x21, 0x23, 0x4021):
        assert answer(machine, "python", "mmap", 0, 4096, 3, flags, unbounded=True) == errno.EPERM
        assert answer(machine, "python", "mmap", 0, 4096, 3, flags) == "allow"
        assert answer(machine, "python", "mmap", 0, 4096, 3, flags, unbounded=True, drivers=True) == "allow"
    for flags in (0x22, 0x01, 0x4022, 0x02):
        assert answer(machine, "python", "mmap", 0, 4096, 3, flags, unbounded=True) == "allow"


def test_the_filter_of_a_process_differs_from_the_next_only_in_its_number() -> None:
    for pid in (1, 2, 4_194_303):
        assert seccomp.filter_for("python", pid) == seccomp.assemble("python", pid)
        assert seccomp.filter_for("program", pid, 3) == seccomp.assemble("program", pid, 3)
        for profile in seccomp.PROFILES:
            made = seccomp.filter_for(profile, pid, 3, shared=True, unbounded=True)
            assert made == seccomp.assemble(profile, pid, 3, shared=True, unbounded=True)


def test_the_filter_is_short_enough_for_the_kernel() -> None:
    for machine in ARCHITECTURES:
        for profile in seccomp.PROFILES:
            assert len(seccomp.assemble(profile, PID, 3, machine)) // 8 < 1000


def test_an_architecture_without_tables_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        seccomp.assemble("python", PID, machine="riscv64")


def test_the_numbers_are_those_of_this_system_s_headers() -> None:
    header = pathlib.Path(f"/usr/include/{os.uname().machine}-linux-gnu/asm/unistd_64.h")
    if not header.exists():
        pytest.skip(f"{header} is not installed")
    numbers = dict(re.findall(r"#define __NR_(\w+) (\d+)", header.read_text()))
    calls = SyscallTable()
    for name, number in {**calls.allowed, **calls.denied, **calls.by_argument}.items():
        if name in numbers:
            assert int(numbers[name]) == number, name


def test_the_filter_structure_has_the_kernel_s_layout() -> None:
    assert ctypes.sizeof(ctypes.c_void_p) == 8
    assert seccomp._FilterProgram.filter.offset == 8
