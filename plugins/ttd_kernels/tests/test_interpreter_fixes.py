"""What a Triton older than the one installed gets wrong while it interprets, and no longer does here."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="Triton is not installed here")

#: A loop to a bound known at run time, by an interpreter that asks NumPy for it as Triton 3.6 to 3.8 do.
LOOP = """
import torch
import triton
import triton.language as tl
from triton.runtime import interpreter
from ttd_kernels.helpers import interpreter_fixes

triton.__version__ = "3.8.0"
patch = interpreter._patch_lang_tensor


def patch_as_before(tensor, scope):
    patch(tensor, scope)
    scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data))


interpreter._patch_lang_tensor = patch_as_before
interpreter_fixes.apply()


@triton.jit
def count(out, bound):
    total = 0
    for _ in range(0, bound):
        total += 1
    tl.store(out, total)


out = torch.zeros(1, dtype=torch.int32)
count[(1,)](out, 5)
print(out.item())
"""


def test_a_loop_ends_at_a_bound_known_at_run_time(tmp_path: pathlib.Path) -> None:
    script = tmp_path / "loop.py"
    script.write_text(LOOP)
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, timeout=50
    )
    assert done.stdout == "5\n", done.stderr
