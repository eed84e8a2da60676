"""The executor of this machine: its servers, what it leaves behind, what a job may reach."""

from __future__ import annotations

import concurrent.futures
import gc
import itertools
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import attrs
import numpy as np
import psutil
import pytest

from ttd_core.config import RunConfig, SandboxConfig
from ttd_core.errors import SandboxUnavailableError
from ttd_core.sandbox import connection, launch, local
from ttd_core.sandbox.base import (
    FIRST_DESCRIPTOR,
    GIB,
    MIB,
    Access,
    CompileJob,
    Level,
    Limits,
    ProgramJob,
    PythonJob,
)
from ttd_core.sandbox.isolation import IsolationMethod
from ttd_core.sandbox.local import LocalExecutor
from ttd_core.sandbox.probe import probe
from ttd_core.types import Status

ONE = PythonJob("def run(): return 1", "run")
SLEEP = PythonJob("import time\ndef run(): time.sleep(2.0); return 7", "run", limits=Limits(wall_s=30.0))


def servers() -> list[int]:
    """Outermost processes of the fork servers that this process has started."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and b"supervisor.main" in (entry / "cmdline").read_bytes():
                fields = (entry / "stat").read_text().rpartition(") ")[2].split()
                if int(fields[1]) == os.getpid() and fields[0] != "Z":
                    found.append(int(entry.name))
        except OSError:
            continue
    return found


def called(method: IsolationMethod) -> str:
    return method.level.value + ("-by-hand" if method.by_hand else "")


@pytest.fixture(params=["strong", "strong-by-hand", "standard"])
def method(request: pytest.FixtureRequest) -> IsolationMethod:
    for method in probe().methods:
        if called(method) == request.param:
            return method
    pytest.skip(f"{request.param} cannot be formed here: {probe().missing}")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[launch.ServerProcess]]:
    """Every server started during the test."""
    servers: list[launch.ServerProcess] = []
    start_server = launch.start_server

    def count(*arguments, **named) -> launch.ServerProcess:
        servers.append(start_server(*arguments, **named))
        return servers[-1]

    monkeypatch.setattr(launch, "start_server", count)
    return servers


# -- every method of isolation -----------------------------------------------------------------------------


def test_jobs_of_all_kinds_run_by_every_method(method: IsolationMethod) -> None:
    with LocalExecutor(1, exactly=method) as executor:
        assert executor.level is method.level
        scratch = Limits(wall_s=10.0, scratch=MIB)
        job = PythonJob(
            "import os, scipy.linalg\n"
            "def run():\n    open('x', 'w').write('1')\n    return os.listdir('.'), len(os.environ)",
            "run",
            limits=scratch,
        )
        for _ in range(2):
            result = executor.run(job)
            assert result.ok, result.message
            assert result.value[0] == ["x"]
            assert result.level is method.level
        built = executor.run(CompileJob('#include <cstdio>\nint main() { puts("hello"); abort(); }'))
        assert built.status is Status.SYNTAX_ERROR
        built = executor.run(CompileJob('#include <cstdio>\nint main() { puts("hello"); }'))
        assert built.ok, built.message
        assert built.artifact is not None
        assert executor.run(ProgramJob(built.artifact)).stdout == b"hello\n"


_NUMBER = """
import os, threading

def run(threads):
    for _ in range(threads):
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
    return [int(os.readlink("/proc/self")), os.getpid()]
"""


def test_in_namespaces_a_job_s_number_does_not_count_what_others_started(method: IsolationMethod) -> None:
    if not method.namespaces:
        pytest.skip("without namespaces process numbers are the machine's")
    with LocalExecutor(1, exactly=method) as executor:
        jobs = [PythonJob(_NUMBER, "run", args=[threads]) for threads in (0, 50, 0, 20, 0)]
        numbers = [executor.run(job).value for job in jobs]
    assert numbers == [[1, 1]] * 5


_NAMES = """
import ctypes, os, threading

