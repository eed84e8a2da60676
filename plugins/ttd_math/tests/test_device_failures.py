"""Failures of a device: what is one, what of them are shortages of memory, and what people are told."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from ttd_core.errors import EnvironmentLacksError, UsageError

torch = pytest.importorskip("torch")
from ttd_math import device_failures, improving  # noqa: E402
from ttd_math.commands import math as command  # noqa: E402

CPU = torch.device("cpu")
OUT_OF_MEMORY = torch.OutOfMemoryError(
    "CUDA out of memory. Tried to allocate 7.91 GiB. GPU 0 has a total capacity of 139.80 GiB of which 1 GiB "
    "is free.\nIf reserved but unallocated memory is large try setting something else"
)
CHOLESKY = RuntimeError(
    "cusolver error: CUSOLVER_STATUS_EXECUTION_FAILED, when calling `cusolverDnDpotrfBatched(handle, uplo, "
    "n, A, lda, info, batchSize)`. If you keep seeing this error, you may use `torch.backends.cuda.x()`."
)
HANDLE = RuntimeError("CUDA error: CUBLAS_STATUS_INTERNAL_ERROR when calling `cublasCreate(handle)`")
TRANSFORM = RuntimeError("cuFFT error: CUFFT_INTERNAL_ERROR")
LOST = torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors")


def of_this_machine() -> RuntimeError:
    """What torch raises of more memory than there is."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50)
    return caught.value


@pytest.mark.parametrize(
    ("error", "shortage", "maybe"),
    [
        (OUT_OF_MEMORY, True, True),
        (MemoryError(), True, True),
        (of_this_machine(), True, True),
        (RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"), True, True),
        (RuntimeError("CUDA driver error: out of memory"), True, True),
        (HANDLE, False, True),
        (TRANSFORM, False, True),
        (CHOLESKY, False, False),
        (LOST, False, False),
        (RuntimeError("HIP error: invalid device function"), False, False),
    ],
)
def test_failures_of_a_device_are_known_and_shortages_of_memory_among_them(error, shortage, maybe) -> None:
    assert device_failures.is_of_device(error)
    assert device_failures.is_shortage(error) == shortage
    assert device_failures.may_be_shortage(error) == maybe


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("The size of tensor a (3) must match the size of tensor b (4) at dimension 0"),
        RuntimeError("Expected all tensors to be on the same device, but found two, cuda:0 and cpu!"),
        RuntimeError(""),
        UsageError("CUDA error: as a name"),
        KeyError("CUDA error"),
    ],
)
def test_what_is_a_bug_or_said_already_is_left_as_it_is(error, tmp_path) -> None:
    assert not device_failures.is_of_device(error)
    with (
        pytest.raises(type(error)) as caught,
        device_failures.refused(CPU, lambda: (1, 2), tmp_path / "none", "less"),
    ):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    ("error", "count", "kind", "said"),
    [
        (
            OUT_OF_MEMORY,
            8,
            UsageError,
            "8 functions of 99 heights at a time: no memory left on cpu: CUDA out of memory. "
            "Tried to allocate 7.91 GiB: give fewer of them; --resume to go on from ",
        ),
        (
            OUT_OF_MEMORY,
            1,
            UsageError,
            "1 function of 99 heights at a time: no memory left on cpu: CUDA out of memory. "
            "Tried to allocate 7.91 GiB: give a smaller --coarse or --length, and another --out",
        ),
        (MemoryError(), 2, UsageError, "cpu: MemoryError: give fewer of them"),
        (of_this_machine(), 2, UsageError, "cpu: DefaultCPUAllocator: can't allocate memory: you tried to "),
        (
            TRANSFORM,
            1,
            EnvironmentLacksError,
            "1 function of 99 heights at a time: cpu failed: cuFFT error: CUFFT_INTERNAL_ERROR: --resume to ",
        ),
        (CHOLESKY, 4, EnvironmentLacksError, "info, batchSize)`: --resume to go on from "),
        (
            LOST,
            4,
            EnvironmentLacksError,
            "cpu failed: CUDA error: an illegal memory access was encountered: ",
        ),
    ],
)
def test_a_failure_is_told_in_one_line_with_what_to_do(tmp_path, error, count, kind, said) -> None:
    kept = tmp_path / "a.hops.npz"
    for there in (True, False):
        if there:
            kept.touch()
        else:
            kept.unlink()
        with (
            pytest.raises(kind) as caught,
            device_failures.refused(CPU, lambda: (count, 99), kept, "fewer of them"),
        ):
            raise error
        told = str(caught.value)
        assert "\n" not in told
        assert len(told) < 500
        if there:
            assert said in told
        elif "another --out" not in said:
            assert "begin again (nothing was kept yet)" in told


def test_what_a_library_says_at_length_is_cut(tmp_path) -> None:
    with pytest.raises(EnvironmentLacksError) as caught:
        with device_failures.refused(CPU, lambda: (1, 2), tmp_path / "none", "less"):
            raise RuntimeError("CUDA error: " + "x" * 10_000)
    assert "xxx...: begin again" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_torch_leaves_memory_of_a_gpu_to_its_libraries(monkeypatch) -> None:
    limits = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *given: limits.append(given))
    for name in ("cpu", "cuda", "cuda:1"):
        device_failures.leave_room(torch.device(name))
    assert limits == [(0.95, None), (0.95, torch.device("cuda:1"))]
    emptied = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    device_failures.release(CPU)
    device_failures.release(torch.device("cuda"))
    assert emptied == [True]


def test_both_commands_leave_memory_when_they_look_for_their_device(monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(device_failures, "leave_room", asked.append)
    assert improving.device_of("cpu") == CPU
    assert asked == [CPU]


def test_more_than_a_machine_has_is_refused_before_the_kernel_would_end_it() -> None:
    device_failures.require_memory(CPU, 1e6, "--cells 9")
    told = r"^--cells 9: that takes 1,000,000 GB, and this machine has [\d,]+: give less$"
    with pytest.raises(UsageError, match=told):
        device_failures.require_memory(CPU, 1e15, "--cells 9")


def test_a_gpu_tells_by_itself() -> None:
    device_failures.require_memory(torch.device("cuda"), 1e15, "--cells 9")


@pytest.mark.parametrize("words", [("hops",), ("polish", "--batch", str(10**9), "--length", "64000")])
def test_a_search_of_too_many_functions_is_refused(words, tmp_path) -> None:
    name, *more = words
    asked = ["--from", "random", "--cells", str(10**15), "--out", str(tmp_path / "a.json")]
    with pytest.raises(UsageError, match=r"^--.*cells 1000000000000000: that takes .* GB"):
        CliRunner().invoke(
            command, [name, "ac1", *asked, *more], standalone_mode=False, catch_exceptions=False
        )
    assert not list(tmp_path.iterdir())
