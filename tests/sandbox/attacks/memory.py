"""What outlives a job: shared memory, descriptors, state of the interpreter."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

from attacks.model import Attack, claims
from attacks.world import World, remove_shared_memory, shared_memory_segments
from ttd_core.sandbox.base import GIB, MIB, JobResult, Limits
from ttd_core.sandbox.cgroup import ControlGroups

_SHM = pathlib.Path("/dev/shm")


def _shm_file(world: World, result: JobResult) -> str:
    left = _SHM / world.mark
    if left.exists():
        left.unlink()
        return "a file stayed in /dev/shm"
    return ""


def _segment(world: World, result: JobResult) -> str:
    if result.ok and isinstance(result.value, int) and shared_memory_segments():
        remove_shared_memory(result.value)
        return "a segment outlived the job"
    return claims(world, result)


def _descriptors_control(world: World) -> str:
    """A plain child inherits what it is passed."""
    reading, writing = os.pipe()
    os.write(writing, world.secret.encode())
    os.close(writing)
    source = f"import os; print(os.read({reading}, 100).decode())"
    run = subprocess.run(
        [sys.executable, "-c", source], pass_fds=[reading], capture_output=True, text=True, check=True
    )
    os.close(reading)
    return "an inherited descriptor told the secret" if world.secret in run.stdout else ""


def _extra_descriptors(world: World, result: JobResult) -> str:
    """0 to 2, and the result's pipe; nothing readable, nothing else."""
    surplus = set(result.value or []) - {0, 1, 2, 4}
    return f"descriptors {sorted(surplus)} are open" if surplus else ""


STATE_WRITER = """
import builtins, json, os, sys
import numpy
def run(w):
    builtins.stolen = json.stolen = numpy.stolen = sys.stolen = 1
    os.environ["STOLEN"] = "1"
    numpy.sum = len
    for folder in (".", os.environ.get("TMPDIR", "."), "/tmp", "/dev/shm", "/scratch", "/var/tmp"):
        try:
            open(os.path.join(folder, "stolen"), "w").write("1")
        except OSError:
            pass
    return 0
"""

STATE_READER = """
import builtins, json, os, sys
import numpy
def run(w):
    found = [m.__name__ for m in (builtins, json, numpy, sys) if hasattr(m, "stolen")]
    found += ["environ"] * ("STOLEN" in os.environ) + ["numpy.sum"] * (numpy.sum is len)
    for folder in (".", os.environ.get("TMPDIR", "."), "/tmp", "/dev/shm", "/scratch", "/var/tmp"):
        if os.path.exists(os.path.join(folder, "stolen")):
            found.append(folder)
    return found
"""


def _state_control(world: World) -> str:
    """One interpreter that runs candidates one after the other, as a plain evaluator might."""
    source = f"{STATE_WRITER}\nrun({{}})\n{STATE_READER}\nprint(run({{}}))"
    run = subprocess.run(
        [sys.executable, "-c", source], cwd=world.drop, capture_output=True, text=True, check=True
    )
    for folder in (pathlib.Path("/tmp"), _SHM, pathlib.Path("/var/tmp")):
        (folder / "stolen").unlink(missing_ok=True)
    return "" if run.stdout.strip() == "[]" else f"the next program found {run.stdout.strip()}"


_MAP = """
import ctypes, mmap, os
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
number = ctypes.c_int
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, number, number, number, ctypes.c_long]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
def map_memory(size, protection, flags, file=-1):
    address = libc.mmap(None, size, protection, flags, file, 0)
    if address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "mmap")
    return address
"""

#: Pages of shared memory stay when their mapping lets go of them, and no process is charged for them then.
_DROPPED = (
    _MAP
    + """
def run(w):
    file = os.open("/dev/zero", os.O_RDWR) if w["device"] else -1
    step = 64 << 20
    address = map_memory(w["size"], 3, mmap.MAP_SHARED | (0 if w["device"] else mmap.MAP_ANONYMOUS), file)
    for start in range(0, w["size"], step):
        ctypes.memset(address + start, 1, min(step, w["size"] - start))
        libc.madvise(address + start, min(step, w["size"] - start), mmap.MADV_DONTNEED)
    return ctypes.string_at(address + w["size"] // 2, 1) == b"\\x01"
"""
)

