"""The options of every kernel problem."""

from __future__ import annotations

import attrs

from ttd_core.options import Options, option, reply_option

_REPORT_OR_REFUSE = attrs.validators.in_(("report", "refuse"))


@attrs.frozen
class KernelOptions(Options):
    """Options of every kernel problem."""

    timeout_s: float = option(900.0, "wall seconds a program may take in all, compiling and judging included")
    cpus: int = option(4, "processors a program may use")
    memory_mb: int = option(16 * 1024, "resident host memory a program may use, MiB")
    output_chars: int = option(2500, "characters of the last program's table of times shown in the prompt")
    reply: str = reply_option(("program", "parts", "edits"), edits_of_a_program=True)
    devices: str | int = option(
        "auto", "GPUs to judge on: 'auto' (all), numbers such as '0,2', or 'cpu' (no times)"
    )
    flush_l2: bool = option(True, "empty the GPU's cache before each timed call")
    triton: str = option(
        "report",
        "a program that launches no Triton kernel of its own: 'report' it or 'refuse' it",
        validator=_REPORT_OR_REFUSE,
    )
    generalise: str = option(
        "report",
        "a kernel that is wrong at shapes nobody named: 'report' it or 'refuse' it",
        validator=_REPORT_OR_REFUSE,
    )
    tests: int = option(18, "shapes a kernel is tested on, drawn anew", validator=attrs.validators.ge(1))
    hidden: int = option(6, "shapes that nobody named, drawn anew", validator=attrs.validators.ge(0))
    hidden_s: float = option(
        15.0,
        "seconds after which no further such shape is begun, where they are only reported",
        validator=attrs.validators.gt(0),
    )
    repeats: int = option(
        100, "most timed calls of a shape", validator=[attrs.validators.ge(3), attrs.validators.le(10_000)]
    )
    timed_s: float = option(30.0, "most seconds of timed work for a shape", validator=attrs.validators.gt(0))
    wall_s: float = option(120.0, "most seconds of wall time for a shape", validator=attrs.validators.gt(0))
