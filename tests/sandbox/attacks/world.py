"""What attacks aim at: secrets, canaries, listeners, a process to harm. Made anew for every run."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any, Self

_VICTIM = """
import ctypes, os, sys, time
ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)  # any process may trace this one
held = sys.stdin.readline().strip().encode()
buffer = ctypes.create_string_buffer(held, 64)
print(ctypes.addressof(buffer), flush=True)
time.sleep(600)
"""


class World:
    """Targets and canaries."""

    def __init__(self) -> None:
        self.secret = "secret-" + secrets.token_hex(12)
        # a process name, so at most 15 characters
        self.mark = f"atk{secrets.token_hex(5)}"
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="attack-"))
        self.root.chmod(0o755)
        self.heard: list[str] = []
        self._open = contextlib.ExitStack()
        self._make_files()
        self._listen()
        self._start_victim()

    # -- making --------------------------------------------------------------------------------------

    def _make_files(self) -> None:
        self.home = self.root / "home"
        self.hidden = self.root / "hidden"
        self.drop = self.root / "drop"
        for folder in (self.home, self.hidden, self.drop, self.home / ".ssh"):
            folder.mkdir()
        self.key = self.home / ".ssh" / "id_rsa"
        self.canary = self.home / "canary"
        (self.hidden / "answers.json").write_text(self.secret)
        self.key.write_text(self.secret)
        self.key.chmod(0o600)
        self.canary.write_text("untouched")
        self.canary.chmod(0o644)
        # the strongest case for the attacker: whoever it runs as may write here
        for folder in (self.home, self.drop):
            folder.chmod(0o777)
        os.utime(self.canary, (1e9, 1e9))
        # what jobs may read, as they read libraries
        self.shelf = self.root / "shelf"
        self.shelf.mkdir()
        self.book = self.shelf / "book"
        with self.book.open("wb") as file:
            file.write(b"x" * (1 << 20))
            file.flush()
            os.fsync(file.fileno())  # only clean pages leave memory when asked to
        self._shelve()

    def _shelve(self) -> None:
        """The shared file as it was: read long ago, on disk, and in memory."""
        self.book.read_bytes()
        os.utime(self.book, (1e9, 1e9))

    def book_in_memory(self) -> bool:
        """Whether the shared file's first page is in memory."""
        descriptor = os.open(self.book, os.O_RDONLY)
        try:
            return os.preadv(descriptor, [bytearray(4096)], 0, os.RWF_NOWAIT) == 4096
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)

    def _listen(self) -> None:
        listeners = {
            "tcp": (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            "udp": (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
            "unix": (socket.AF_UNIX, socket.SOCK_STREAM, str(self.root / "socket")),
            "abstract": (socket.AF_UNIX, socket.SOCK_STREAM, "\0" + self.mark),
        }
        self.ports: dict[str, int] = {}
        for name, (family, kind, address) in listeners.items():
            listener = self._open.enter_context(socket.socket(family, kind))
            listener.bind(address)
            if kind == socket.SOCK_STREAM:
                listener.listen()
            if family == socket.AF_INET:
                self.ports[name] = listener.getsockname()[1]
            elif name == "unix":
                os.chmod(str(address), 0o777)
            threading.Thread(target=self._hear, args=(name, listener, kind), daemon=True).start()

    def _hear(self, name: str, listener: socket.socket, kind: int) -> None:
        with contextlib.suppress(OSError):  # closed at the end
            while True:
                if kind == socket.SOCK_DGRAM:
                    listener.recv(100)
                else:
                    listener.accept()[0].close()
                self.heard.append(name)

    def _start_victim(self) -> None:
        self.victim = subprocess.Popen(
            [sys.executable, "-c", _VICTIM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "VICTIM_SECRET": self.secret},
            start_new_session=True,
            text=True,
        )
        assert self.victim.stdin is not None
        assert self.victim.stdout is not None
        self.victim.stdin.write(self.secret + "\n")
        self.victim.stdin.flush()
        self.address = int(self.victim.stdout.readline())
        self.affinity = os.sched_getaffinity(self.victim.pid)

    def _end_victim(self) -> None:
        self.victim.kill()
        self.victim.wait()
        for pipe in (self.victim.stdin, self.victim.stdout):
            assert pipe is not None
            pipe.close()

    # -- using ---------------------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """What an attacker knows: where everything is."""
        return {
            "home": str(self.home),
            "key": str(self.key),
            "canary": str(self.canary),
            "shelf": str(self.shelf),
            "book": str(self.book),
            "hidden": str(self.hidden),
            "drop": str(self.drop),
            "socket": str(self.root / "socket"),
            "mark": self.mark,
            "tcp": self.ports["tcp"],
            "udp": self.ports["udp"],
            "victim": self.victim.pid,
            "address": self.address,
            "trusted": os.getpid(),
            "secret_length": len(self.secret),
        }

    def repair(self) -> None:
        """Put everything back for the next attack."""
        self.heard.clear()
        with contextlib.suppress(OSError):
            os.chmod(self.canary, 0o644)
        self.canary.write_text("untouched")
        os.utime(self.canary, (1e9, 1e9))
        self._shelve()
        for folder in (self.drop,):
            shutil.rmtree(folder)
            folder.mkdir()
            folder.chmod(0o777)
        for path in self.home.iterdir():
            if path not in {self.key.parent, self.canary}:
                path.unlink()
        if self.victim.poll() is not None:
            self._end_victim()
            self._start_victim()
        os.sched_setaffinity(self.victim.pid, self.affinity)

    def survivors(self) -> list[int]:
        """Processes that took our mark for their name."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            with contextlib.suppress(OSError):  # it ended meanwhile
                if entry.name.isdigit():
                    left, _, right = (entry / "stat").read_text().rpartition(") ")
                    if left.endswith(f"({self.mark}") and right[0] != "Z":
                        found.append(int(entry.name))
        return found

    def kill_survivors(self) -> None:
        """End them, after a control."""
        for _ in range(20):
            for pid in self.survivors():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
            if not self.survivors():
                return

    def close(self) -> None:
        """Take it all down."""
        self.kill_survivors()
        self._open.close()
        self._end_victim()
        shutil.rmtree(self.root, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def shared_memory_segments() -> int:
    """System V segments that exist now."""
    return len(pathlib.Path("/proc/sysvipc/shm").read_text().splitlines()) - 1


def remove_shared_memory(identifier: int) -> None:
    """Remove a System V segment that a control left behind."""
    ctypes.CDLL(None).shmctl(identifier, 0, None)
