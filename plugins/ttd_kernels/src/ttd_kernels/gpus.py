"""The GPUs of this machine: which there are, what a job needs to reach one, one candidate on each."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import glob
import os
import pathlib
import sysconfig
import tempfile
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from ttd_core.errors import EnvironmentLacksError, UsageError
from ttd_core.sandbox.base import Access

#: The device on which kernels are interpreted where there is no GPU.
CPU = "cpu"
#: Device nodes that every program with a GPU needs beside the GPU's own.
_SHARED_NODES = ("/dev/nvidiactl", "/dev/nvidia-uvm")
#: What Triton and torch's extension loader start: a C compiler, an assembler, the loader's configuration.
_TOOLS = (
    "/usr/bin/gcc",
    "/usr/bin/g++",
    "/usr/bin/cc",
    "/usr/bin/c++",
    "/usr/bin/ld",
    "/usr/bin/as",
    "/usr/bin/x86_64-linux-gnu-gcc",
    "/usr/bin/x86_64-linux-gnu-g++",
    "/usr/bin/aarch64-linux-gnu-gcc",
    "/usr/bin/ninja",
    "/usr/bin/env",
    "/bin/sh",
    "/usr/lib/gcc",
    "/usr/libexec/gcc",
    "/sbin/ldconfig",
    "/sbin/ldconfig.real",
)
#: A name for libraries that ask who runs them: a job's user id has none.
_USER = ("USER", "candidate")
_TOOLKITS = ("/usr/local/cuda", "/opt/cuda")


class NoGpuError(EnvironmentLacksError):
    """Times are asked for on a machine without a GPU."""


@functools.cache
def count() -> int:
    """How many GPUs there are."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def chosen(wanted: str) -> list[str]:
    """Device names for an option: all GPUs for ``auto``, else those listed (``0,2``); the CPU where none is.

    :raises UsageError: for a number that no GPU has.
    """
    if wanted == CPU or (wanted == "auto" and not count()):
        return [CPU]
    if wanted == "auto":
        return [f"cuda:{index}" for index in range(count())]
    numbers = [part.strip() for part in wanted.split(",")]
    for number in numbers:
        if not number.isdigit() or int(number) >= count():
            raise UsageError(
                f"devices = {wanted}: there is no GPU {number!r} here ({count()} found); use auto or cpu"
            )
    return [f"cuda:{int(number)}" for number in dict.fromkeys(numbers)]


def require(devices: Sequence[str], name: str) -> None:
    """:raises NoGpuError: when none of the devices is a GPU."""
    if list(devices) == [CPU]:
        raise NoGpuError(
            f"{name} is scored by the time its kernels take on a GPU, and no GPU was found here; run it on a "
            "machine with an NVIDIA GPU, or check single programs for correctness with `ttd eval`"
        )


class Pool:
    """Lends devices, each to one candidate at a time, among all processes of this machine."""

    def __init__(self, devices: Sequence[str]) -> None:
        self._free = list(devices)
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def lend(self) -> Iterator[str]:
        """A device, once one is free."""
        with self._changed:
            while not self._free:
                self._changed.wait()
            device = self._free.pop(0)
        try:
            with _alone_on(device):
                yield device
        finally:
            with self._changed:
                self._free.append(device)
                self._changed.notify()


@functools.cache
def pool(devices: tuple[str, ...]) -> Pool:
    """The pool of these devices that all problems of this process share."""
    return Pool(devices)


@contextlib.contextmanager
def _alone_on(device: str) -> Iterator[None]:
    """Hold a lock that other processes of this machine hold too; kernels on the CPU need none."""
    if device == CPU:
        yield
        return
    properties = torch.cuda.get_device_properties(torch.device(device))
    path = pathlib.Path(tempfile.gettempdir(), f"ttd-gpu-{os.getuid()}-{properties.uuid}.lock")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def access(device: str) -> Access:
    """What a job on a device may reach: the driver's nodes, a compiler, Triton's assembler."""
    if device == CPU:
        return Access(environment=(("TRITON_INTERPRET", "1"), _USER))
    site = sysconfig.get_path("purelib")
    packages = os.path.dirname(os.path.dirname(torch.__file__))
    assembler = os.path.join(packages, "triton", "backends", "nvidia", "bin")
    toolkits = [os.path.realpath(path) for path in (os.environ.get("CUDA_HOME", ""), *_TOOLKITS) if path]
    toolkits = [path for path in dict.fromkeys(toolkits) if os.path.isdir(path)]
    own = os.path.join(os.path.dirname(torch.__file__), "bin", "ptxas")
    tools = [*_TOOLS, os.path.join(site, "ninja"), assembler, own, *_programs(toolkits)]
    environment = [(name, os.environ[name]) for name in ("LD_LIBRARY_PATH",) if name in os.environ]
    environment += [("CC", "/usr/bin/gcc"), ("CXX", "/usr/bin/g++"), ("MAX_JOBS", "4")]
    # its own processes to compile in would talk over sockets, which the sandbox has none of
    environment += [("TORCHINDUCTOR_COMPILE_THREADS", "1"), _USER]
    if toolkits:
        environment += [("CUDA_HOME", toolkits[0])]
    programs = [*(f"{path}/bin" for path in toolkits), "/usr/local/bin", "/usr/bin", "/bin"]
    environment += [("PATH", ":".join(programs))]
    readable = [path for path in ("/usr/local/nvidia", *toolkits) if os.path.isdir(path)]
    return Access(
        devices=(node(device), *(path for path in _SHARED_NODES if os.path.exists(path))),
        readable=tuple(readable),
        executables=tuple(path for path in tools if os.path.exists(path)),
        environment=tuple(environment),
    )


def _programs(toolkits: Sequence[str]) -> list[str]:
    return [os.path.join(path, part) for path in toolkits for part in ("bin", "nvvm/bin")]


def node(device: str) -> str:
    """The device node of a GPU: its minor number need not be torch's index.

    :raises NoGpuError: when it cannot be told which it is.
    """
    properties: Any = torch.cuda.get_device_properties(torch.device(device))
    place = f"{properties.pci_domain_id:04x}:{properties.pci_bus_id:02x}:{properties.pci_device_id:02x}.0"
    facts = pathlib.Path("/proc/driver/nvidia/gpus", place, "information")
    if facts.is_file():
        for line in facts.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "Device Minor":
                return f"/dev/nvidia{int(value)}"
    found = sorted(path for path in glob.glob("/dev/nvidia[0-9]*"))
    if len(found) == 1:
        return found[0]
    raise NoGpuError(f"{device}: cannot tell which of {', '.join(found) or 'no device nodes'} it is")
