"""The executor protocol: what may be asked of a sandbox, and what comes back.

A job is data, never a callable: source text, arrays and JSON go in; checked arrays and JSON come out.
Any executor (this machine, a Ray cluster) takes the same jobs and gives the same results.
"""

from __future__ import annotations

import concurrent.futures
import enum
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

import attrs

from ttd_core.frozen import freeze
from ttd_core.types import Status

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
#: Number that the first descriptor a Python job inherits has in it; and how many there may be.
FIRST_DESCRIPTOR = 5
MOST_DESCRIPTORS = 3
#: Where programs, the compilers among them, are looked for in the sandbox.
SEARCH_PATH = "/usr/local/bin:/usr/bin:/bin"


class Level(enum.StrEnum):
    """How strongly candidate code is contained. Decided by trying, never by a version number."""

    STRONG = "strong"
    STANDARD = "standard"
    REFUSED = "refused"

    @property
    def rank(self) -> int:
        """Order of strength: higher is stronger."""
        return {Level.REFUSED: 0, Level.STANDARD: 1, Level.STRONG: 2}[self]


def _positive(_instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and value <= 0:
        raise ValueError(f"{attribute.name} must be positive, not {value!r}")


@attrs.frozen
class Limits:
    """What one job may use. Times in seconds, sizes in bytes.

    :param wall_s: wall clock.
    :param cpu_s: processor seconds of the whole tree; ``None`` means ``wall_s * cpus``.
    :param cpus: processors the job may use at once.
    :param memory: resident memory of the whole tree.
    :param processes: processes and threads together.
    :param output: bytes printed before the job is stopped.
    :param output_kept: bytes of printed output kept, from its end.
    :param result: bytes of the result.
    :param scratch: bytes in the job's own writable folder; 0 gives it none.
    :param exclusive_core: pin the job to a core that no other job of this executor shares.
    """

    wall_s: float = attrs.field(default=60.0, validator=_positive)
    cpu_s: float | None = attrs.field(default=None, validator=_positive)
    cpus: int = attrs.field(default=1, validator=_positive)
    memory: int = attrs.field(default=1 * GIB, validator=_positive)
    processes: int = attrs.field(default=64, validator=_positive)
    output: int = attrs.field(default=64 * MIB, validator=_positive)
    output_kept: int = attrs.field(default=64 * KIB, validator=_positive)
    result: int = attrs.field(default=64 * MIB, validator=_positive)
    scratch: int = 0
    exclusive_core: bool = False


@attrs.frozen
class Access:
    """What a job may reach beyond the usual; the problem's choice, never a candidate's.

    :param devices: device nodes, read and write (``/dev/nvidia0``). With any, the memory limit holds for
        resident bytes alone, since drivers reserve far more address space than they use.
    :param readable: further files and folders, read only (a CUDA toolkit).
    :param executables: files and folders whose programs it may execute (compilers), read only. With any,
        the job may start processes; all of them count against its limits and end with it.
    :param environment: further variables, as (name, value) pairs; also for the loader of shared libraries
        (``LD_LIBRARY_PATH``), since they are there before the interpreter starts.
    :param pools: whether its processes work together as pools do: they signal each other, share memory and
        semaphores through a ``/dev/shm`` in the job's scratch folder (``shm`` there, which the job makes),
        start what they made in that folder, and talk over pairs of sockets. Only in namespaces, where nobody
        else is there to be reached; elsewhere it means nothing.
    :param links: symbolic links in the view of the file system, as (path, target) pairs, where nothing else
        is. Only in namespaces.
    """

    devices: tuple[str, ...] = ()
    readable: tuple[str, ...] = ()
    executables: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    pools: bool = False
    links: tuple[tuple[str, str], ...] = ()


@attrs.frozen(eq=False)
class PythonJob:
    """Call one function that candidate source defines.

    The namespace is filled in this order: ``inject`` (data), then ``helpers`` (our own source, which may
    use the injected data), then the candidate's ``source``; last, ``entry(*args, **kwargs)`` is called
    and its return value sent back as JSON and arrays (a tuple comes back as a list).

    :param source: the candidate's program.
    :param entry: name of the function to call.
    :param args: positional arguments, JSON or arrays.
    :param kwargs: keyword arguments, JSON or arrays.
    :param inject: global names set before anything runs, JSON or arrays.
    :param helpers: trusted Python source run before the candidate's, in the same namespace.
    :param preload: modules imported by the (warm) server before any job; an allow-list decided by us.
    :param limits: what it may use.
    :param access: what it may reach beyond the usual.
    :param descriptors: open descriptors of this process that the job inherits, numbered from
        :data:`FIRST_DESCRIPTOR` on: a pipe to talk through while it runs, memory to share. At most
        :data:`MOST_DESCRIPTORS`, open until the job has ended. Only an executor of this machine takes them.
    """

    source: str
    entry: str
    args: Sequence[Any] = attrs.field(factory=list, converter=freeze)
    kwargs: Mapping[str, Any] = attrs.field(factory=dict, converter=freeze)
    inject: Mapping[str, Any] = attrs.field(factory=dict, converter=freeze)
    helpers: str = ""
    preload: tuple[str, ...] = ()
    limits: Limits = attrs.field(factory=Limits)
    access: Access = attrs.field(factory=Access)
    descriptors: tuple[int, ...] = attrs.field(
        default=(), validator=attrs.validators.max_len(MOST_DESCRIPTORS)
    )


@attrs.frozen
class Artifact:
    """A compiled program held by the executor that compiled it.

    It is held as long as this object lives; then it may be forgotten for others, and be compiled again.

    :param digest: SHA-256 of compiler, source and command; the key of the compile cache.
    """

    digest: str


@attrs.frozen(eq=False)
class CompileJob:
    """Compile untrusted source to a program; the result's ``artifact`` is set when it succeeds.

    The compiler reads the system's headers and libraries and, of all devices, ``/dev/null`` alone. A text
    that UTF-8 cannot hold is refused as a syntax error.

    :param source: the program's text.
    :param command: the compiler and its flags, without input and output names
        (``("g++", "-std=gnu++20", "-O2")``); the executor adds both.
    :param suffix: file name suffix of the source.
    :param limits: what it may use; ``result`` bounds the program, and every file made on the way to it.
    """

    source: str
    command: tuple[str, ...] = ("g++", "-std=gnu++20", "-O2")
    suffix: str = ".cpp"
    limits: Limits = attrs.field(
        factory=lambda: Limits(wall_s=60.0, memory=2 * GIB, scratch=256 * MIB, output=MIB, result=32 * MIB)
    )


@attrs.frozen(eq=False)
class ProgramJob:
    """Run a compiled program on one input; the result's ``stdout`` holds what it wrote.

    :param artifact: from a :class:`CompileJob` of the same executor.
    :param stdin: bytes fed to it.
    :param arguments: command-line arguments.
    """

    artifact: Artifact
    stdin: bytes = b""
    arguments: tuple[str, ...] = ()
    limits: Limits = attrs.field(factory=Limits)


#: What an executor runs.
Job = PythonJob | CompileJob | ProgramJob


@attrs.frozen(eq=False)
class JobResult:
    """What came back from a job; a failed job is a status, never an exception.

    :param status: ``OK``, or why there is no value.
    :param message: one line: the error and its line in the candidate, the limit that was hit.
    :param value: what the function returned (JSON and read-only arrays); ``None`` unless ok.
    :param output: tail of standard output and error, undecodable bytes replaced.
    :param output_bytes: how many bytes were printed in all.
    :param stdout: a program job's standard output, whole (capped by ``limits.result``).
    :param artifact: a compile job's program.
    :param wall_s: seconds from start to end of the job.
    :param cpu_s: processor seconds of its whole tree.
    :param peak_memory: highest resident bytes seen, whole tree.
    :param level: the sandbox level it ran at.
    :param retries: how often it was run again because the infrastructure failed.
    """

    status: Status
    message: str = ""
    value: Any = None
    output: str = ""
    output_bytes: int = 0
    stdout: bytes = b""
    artifact: Artifact | None = None
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_memory: int = 0
    level: Level = Level.REFUSED
    retries: int = 0

    @property
    def ok(self) -> bool:
        """Whether there is a value (or an artifact, or a program's output) to look at."""
        return self.status is Status.OK


class Executor(Protocol):
    """Runs jobs in a sandbox. Thread-safe; closing it leaves no process behind."""

    @property
    def level(self) -> Level:
        """The isolation this executor gives every job."""
        ...

    @property
    def workers(self) -> int:
        """How many jobs run at once; ``submit`` blocks when twice as many wait."""
        ...

    def submit(self, job: Job) -> concurrent.futures.Future[JobResult]:
        """Queue a job. Cancelling the future kills a running job."""
        ...

    def run(self, job: Job) -> JobResult:
        """Run a job and wait for it."""
        ...

    def close(self) -> None:
        """Kill what runs, drop what waits, and release every process, descriptor and file."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