def run():
    told, done, libc = [], threading.Event(), ctypes.CDLL(None)
    def work():
        told.append(threading.get_native_id())
        started.set()
        done.wait()
    started = threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    path = f"/proc/self/task/{told[0]}/comm"
    codes = [libc.pthread_setname_np(ctypes.c_ulong(thread.ident), b"by-library")]
    names = [open(path).read()]
    with open(path, "w") as file:
        file.write("by-file")
    names.append(open(path).read())
    own = {os.getpid(), told[0]} <= set(map(int, os.listdir("/proc/self/task")))
    done.set()
    facts = [os.path.getsize(path) >= 0 for path in ("/proc/cpuinfo", "/proc/meminfo", "/proc/stat")]
    facts.append(open("/proc/sys/vm/overcommit_memory").read().strip().isdigit())
    with open("scratch", "w") as file:
        file.write("x")
    return [codes, names, own and int(os.readlink("/proc/self")) == os.getpid(), all(facts)]
"""


def test_jobs_of_one_server_find_their_own_threads_in_proc_by_their_numbers(
    method: IsolationMethod, started: list[launch.ServerProcess]
) -> None:
    # A GPU's driver names a thread of its own there, and fails where it finds none.
    access = Access(devices=("/dev/null",))
    limits = Limits(wall_s=20.0, scratch=16 * MIB)
    with LocalExecutor(1, exactly=method) as executor:
        for _ in range(3):
            result = executor.run(PythonJob(_NAMES, "run", access=access, limits=limits))
            assert result.ok, result.message + result.output
            codes, names, numbers, facts = result.value
            assert codes == [0]
            assert names == ["by-library\n", "by-file\n"]
            assert numbers
            assert facts
    # One that uses a device is no reason to import everything anew for the next.
    assert len(started) == 1


_LIBRARIES = """
import fcntl, mmap, os, sqlite3, tempfile, threading, time
import numpy as np

def run():
    with sqlite3.connect("data.db") as base:
        base.execute("create table numbers (number)")
        base.execute("insert into numbers values (7)")
    with sqlite3.connect("data.db") as base:
        stored = base.execute("select number from numbers").fetchone()[0]
    with tempfile.TemporaryFile() as file:
        file.write(b"x" * 100)
        file.seek(0)
        size = len(file.read())
    with open("lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        fcntl.lockf(file, fcntl.LOCK_EX)
    mapped = np.memmap("array", dtype="f8", mode="w+", shape=(1000,))
    mapped[:] = 1.0
    os.posix_fadvise(os.open("array", os.O_RDONLY), 0, 0, os.POSIX_FADV_DONTNEED)
    told = []
    thread = threading.Thread(target=lambda: told.append(len(os.sched_getaffinity(0))))
    thread.start()
    thread.join()
    clocks = time.process_time(), time.thread_time(), time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID)
    status = open("/proc/self/status").read(), open("/proc/self/maps").read(), os.listdir("/proc/self/fd")
    asked = os.getpriority(os.PRIO_PROCESS, 0), os.getpgid(0), os.getsid(0)
    return [stored, size, float(mapped.sum()), told[0] >= 1, all(map(bool, status)), len(clocks), len(asked)]
