"""The GPUs of this machine: which there are, which an option chooses, and one candidate on each at a time."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import pathlib
import tempfile
import threading
from collections.abc import Iterator, Sequence

import torch

from ttd_core.errors import EnvironmentLacksError, UsageError

#: The device on which kernels are interpreted where there is no GPU.
CPU = "cpu"


class NoGpuError(EnvironmentLacksError):
    """Times are asked for on a machine without a GPU."""


@functools.cache
def count() -> int:
    """How many GPUs there are."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def chosen(wanted: str) -> list[str]:
    """Device names (``cuda:0``) for the option ``devices``.

    :param wanted: ``auto`` for all GPUs, or the CPU where there is none; ``cpu``; or numbers (``0,2``).
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
    """Refuse to take times where there is no GPU.

    :param name: of the problem, for the message.
    :raises NoGpuError: when none of the devices is a GPU.
    """
    if list(devices) == [CPU]:
        raise NoGpuError(
            f"{name} is scored by the time its kernels take on a GPU, and no GPU was found here; run it on a "
            "machine with an NVIDIA GPU, or check single programs for correctness with `ttd eval`"
        )


class DevicePool:
    """Lends devices, each to one candidate at a time, among all processes of this machine.

    :param devices: their names; one that is named twice is lent twice.
    """

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
            with _locked(device):
                yield device
        finally:
            with self._changed:
                self._free.append(device)
                self._changed.notify()


@functools.cache
def device_pool(devices: tuple[str, ...]) -> DevicePool:
    """The pool of these devices that all problems of this process share."""
    return DevicePool(devices)


@contextlib.contextmanager
def _locked(device: str) -> Iterator[None]:
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
