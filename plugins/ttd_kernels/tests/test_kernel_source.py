"""Programs that launch a Triton kernel of their own, and programs that only look like it."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable

import pytest

from ttd_kernels import kernel_source

JIT = "import triton\n@triton.jit\ndef add(x):\n    pass\n"


def test_start_programs_launch_kernels() -> None:
    folder = importlib.resources.files("ttd_kernels").joinpath("programs")
    starts = [file for file in folder.iterdir() if file.name.endswith("_start.py")]
    assert len(starts) == 5
    for file in starts:
        assert kernel_source.launched_triton_kernels(file.read_text()), file.name


@pytest.mark.parametrize(
    ("source", "names"),
    [
        (JIT + "def custom_kernel(d):\n    add[(1,)](d)\n", ["add"]),
        (JIT + "def custom_kernel(d):\n    return d\n", []),
        (JIT.replace("@triton.jit", "@triton.autotune([], [])\n@triton.jit") + "add[(1,)](0)\n", ["add"]),
        ("from triton import jit as j\n@j\ndef add(x):\n    pass\nadd[1](0)\n", ["add"]),
        ("import torch\n@torch.jit.script\ndef add(x):\n    pass\nadd[1](0)\n", []),
        ("import triton\n@triton.jit()\ndef add(x):\n    add[1](x)\n", []),
        (JIT + "def run(k):\n    k[(1,)](0)\ndef custom_kernel(d):\n    run(add)\n", ["add"]),
        (JIT + "kernels = {}\ndef custom_kernel(d):\n    kernels['a'](d)\n", []),
        (
            "from triton.experimental import gluon\n@gluon.jit\ndef f(x):\n    g(x)\n"
            "@gluon.jit\ndef g(x):\n    pass\nf[1](0)\n",
            ["f"],
        ),
        ("def custom_kernel(", []),
        ("x = " + "(" * 5000, []),
    ],
)
def test_a_kernel_counts_when_it_is_launched(source: str, names: list[str]) -> None:
    assert kernel_source.launched_triton_kernels(source) == names


def test_sources_crafted_against_the_reader_cost_little(cpu_clock: Callable[[], float]) -> None:
    nested = "".join(f"{' ' * n}@triton.jit\n{' ' * n}def f{n}():\n" for n in range(60)) + " " * 60
    deep = "@" + "a." * 900 + "jit\ndef f():\n    pass\n\n\nf[1]()\n"
    started = cpu_clock()
    assert kernel_source.launched_triton_kernels(f"{nested}{'x;' * 60_000}\nf0[1]()\n") == ["f0"]
    assert kernel_source.launched_triton_kernels(deep) == []
    assert cpu_clock() - started < 3.0
