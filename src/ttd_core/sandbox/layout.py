"""What of this machine's files a job may see: the interpreter, its libraries, the compilers. Nothing else.

Installed problem plugins and ttd itself are left out even though they lie among the libraries: they ship
best known answers and verifiers, which a candidate has no business reading.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import pathlib
import re
import sys
import sysconfig
from collections.abc import Iterable

import attrs

#: Folders of the system that hold shared libraries, headers and compilers.
SYSTEM = ("/usr", "/lib", "/lib64", "/lib32", "/libx32", "/bin", "/sbin")
#: Single files that programs and libraries read as they start.
SETTINGS = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime")
#: Kernel facts that libraries ask for; nothing about any process.
KERNEL_FACTS = (
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/sys/vm/overcommit_memory",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/sys/kernel/mm/transparent_hugepage",
)
#: Those that count what the whole machine does: shown as they were, where a mount can do that.
COUNTERS = ("/proc/cpuinfo", "/proc/meminfo", "/proc/stat")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
#: Where a job's own folder appears when it is a tmpfs made for it.
SCRATCH = "/scratch/job"
#: Where libraries make the memory and the semaphores that processes share.
SHARED_MEMORY = "/dev/shm"
#: Folders that libraries expect to find; empty, and closed to writing.
EMPTY = (SHARED_MEMORY, "/tmp")

_LIBRARY_NAMES = frozenset({"site-packages", "dist-packages"})
_OURS = frozenset({"ttd.problems", "ttd.plugins"})
#: Folders that are large and hold no installed Python.
_WITHOUT_LIBRARIES = frozenset(
    {"doc", "firmware", "headers", "icons", "include", "info", "locale", "man", "modules", "node_modules"}
    | {"zoneinfo", "__pycache__"}
)
#: A folder of the system itself, which compilers and libraries need whoever works in it.
_SYSTEM_FOLDER = re.compile(
    r"/[^/]*|/usr/[^/]*|/usr/local/(bin|etc|include|lib|lib32|lib64|libexec|sbin|share)"
)


@attrs.frozen
class Layout:
    """Where the interpreter's files are; inside the sandbox the paths are the same.

    :param python: the interpreter's executable.
    :param search: entries of ``sys.path`` for jobs.
    :param prefix: folders of the interpreter itself.
    :param libraries: site-packages folders.
    :param hidden: what of these, and of the system's folders, jobs must not see.
    :param program: the folder of this package, whose ``inside`` runs in the sandbox.
    :param unused: more that no job needs, hidden where a mount can do that.
    """

    python: str
    search: tuple[str, ...]
    prefix: tuple[str, ...]
    libraries: tuple[str, ...]
    hidden: tuple[str, ...]
    program: str
    unused: tuple[str, ...] = ()

    def system(self) -> list[str]:
        """The system's folders and settings that jobs of every kind may read, without what is hidden."""
        return [path for root in (*SYSTEM, *SETTINGS) for path in self._shown_of(root)]

    def readable(self, covered: bool) -> list[str]:
        """Every path a Python job may read.

        :param covered: whether the hidden ones are covered by mounts; else their neighbours are listed.
        """
        paths = [*KERNEL_FACTS]
        if not covered:
            prefix = [path for root in self.prefix for path in self._shown_of(root)]
            libraries = [path for folder in self.libraries for path in self._shown_of(folder)]
            return [*paths, *self.system(), *prefix, *libraries]
        paths += [*SYSTEM, *SETTINGS, *self.prefix]
        for folder in self.libraries:
            cache = os.path.join(folder, "__pycache__")
            # a cache that is to be hidden and is not there yet cannot be covered
            paths += [folder] if cache not in self.hidden or os.path.isdir(cache) else self._shown_of(folder)
        return paths

    @property
    def covered(self) -> list[str]:
        """What of the hidden is there to be covered by a mount; nothing beneath another."""
        there = [path for path in dict.fromkeys((*self.hidden, *self.unused)) if os.path.lexists(path)]
        return [path for path in there if not any(_is_beneath(path, other) for other in there)]

    def _shown_of(self, root: str) -> list[str]:
        """What is to be seen of a tree: itself, or the neighbours of what is hidden in it."""
        return _without(os.path.realpath(root), self.hidden)


def _is_beneath(path: str, folder: str) -> bool:
    return path.startswith(folder + "/")


def _without(path: str, hidden: tuple[str, ...]) -> list[str]:
    """Trees that together are the one of ``path`` without the hidden ones."""
    if any(path == other or _is_beneath(path, other) for other in hidden):
        return []
    if not any(_is_beneath(other, path) for other in hidden):
        return [path]
    inner = tuple(other for other in hidden if _is_beneath(other, path))
    with os.scandir(path) as entries:
        return [shown for entry in entries for shown in _without(entry.path, inner)]


def _outermost(paths: Iterable[str]) -> tuple[str, ...]:
    """Existing paths without those that lie beneath another, sorted."""
    outermost: list[str] = []
    for path in sorted({os.path.realpath(path) for path in paths if os.path.exists(path)}):
        if not any(path == parent or path.startswith(parent + "/") for parent in outermost):
            outermost.append(path)
    return tuple(outermost)


