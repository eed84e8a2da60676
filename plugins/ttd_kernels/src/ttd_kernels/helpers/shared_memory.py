"""Memory that two processes share: on the CPU a file in memory, on a GPU an allocation behind a descriptor.

The judge allocates it (:class:`SharedMemory`) and the candidate's process maps it (:func:`attach`); both see
one flat tensor of bytes. On a GPU this is the driver's virtual memory interface (``cuMemCreate``,
``cuMemExportToShareableHandle``): what is written by one process is read by the other in place.

The judge imports this module; the candidate's process gets its source (``boot.py``).
"""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Any

import torch

_PINNED = 1
_POSIX_DESCRIPTOR = 1
_ON_DEVICE = 1
_READ_WRITE = 3
#: Bytes at the beginning of the inputs' memory that hold the two semaphores of a call, and where those lie:
#: one says that all inputs are there, the other that all outputs are.
HEADER_BYTES = 512
START_OFFSET, DONE_OFFSET = 0, 256


class _Location(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("id", ctypes.c_int)]


class _Flags(ctypes.Structure):
    _fields_ = [
        ("compression", ctypes.c_ubyte),
        ("rdma", ctypes.c_ubyte),
        ("usage", ctypes.c_ushort),
        ("reserved", ctypes.c_ubyte * 4),
    ]


class _Properties(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("handle_types", ctypes.c_int),
        ("location", _Location),
        ("windows", ctypes.c_void_p),
        ("flags", _Flags),
    ]


class _Permission(ctypes.Structure):
    _fields_ = [("location", _Location), ("flags", ctypes.c_int)]


class _Driver:
    """The few calls of libcuda that are needed here; each checked."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libcuda.so.1")

    def call(self, name: str, *arguments: Any) -> None:
        """:raises OSError: naming the call and the driver's error."""
        code = getattr(self._library, name)(*arguments)
        if code:
            error_name = ctypes.c_char_p()
            self._library.cuGetErrorName(code, ctypes.byref(error_name))
            raise OSError(f"{name}: {(error_name.value or b'error').decode()} ({code})")


class _MappedRange:
    """A mapped range of device memory, in the form from which torch makes a tensor without copying."""

    def __init__(self, address: int, size: int) -> None:
        self.__cuda_array_interface__ = {
            "shape": (size,),
            "typestr": "|u1",
            "data": (address, False),
            "version": 3,
        }


def _allocation_properties(index: int) -> _Properties:
    return _Properties(_PINNED, _POSIX_DESCRIPTOR, _Location(_ON_DEVICE, index), None, _Flags())


def _make_current(device: str) -> int:
    """Make the device's context current in this thread; returns the device's number."""
    index = torch.device(device).index or 0
    torch.cuda.set_device(index)
    torch.zeros(1, device=device)
    return index


def _map(driver: _Driver, handle: ctypes.c_uint64, size: int, device: str, index: int) -> torch.Tensor:
    address = ctypes.c_uint64()
    length = ctypes.c_size_t(size)
    driver.call(
        "cuMemAddressReserve",
        ctypes.byref(address),
        length,
        ctypes.c_size_t(0),
        ctypes.c_uint64(0),
        ctypes.c_uint64(0),
    )
    driver.call("cuMemMap", address, length, ctypes.c_size_t(0), handle, ctypes.c_uint64(0))
    permission = _Permission(_Location(_ON_DEVICE, index), _READ_WRITE)
    driver.call("cuMemSetAccess", address, length, ctypes.byref(permission), ctypes.c_size_t(1))
    return torch.as_tensor(_MappedRange(int(address.value), size), device=device)


