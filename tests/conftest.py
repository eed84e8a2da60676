"""Fixtures that several test modules share: installed distributions, made for real on a temporary path."""

from __future__ import annotations

import importlib
import pathlib
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping

import pytest

Install = Callable[..., pathlib.Path]

PROBLEM_SOURCE = """
    import attrs
    from ttd_core import Baseline, Options, Problem, Reward, option


    @attrs.frozen
    class SumOptions(Options):
        size: int = option(3, "how many numbers")
        label: str | None = option(None, "a name for them")


    class Sum(Problem):
        name = "sum"
        title = "Make a sum large"
        metric = "sum"
        direction = "max"
        baselines = (Baseline("somebody", 2.5, "a paper"), Baseline("nobody", 1.0))
        options_type = SumOptions
        preload = ()

        def task(self):
            return "Return numbers in [0, 1] whose sum is large."

        def construct(self, value):
            return {"numbers": [float(item) for item in value]}

        def check(self, state):
            numbers = state.data.get("numbers", [])
            wrong = [f"number {n!r} is not in [0, 1]" for n in numbers if not 0 <= n <= 1]
            if len(numbers) != self.options.size:
                wrong.append(f"there are {len(numbers)} numbers instead of {self.options.size}")
            return wrong

        def reward(self, state):
            total = sum(state.data["numbers"])
            return Reward(total, total, {"count": len(state.data["numbers"])})

        def starting_program(self):
            return "def run(seed, budget_s, **kwargs):\\n    return [0.5, 0.5, 0.5]\\n"
"""


def pytest_configure() -> None:
    """A shell's background job begins with interrupts ignored, and so would the processes tests interrupt."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def problem_source() -> str:
    """Source of a whole problem, class ``Sum``, with options of its own."""
    return textwrap.dedent(PROBLEM_SOURCE)


@pytest.fixture
def install(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a distribution for the length of a test: modules and metadata in a folder on ``sys.path``."""
    before = set(sys.modules)

    def install(
        name: str,
        modules: Mapping[str, str],
        *,
        version: str = "1.0",
        problems: Mapping[str, str] | None = None,
        plugins: Mapping[str, str] | None = None,
    ) -> pathlib.Path:
        site = tmp_path / "sites" / name
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        for module, source in modules.items():
            (site / f"{module}.py").write_text(textwrap.dedent(source))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = []
        for group, points in (("ttd.problems", problems), ("ttd.plugins", plugins)):
            if points:
                lines += [f"[{group}]", *(f"{key} = {value}" for key, value in points.items())]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        monkeypatch.syspath_prepend(str(site))
        return site

    yield install
    for module in set(sys.modules) - before:
        origin = getattr(sys.modules[module], "__file__", None) or ""
        if origin.startswith(str(tmp_path)):
            del sys.modules[module]
    importlib.invalidate_caches()
