"""What this process may use of its machine: control groups around it count."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from ttd_core import host
from ttd_core.host import memory_bytes, processor_quota

GIB = 1 << 30


def test_a_quota_is_read_from_every_group_around(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    two, one = tmp_path / "two", tmp_path / "one"
    inner = two / "a" / "b"
    inner.mkdir(parents=True)
    (one / "c").mkdir(parents=True)
    monkeypatch.setattr(host, "_mounts", lambda: {"": two, "cpu": one})
    monkeypatch.setattr(host, "_own_paths", lambda: {"": "/a/b", "cpu": "/c"})
    assert processor_quota() is None
    (two / "cpu.max").write_text("max 100000\n")
    (inner / "cpu.max").write_text("800000 100000\n")
    assert processor_quota() == 8.0
    (two / "a" / "cpu.max").write_text("250000 100000\n")
    assert processor_quota() == 2.5
    (one / "c" / "cpu.cfs_quota_us").write_text("-1\n")
    (one / "c" / "cpu.cfs_period_us").write_text("100000\n")
    assert processor_quota() == 2.5
    (one / "c" / "cpu.cfs_quota_us").write_text("150000\n")
    assert processor_quota() == 1.5
    (two / "a" / "cpu.max").write_text("nonsense\n")
    assert processor_quota() == 1.5


def test_the_least_limit_around_is_the_memory_that_there_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    two, one = tmp_path / "two", tmp_path / "one"
    (two / "a" / "b").mkdir(parents=True)
    one.mkdir()
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 64 * GIB // 4096}.__getitem__)
    monkeypatch.setattr(host, "_mounts", lambda: {"": two, "memory": one})
    # a container's own folder is mounted at the top, and the path is that of the machine outside
    monkeypatch.setattr(host, "_own_paths", lambda: {"": "/a/b", "memory": "/docker/not-here"})
    assert memory_bytes() == 64 * GIB
    (two / "memory.max").write_text("max\n")
    (one / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert memory_bytes() == 64 * GIB, "no limit"
    (two / "a" / "memory.max").write_text(f"{16 * GIB}\n")
    assert memory_bytes() == 16 * GIB
    (one / "memory.limit_in_bytes").write_text(f"{8 * GIB}\n")
    assert memory_bytes() == 8 * GIB
    (two / "a" / "b" / "memory.max").write_text("nonsense\n")
    assert memory_bytes() == 8 * GIB


def test_a_mount_point_that_is_not_utf_8_hides_no_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    tree = tmp_path / "tree"
    (tree / "group").mkdir(parents=True)
    (tree / "group" / "memory.max").write_bytes(b"4096\n")
    (tree / "memory.max").write_bytes(b"\xff\x00")
    mount = f"24 1 0:20 / {tree} rw - cgroup2 cgroup2 rw\n"
    (tmp_path / "mountinfo").write_bytes(
        b"23 1 8:1 / /mnt/\xe9t\xe9\x85\x1c rw - ext4 /dev/sda1 rw\n" + mount.encode()
    )
    (tmp_path / "cgroup").write_bytes(b"1:name=caf\xe9:/\n0::/group\n")
    monkeypatch.setattr(host, "_PROC", tmp_path)
    assert memory_bytes() == 4096


def test_without_control_groups_the_machine_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> dict[str, pathlib.Path]:
        raise FileNotFoundError("/proc/self/mountinfo")

    monkeypatch.setattr(host, "_mounts", missing)
    assert memory_bytes() == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert processor_quota() is None


@pytest.mark.parametrize(("controller", "name"), [("", "memory.max"), ("memory", "memory.limit_in_bytes")])
def test_a_group_with_a_limit_is_believed(controller: str, name: str) -> None:
    found = host.own_group(controller)
    if found is None:
        pytest.skip("there is no such hierarchy here")
    group = found[1] / f"ttd-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no group can be made here: {error}")
    try:
        if not os.access(group / name, os.W_OK):
            pytest.skip("groups made here have no limit of memory")
        (group / name).write_text(str(GIB))
        script = "from ttd_core.host import memory_bytes; print(memory_bytes())"
        enter = f"echo $$ > {group / 'cgroup.procs'} && exec {sys.executable} -c '{script}'"
        done = subprocess.run(["sh", "-c", enter], capture_output=True, text=True, timeout=120)
        assert done.stdout.strip() == str(GIB), done.stderr
    finally:
        group.rmdir()