def _library_folders() -> list[str]:
    listed = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *sys.path]
    folders = [os.path.realpath(path) for path in listed if pathlib.Path(path).name in _LIBRARY_NAMES]
    return [path for path in dict.fromkeys(folders) if os.path.isdir(path)]


def _folders_in(roots: Iterable[str], names: Iterable[str]) -> list[str]:
    """Every folder of one of ``names`` in some trees, however deep; not those inside of such."""
    found = []
    waiting = list(_outermost(roots))
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.name in names and entry.is_dir():
                        found.append(os.path.realpath(entry.path))
                    elif entry.name not in _WITHOUT_LIBRARIES and entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:
            continue  # closed to us, so to jobs
    return list(dict.fromkeys(found))


def _hidden_in(folders: list[str]) -> tuple[str, ...]:
    """Files of every distribution that brings problems or plugins, and of ttd itself.

    :param folders: site-packages folders.
    """
    hidden: set[str] = set()
    for distribution in importlib.metadata.distributions(path=folders):
        points = [point for point in distribution.entry_points if point.group in _OURS]
        if points:
            hidden |= _files_of(distribution, folders)
            names = {point.module.partition(".")[0] for point in points}
            hidden |= {f"{folder}/{name}{end}" for folder in folders for name in names for end in ("", ".py")}
    for folder in folders:
        for entry in os.scandir(folder):
            if entry.name.startswith(("ttd_", "__editable__", "_editable_impl_")):
                hidden.add(entry.path)
    hidden = {path for path in hidden if os.path.lexists(path)}
    # a module that is one file has its bytecode beside that of others; if not yet, whenever it is imported
    hidden |= {f"{os.path.dirname(path)}/__pycache__" for path in hidden if path.endswith(".py")}
    return tuple(sorted(hidden))


def _files_of(distribution: importlib.metadata.Distribution, folders: list[str]) -> set[str]:
    """The outermost entries that hold a distribution's files; of those elsewhere (``share``), each file."""
    found = set()
    for file in distribution.files or ():
        whole = os.path.realpath(str(distribution.locate_file(file)))
        folder = next((folder for folder in folders if _is_beneath(whole, folder)), "")
        found.add(f"{folder}/{whole[len(folder) + 1 :].partition('/')[0]}" if folder else whole)
    return found


def _own_folders() -> list[str]:
    """Where sources of ours and of problems lie beside the libraries: the working folder, and paths added."""
    paths = {os.path.realpath(path) for path in (os.getcwd(), *sys.path) if os.path.isdir(path or ".")}
    standard = os.path.realpath(sysconfig.get_path("stdlib"))
    return [
        path
        for path in sorted(paths)
        if pathlib.Path(path).name not in _LIBRARY_NAMES
        and path != standard
        and not _is_beneath(path, standard)
        and not _SYSTEM_FOLDER.fullmatch(path)
    ]


def _not_for_jobs(libraries: list[str], prefix: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What lies in trees which jobs see, and is not for them; and what no job needs.

    Every site-packages there is searched, also that of the base interpreter of a virtual environment, which
    no job imports from. What lies in the working folder is hidden, should that be in such a tree.
    """
    roots = _outermost([*SYSTEM, *prefix])
    folders = [path for path in _folders_in(roots, _LIBRARY_NAMES) if path not in libraries]
    needed = [*libraries, *prefix, str(pathlib.Path(__file__).parent / "inside")]
    own = [path for path in _own_folders() if any(_is_beneath(path, root) for root in roots)]
    hidden = {path for folder in own for path in _beside(folder, needed)}
    seen = _outermost([*roots, *libraries])
    hidden.update(
        path for path in _hidden_in([*libraries, *folders]) if any(_is_beneath(path, root) for root in seen)
    )
    sources = [path for path in ("/usr/src", "/usr/local/src") if os.path.isdir(path)]
    unused = [path for folder in (*folders, *sources) for path in _beside(folder, needed)]
    return tuple(sorted(hidden)), tuple(unused)


def _beside(folder: str, needed: list[str]) -> list[str]:
    """A folder, or all in it but what is needed."""
    if folder in needed:
        return []
    if not any(_is_beneath(path, folder) for path in needed):
        return [folder]
    with os.scandir(folder) as entries:
        return [path for entry in entries for path in _beside(entry.path, needed)]


@functools.cache
def find() -> Layout:
    """The layout of the running interpreter."""
    base = sys.base_prefix
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    standard = sysconfig.get_path("stdlib")
    libraries = _library_folders()
    python = os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)
    prefix = [os.path.join(base, "lib"), os.path.join(base, "bin"), standard, python]
    search = [
        path
        for path in sys.path
        if path.startswith(base) and pathlib.Path(path).name not in {"site-packages"}
    ]
    outermost = _outermost(path for path in prefix if not path.startswith("/usr/"))
    hidden, unused = _not_for_jobs(libraries, outermost)
    return Layout(
        python=python,
        search=tuple(dict.fromkeys([*(search or [os.path.join(base, "lib", version)]), *libraries])),
        prefix=outermost,
        libraries=tuple(libraries),
        hidden=hidden,
        program=str(pathlib.Path(__file__).parent),
        unused=unused,
    )