"""


def test_what_libraries_do_with_files_and_about_themselves_works(method: IsolationMethod) -> None:
    with LocalExecutor(1, exactly=method) as executor:
        result = executor.run(PythonJob(_LIBRARIES, "run", limits=Limits(wall_s=20.0, scratch=16 * MIB)))
    assert result.ok, result.message + result.output
    assert result.value == [7, 100, 1000.0, True, True, 3, 3]


def test_nothing_of_the_environment_but_an_allow_list(
    method: IsolationMethod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SECRET", "x")
    with LocalExecutor(1, exactly=method) as executor:
        names = executor.run(PythonJob("import os\ndef run(): return sorted(os.environ)", "run")).value
    threads = {name for name in names if name.endswith("_NUM_THREADS")}
    # the last two are set by the interpreter and by threadpoolctl, inside
    known = {
        "HOME",
        "LANG",
        "MPLBACKEND",
        "NUMBA_CACHE_DIR",
        "PATH",
        "PYTHONDONTWRITEBYTECODE",
        "LC_CTYPE",
        "KMP_DUPLICATE_LIB_OK",
    }
    assert set(names) - threads <= known


def test_a_job_executes_what_it_was_given_and_nothing_else(method: IsolationMethod) -> None:
    source = (
        "import subprocess\n"
        "def run(path):\n"
        "    return subprocess.run([path, 'word'], capture_output=True, text=True).stdout"
    )
    echo = Access(executables=("/bin/echo",))
    with LocalExecutor(1, exactly=method) as executor:
        allowed = executor.run(PythonJob(source, "run", args=["/bin/echo"], access=echo))
        assert allowed.ok, allowed.message
        assert allowed.value == "word\n"
        assert (
            executor.run(PythonJob(source, "run", args=["/bin/ls"], access=echo)).status is Status.FORBIDDEN
        )
        assert executor.run(PythonJob(source, "run", args=["/bin/echo"])).status is Status.FORBIDDEN


def test_a_job_reads_and_opens_what_it_was_given_and_nothing_else(method: IsolationMethod) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        for name in ("given", "beside"):
            path = pathlib.Path(folder, name)
            path.write_text(name)
            path.chmod(0o644)
        given = Access(readable=(f"{folder}/given",), devices=("/dev/tty",))
        source = "def run(path): return open(path).read()"
        write = "def run(path): open(path, 'w')"
        with LocalExecutor(1, exactly=method) as executor:
            read = executor.run(PythonJob(source, "run", args=[f"{folder}/given"], access=given))
            assert read.value == "given", read.message
            for program, path in ((source, "beside"), (write, "given")):
                assert not executor.run(PythonJob(program, "run", args=[f"{folder}/{path}"], access=given)).ok


def test_a_job_talks_and_shares_memory_through_descriptors_it_inherits(method: IsolationMethod) -> None:
    source = (
        "import mmap, os\n"
        "def run(first):\n"
        "    heard = os.read(first, 100)\n"
        "    with mmap.mmap(first + 1, 8) as shared:\n"
        "        shared[:4] = heard\n"
        "    os.write(first, b'done')\n"
    )
    ours, theirs = socket.socketpair()
    memory = os.memfd_create("shared")
    try:
        os.ftruncate(memory, 8)
        with ours, theirs, LocalExecutor(1, exactly=method) as executor:
            ours.settimeout(60.0)
            job = PythonJob(source, "run", args=[FIRST_DESCRIPTOR], descriptors=(theirs.fileno(), memory))
            running = executor.submit(job)
            ours.sendall(b"word")
            assert ours.recv(100) == b"done"
            assert os.pread(memory, 8, 0) == b"word\0\0\0\0"
            assert running.result().ok
            alone = executor.run(
                PythonJob("import os\ndef run(n): os.fstat(n)", "run", args=[FIRST_DESCRIPTOR])
            )
            assert "Bad file descriptor" in alone.message
    finally:
        os.close(memory)


def test_a_job_that_may_start_processes_is_bounded_as_a_whole(method: IsolationMethod) -> None:
    access = Access(executables=("/bin/true",))
    memory = (
        "import os, time\n"
        "def run():\n"
        "    for _ in range(4):\n"
        "        if os.fork() == 0:\n"
        "            held = bytearray(90 << 20)\n"
        "            held[::4096] = b'x' * len(held[::4096])\n"
        "            time.sleep(20)\n"
        "    time.sleep(20)"
    )
    processes = (
        "import os, time\n"
        "def run():\n"
        "    for _ in range(30):\n"
        "        if os.fork() == 0: time.sleep(20)\n"
        "    time.sleep(20)"
    )
    limits = Limits(wall_s=15.0, memory=300 * MIB, processes=8)
    with LocalExecutor(1, exactly=method) as executor:
        result = executor.run(PythonJob(memory, "run", access=access, limits=limits))
        assert result.status is Status.MEMORY, result.message
        assert result.wall_s < 10
        result = executor.run(PythonJob(processes, "run", access=access, limits=limits))
        # the kernel refuses the ninth (a crash), or the watcher counts too many
        assert result.status in {Status.FORBIDDEN, Status.CRASH, Status.MEMORY}, result.message
        assert executor.run(ONE).value == 1


# -- servers -----------------------------------------------------------------------------------------------


def test_servers_stay_warm_by_what_they_have_imported(started: list[launch.ServerProcess]) -> None:
    with LocalExecutor(1, preload=()) as executor:
        before = len(started)
        other = PythonJob(
            "import sys\ndef run(): return 'json.tool' in sys.modules", "run", preload=("json.tool",)
        )
        for _ in range(3):
            assert executor.run(ONE).value == 1
            assert executor.run(other).value is True
        assert len(started) - before == 2


def test_a_server_is_replaced_after_enough_jobs(started: list[launch.ServerProcess]) -> None:
    with LocalExecutor(1, preload=(), recycle_jobs=3) as executor:
        before = len(started)
        for _ in range(9):
            assert executor.run(ONE).ok
        assert len(started) - before == 3


def test_a_server_that_grew_is_replaced(
    started: list[launch.ServerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = connection.Connection.receive

    def grown(self: connection.Connection):
        report = receive(self)
        self.resident += 100 * MIB
        return report

    monkeypatch.setattr(connection.Connection, "receive", grown)
    with LocalExecutor(1, preload=()) as executor:
        before = len(started)
        for _ in range(3):
            assert executor.run(ONE).ok
        assert len(started) - before == 3


def _waiting_forks(launched: launch.ServerProcess) -> list[psutil.Process]:
    """Of a server without a job: the ends of its tree of processes, but not a server that has none yet."""
    inside = psutil.Process(launched.process.pid).children(recursive=True)
    above = {os.getpid(), launched.process.pid}
    return [process for process in inside if not process.children() and process.ppid() not in above]


def _until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_server_killed_in_the_middle_of_a_job_costs_a_retry_not_a_result(
    method: IsolationMethod, started: list[launch.ServerProcess]
) -> None:
    with LocalExecutor(1, exactly=method, preload=()) as executor:
        assert executor.run(ONE).ok
        future = executor.submit(SLEEP)
        time.sleep(0.5)
        server = started[-1].process.pid
        os.kill(server, signal.SIGKILL)
        if method.level is Level.STANDARD:  # the supervisor is gone: the fork server is what answers
            os.killpg(server, signal.SIGKILL)
        result = future.result(timeout=30)
        assert result.status is Status.OK, result.message
        assert result.value == 7
        assert result.retries == 1
        assert executor.run(ONE).ok


def test_a_waiting_fork_that_is_killed_costs_a_retry_not_a_result(
    method: IsolationMethod, started: list[launch.ServerProcess]
) -> None:
    with LocalExecutor(1, exactly=method, preload=()) as executor:
        assert executor.run(ONE).ok
        _until(lambda: len(_waiting_forks(started[-1])) == 1)
        waiting = _waiting_forks(started[-1])[0]
        waiting.kill()
        _until(lambda: waiting.status() == psutil.STATUS_ZOMBIE)
        result = executor.run(ONE)
        assert result.status is Status.OK, result.message
        assert result.retries == 1


def test_the_fork_of_the_next_job_knows_nothing_of_the_last(method: IsolationMethod) -> None:
    """Each finds what the server left, whether its fork waited while the other ran or was made after it."""
    source = """
