"""The fork server: modules imported once, one job at a time, each in a fork that is confined for good.

The server is the job's parent: it enforces the limits, and ends and reaps every process of the job before it
reports. The fork of each job is made ahead of it (:mod:`.prefork`). Messages on the control socket are JSON,
one a packet, with descriptors attached:

- ``python``: where to print, the job as a frame (sealed memory), where to write the result, and what the
  problem lets the job inherit;
- ``program``: where to print, standard input, standard output, the program (sealed memory);
- ``compile``: where to print, the source; the answer carries the binary, opened without following links.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import json
import os
import resource
import signal
import socket
import sys
import time
from typing import Any

from ttd_core.sandbox.inside import (
    confine,
    frames,
    kernel,
    landlock,
    namespaces,
    python_job,
    warmup,
    watch,
)
from ttd_core.sandbox.inside.prefork import Prefork, runs_as_init
from ttd_core.sandbox.inside.scratch import Scratch, open_output

_SOURCE = "main"
_BINARY = "program"
#: Descriptor of the program in a job that becomes one.
_PROGRAM = 3
#: Bytes that libraries may write while they are imported ahead of the jobs; gone before the first job.
_IMPORT_SCRATCH = 16 << 20
#: Submodules that a package imports only when they are first named, which would be in every job.
_LAZY_SUBMODULES = {
    "numpy": ("numpy.random", "numpy.linalg", "numpy.fft"),
    "scipy": ("scipy.optimize", "scipy.linalg", "scipy.sparse", "scipy.special", "scipy.fft"),
}


def _resident_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


class Server:
    """Serves until the other end of ``control`` closes.

    :param control: packet socket to the trusted process.
    :param setup: what :mod:`ttd_core.sandbox.launch` decided: layers, paths, modules; see :mod:`.supervisor`.
    """

    def __init__(self, control: socket.socket, setup: dict[str, Any]) -> None:
        self.control = control
        self.setup = setup
        self.layers = confine.Layers(**setup["layers"])
        self.scratch = Scratch(setup["scratch"], self.layers.mounts)
        #: sets the threads of BLAS and OpenMP; ``None`` without threadpoolctl
        self.thread_pools: Any = None
        #: Landlock rules by kind of job
        self.rules: dict[str, list[bytes]] = {}
        #: in a fork that waits for a Python job: its Landlock ruleset
        self.ruleset = -1
        self.prefork: Prefork | None = None
        #: what the prefork is for: a server's next job is most likely like its last one
        self.kind = "python"
        if self.layers.own_pids:
            self.own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    # -- start ---------------------------------------------------------------------------------------

    def prepare(self) -> str:
        """Import the modules that jobs find ready.

        :return: what failed, or an empty string.
        """
        os.environ.clear()
        os.environ.update(self.setup["environment"])
        sys.path[:] = self.setup["sys_path"]
        sys.dont_write_bytecode = True
        scratch = self.scratch.open(_IMPORT_SCRATCH, 0)
        os.environ.update(HOME=scratch, TMPDIR=scratch)
        try:
            failure = self._import_all()
        finally:
            self.scratch.close(scratch)
            os.environ.pop("TMPDIR")
            os.environ.update(self.setup["environment"])
        if failure:
            return failure
        if "numpy" in sys.modules:
            self.thread_pools = self._find_thread_pools()
        warmup.warm_server()
        for profile, program in ((self._python_profile, -1), ("tools", -1), ("program", _PROGRAM)):
            self.layers.filter_for(profile, 1, program, self.setup["drivers"] and profile != "program")
        gc.collect()
        gc.freeze()
        gc.disable()
        return ""

    def _import_all(self) -> str:
        """Import what is to be preloaded; some libraries want a folder to write to as they are imported.

        :return: what failed, or an empty string.
        """
        wanted: list[str] = []
        for package in self.setup["preload"]:
            wanted += [package, *_LAZY_SUBMODULES.get(package, ())]
        for name in wanted:
            try:
                importlib.import_module(name)
            except BaseException as error:  # noqa: BLE001 (reported to the trusted process, which raises)
                return f"cannot preload {name}: {type(error).__name__}: {error}"
        return ""

    @staticmethod
    def _find_thread_pools() -> Any:
        """The controller of BLAS and OpenMP pools, looked up once so that a job only sets a number."""
        try:
            threadpoolctl = importlib.import_module("threadpoolctl")
        except ImportError:
            return None
        return threadpoolctl.ThreadpoolController()

    # -- serving -------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Answer jobs until the trusted process hangs up."""
        while True:
            self._ready_prefork(self.kind)
            message, descriptors, _, _ = socket.recv_fds(
                self.control, frames.PACKET, frames.PACKET_DESCRIPTORS
            )
            if not message:
                break
            job = json.loads(message)
            if job["kind"] == "cancel":
                continue  # the job it meant had just ended
            self.run(job, message, descriptors)
        if self.prefork is not None:
            self.prefork.discard()

    def run(self, job: dict[str, Any], message: bytes, descriptors: list[int]) -> None:
        """Run one job and report how it ended.

        :param message: the job as it came.
        """
        self.kind = job["kind"]
        scratch = self.scratch.open(job["limits"]["scratch"], job["uid"] or 0)
        started = time.monotonic()
        prefork = self._hand_over(message, descriptors)
        pid, init, error_pipe = prefork.pid, prefork.init, prefork.error_pipe
        forks = job["kind"] == "compile" or self.setup["processes"]
        polled = scratch if scratch and not self.layers.mounts else ""
        watcher = watch.JobWatch(pid, job["limits"], forks, polled)
        if self.layers.own_pids and not forks and not job["limits"]["exclusive_core"]:
            # such a job is ended by its namespace and counted by its number: neither meets the prefork;
            # beside a timed one nothing is forked
            self._ready_prefork(self.kind)
        reason = watcher.wait(self.control.fileno())
        wall = time.monotonic() - started
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        if reason:
            os.kill(pid, signal.SIGKILL)
        self._kill_rest(pid, init)
        _, status, used = os.wait4(pid, 0)
        if init:
            os.waitpid(init, 0)
        # with namespaces, all that the job started went with the first process of its own
        clean = self.layers.own_pids or watch.kill_children()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        binary = (
            open_output(scratch, _BINARY) if job["kind"] == "compile" and status == 0 and not reason else None
        )
        clean = self.scratch.close(scratch) and clean
        report = {
            "job": job["job"],
            "status": status,
            "reason": reason,
            "wall_s": wall,
            "cpu_s": max(used_s, watcher.time.seconds if forks else 0.0),
            "peak": max(watcher.peak, used.ru_maxrss * 1024),
            "resident": _resident_bytes(),
            "clean": clean,
            "setup_error": os.read(error_pipe, 1000).decode(errors="replace"),
        }
        os.close(error_pipe)
        attached = [] if binary is None else [binary]
        socket.send_fds(self.control, [json.dumps(report).encode()], attached)
        for descriptor in attached:
            os.close(descriptor)

    # -- around a job --------------------------------------------------------------------------------

    def _ready_prefork(self, kind: str) -> Prefork:
        """The fork that waits for the next job; a new one if there is none, or none for such a job."""
        if self.prefork is not None and not self.prefork.fits(kind):
            self.prefork.discard()
            self.prefork = None
        if self.prefork is None:
            self._landlock_rules(kind)
            init = self._enter_own_pids(kind)
            self.prefork = Prefork.fork(kind, init, self.control, self._become_job, self._prepare_fork)
        return self.prefork

    def _hand_over(self, message: bytes, descriptors: list[int]) -> Prefork:
        """Give the job to the prefork, which becomes it."""
        prefork, self.prefork = self._ready_prefork(self.kind), None
        prefork.assign(message, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        return prefork

    def _enter_own_pids(self, kind: str) -> int:
        """Enter new pid and IPC namespaces for the next fork, where jobs get such.

        A program gets an init process beside it, since as the init of its namespace it could not even abort:
        the kernel shields that one from its own signals.

        :return: that init process, or 0.
        """
        if not self.layers.own_pids:
            return 0
        kernel.setns(self.own_pids, kernel.CLONE_NEWPID)
        kernel.unshare(kernel.CLONE_NEWPID | kernel.CLONE_NEWIPC)
        if runs_as_init(kind):
            return 0
        init = os.fork()
        if init == 0:
            os.closerange(0, os.sysconf("SC_OPEN_MAX"))
            while True:
                signal.pause()
        return init

    def _kill_rest(self, pid: int, init: int) -> None:
        """End whatever the job started: with its namespace, its Landlock scope, or its process group."""
        if self.layers.own_pids:
            os.kill(init or pid, signal.SIGKILL)
        elif self.layers.scoped:
            try:
                os.kill(-1, signal.SIGKILL)
            except ProcessLookupError:
                return
        else:
            try:
                os.killpg(pid, signal.SIGKILL)
            except ProcessLookupError:
                return

    def _landlock_rules(self, kind: str) -> list[bytes]:
        """The Landlock rules that all jobs of a kind share; their paths stay open here."""
        if kind not in self.rules:
            paths = self.setup["paths"]
            self.rules[kind] = confine.landlock_rules(kind, paths) if self.layers.landlock else []
        return self.rules[kind]

    # -- inside the fork -----------------------------------------------------------------------------

    def _prepare_fork(self, kind: str) -> None:
        """Do what every such job needs, while this fork waits for its own.

        :raises OSError: when the kernel refuses a view that it allowed the server.
        """
        if self.setup["own_proc"]:
            namespaces.enter_own_proc(self.setup["counters"])
        if kind != "python":
            return  # compiler or program: its ruleset depends on which
        if self.layers.landlock:
            self.ruleset = self._job_ruleset(kind)
        warmup.warm_fork()

    def _job_ruleset(self, kind: str) -> int:
        """The Landlock ruleset of a job that this fork is to become."""
        rules, drivers = self._landlock_rules(kind), self.setup["drivers"]
        return confine.job_ruleset(kind, rules, self.setup["paths"], drivers)

    def _ruleset_of(self, kind: str, scratch: str) -> int:
        """The job's Landlock ruleset; with its own folder, where that is made anew for each."""
        ruleset = self.ruleset
        if ruleset < 0:
            ruleset = self._job_ruleset(kind)
        if scratch and not self.layers.mounts:
            landlock.allow(ruleset, [landlock.rule(scratch, landlock.WORK)])
        return ruleset

    @property
    def _python_profile(self) -> str:
        """The profile of system calls of a Python job."""
        if self.setup["pools"]:
            return "pools"
        return "tools" if self.setup["processes"] else "python"

    def _become_job(self, job: dict[str, Any], descriptors: list[int]) -> None:
        """Confine this fork and run the job in it. Never returns.

        Until the candidate starts, an error goes down the last descriptor: it is ours, not the candidate's.
        """
        error_pipe = descriptors[-1]
        scratch = self.scratch.folder(job["limits"]["scratch"])
        try:
            ruleset = error_pipe  # without Landlock it is not used
            if self.layers.landlock:
                ruleset = self._ruleset_of(job["kind"], scratch)
            descriptors.insert(-1, ruleset)
            numbers = self._arrange_descriptors(job["kind"], descriptors)
            error_pipe = numbers[-1]
            self._confine(job, scratch)
            if job["kind"] == "python":
                drivers = self.setup["drivers"]
                confine.enforce(self.layers, self._python_profile, numbers[-2], drivers=drivers)
                os.close(error_pipe)
                python_job.run(numbers[0], numbers[1], job["limits"]["result"])
            else:
                self._execute(job, numbers)
        except BaseException as error:  # noqa: BLE001 (reported to the server, which still has to reap)
            os.write(error_pipe, f"{type(error).__name__}: {error}"[:900].encode())
        finally:
            os._exit(0)

    def _confine(self, job: dict[str, Any], scratch: str) -> None:
        """Everything but the last step, which leaves no right to do any of this."""
        kind, limits = job["kind"], job["limits"]
        if job["cores"]:
            os.sched_setaffinity(0, job["cores"])
        if scratch:
            os.environ.update(HOME=scratch, TMPDIR=scratch)
        os.chdir(scratch or "/")
        if kind == "python":
            self._set_threads(limits["cpus"])
        confine.apply_limits(limits, kind, self.setup["other_processes"], self.setup["drivers"])
        confine.drop_privileges(job["uid"], self.setup["keep_capabilities"] if kind == "python" else 0)
        os.umask(0o077)

    @staticmethod
    def _arrange_descriptors(kind: str, descriptors: list[int]) -> list[int]:
        """Put the standard streams at 0 to 2, the job's own descriptors after them, and close every other.

        :param descriptors: where to print, the job's own, its ruleset, and the pipe for errors.
        :return: the numbers of the latter, from 3 on.
        """
        output, *own = descriptors
        if kind == "program":
            streams = [own[0], own[1], output]
            own = own[2:]
        else:
            streams = [os.open("/dev/null", os.O_RDONLY), output, output]
        # first above any number that is still to be overwritten, then down to their places
        high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 64) for descriptor in (*streams, *own)]
        for position, descriptor in enumerate(high):
            os.dup2(descriptor, position, inheritable=position <= 2)
        os.closerange(len(high), os.sysconf("SC_OPEN_MAX"))
        return list(range(3, len(high)))

    def _set_threads(self, count: int) -> None:
        """Let BLAS and OpenMP use as many threads as the job has processors."""
        for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "BLIS", "VECLIB", "RAYON"):
            os.environ[f"{name}_NUM_THREADS"] = str(count)
        if self.thread_pools is not None and count != 1:
            self.thread_pools.limit(limits=count)
        # a program that is ended still has printed what it printed
        for stream in (sys.stdout, sys.stderr):
            reconfigure = getattr(stream, "reconfigure", None)
            if reconfigure is not None:
                reconfigure(line_buffering=True)

    def _execute(self, job: dict[str, Any], numbers: list[int]) -> None:
        """Replace this process by the compiler or by the compiled program.

        :param numbers: descriptors of the source or the program, the ruleset, the pipe for errors.
        """
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        environment = dict(os.environ)
        if job["kind"] == "program":
            confine.enforce(self.layers, "program", numbers[1], program=numbers[0])
            os.execve(numbers[0], ["program", *job["arguments"]], environment)
        source = _SOURCE + job["suffix"]
        with open(source, "wb") as file, open(numbers[0], "rb", closefd=False) as text:
            file.write(text.read())
        command = [*job["command"], "-o", _BINARY, source]
        confine.enforce(self.layers, "tools", numbers[1])
        os.execvpe(command[0], command, environment)