def allocation_size(size: int, device: str) -> int:
    """The least size of shared memory that holds ``size`` bytes: a multiple of what the device allocates."""
    unit = mmap.PAGESIZE
    if device != "cpu":
        granularity = ctypes.c_size_t()
        wanted = _allocation_properties(_make_current(device))
        _Driver().call(
            "cuMemGetAllocationGranularity", ctypes.byref(granularity), ctypes.byref(wanted), ctypes.c_int(1)
        )
        unit = granularity.value
    return -(-max(size, 1) // unit) * unit


class SharedMemory:
    """Shared memory that this process allocated.

    ``descriptor`` is what another process attaches, ``bytes`` the memory as a tensor: uint8 [size].

    :param size: bytes, as :func:`allocation_size` gives them.
    :param device: ``cpu``, or ``cuda:0`` and so on.
    :raises OSError: when the driver refuses.
    """

    def __init__(self, size: int, device: str) -> None:
        self.size = size
        self._address = 0
        if device == "cpu":
            self.descriptor = os.memfd_create("shared", os.MFD_CLOEXEC)
            os.ftruncate(self.descriptor, size)
            self.bytes = attach(self.descriptor, size, device)
            return
        index = _make_current(device)
        self._driver = _Driver()
        handle, wanted, descriptor = ctypes.c_uint64(), _allocation_properties(index), ctypes.c_int()
        self._driver.call(
            "cuMemCreate",
            ctypes.byref(handle),
            ctypes.c_size_t(size),
            ctypes.byref(wanted),
            ctypes.c_uint64(0),
        )
        self._driver.call(
            "cuMemExportToShareableHandle",
            ctypes.byref(descriptor),
            handle,
            ctypes.c_int(_POSIX_DESCRIPTOR),
            ctypes.c_uint64(0),
        )
        self.descriptor = descriptor.value
        self.bytes = _map(self._driver, handle, size, device, index)
        self._address = self.bytes.data_ptr()
        # the mapping keeps the memory; the handle is not needed for that
        self._driver.call("cuMemRelease", handle)

    def close(self) -> None:
        """Give the memory back; tensors in it must not be used afterwards."""
        os.close(self.descriptor)
        if self._address:
            torch.cuda.synchronize(self.bytes.device)
            self._driver.call("cuMemUnmap", ctypes.c_uint64(self._address), ctypes.c_size_t(self.size))
            self._driver.call("cuMemAddressFree", ctypes.c_uint64(self._address), ctypes.c_size_t(self.size))


def attach(descriptor: int, size: int, device: str) -> torch.Tensor:
    """Shared memory that another process allocated: uint8 [size].

    :raises OSError: when it cannot be mapped.
    """
    if device == "cpu":
        return torch.frombuffer(mmap.mmap(descriptor, size), dtype=torch.uint8)
    index = _make_current(device)
    driver, handle = _Driver(), ctypes.c_uint64()
    driver.call(
        "cuMemImportFromShareableHandle",
        ctypes.byref(handle),
        ctypes.c_void_p(descriptor),
        ctypes.c_int(_POSIX_DESCRIPTOR),
    )
    return _map(driver, handle, size, device, index)


class _Copy2D(ctypes.Structure):
    _fields_ = [
        ("source_x", ctypes.c_size_t),
        ("source_y", ctypes.c_size_t),
        ("source_type", ctypes.c_int),
        ("source_host", ctypes.c_void_p),
        ("source_device", ctypes.c_uint64),
        ("source_array", ctypes.c_void_p),
        ("source_pitch", ctypes.c_size_t),
        ("target_x", ctypes.c_size_t),
        ("target_y", ctypes.c_size_t),
        ("target_type", ctypes.c_int),
        ("target_host", ctypes.c_void_p),
        ("target_device", ctypes.c_uint64),
        ("target_array", ctypes.c_void_p),
        ("target_pitch", ctypes.c_size_t),
        ("width", ctypes.c_size_t),
        ("height", ctypes.c_size_t),
    ]


#: Kinds of memory of a copy.
_HOST, _DEVICE = 1, 2


class CopyToHost:
    """Copies rows of a GPU's memory into pinned memory of the host: a copy engine's work, not the kernels'
    engine's, for which processes take turns."""

    def __init__(self) -> None:
        self._driver = _Driver()

    def rows(self, target: int, source: int, width: int, pitch: int, count: int, stream: int) -> None:
        """Queue a copy.

        :param target: address in pinned memory of the host; the rows lie there without gaps.
        :param source: address of the first row on the GPU.
        :param width: bytes of a row.
        :param pitch: bytes from one row to the next on the GPU.
        :param count: how many rows.
        :param stream: the driver's handle.
        :raises OSError: when the driver refuses.
        """
        if count == 1:
            where = ctypes.c_void_p(target), ctypes.c_uint64(source), ctypes.c_size_t(width)
            self._driver.call("cuMemcpyDtoHAsync_v2", *where, ctypes.c_void_p(stream))
            return
        copy = _Copy2D(
            source_type=_DEVICE,
            source_device=source,
            source_pitch=pitch,
            target_type=_HOST,
            target_host=target,
            target_pitch=width,
            width=width,
            height=count,
        )
        self._driver.call("cuMemcpy2DAsync_v2", ctypes.byref(copy), ctypes.c_void_p(stream))


class Semaphore:
    """A number in memory that streams of several processes wait for and raise (a timeline semaphore).

    Both are the GPU's own doing (``cuStreamWaitValue32``, ``cuStreamWriteValue32``): a wait keeps neither the
    host nor a multiprocessor busy, and what is queued behind it starts without either when the value comes.

    :param cell: where the number lies: int32 [1], on the GPU or pinned on the host.
    """

    def __init__(self, cell: torch.Tensor) -> None:
        self._driver = _Driver()
        self._cell, self._address = cell, cell.data_ptr()

    def wait(self, value: int, stream: int) -> None:
        """Let a stream go on once the number is ``value`` or more.

        :param stream: the driver's handle.
        :raises OSError: when the driver refuses.
        """
        self._call("cuStreamWaitValue32_v2", value, stream)

    def signal(self, value: int, stream: int) -> None:
        """Set the number to ``value`` once all that a stream was given before is done.

        :param stream: the driver's handle.
        :raises OSError: when the driver refuses.
        """
        self._call("cuStreamWriteValue32_v2", value, stream)

    def _call(self, name: str, value: int, stream: int) -> None:
        # of the flags, 0 is "at least" for a wait and "after all memory before" for a write
        where = ctypes.c_void_p(stream), ctypes.c_uint64(self._address)
        self._driver.call(name, *where, ctypes.c_uint32(value), ctypes.c_uint(0))


def tensor_at(memory: torch.Tensor, location: tuple[int, str, list[int]]) -> torch.Tensor:
    """The tensor at a location of shared memory, without copying.

    :param memory: uint8 [size].
    :param location: offset in bytes, dtype name (``float32``), sizes.
    """
    offset, name, shape = location
    dtype: torch.dtype = getattr(torch, name)
    count = 1
    for size in shape:
        count *= size
    return memory[offset : offset + count * dtype.itemsize].view(dtype).view(shape)