import builtins, numpy, os, sys

def run(name):
    before = sorted(vars(builtins).keys() & {"first", "second"}), os.environ.get("X"), len(sys.modules)
    setattr(builtins, name, True)
    os.environ["X"], sys.modules[name] = name, builtins
    return [*before, numpy.random.random()]
"""
    with LocalExecutor(1, exactly=method) as executor:
        found = [executor.run(PythonJob(source, "run", args=(name,))).value for name in ("first", "second")]
    assert found[0][:3] == found[1][:3]
    assert found[0][:2] == [[], None]
    assert found[0][3] != found[1][3]


def test_a_server_lost_again_is_told_as_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(self: connection.Connection):
        raise connection.ServerLost("the fork server ended: out of luck")

    with LocalExecutor(1, preload=()) as executor:
        monkeypatch.setattr(connection.Connection, "receive", lost)
        result = executor.run(ONE)
        assert result.status is Status.INFRASTRUCTURE
        assert result.message == "the fork server ended: out of luck"
        assert result.retries == 1
        monkeypatch.undo()
        assert executor.run(ONE).ok


def test_a_job_whose_server_dies_twice_for_want_of_memory_used_too_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel frees the page tables of a job that it ended late, and may end the server meanwhile."""
    kills = itertools.count()

    def lost(self: connection.Connection):
        raise connection.ServerLost("the fork server ended: without a word")

    with LocalExecutor(1, preload=()) as executor:
        monkeypatch.setattr(connection.Connection, "receive", lost)
        monkeypatch.setattr(connection.Connection, "memory_kills", lambda self: next(kills))
        result = executor.run(attrs.evolve(ONE, limits=Limits(memory=100 * MIB)))
        assert (result.status, result.message) == (Status.MEMORY, "used more than 100 MiB of memory")
        assert result.retries == 1
        monkeypatch.setattr(connection.Connection, "memory_kills", lambda self: 5)
        assert executor.run(ONE).status is Status.INFRASTRUCTURE