#: One read in each 2 MiB costs a page of tables, and no page of memory.
_TABLES = (
    _MAP
    + """
def run(w):
    address = map_memory(w["size"], 1, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)
    libc.madvise(address, w["size"], mmap.MADV_NOHUGEPAGE)
    for place in range(0, w["size"], 2 << 20):
        ctypes.string_at(address + place, 1)
    for line in open("/proc/self/status"):
        if line.startswith("VmPTE:"):
            return int(line.split()[1]) << 10 >= w["size"] >> 9
"""
)

#: Children that the kernel reaps by itself, as their parent ignores them: nobody is told their time.
_UNSEEN = """
import os, signal, time
def run(w):
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in range(24):
        reading, writing = os.pipe()
        if os.fork() == 0:
            stop = time.process_time() + 0.05
            while time.process_time() < stop:
                pass
            os._exit(0)
        os.close(writing)
        os.read(reading, 1)
        os.close(reading)
    return 1
"""


def _time_unseen(world: World, result: JobResult) -> str:
    """Nearly all must be told where a control group counts it; without one, what was seen by looking."""
    if not result.ok:
        return ""
    groups = ControlGroups.make()
    counted = any((folder / "cpu.stat").exists() for folder in groups.folders)
    groups.remove()
    least = 1.1 if counted else 0.4
    return f"told {result.cpu_s:.2f} s of 1.2 s" if result.cpu_s < least else ""


ATTACKS = [
    Attack(
        "shared memory that its mapping has let go of",
        _DROPPED,
        claims,
        limits=Limits(wall_s=10.0, memory=256 * MIB),
        options={"size": 1536 * MIB, "device": False},
        control_options={"size": 64 * MIB},
    ),
    Attack(
        "shared memory by /dev/zero",
        _DROPPED,
        claims,
        limits=Limits(wall_s=10.0, memory=256 * MIB),
        options={"size": 1536 * MIB, "device": True},
        control_options={"size": 64 * MIB},
    ),
    Attack(
        "page tables of 400 GiB of reads",
        _TABLES,
        claims,
        limits=Limits(wall_s=10.0, memory=256 * MIB),
        options={"size": 400 * GIB},
        control_options={"size": 20 * GIB},
    ),
    Attack(
        "processor time of children that nobody waits for",
        _UNSEEN,
        _time_unseen,
        forks=True,
        limits=Limits(wall_s=20.0, memory=512 * MIB, processes=32),
    ),
    Attack(
        "a file left in /dev/shm",
        "def run(w): return open('/dev/shm/' + w['mark'], 'w').write('x')",
        _shm_file,
    ),
    Attack(
        "a System V segment left behind",
        "import ctypes\n"
        "def run(w):\n"
        "    segment = ctypes.CDLL(None).shmget(0x7474, 4096, 0o1666)\n"
        "    return None if segment < 0 else segment",
        _segment,
    ),
    Attack(
        "memfd x 40",
        "import os\n"
        "def run(w):\n"
        "    held = [os.memfd_create(str(n)) for n in range(40)]\n"
        "    return sum(os.write(f, b'x' * w['size']) for f in held)",
        claims,
        limits=Limits(wall_s=10.0, memory=256 * MIB),
        options={"size": 25_000_000},
        control_options={"size": 7_000_000},
    ),
    Attack(
        "surviving descriptors",
        "import os\n"
        "def run(w):\n"
        "    found = []\n"
        "    for n in range(1024):\n"
        "        try:\n"
        "            os.fstat(n)\n"
        "            found.append(n)\n"
        "        except OSError:\n"
        "            pass\n"
        "    return found",
        _extra_descriptors,
        control=_descriptors_control,
    ),
    Attack(
        "state carried to the next job",
        STATE_READER,
        claims,
        planted=STATE_WRITER,
        control=_state_control,
        limits=Limits(wall_s=8.0, scratch=MIB),
    ),
]
