"""What a sandboxed job may reach to compile and run kernels: a GPU's device nodes, compilers, toolkits."""

from __future__ import annotations

import glob
import os
import pathlib
import sysconfig
from collections.abc import Sequence
from typing import Any

import torch

from ttd_core.policy.local.lean.kernels import FP_FUSION
from ttd_core.sandbox.base import Access
from ttd_kernels.harness.gpus import CPU, NoGpuError

#: Device nodes that every program with a GPU needs beside the GPU's own.
_SHARED_NODES = ("/dev/nvidiactl", "/dev/nvidia-uvm")
#: What Triton and torch's extension loader start: a C compiler, an assembler, the loader's configuration.
_TOOLS = (
    "/usr/bin/gcc",
    "/usr/bin/g++",
    "/usr/bin/cc",
    "/usr/bin/c++",
    "/usr/bin/ld",
    "/usr/bin/as",
    "/usr/bin/x86_64-linux-gnu-gcc",
    "/usr/bin/x86_64-linux-gnu-g++",
    "/usr/bin/aarch64-linux-gnu-gcc",
    "/usr/bin/ninja",
    "/usr/bin/env",
    "/bin/sh",
    "/usr/lib/gcc",
    "/usr/libexec/gcc",
    "/sbin/ldconfig",
    "/sbin/ldconfig.real",
)
#: A name for libraries that ask who runs them: a job's user id has none.
_USER = ("USER", "candidate")
#: Where CUDA toolkits are installed, beside what ``CUDA_HOME`` says.
_TOOLKITS = ("/usr/local/cuda", "/opt/cuda")


def kernel_access(device: str) -> Access:
    """What a job on a device may reach: the driver's nodes, a compiler, Triton's assembler.

    :param device: ``cpu``, where Triton interprets kernels, or ``cuda:0`` and so on.
    :raises NoGpuError: when the GPU's device node cannot be told.
    """
    if device == CPU:
        return Access(environment=(("TRITON_INTERPRET", "1"), _USER))
    site = sysconfig.get_path("purelib")
    packages = os.path.dirname(os.path.dirname(torch.__file__))
    assembler = os.path.join(packages, "triton", "backends", "nvidia", "bin")
    toolkits = [os.path.realpath(path) for path in (os.environ.get("CUDA_HOME", ""), *_TOOLKITS) if path]
    toolkits = [path for path in dict.fromkeys(toolkits) if os.path.isdir(path)]
    torch_assembler = os.path.join(os.path.dirname(torch.__file__), "bin", "ptxas")
    tools = [*_TOOLS, os.path.join(site, "ninja"), assembler, torch_assembler, *_tool_folders(toolkits)]
    environment = [(name, os.environ[name]) for name in ("LD_LIBRARY_PATH",) if name in os.environ]
    environment += [FP_FUSION, ("CC", "/usr/bin/gcc"), ("CXX", "/usr/bin/g++"), ("MAX_JOBS", "4")]
    # its own processes to compile in would talk over sockets, which the sandbox has none of
    environment += [("TORCHINDUCTOR_COMPILE_THREADS", "1"), _USER]
    if toolkits:
        environment += [("CUDA_HOME", toolkits[0])]
    programs = [*(f"{path}/bin" for path in toolkits), "/usr/local/bin", "/usr/bin", "/bin"]
    environment += [("PATH", ":".join(programs))]
    readable = [path for path in ("/usr/local/nvidia", *toolkits) if os.path.isdir(path)]
    return Access(
        devices=(device_node(device), *(path for path in _SHARED_NODES if os.path.exists(path))),
        readable=tuple(readable),
        executables=tuple(path for path in tools if os.path.exists(path)),
        environment=tuple(environment),
    )


def _tool_folders(toolkits: Sequence[str]) -> list[str]:
    return [os.path.join(path, part) for path in toolkits for part in ("bin", "nvvm/bin")]


def device_node(device: str) -> str:
    """The device node of a GPU (``/dev/nvidia0``): its minor number need not be torch's index.

    :raises NoGpuError: when it cannot be told which it is.
    """
    properties: Any = torch.cuda.get_device_properties(torch.device(device))
    domain, bus, slot = properties.pci_domain_id, properties.pci_bus_id, properties.pci_device_id
    address = f"{domain:04x}:{bus:02x}:{slot:02x}.0"
    information = pathlib.Path("/proc/driver/nvidia/gpus", address, "information")
    if information.is_file():
        for line in information.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "Device Minor":
                return f"/dev/nvidia{int(value)}"
    nodes = sorted(glob.glob("/dev/nvidia[0-9]*"))
    if len(nodes) == 1:
        return nodes[0]
    raise NoGpuError(f"{device}: cannot tell which of {', '.join(nodes) or 'no device nodes'} it is")
