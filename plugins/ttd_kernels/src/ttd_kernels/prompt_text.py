"""What a model is told of a kernel problem: the statement, how programs are judged, and a Triton primer."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping

from ttd_core.package_files import package_text
from ttd_kernels.options import KernelOptions


def task_text(statement: str, floors_us: Mapping[str, float], options: KernelOptions) -> str:
    """The task of a kernel problem. Markdown.

    :param statement: what to compute, in words.
    :param floors_us: label of each timed shape and its floor, microseconds.
    :param options: those in force: what must be right, and whether a Triton kernel is asked for.
    """
    shapes = "\n".join(f"- {label}: floor {floor:.0f} us" for label, floor in floors_us.items())
    primer = _primer(with_example=options.start != "program")
    must = "A program must launch a Triton kernel of its own.\n" if options.triton == "refuse" else ""
    general = (
        "It must be right at every valid shape, also at those not listed.\n"
        if options.generalise == "refuse"
        else "Other valid shapes are tried too, and reported.\n"
    )
    return (
        f"{statement.strip()}\n\n"
        f"## How it is judged\n\nScore: the geometric mean of the mean times at these shapes, in "
        f"microseconds (the floor is the least that memory and matrix units of an H200 allow):\n{shapes}\n"
        f"Each call gets fresh inputs at fresh addresses, each output is checked, and time is the GPU's own, "
        f"from when the inputs are there to the end of all work. Launches are queued before that, unless the "
        f"program waits for the GPU; then what the host does afterwards is timed as well. {must}{general}\n"
        f"{primer}"
    )


def _primer(with_example: bool) -> str:
    """Triton's rules in short.

    :param with_example: a kernel and its launch; left out beside a program, which is an example itself, and
        whose lines a small model would confuse with it.
    """
    example = package_text("ttd_kernels", "prompts", "primer_example.md").strip()
    primer = package_text("ttd_kernels", "prompts", "primer.md").strip()
    primer = primer.replace("$example", f"\n{example}\n" if with_example else "")
    return primer.replace("$triton", importlib.metadata.version("triton"))
