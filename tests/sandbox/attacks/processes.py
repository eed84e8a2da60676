"""Other processes: reading them, signalling them, changing them; and staying alive."""

from __future__ import annotations

import os
import time

from attacks.model import Attack, claims, tells_the_secret
from attacks.world import World
from ttd_core.sandbox.base import GIB, MIB, JobResult, Limits

_FORKING = Limits(wall_s=8.0, memory=512 * MIB, processes=32)


def _victim_died(world: World, result: JobResult) -> str:
    time.sleep(0.05)
    return "the victim died" if world.victim.poll() is not None else ""


def _sandbox_died(world: World, result: JobResult) -> str:
    """A job that could end its own server would cost a retry, or show as ours."""
    if result.retries or result.status.value == "infrastructure":
        return f"the server was lost: {result.message}"
    return _victim_died(world, result)


def _stays(world: World, result: JobResult) -> str:
    """A process with the mark, or the file that it was to write a moment later."""
    alive = world.survivors()
    if alive:
        return f"{len(alive)} processes live on"
    time.sleep(0.8)
    late = [path.name for path in world.drop.iterdir()]
    return f"a process lived on and wrote {late}" if late else ""


def _affinity_changed(world: World, result: JobResult) -> str:
    return "the victim's cores changed" if os.sched_getaffinity(world.victim.pid) != world.affinity else ""


def _limits_changed(world: World, result: JobResult) -> str:
    import resource

    soft, _ = resource.prlimit(world.victim.pid, resource.RLIMIT_NOFILE)
    return "the victim's limits changed" if soft == 7 else ""


def _over_time(world: World, result: JobResult) -> str:
    if result.ok or result.wall_s > 1.5:
        return f"ran for {result.wall_s:.2f} s"
    return ""


def _many(world: World, result: JobResult) -> str:
    """More processes than the job's limit at one time."""
    return claims(world, result) if result.ok and result.value > 40 else _stays(world, result)


def _much_memory(world: World, result: JobResult) -> str:
    if result.ok:
        return f"all of it was allocated: {result.value}"
    return f"peak {result.peak_memory / GIB:.1f} GiB" if result.peak_memory > 0.5 * GIB else ""


_NAME = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def mark(w): libc.prctl(15, w['mark'].encode())
"""

_PARENTS = """
import os
def run(w):
    told = ""
    for pid in (os.getppid(), 1, w["trusted"], w["victim"]):
        for name in ("environ", "maps", "mem", "cmdline"):
            try:
                with open(f"/proc/{pid}/{name}", "rb") as file:
                    if name == "mem":
                        file.seek(w["address"])
                    told += file.read(w["secret_length"] if name == "mem" else 100_000).decode("latin-1")
            except OSError:
                pass
    return told
"""

_FORK_BOMB = (
    _NAME
    + """
import os, time
def run(w):
    mark(w)
    made = 0
    for _ in range(w["count"]):
        try:
            if os.fork() == 0:
                time.sleep(3)
                os._exit(0)
        except OSError:
            break
        made += 1
    return made
"""
)

_DAEMON = (
    _NAME
    + """
import os, time
def run(w):
    mark(w)
    if os.fork() == 0:
        os.setsid() if w["setsid"] else None
        if os.fork() == 0:
            for number in (1, 2, 15):
                __import__("signal").signal(number, 1)
            time.sleep(0.4)
            open(w["drop"] + "/late", "w").write("x")
            os._exit(0)
        os._exit(0)
    return 0
"""
)

_REFORKING = (
    _NAME
    + """
import os, time
def run(w):
    mark(w)
    if os.fork() == 0:
        stop = time.time() + 0.6
        while time.time() < stop:      # never the same process for long
            if os.fork():
                os._exit(0)
            time.sleep(0.0005)
        open(w["drop"] + "/late", "w").write("x")
        os._exit(0)
    time.sleep(0.05)
    return 0
