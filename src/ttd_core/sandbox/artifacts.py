"""Compiled programs, kept as sealed memory: nobody can change them, and no path leads to them.

That memory cannot be swapped out, so it is bounded by bytes. A program stays while anybody holds its
:class:`~ttd_core.sandbox.base.Artifact`; of the others, those used longest ago are forgotten first.
"""

from __future__ import annotations

import collections
import errno
import fcntl
import hashlib
import mmap
import os
import shutil
import threading
import time
import weakref
from typing import Any, NamedTuple

from ttd_core.sandbox.base import MIB, SEARCH_PATH, Artifact, CompileJob

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_CHUNK = 1 << 20
_MFD_EXEC = 0x10
#: Seconds that the kernel may hold on to pages of memory that is to be sealed.
_SEAL_TIMEOUT_S = 10.0


def _executable_memory() -> int:
    """Memory that may be executed, said explicitly where the kernel (6.3 on) wants that."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create("program", flags | _MFD_EXEC)
    except OSError:
        return os.memfd_create("program", flags)


def _seal(descriptor: int) -> None:
    """Seal memory, once the kernel has let go of its pages.

    While it moves or counts pages it holds them for a moment; seals against writing are refused as busy then.
    """
    deadline = time.monotonic() + _SEAL_TIMEOUT_S
    while True:
        try:
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def sealed_memory(buffers: list[Any], *, executable: bool = False) -> int:
    """A memory file that holds ``buffers`` one after the other and that nobody can change any more.

    :return: its descriptor; the caller closes it.
    """
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    descriptor = _executable_memory() if executable else os.memfd_create("input", flags)
    try:
        for buffer in buffers:
            left = memoryview(buffer).cast("B")
            while left:
                left = left[os.write(descriptor, left) :]
        _seal(descriptor)
        os.lseek(descriptor, 0, os.SEEK_SET)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def source_bytes(source: str) -> bytes:
    """A program's text as the compiler gets it: UTF-8.

    :raises ValueError: for a lone surrogate, which is no character; says where.
    """
    try:
        return source.encode()
    except UnicodeEncodeError as error:
        line = source.count("\n", 0, error.start) + 1
        code = ord(source[error.start])
        raise ValueError(f"U+{code:04X} is half of a character: no text can hold it (line {line})") from None


def _compiler_facts(command: str) -> bytes:
    """What tells one compiler from another: where its executable is, its size, and when it was made."""
    path = shutil.which(command, path=SEARCH_PATH)
    if path is None:
        return b""
    facts = os.stat(path)
    return f"{os.path.realpath(path)} {facts.st_size} {facts.st_mtime_ns}".encode(errors="surrogateescape")


def digest_of(job: CompileJob) -> str:
    """SHA-256 of all that decides the program: compiler, suffix, source, command; each with its length.

    What is hashed of the source are the bytes that are compiled. The environment of a compiler is the same
    for every job. Limits are left out: within them or not, a program is the same.

    :raises ValueError: for a source that cannot be compiled at all, see :func:`source_bytes`.
    """
    words = [word.encode(errors="surrogateescape") for word in (job.suffix, *job.command)]
    digest = hashlib.sha256()
    for part in (_compiler_facts(job.command[0]), source_bytes(job.source), *words):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


class _Held(NamedTuple):
    """A program held: its memory file, and its bytes."""

    descriptor: int
    size: int


class ArtifactStore:
    """The programs compiled so far, by digest.

    :param most_bytes: of all programs together; more only while that many are in use.
    :param most: programs, which take a descriptor each.
    """

    def __init__(self, most_bytes: int = 256 * MIB, most: int = 1024) -> None:
        self._most_bytes = most_bytes
        self._most = most
        #: the one used longest ago first
        self._held: collections.OrderedDict[str, _Held] = collections.OrderedDict()
        #: a program is in use while the artifact that was given out for it lives
        self._in_use: weakref.WeakValueDictionary[str, Artifact] = weakref.WeakValueDictionary()
        self._lock = threading.Lock()

    @property
    def held_bytes(self) -> int:
        """Bytes of all programs held."""
        return sum(held.size for held in self._held.values())

    def add(self, digest: str, file: int, limit: int) -> Artifact:
        """Copy a program out of an open file of the sandbox.

        :raises ValueError: when it is larger than ``limit`` bytes.
        """
        chunks: list[bytes] = []
        size = 0
        while chunk := os.pread(file, _CHUNK, size):
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                raise ValueError(f"the program is larger than {limit} bytes")
        return self.add_bytes(digest, chunks)

    def add_bytes(self, digest: str, chunks: list[bytes]) -> Artifact:
        """Keep a program, given as pieces of its bytes; the one held already where there is one."""
        held = self.take(digest)
        if held is not None:
            return held
        descriptor = sealed_memory(chunks, executable=True)
        with self._lock:
            if digest in self._held:  # compiled twice at once
                os.close(descriptor)
            else:
                self._held[digest] = _Held(descriptor, sum(map(len, chunks)))
            artifact = self._give_out(digest)
            self._forget_surplus()
        return artifact

    def take(self, digest: str) -> Artifact | None:
        """A program that is held; it stays held as long as the artifact lives. ``None`` if it is not held."""
        with self._lock:
            return self._give_out(digest) if digest in self._held else None

    def _give_out(self, digest: str) -> Artifact:
        self._held.move_to_end(digest)
        artifact = self._in_use.get(digest)
        if artifact is None:
            artifact = self._in_use[digest] = Artifact(digest)
        return artifact

    def _forget_surplus(self) -> None:
        """Forget programs that are not in use until the rest is within bounds."""
        surplus = self.held_bytes - self._most_bytes
        for digest in list(self._held):
            if surplus <= 0 and len(self._held) <= self._most:
                return
            if digest not in self._in_use:
                forgotten = self._held.pop(digest)
                os.close(forgotten.descriptor)
                surplus -= forgotten.size

    def open(self, digest: str) -> int | None:
        """A descriptor of the program for the caller to close; ``None`` if it is not held."""
        with self._lock:
            held = self._held.get(digest)
            if held is None:
                return None
            self._held.move_to_end(digest)
            return os.dup(held.descriptor)

    def read(self, digest: str) -> bytes:
        """A program as bytes; empty if it is not held."""
        descriptor = self.open(digest)
        if descriptor is None:
            return b""
        try:
            # never through the file's position, which all who hold it share
            with mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) as mapped:
                return mapped[:]
        finally:
            os.close(descriptor)

    def __contains__(self, digest: str) -> bool:
        return digest in self._held

    def close(self) -> None:
        """Forget all."""
        with self._lock:
            while self._held:
                os.close(self._held.popitem()[1].descriptor)
