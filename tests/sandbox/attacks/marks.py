"""Marks that a job could leave for the next one on what both may read, and how that one would find them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import tempfile

from attacks.model import Attack, claims
from attacks.world import World
from ttd_core.sandbox.base import MIB, JobResult, Limits

_CACHESTAT = 451
_ATIME = "relatime: the first read of a file after its last change sets its access time, and stat shows it"

_LIBC = """
import ctypes, mmap, os
libc = ctypes.CDLL(None, use_errno=True)
def checked(value):
    if value < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return value
"""

_NOWAIT = """
import errno, os
def run(w):
    book = os.open(w["book"], os.O_RDONLY)
    try:
        return f"in memory: {os.preadv(book, [bytearray(4096)], 4096, os.RWF_NOWAIT)}"
    except BlockingIOError:
        return "not in memory"
"""

_MINCORE = (
    _LIBC
    + """
def run(w):
    with open(w["book"], "rb") as file:
        size = os.fstat(file.fileno()).st_size
        # a private mapping that may be written to has an address that ctypes can take
        mapped = mmap.mmap(file.fileno(), size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
    pages = ctypes.create_string_buffer(size // 4096)
    checked(libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), pages))
    return f"{sum(byte & 1 for byte in pages.raw)} pages in memory"
"""
)

_CACHESTAT_CALL = (
    _LIBC
    + """
def run(w):
    book = os.open(w["book"], os.O_RDONLY)
    asked, told = (ctypes.c_uint64 * 2)(0, 0), (ctypes.c_uint64 * 5)()
    checked(libc.syscall(451, book, asked, told, 0))
    return f"{told[0]} pages in memory"
"""
)

_PAGE_MAPS = """
def run(w):
    import mmap
    with open(w["book"], "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    mapped[0]  # the kernel maps neighbours with it that are in memory
    told = []
    for name in ("smaps", "smaps_rollup", "pagemap", "numa_maps", "io"):
        try:
            with open("/proc/self/" + name, "rb") as file:
                told += [name] * bool(file.read(8))
        except OSError:
            pass
    return told
"""

_EVICT = "import os\ndef run(w):\n    book = os.open(w['book'], os.O_RDONLY)\n"
_EVICT += "    os.posix_fadvise(book, 0, 0, os.POSIX_FADV_DONTNEED)\n    os.close(book)\n    return 1"

_PAGE_OUT = (
    _LIBC
    + """
def run(w):
    with open(w["book"], "rb") as file:
        size = os.fstat(file.fileno()).st_size
        mapped = mmap.mmap(file.fileno(), size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    for place in range(0, size, 4096):
        mapped[place]
    address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
    checked(libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), 21))
    return 1
"""
)

_FLOCK = """
import fcntl, os
def run(w):
    first, second = (os.open(w["book"], os.O_RDONLY) for _ in range(2))
    fcntl.flock(first, fcntl.LOCK_EX)
    try:
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "the second is told of the first"
"""

_RECORD_LOCK = """
import fcntl, os, struct
LOCK = struct.Struct("=hhxxxxqqixxxx")
def run(w):
    first, second = (os.open(w["book"], os.O_RDONLY) for _ in range(2))
    fcntl.fcntl(first, 37, LOCK.pack(fcntl.F_RDLCK, 0, 0, 0, 0))
    told = fcntl.fcntl(second, 36, LOCK.pack(fcntl.F_WRLCK, 0, 0, 0, 0))
    return "the second is told of the first" if LOCK.unpack(told)[0] != fcntl.F_UNLCK else ""
"""

_INOTIFY = (
    _LIBC
    + """
def run(w):
    watch = checked(libc.inotify_init1(0o4000))
    checked(libc.inotify_add_watch(watch, w["shelf"].encode(), 0x1))
    return "told when others read"
"""
)

_READS = "def run(w): return len(open(w['book'], 'rb').read())"
_READ_BEFORE = "import os\ndef run(w): return os.stat(w['book']).st_atime > 2e9 // 2 + 1e8"

_GROW = """
import os
def run(w):
    for number in range(500):
        open(f"{number:0200}", "w").close()
    return os.stat(".").st_size
"""
_GROWN = "import os\ndef run(w): return os.stat('.').st_size > 20_000"


def _evicted(world: World, result: JobResult) -> str:
    return "" if world.book_in_memory() else "the file is out of memory"


def _atime_control(world: World) -> str:
    world.book.read_bytes()
    return "the next reader sees when" if world.book.stat().st_atime > 1.1e9 else ""


def _grown_control(world: World) -> str:
    """A folder on disk that is emptied and used again keeps the size it grew to."""
    for number in range(500):
        (world.drop / f"{number:0200}").touch()
    for path in world.drop.iterdir():
        path.unlink()
    return "its size stays" if world.drop.stat().st_size > 20_000 else ""


def _on_disk() -> bool:
    """Whether files of a temporary folder leave memory, and keep their access times; not in a tmpfs."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"x" * 4096)
        file.flush()
        os.utime(file.name, (1e9, 1e9))
        pathlib.Path(file.name).read_bytes()
        with contextlib.suppress(OSError):
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            try:
                os.preadv(file.fileno(), [bytearray(4096)], 0, os.RWF_NOWAIT)
            except BlockingIOError:
                return os.stat(file.name).st_atime > 1.1e9
    return False


def _keeps_size() -> bool:
    """Whether a folder keeps the size it grew to (ext4)."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(500):
            (pathlib.Path(folder) / f"{number:0200}").touch()
        for path in pathlib.Path(folder).iterdir():
            path.unlink()
        return os.stat(folder).st_size > 20_000


def _has_cachestat() -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(_CACHESTAT, -1, None, None, 0)
    return ctypes.get_errno() != 38


ATTACKS = [
    Attack("which pages are in memory, by mincore", _MINCORE, claims),
    Attack("which pages are in memory, by /proc/self", _PAGE_MAPS, claims),
    Attack("a lock on a shared file, by flock", _FLOCK, claims),
    Attack("a lock on a shared file, by fcntl", _RECORD_LOCK, claims),
    Attack("a watch on a shared folder", _INOTIFY, claims),
]
if _on_disk():
    ATTACKS += [
        Attack("which pages are in memory, by preadv2", _NOWAIT, claims),
        Attack("pages put out of memory, by posix_fadvise", _EVICT, _evicted),
        Attack("pages put out of memory, by madvise", _PAGE_OUT, _evicted),
        Attack(
            "the access time of a shared file",
            _READ_BEFORE,
            claims,
            planted=_READS,
            open_at={"standard": _ATIME},
            control=_atime_control,
        ),
    ]
if _has_cachestat():
    ATTACKS.append(Attack("which pages are in memory, by cachestat", _CACHESTAT_CALL, claims))
if _keeps_size():
    ATTACKS.append(
        Attack(
            "the size of the working folder",
            _GROWN,
            claims,
            planted=_GROW,
            control=_grown_control,
            limits=Limits(wall_s=8.0, scratch=16 * MIB),
        )
    )
