"""What is done ahead of jobs leaves nothing that a fork would miss or a candidate would find."""

from __future__ import annotations

import subprocess
import sys

REHEARSED = """
import linecache, os, sys
import numpy, numpy.fft, numpy.linalg, numpy.random, scipy.optimize
from ttd_core.sandbox.inside import warmup
threads = len(os.listdir("/proc/self/task"))
warmup.warm_server()
warmup.warm_fork()
print(len(os.listdir("/proc/self/task")) - threads, "candidate" in sys.modules, len(linecache.cache))
"""


def test_it_starts_no_thread_and_leaves_no_program() -> None:
    run = subprocess.run([sys.executable, "-c", REHEARSED], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["0", "False", "0"]
