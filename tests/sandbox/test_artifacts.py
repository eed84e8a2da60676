"""Memory that nobody can change any more."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import threading
from collections.abc import Iterator

import pytest

from ttd_core.sandbox import artifacts
from ttd_core.sandbox.artifacts import sealed_memory


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[mmap.mmap]]:
    """Memory that is sealed while somebody holds on to it, as the kernel does now and then."""
    maps: list[mmap.mmap] = []
    create = os.memfd_create

    def created(name: str, flags: int) -> int:
        descriptor = create(name, flags)
        os.ftruncate(descriptor, 4096)
        maps.append(mmap.mmap(descriptor, 4096))
        return descriptor

    monkeypatch.setattr(artifacts.os, "memfd_create", created)
    yield maps
    for each in maps:
        each.close()


def test_what_is_sealed_reads_from_its_beginning_and_cannot_be_written() -> None:
    descriptor = sealed_memory([b"one", bytearray(b"two")])
    try:
        assert os.read(descriptor, 100) == b"onetwo"
        with pytest.raises(PermissionError):
            os.pwrite(descriptor, b"x", 0)
    finally:
        os.close(descriptor)


def test_memory_that_is_held_for_a_moment_is_sealed_after_it(held) -> None:
    threading.Timer(0.2, lambda: held[0].close()).start()
    descriptor = sealed_memory([b"text"])
    try:
        assert fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE
        assert os.read(descriptor, 4) == b"text"
    finally:
        os.close(descriptor)


def test_memory_that_is_never_let_go_is_refused_and_closed(held, monkeypatch) -> None:
    monkeypatch.setattr(artifacts, "_SEAL_TIMEOUT_S", 0.05)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError) as caught:
        sealed_memory([b"text"])
    assert caught.value.errno == errno.EBUSY
    held[0].close()
    assert len(os.listdir("/proc/self/fd")) == before
