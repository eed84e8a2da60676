"""The machine that this process runs on, and what control groups (cgroups) leave this process of it.

Both hierarchies are known: version 2 (one tree) and version 1 (a tree for each controller).
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator

#: What the kernel says of this process.
_PROC = pathlib.Path("/proc/self")


def memory_bytes() -> int:
    """The memory this process may use: the machine's, or less where a container or group has a limit."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [
        int(text)
        for controller, name in (("", "memory.max"), ("memory", "memory.limit_in_bytes"))
        for folder in _groups(controller)
        if (text := _read(folder / name)).isdecimal()  # "max" where there is none
    ]
    return min([machine, *limits])


def processor_quota() -> float | None:
    """How many processors' time the control groups around this process grant; ``None`` where unbounded."""
    quotas = []
    for controller, names in (("", ("cpu.max",)), ("cpu", ("cpu.cfs_quota_us", "cpu.cfs_period_us"))):
        for folder in _groups(controller):
            words = " ".join(_read(folder / name) for name in names).split()
            if len(words) == 2 and all(word.isdecimal() for word in words):  # neither "max" nor -1
                quotas.append(int(words[0]) / int(words[1]))
    return min(quotas, default=None)


def own_group(controller: str) -> tuple[pathlib.Path, pathlib.Path] | None:
    """The top of a controller's tree, and this process's group in it; ``None`` where there is none.

    :param controller: as version 1 names it; empty for version 2.
    :raises OSError: without ``/proc``.
    """
    mount = _mounts().get(controller)
    own = _own_paths().get(controller)
    return None if mount is None or own is None else (mount, mount / own.lstrip("/"))


def _groups(controller: str) -> Iterator[pathlib.Path]:
    """This process's group and all around it. In a container the inner ones may not be there to read."""
    with contextlib.suppress(OSError, ValueError):  # no such hierarchy, or a file of another form
        if found := own_group(controller):
            mount, here = found
            yield from (here, *(parent for parent in here.parents if parent.is_relative_to(mount)))


def _read(file: pathlib.Path) -> str:
    """What a file says; nothing where it cannot be read."""
    try:
        return _text(file).strip()
    except OSError:
        return ""


def _text(file: pathlib.Path) -> str:
    """All of a file of the kernel's, which names paths as they are: they need not be UTF-8."""
    return os.fsdecode(file.read_bytes())


def _mounts() -> dict[str, pathlib.Path]:
    """Controller (empty for version 2) to mount point."""
    points: dict[str, pathlib.Path] = {}
    for line in _text(_PROC / "mountinfo").split("\n")[:-1]:
        left, _, right = line.partition(" - ")
        kind, _, options = right.split()[:3]
        point = pathlib.Path(left.split()[4])
        if kind == "cgroup2":
            points[""] = point
        elif kind == "cgroup":
            points.update(dict.fromkeys(options.split(","), point))
    return points


def _own_paths() -> dict[str, str]:
    """Controller (empty for version 2) to this process's path in that tree."""
    paths: dict[str, str] = {}
    for line in _text(_PROC / "cgroup").split("\n")[:-1]:
        _, controllers, path = line.split(":", 2)
        paths.update(dict.fromkeys(controllers.split(","), path))
    return paths
