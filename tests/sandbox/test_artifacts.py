"""Memory that nobody can change any more, and the programs that are kept in it."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttd_core.sandbox import artifacts
from ttd_core.sandbox.artifacts import ArtifactStore, digest_of, sealed_memory
from ttd_core.sandbox.base import Artifact, CompileJob, ProgramJob
from ttd_core.sandbox.local import LocalExecutor


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


@pytest.fixture
def store() -> Iterator[ArtifactStore]:
    store = ArtifactStore(most_bytes=1000, most=5)
    yield store
    store.close()


def test_programs_are_kept_within_their_bytes_and_the_oldest_go_first(store) -> None:
    for name in ("one", "two", "three"):
        store.add_bytes(name, [b"x" * 400])
    assert "one" not in store
    assert store.read("two") == b"x" * 400
    store.add_bytes("four", [b"x" * 400])  # "two" was used after "three"
    assert [name in store for name in ("two", "three", "four")] == [True, False, True]
    assert store.held_bytes == 800


def test_programs_are_kept_within_their_number(store) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for number in range(50):
        store.add_bytes(str(number), [b"x"])
    assert [str(number) in store for number in range(43, 50)] == [False, False, *[True] * 5]
    assert len(os.listdir("/proc/self/fd")) == before + 5


def test_a_program_in_use_stays_whatever_others_take(store) -> None:
    used = store.add_bytes("used", [b"u" * 600])
    for number in range(20):
        store.add_bytes(str(number), [b"x" * 600])
    assert store.read(used.digest) == b"u" * 600
    assert store.take("used") is used
    del used
    store.add_bytes("next", [b"x" * 600])
    assert "used" not in store
    assert store.take("used") is None


def test_a_program_compiled_twice_at_once_is_held_once(store) -> None:
    first = store.add_bytes("same", [b"first"])
    assert store.add_bytes("same", [b"later"]) is first
    assert store.read("same") == b"first"
    assert store.held_bytes == 5


def test_a_program_larger_than_allowed_is_not_read_to_its_end(store, tmp_path) -> None:
    with (tmp_path / "huge").open("wb+") as file:
        file.truncate(1 << 40)
        with pytest.raises(ValueError, match="larger than 100 bytes"):
            store.add("huge", file.fileno(), 100)
    assert store.held_bytes == 0


def test_whatever_decides_a_program_decides_its_digest(tmp_path) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    flags = (str(compiler), "-O2")
    jobs = [
        CompileJob("int main() {}", flags),
        CompileJob("int main() {} ", flags),
        CompileJob("int main() {}\0", flags),
        CompileJob("int main() {} // \N{GRINNING FACE}", flags),
        CompileJob("int main() {} // ?", flags),
        CompileJob("int main() {} // \N{REPLACEMENT CHARACTER}", flags),
        CompileJob("int main() {}", flags, ".c"),
        CompileJob("int main() {}", (*flags, "-g")),
        CompileJob("int main() {}", (str(compiler), "-O2 -g")),
        CompileJob("int main() {}", (str(compiler), "-O", "2")),
        CompileJob("int main() {}", ("g++", "-O2")),
        CompileJob("", (str(compiler), "int main() {}", "-O2")),
    ]
    digests = [digest_of(job) for job in jobs]
    assert len(set(digests)) == len(jobs)
    assert digests == [digest_of(job) for job in jobs]
    compiler.write_text("#!/bin/sh\nexit 1\n")
    assert digest_of(jobs[0]) not in digests


@given(first=st.text(), second=st.text())
def test_two_texts_share_a_digest_only_if_they_are_one(first, second) -> None:
    assert (digest_of(CompileJob(first)) == digest_of(CompileJob(second))) == (first == second)


@pytest.mark.parametrize("text", ["\ud83d", "a\nb\udc00c", "\ud83d\ude00"])
def test_half_a_character_has_no_digest(text) -> None:
    with pytest.raises(ValueError, match=r"U\+D[89A-F][0-9A-F]{2} is half of a character.*\(line [12]\)"):
        digest_of(CompileJob(text))


def test_a_program_is_run_to_its_last_case_while_others_push_it_out(monkeypatch) -> None:
    source = '#include <cstdio>\nint main() {{ std::puts("{}"); }}'
    with LocalExecutor(1) as executor:
        monkeypatch.setattr(executor, "_artifacts", ArtifactStore(most_bytes=1))
        first = executor.run(CompileJob(source.format("first"))).artifact
        for number in range(3):
            assert executor.run(CompileJob(source.format(number))).ok
            assert executor.run(ProgramJob(first)).stdout == b"first\n"
        digest = first.digest
        del first
        assert executor.run(CompileJob(source.format("last"))).ok
        executor.run(CompileJob(source.format("and one more")))
        again = executor.run(ProgramJob(Artifact(digest)))
        assert "compile it again" in again.message
        assert executor.run(CompileJob(source.format("first"))).artifact == Artifact(digest)
