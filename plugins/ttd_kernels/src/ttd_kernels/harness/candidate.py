"""A candidate as a job for the sandbox: its program behind the harness's own modules."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from ttd_core.package_files import package_text
from ttd_core.sandbox.base import FIRST_DESCRIPTOR, GIB, MIB, Limits, PythonJob
from ttd_kernels.harness.gpu_access import kernel_access
from ttd_kernels.harness.gpus import CPU
from ttd_kernels.harness.no_gpu import NO_GPU

#: Bytes of files that a candidate and the compilers it calls may write, in its own folder.
_SCRATCH_ON_CPU, _SCRATCH_ON_GPU = 64 * MIB, 4 * GIB
#: Processes and threads of a candidate and of the compilers it calls.
_PROCESSES = 512
#: Modules of the harness that are in the sandbox where kernels are interpreted.
_INTERPRETED = ("interpreter_fixes", "interpreter_limits")


@attrs.frozen
class Candidate:
    """What runs in the sandbox.

    :param source: the program.
    :param reference: source of the module ``reference`` that it may import; empty for none.
    :param device: ``cpu`` or ``cuda:0`` and so on.
    :param limits: of the options; scratch and processes are set here.
    """

    source: str
    reference: str
    device: str
    limits: Limits

    def job(self, descriptors: tuple[int, ...], sizes: Sequence[int]) -> PythonJob:
        """The job that serves the judge at the other end of the channel.

        :param descriptors: of the channel, the inputs' memory and the outputs' memory.
        :param sizes: bytes of the two memories.
        """
        on_cpu = self.device == CPU
        modules = ["shared_memory", "service", *(_INTERPRETED if on_cpu else ())]
        harness = {
            "sources": {f"ttd_{name}": _helper(name) for name in modules},
            "reference": self.reference,
            # the sandbox shows it one GPU, which is the first there
            "device": CPU if on_cpu else "cuda:0",
            "descriptor": FIRST_DESCRIPTOR,
            "sizes": list(sizes),
            "no_gpu": NO_GPU.pattern,
        }
        scratch = _SCRATCH_ON_CPU if on_cpu else _SCRATCH_ON_GPU
        return PythonJob(
            source=self.source,
            entry="_ttd_serve",
            inject={"ttd_harness": harness},
            helpers=_helper("boot"),
            preload=("numpy", "torch", "triton"),
            limits=attrs.evolve(self.limits, scratch=scratch, processes=_PROCESSES),
            access=kernel_access(self.device),
            descriptors=descriptors,
        )


def _helper(name: str) -> str:
    """Source of a module that runs in the sandbox."""
    return package_text("ttd_kernels", "helpers", f"{name}.py")
