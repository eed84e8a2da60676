"""Compiled programs, kept as sealed memory: nobody can change them, and no path leads to them."""

from __future__ import annotations

import collections
import errno
import fcntl
import hashlib
import json
import mmap
import os
import threading
import time
from typing import Any

from ttd_core.sandbox.base import Artifact, CompileJob

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


def digest_of(job: CompileJob) -> str:
    """SHA-256 of what decides the program: source, command, suffix."""
    text = json.dumps([job.source, list(job.command), job.suffix])
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


class ArtifactStore:
    """The programs compiled so far, by digest; those used longest ago are forgotten first.

    :param most: programs kept.
    """

    def __init__(self, most: int = 1024) -> None:
        self._most = most
        self._held: collections.OrderedDict[str, int] = collections.OrderedDict()
        self._lock = threading.Lock()

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
        """Keep a program, given as pieces of its bytes."""
        descriptor = sealed_memory(chunks, executable=True)
        with self._lock:
            for old in (self._held.pop(digest, -1), self._oldest()):
                if old >= 0:
                    os.close(old)
            self._held[digest] = descriptor
        return Artifact(digest)

    def _oldest(self) -> int:
        return self._held.popitem(last=False)[1] if len(self._held) >= self._most else -1

    def open(self, digest: str) -> int | None:
        """A descriptor of the program for the caller to close; ``None`` if it is not held."""
        with self._lock:
            held = self._held.get(digest)
            if held is None:
                return None
            self._held.move_to_end(digest)
            return os.dup(held)

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
                os.close(self._held.popitem()[1])
