"""What of this machine's files a job may see: the interpreter, its libraries, the compilers. Nothing else.

Installed problem plugins and ttd itself are left out even though they lie among the libraries: they ship
best known answers and verifiers, which a candidate has no business reading.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import pathlib
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
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
#: Where a job's own folder appears when it is a tmpfs made for it.
SCRATCH = "/scratch/job"
#: Folders that libraries expect to find; empty, and closed to writing.
EMPTY = ("/dev/shm", "/tmp")


@attrs.frozen
class Layout:
    """Where the interpreter's files are; inside the sandbox the paths are the same.

    :param python: the interpreter's executable.
    :param search: entries of ``sys.path`` for jobs.
    :param prefix: folders of the interpreter itself.
    :param libraries: site-packages folders.
    :param hidden: entries of ``libraries`` that jobs must not see.
    :param program: the folder of this package, whose ``inside`` runs in the sandbox.
    """

    python: str
    search: tuple[str, ...]
    prefix: tuple[str, ...]
    libraries: tuple[str, ...]
    hidden: tuple[str, ...]
    program: str

    def readable(self, covered: bool) -> list[str]:
        """Every path a Python job may read.

        :param covered: whether the hidden ones are covered by mounts; else their neighbours are listed.
        """
        paths = [*SYSTEM, *SETTINGS, *KERNEL_FACTS, *self.prefix]
        if covered:
            return [*paths, *self.libraries]
        hidden = set(self.hidden)
        for folder in self.libraries:
            paths += [entry.path for entry in os.scandir(folder) if entry.path not in hidden]
        return paths


def _outermost(paths: Iterable[str]) -> tuple[str, ...]:
    """Existing paths without those that lie beneath another, sorted."""
    outermost: list[str] = []
    for path in sorted({os.path.realpath(path) for path in paths if os.path.exists(path)}):
        if not any(path == parent or path.startswith(parent + "/") for parent in outermost):
            outermost.append(path)
    return tuple(outermost)


def _library_folders() -> list[str]:
    names = {"site-packages", "dist-packages"}
    listed = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *sys.path]
    folders = [os.path.realpath(path) for path in listed if pathlib.Path(path).name in names]
    return [path for path in dict.fromkeys(folders) if os.path.isdir(path)]


def _hidden_in(folders: list[str]) -> tuple[str, ...]:
    """Files of every distribution that brings problems or plugins, and of ttd itself."""
    hidden: set[str] = set()
    for distribution in importlib.metadata.distributions(path=folders):
        groups = {point.group for point in distribution.entry_points}
        if not groups & {"ttd.problems", "ttd.plugins"}:
            continue
        for file in distribution.files or ():
            top = pathlib.Path(os.path.realpath(str(distribution.locate_file(file.parts[0]))))
            if str(top.parent) in folders:
                hidden.add(str(top))
    for folder in folders:
        for entry in os.scandir(folder):
            if entry.name.startswith(("ttd_", "__editable__")):
                hidden.add(entry.path)
    return tuple(sorted(hidden))


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
    return Layout(
        python=python,
        search=tuple(dict.fromkeys([*(search or [os.path.join(base, "lib", version)]), *libraries])),
        prefix=_outermost(path for path in prefix if not path.startswith("/usr/")),
        libraries=tuple(libraries),
        hidden=_hidden_in(libraries),
        program=str(pathlib.Path(__file__).parent),
    )