def test_a_server_that_never_reports_ends_with_its_job(started: list[launch.ServerProcess]) -> None:
    stuck = PythonJob(
        "import time\ndef run(): time.sleep(60)", "run", limits=Limits(wall_s=0.5, memory=100 * MIB)
    )
    with LocalExecutor(1, preload=()) as executor:
        assert executor.run(ONE).ok
        tree = _below(started[-1].process.pid)
        future = executor.submit(stuck)
        time.sleep(0.2)
        for pid in tree:
            os.kill(pid, signal.SIGSTOP)
        result = future.result(timeout=20)
        assert result.status is Status.TIMEOUT
        _until(lambda: not any(map(_lives, tree)))
        assert executor.run(ONE).ok


def _below(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += _below(int(child))
    return found


def test_a_module_to_preload_that_is_missing_is_named() -> None:
    with LocalExecutor(1) as executor:
        with pytest.raises(SandboxUnavailableError, match="cannot preload nosuchmodule"):
            executor.run(PythonJob("def run(): pass", "run", preload=("nosuchmodule",)))
        assert executor.run(ONE).ok, "the next job is not harmed"


# -- what is left behind -----------------------------------------------------------------------------------


def _traces() -> dict[str, set[str]]:
    """Descriptors, files, control groups that exist now."""
    groups = pathlib.Path("/sys/fs/cgroup").glob(f"**/ttd-{os.getpid()}-*")
    folder = pathlib.Path(tempfile.gettempdir())
    return {
        "descriptors": set(os.listdir("/proc/self/fd")),
        # other processes' jobs come and go beside these tests
        "files": {path.name for path in folder.glob(f"ttd-*{os.getpid()}*")},
        "groups": {str(path) for path in groups},
        "servers": {str(pid) for pid in servers()},
    }


def test_closing_leaves_no_process_descriptor_file_or_group(method: IsolationMethod) -> None:
    probe()
    gc.collect()
    before = _traces()
    with LocalExecutor(2, exactly=method) as executor:
        scratch = Limits(wall_s=10.0, scratch=MIB)
        write = PythonJob("def run(): open('x', 'w').write('1')", "run", limits=scratch)
        futures = [executor.submit(job) for job in (ONE, write, ONE, write)]
        assert all(future.result().ok for future in futures)
        assert executor.run(CompileJob("int main() {}")).ok
        sleeping = [executor.submit(SLEEP) for _ in range(3)]
        time.sleep(0.3)
    concurrent.futures.wait(sleeping, timeout=20)
    assert all(future.cancelled() for future in sleeping)
    gc.collect()
    assert _traces() == before


def test_a_trusted_process_that_is_killed_takes_its_jobs_with_it(
    method: IsolationMethod, tmp_path: pathlib.Path
) -> None:
    script = tmp_path / "trusted.py"
    script.write_text(
        "import sys\n"
        "from ttd_core.sandbox.base import *\n"
        "from ttd_core.sandbox.local import LocalExecutor\n"
        "from ttd_core.sandbox.isolation import IsolationMethod\n"
        f"method = IsolationMethod(Level({method.level.value!r}), {method.bubblewrap!r}, {method.by_hand!r}, "
        f"{method.landlock}, {method.seccomp!r})\n"
        "executor = LocalExecutor(1, exactly=method)\n"
        "job = PythonJob('import time\\ndef run():\\n    print(1)\\n    time.sleep(60)', 'run')\n"
        "executor.submit(job, lambda piece: print('started', flush=True)).result()\n"
    )
    trusted = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE)
    assert trusted.stdout is not None
    with trusted.stdout:
        assert trusted.stdout.readline() == b"started\n"
    tree = _below(trusted.pid)
    assert len(tree) > 2
    trusted.kill()
    trusted.wait()
    _until(lambda: not any(_lives(pid) for pid in tree), 3.0)


