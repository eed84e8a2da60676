"""What the tests of the core and of the plugins share; other fixtures stand beside their tests."""

from __future__ import annotations

import gc
import importlib
import pathlib
import runpy
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import pytest

# A deadline would judge a busy machine: first calls import, compile and plan.
hypothesis.settings.register_profile("ttd", deadline=None)
hypothesis.settings.load_profile("ttd")

#: Markers of tests that take more than the seconds that `timeout` in pyproject.toml gives.
LONG = ("slow", "peer", "ray", "gpu")
LONG_SECONDS = 600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give long tests their limit, unless they name one of their own."""
    for item in items:
        if item.get_closest_marker("timeout") is None and any(map(item.get_closest_marker, LONG)):
            item.add_marker(pytest.mark.timeout(LONG_SECONDS))


@pytest.fixture(scope="session")
def benchmark_script(request: pytest.FixtureRequest) -> Callable[[str], dict[str, Any]]:
    """Gives what a script of ``benchmarks/`` defines, by name, without its ``main``.

    As when it is run, the scripts that it shares code with lie beside it.
    """
    folder = request.config.rootpath / "benchmarks"

    def definitions(name: str) -> dict[str, Any]:
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(folder))
            return runpy.run_path(str(folder / name))

    return definitions


@pytest.fixture
def benchmark(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Any]]:
    """Imports scripts of ``benchmarks/``, which find each other beside themselves, for one test alone."""
    folder = request.config.rootpath / "benchmarks"
    names = {path.stem for path in folder.glob("*.py")}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        before = {name: sys.modules.pop(name) for name in names & sys.modules.keys()}
        yield importlib.import_module
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(before)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Have torch compute on one thread: small products are slower on several, most where cores are busy."""
    import torch  # noqa: PLC0415 - most tests need none

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def cpu_clock() -> Iterator[Callable[[], float]]:
    """A clock of the processor seconds that the test's own thread has used.

    Neither other threads nor a collection of what the tests before have left count: in a process with
    millions of objects one collection takes a second, whichever test it falls upon.
    """
    gc.disable()
    yield time.thread_time
    gc.enable()


#: Notes a compiled kernel and the grid that it was to be launched with.
NoteKernel = Callable[[Any, tuple[int, ...]], None]


@pytest.fixture
def compile_for_hopper(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> Callable[[NoteKernel], None]:
    """Have Triton compile kernels for an H100 or H200, with no GPU here, instead of launching them."""
    from triton.backends.compiler import GPUTarget  # noqa: PLC0415 - not every machine has Triton
    from triton.runtime import driver, jit  # noqa: PLC0415

    class NoDevice:
        """A driver of Triton's that knows what to compile for and has no device."""

        def get_current_device(self) -> int:
            """The number that compiled kernels are filed under."""
            return 0

        def get_current_stream(self, _device: int = 0) -> int:
            """Never used."""
            return 0

        def get_current_target(self) -> GPUTarget:
            """Hopper."""
            return GPUTarget("cuda", 90, 32)

    run = jit.JITFunction.run

    def begin(note: NoteKernel) -> None:
        def compile_only(self: Any, *args: Any, grid: tuple[int, ...], warmup: bool, **options: Any) -> None:
            assert len(grid) <= 3
            assert max(grid[1:], default=0) < 1 << 16
            note(run(self, *args, grid=grid, warmup=True, **options), grid)

        monkeypatch.setattr(jit.JITFunction, "run", compile_only)
        monkeypatch.setattr(driver, "_active", NoDevice())
        monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))

    return begin
