"""Candidates that a machine without a GPU cannot judge: what they fail by, and what is said of them."""

from __future__ import annotations

import re

#: What torch, Triton and CUDA's libraries say where they miss a GPU.
NO_GPU = re.compile(
    r"not compiled with CUDA|without CUDA support|requires CUDA|No CUDA GPUs|NVIDIA driver|CUDA driver"
    r"|CUDA error|no CUDA-capable|dummy base class|accelerator device when none|Cannot get CUDA generator"
    r"|Are you sure you have a CUDA build|\b0 active drivers|\bCUDA_HOME\b"
    r"|lib(cuda|cudart|nvrtc|nvidia|cublas|cudnn)[\w.-]*\.so|from the 'CPU' backend"
    r"|not implemented for '(Half|BFloat16|Float8\w*)'"
    r"|only (?:be )?(supported|available|used) (on|for|with) (CUDA|GPU)"
)


def cannot_be_checked(message: str) -> str:
    """The message of such a candidate's verdict.

    :param message: what it failed by.
    """
    return f"cannot be checked here, in Triton's CPU interpreter; a GPU can run this ({message})"