def _lives(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("nasty", ["deep", "closed"])
def test_scratch_on_disk_is_removed_whatever_is_in_it(nasty: str) -> None:
    sources = {
        "deep": "for _ in range(80):\n        os.mkdir('d' * 200); os.chdir('d' * 200)",
        "closed": "os.mkdir('d'); open('d/f', 'w'); os.mkdir('e', 0)",
    }
    source = f"import os\ndef run():\n    {sources[nasty]}\n    return 1"
    before = _traces()
    with LocalExecutor(1, exactly=Level.STANDARD, preload=()) as executor:
        limits = Limits(wall_s=10.0, scratch=64 * MIB)
        for _ in range(2):
            result = executor.run(PythonJob(source, "run", limits=limits))
            # what cannot be measured counts as too much
            assert result.status in {Status.OK, Status.OUTPUT_LIMIT}, result.message
        look = PythonJob("import os\ndef run(): return os.listdir('.')", "run", limits=limits)
        assert executor.run(look).value == []
    gc.collect()
    assert _traces()["files"] == before["files"]


# -- choices -----------------------------------------------------------------------------------------------


def test_large_arrays_go_in_and_come_out() -> None:
    array = np.random.default_rng(0).random((300, 20_125))
    limits = Limits(wall_s=60.0, memory=GIB, result=64 * MIB)
    with LocalExecutor(1) as executor:
        result = executor.run(PythonJob("def run(x): return x.T", "run", args=[array], limits=limits))
    assert result.ok, result.message
    np.testing.assert_array_equal(result.value, array.T)


def test_a_run_config_opens_it_at_the_least_level_asked_for() -> None:
    with local.open_local(RunConfig(sandbox=SandboxConfig(workers=1, level="standard"))) as executor:
        assert executor.workers == 1
        assert executor.level is probe().level


def test_numeric_threads_follow_the_job_s_processors() -> None:
    (library,) = pathlib.Path(np.__file__).parents[1].glob("numpy.libs/libscipy_openblas64_*")
    source = (
        f"import ctypes\ndef run(): return ctypes.CDLL({str(library)!r}).scipy_openblas_get_num_threads64_()"
    )
    with LocalExecutor(1) as executor:
        for cpus in (1, 2):
            result = executor.run(PythonJob(source, "run", limits=Limits(wall_s=10.0, cpus=cpus)))
            assert result.value == cpus, result.message


def test_a_job_that_talked_is_not_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def lost(self, server, *_arguments):
        tried.append(server)
        raise connection.ServerLost("the fork server ended")

    monkeypatch.setattr(local.Attempt, "run", lost)
    ours, theirs = socket.socketpair()
    with ours, theirs, LocalExecutor(1) as executor:
        assert executor.run(ONE).retries == 1
        assert len(tried) == 2
        talking = attrs.evolve(ONE, descriptors=(theirs.fileno(),))
        assert executor.run(talking).status is Status.INFRASTRUCTURE
        assert len(tried) == 3
