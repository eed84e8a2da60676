"""Warming up: run ahead what jobs will run, so that the first call of a job costs little more than a second.

In the server it lets the interpreter specialise its code and libraries load what they load late, once for all
forks. In a fork that waits for its job it touches the pages which that job will write to. Nothing here comes
from a candidate, and nothing of it is left to be seen by one.
"""

from __future__ import annotations

import sys

from ttd_core.sandbox.inside import frames, python_job

#: Calls after which the interpreter has specialised what is called.
_CALLS = 16

_EMPTY_JOB = "def run():\n    return 1"
#: What programs do with a library, to do some of it where that is loaded. Nothing that starts threads, as
#: HiGHS does: a fork has none of them, and would wait for them.
_SAMPLES = {
    "numpy": """
import numpy

def run():
    square = numpy.random.default_rng(0).random((4, 4))
    row = numpy.convolve(square[0], numpy.correlate(square[1], square[2], "full"))
    return numpy.linalg.solve(square, square[3]), numpy.fft.irfft(numpy.fft.rfft(row)).max(), list(row)
""",
    "scipy.optimize": """
import numpy
from scipy.optimize import minimize

def run():
    start = numpy.random.default_rng(0).random(3)
    methods = ("L-BFGS-B", "SLSQP")
    return [minimize(lambda x: ((x - 0.5) ** 2).sum(), start, method=method).x for method in methods]
""",
}


def _dry_run(source: str) -> None:
    job = {"source": source, "entry": "run", "helpers": "", "args": [], "kwargs": {}, "inject": {}}
    python_job.dry_run(memoryview(b"".join(frames.encode(job))))


def warm_server() -> None:
    """Run an empty job and samples of what loaded libraries are used for, until nothing changes any more.

    :raises Exception: what a library raises whose calls fail here.
    """
    for _ in range(_CALLS):
        _dry_run(_EMPTY_JOB)
        for name, source in _SAMPLES.items():
            if name in sys.modules:
                _dry_run(source)


def warm_fork() -> None:
    """Run an empty job: what every job does, whatever its program."""
    _dry_run(_EMPTY_JOB)
