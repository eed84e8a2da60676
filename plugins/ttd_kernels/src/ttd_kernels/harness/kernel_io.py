"""One call of a kernel as data: its inputs, how they make up its argument, and what it must return."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import torch

from ttd_kernels.harness.memory_layout import aligned

#: Sizes and kinds by which a problem names one set of inputs, ``{"N": 256, "B": 2, "mask": "ones"}``. JSON.
Shape = Mapping[str, Any]


@attrs.frozen
class OutputSpec:
    """What one returned tensor must be, with ``|output - expected| <= atol + rtol |expected|`` everywhere.

    :param shape: sizes of the tensor.
    :param dtype: of the tensor.
    :param rtol: relative tolerance, a share of the expected value.
    :param atol: absolute tolerance, in the values' own unit.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    rtol: float
    atol: float

    @property
    def nbytes(self) -> int:
        """Bytes of the whole tensor."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


@attrs.frozen(eq=False)
class KernelInputs:
    """The inputs of one call.

    :param shape: the sizes and kinds they were drawn for.
    :param tensors: by name, all on one device.
    :param argument: how they make up the kernel's argument ``data``: JSON with ``{"$tensor": name}`` where a
        tensor stands (:func:`tensor_ref`), ``{"$tuple": [...]}`` for a tuple, and
        ``{"$make": name, "with": {...}}`` for an object of that class of the module ``reference``.
    """

    shape: Shape
    tensors: Mapping[str, torch.Tensor]
    argument: Any

    @property
    def aligned_nbytes(self) -> int:
        """Bytes of all inputs in shared memory, each rounded up to where the next may start."""
        return sum(aligned(tensor.nbytes) for tensor in self.tensors.values())


def tensor_ref(name: str) -> dict[str, str]:
    """The tensor of this name, as it stands in :attr:`KernelInputs.argument`."""
    return {"$tensor": name}


def shape_label(shape: Shape) -> str:
    """A shape for people: ``N=256 B=2 C=128 ones normal``."""
    return " ".join(
        str(value) if isinstance(value, str) else f"{name}={value}" for name, value in shape.items()
    )