"""
)

_IGNORES = """
import signal
def run(w):
    for number in range(1, 65):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            pass
    import time
    stop = time.time() + w["seconds"]
    while time.time() < stop:
        pass
    return 1
"""

_SIX = (
    _NAME
    + """
import os, time
def run(w):
    mark(w)
    children = []
    for _ in range(6):
        pid = os.fork()
        if pid == 0:
            held = bytearray(w["size"])
            held[::4096] = b"x" * len(held[::4096])
            time.sleep(0.7)
            os._exit(0)
        children.append(pid)
    return sum(os.waitpid(pid, 0)[1] == 0 for pid in children) == 6
"""
)

_TRACE = (
    _NAME
    + """
import os
def run(w):
    if libc.ptrace(16, w["victim"], None, None) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")
    libc.ptrace(17, w["victim"], None, None)
    return 1
"""
)

_READ_MEMORY = (
    _NAME
    + """
class Part(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
def run(w):
    size = w["secret_length"]
    buffer = ctypes.create_string_buffer(size)
    mine, theirs = Part(ctypes.addressof(buffer), size), Part(w["address"], size)
    if libc.process_vm_readv(w["victim"], ctypes.byref(mine), 1, ctypes.byref(theirs), 1, 0) < 0:
        raise OSError(ctypes.get_errno(), "process_vm_readv")
    return buffer.raw.decode("latin-1")
"""
)

_OTHERS_IN_PROC = """
import os
def run(w):
    seen = []
    own = os.readlink("/proc/self")
    for pid in (*range(1, 200), w["victim"], w["trusted"]):
        try:
            seen.append((pid, os.stat(f"/proc/{pid}").st_uid)) if str(pid) != own else None
        except OSError:
            pass
    return seen
"""

_ASK_ABOUT = (
    _NAME
    + """
import os, time
def run(w):
    pid, told = w["victim"], []
    number = ~pid << 3
    calls = {
        "clock": lambda: time.clock_gettime(number | 2) > 0,
        "resolution of its clock": lambda: time.clock_getres(number | 2) >= 0,
        "signal": lambda: os.kill(pid, 0) is None,
        "cores": lambda: os.sched_getaffinity(pid),
        "policy": lambda: os.sched_getscheduler(pid) >= 0,
        "parameter": lambda: os.sched_getparam(pid) is not None,
        "interval": lambda: os.sched_rr_get_interval(pid) >= 0,
        "priority": lambda: os.getpriority(os.PRIO_PROCESS, pid) >= -20,
        "group": lambda: os.getpgid(pid) >= 0,
        "session": lambda: os.getsid(pid) >= 0,
        "file descriptor": lambda: os.pidfd_open(pid) >= 0,
    }
    for name, call in calls.items():
        try:
            told += [name] * bool(call())
        except (OSError, AttributeError):
            pass
    return told
"""
)

_NETWORK_TABLES = """
import os, threading
def run(w):
    port, told = f":{w['tcp']:04X} ", []
    thread = f"/proc/self/task/{threading.get_native_id()}/net"
    for path in ("/proc/net", "/proc/self/net", thread, "/proc/1/net"):
        try:
            told += [path] * (port in open(path + "/tcp").read())
        except OSError:
            pass
    return told
"""

_MOUNTS = """
def run(w):
    told = []
    for name in ("mounts", "self/mounts", "self/mountinfo", "self/cgroup", "1/mountinfo"):
        try:
            told += [name] * bool(open("/proc/" + name).read())
        except OSError:
            pass
    return told
"""

_COUNTERS = """
import time
def run(w):
    moved = []
    for name in ("stat", "meminfo", "loadavg", "uptime", "vmstat", "interrupts"):
        path = "/proc/" + name
        try:
            before = open(path).read()
            stop = time.monotonic() + 0.05
            while time.monotonic() < stop:
                pass
            moved += [path] * (open(path).read() != before)
        except OSError:
            pass
    return moved
"""

_STAT_IN_PROC = "Landlock does not cover stat; /proc shows which processes there are, and whose"
_LIVE_COUNTERS = "without a mount of its own, a job reads /proc/stat and /proc/meminfo as they are now"

ATTACKS = [
    Attack(
        "secrets in os.environ",
        "import os\ndef run(w): return sorted(os.environ.items())",
        tells_the_secret,
    ),
    Attack(
        "secrets in /proc/self/environ",
        "def run(w): return open('/proc/self/environ').read()",
        tells_the_secret,
    ),
    Attack("/proc/PPID/{environ,mem,maps}", _PARENTS, tells_the_secret),
    Attack(
        "kill the parent", "import os\ndef run(w): os.kill(os.getppid(), 9)", _sandbox_died, control="harness"
    ),
    Attack("kill(0)", "import os\ndef run(w): os.kill(0, 9)", _sandbox_died, control="harness"),
    Attack("kill(-1)", "import os\ndef run(w): os.kill(-1, 9)", _sandbox_died, control="scoped"),
    Attack("kill a process of the same user", "import os\ndef run(w): os.kill(w['victim'], 9)", _victim_died),
    Attack("ptrace", _TRACE, claims),
    Attack("process_vm_readv", _READ_MEMORY, tells_the_secret),
    Attack(
        "prlimit on another process",
        "import resource\ndef run(w): resource.prlimit(w['victim'], resource.RLIMIT_NOFILE, (7, 7))",
        _limits_changed,
    ),
    Attack(
        "sched_setaffinity on another process",
        "import os\ndef run(w): os.sched_setaffinity(w['victim'], {min(os.sched_getaffinity(w['victim']))})",
        _affinity_changed,
    ),
    Attack("other processes in /proc, by stat", _OTHERS_IN_PROC, claims, open_at={"standard": _STAT_IN_PROC}),
    Attack("ask about another process", _ASK_ABOUT, claims),
    Attack("the machine's network tables", _NETWORK_TABLES, claims),
    Attack("the machine's mounts and control groups", _MOUNTS, claims),
    Attack("counters of the machine in /proc", _COUNTERS, claims, open_at={"standard": _LIVE_COUNTERS}),
    Attack("fork bomb", _FORK_BOMB, _many, options={"count": 2000}, control_options={"count": 60}),
    Attack(
        "fork bomb in a job that may fork",
        _FORK_BOMB,
        _many,
        forks=True,
        limits=_FORKING,
        options={"count": 2000},
        control_options={"count": 60},
    ),
    Attack("double fork, setsid, delayed file", _DAEMON, _stays, options={"setsid": True}),
    Attack(
        "double fork in a job that may fork",
        _DAEMON,
        _stays,
        forks=True,
        limits=_FORKING,
        options={"setsid": False},
        control_options={"setsid": True},
    ),
    Attack("re-forking daemon in a job that may fork", _REFORKING, _stays, forks=True, limits=_FORKING),
    Attack(
        "busy loop ignoring every signal",
        _IGNORES,
        _over_time,
        limits=Limits(wall_s=1.0),
        options={"seconds": 60},
        control_options={"seconds": 1.6},
    ),
    Attack(
        "allocate 3 GiB",
        "def run(w):\n"
        "    held = bytearray(w['size'])\n"
        "    held[::4096] = b'x' * len(held[::4096])\n"
        "    return len(held)",
        _much_memory,
        limits=Limits(wall_s=20.0, memory=256 * MIB),
        options={"size": 3 * GIB},
        control_options={"size": 300 * MIB},
    ),
    Attack(
        "six processes of 900 MB",
        _SIX,
        _much_memory,
        forks=True,
        limits=Limits(wall_s=20.0, memory=256 * MIB, processes=32),
        options={"size": 900_000_000},
        control_options={"size": 50_000_000},
    ),
]
