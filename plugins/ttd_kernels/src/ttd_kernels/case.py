"""One call of a kernel as data: its inputs by name, how they make up the arguments, what it must return."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import torch

#: Bytes on which every tensor starts.
ALIGNMENT = 512

#: Sizes and kinds that name one call, such as ``{"N": 256, "B": 2, "mask": "ones"}``.
Shape = Mapping[str, Any]
#: Where a tensor lies in shared memory: offset in bytes, dtype name, shape.
Place = tuple[int, str, list[int]]


@attrs.frozen
class Output:
    """What a kernel must return, and how near it must be: ``|found - expected| <= atol + rtol |expected|``.

    :param shape: of the tensor.
    :param dtype: of the tensor.
    :param rtol: relative tolerance.
    :param atol: absolute tolerance.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    rtol: float
    atol: float

    @property
    def bytes(self) -> int:
        """Of the whole tensor."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


@attrs.frozen(eq=False)
class Case:
    """The inputs of one call.

    :param shape: what it is a case of.
    :param leaves: tensors by name.
    :param tree: the argument ``data``, as JSON with ``{"$leaf": name}`` for tensors, ``{"$tuple": [...]}``,
        and ``{"$make": name, "with": {...}}`` for an object of the module ``reference``.
    """

    shape: Shape
    leaves: Mapping[str, torch.Tensor]
    tree: Any

    @property
    def bytes(self) -> int:
        """Of all inputs, each rounded up to where the next may start."""
        return sum(_rounded(leaf.nbytes) for leaf in self.leaves.values())

    def on(self, device: str) -> Case:
        """The same inputs on another device."""
        return attrs.evolve(self, leaves={name: leaf.to(device) for name, leaf in self.leaves.items()})


def label(shape: Shape) -> str:
    """A shape for people: ``N=256 B=2 C=128 ones normal``."""
    return " ".join(
        str(value) if isinstance(value, str) else f"{name}={value}" for name, value in shape.items()
    )


def dtype_name(dtype: torch.dtype) -> str:
    """``float32`` for ``torch.float32``."""
    return str(dtype).removeprefix("torch.")


def leaf(name: str) -> dict[str, str]:
    """A tensor in a tree."""
    return {"$leaf": name}


def places(sizes: Sequence[tuple[torch.dtype, Sequence[int]]], capacity: int, first: int = 0) -> list[Place]:
    """Where tensors go, one after the other from a start that nobody can foretell.

    :param sizes: dtype and shape of each.
    :param capacity: bytes of the memory.
    :param first: the lowest offset, a multiple of the alignment.
    :raises ValueError: when it is too small.
    """
    lengths = [_rounded(torch.Size(shape).numel() * dtype.itemsize) for dtype, shape in sizes]
    room = capacity - first - sum(lengths)
    if room < 0:
        raise ValueError(f"{sum(lengths)} bytes do not fit into {capacity - first}")
    offset = first + ALIGNMENT * secrets.randbelow(room // ALIGNMENT + 1)
    found = []
    for (dtype, shape), length in zip(sizes, lengths, strict=True):
        found.append((offset, dtype_name(dtype), list(shape)))
        offset += length
    return found


def _rounded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def generator(seed: int, device: str) -> torch.Generator:
    """A source of random numbers on a device."""
    made = torch.Generator(device=device)
    made.manual_seed(seed)
    return made


def normal(source: torch.Generator, *sizes: int, scale: float = 1.0) -> torch.Tensor:
    """bfloat16 [sizes], drawn ~ N(0, scale^2) on the source's device."""
    made = torch.empty(sizes, dtype=torch.bfloat16, device=source.device)
    return made.normal_(0.0, scale, generator=source)


def fresh_seed() -> int:
    """A seed that no candidate can know: 63 random bits of the operating system's."""
    return secrets.randbits(63)
