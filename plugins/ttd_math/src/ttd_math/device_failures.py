"""Failures of the device that a search computes on: told apart from bugs, and said in one line.

torch raises most of them as a ``RuntimeError`` like any other, so that what failed is in the text alone: a
library of the device, its driver, or an allocator. A kernel runs after the call that asked for it has
returned, and when it fails, a later call tells of it: the call that is named need not be the one to blame.
"""

from __future__ import annotations

import contextlib
import gc
import pathlib
import re
from collections.abc import Callable, Iterator

import torch

from ttd_core.errors import EnvironmentLacksError, TtdError, UsageError
from ttd_core.host import memory_bytes

#: What torch and NumPy raise when a device, or an allocator, fails.
FAILURES = (RuntimeError, MemoryError)

#: A library, a driver or an allocator that says of itself that it failed.
_OF_DEVICE = re.compile(
    r"\b(CUDA|HIP|XPU|MPS|ROCm|cu(FFT|BLAS|BLASLt|SOLVER|SPARSE|DNN|RAND)|hip(FFT|BLAS|SOLVER|SPARSE)"
    r"|MAGMA)\b[^.:]*\b(error|failed|failure)\b"
    r"|\b(CUBLAS|CUFFT|CUSOLVER|CUSPARSE|CUDNN|CUDA_ERROR|HIPBLAS|HIPFFT|HIPSOLVER|NVML)_[A-Z_]+\b"
    r"|DefaultCPUAllocator",
    re.IGNORECASE,
)
#: There was no memory.
_OF_MEMORY = re.compile(
    r"out of memory|can(no|')t allocate memory|not enough memory|\b(CU|HIP)\w+_ALLOC_FAILED\b", re.IGNORECASE
)
#: What libraries that found no memory for themselves also say, where something else may have failed as well.
_OF_MEMORY_MAYBE = re.compile(r"\b(CU|HIP)\w+_(INTERNAL_ERROR|NOT_INITIALIZED)\b")
#: Share of a GPU's memory that torch may take: its allocator would keep all that it ever had, and the
#: libraries beside it find none for themselves.
_SHARE = 0.95
#: Characters told of what a library says.
_SAID = 200


def leave_room(device: torch.device) -> None:
    """See that torch leaves some memory of a CUDA device to its libraries."""
    if device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(_SHARE, device if device.index is not None else None)


def require_memory(device: torch.device, least: float, asked: str) -> None:
    """Refuse on a CPU what its memory cannot hold: the kernel would end the process without a word.

    :param least: bytes that are certainly taken.
    :param asked: the options that ask for so much, with their values.
    :raises UsageError: when the machine has less memory in all.
    """
    there = memory_bytes()
    if device.type == "cpu" and least > there:
        wanted, had = f"{least / 1e9:,.0f} GB", f"{there / 1e9:,.0f}"
        raise UsageError(f"{asked}: that takes {wanted}, and this machine has {had}: give less")


def is_of_device(error: BaseException) -> bool:
    """Whether a device or an allocator failed, rather than the program."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError | torch.AcceleratorError):
        return True
    return isinstance(error, RuntimeError) and _OF_DEVICE.search(str(error)) is not None


def is_shortage(error: BaseException) -> bool:
    """Whether memory ran out, by what the error says."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return is_of_device(error) and _OF_MEMORY.search(str(error)) is not None


def may_be_shortage(error: BaseException) -> bool:
    """Whether less at a time may do: memory ran out, or a library may have found none for itself."""
    return is_shortage(error) or (is_of_device(error) and _OF_MEMORY_MAYBE.search(str(error)) is not None)


def release(device: torch.device) -> None:
    """Give back the memory that torch keeps without using it.

    :raises RuntimeError: when the device is lost.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


@contextlib.contextmanager
def refused(
    device: torch.device,
    sizes: Callable[[], tuple[int, int]],
    kept: pathlib.Path,
    fewer: str,
) -> Iterator[None]:
    """Turn failures of the device into errors of one line; a bug keeps its traceback.

    :param sizes: how many functions there are at a time, and their heights.
    :param kept: where the search leaves how far it came.
    :param fewer: the options that make it take fewer functions at a time.
    :raises UsageError: when memory ran out.
    :raises EnvironmentLacksError: when the device failed otherwise.
    """
    try:
        yield
    except FAILURES as error:
        if not is_of_device(error):
            raise
        raise _complaint(error, device, sizes(), kept, fewer) from error


def _complaint(
    error: BaseException, device: torch.device, sizes: tuple[int, int], kept: pathlib.Path, fewer: str
) -> TtdError:
    count, heights = sizes
    what = f"{count} function{'s' * (count != 1)} of {heights} heights at a time"
    on = f"--resume to go on from {kept}" if kept.exists() else "begin again (nothing was kept yet)"
    if not is_shortage(error):
        return EnvironmentLacksError(
            f"{what}: {device} failed: {_said(error)}: {on}; where memory may be short, with {fewer}"
        )
    # There are not fewer than one at a time, and a search to another length is another search.
    less = f"{fewer}; {on}" if count > 1 else "a smaller --coarse or --length, and another --out"
    return UsageError(f"{what}: no memory left on {device}: {_said(error)}: give {less}")


def _said(error: BaseException) -> str:
    """What an error says first, without where in torch it was raised and the advice that torch adds."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    text = re.sub(r"^\[enforce fail[^]]*\][^.]*\. ", "", lines[0])
    text = re.split(r"\. (?=GPU |If |Error code |Search |See )", text)[0].rstrip(".")
    return text if len(text) <= _SAID else f"{text[: _SAID - 3]}..."
