"""Random inputs, and seeds for them that no candidate can know."""

from __future__ import annotations

import secrets

import torch


def fresh_seed() -> int:
    """A seed that no candidate can know: 63 random bits of the operating system's."""
    return secrets.randbits(63)


def seeded_generator(seed: int, device: str) -> torch.Generator:
    """A generator of random numbers on ``device``; equal seeds give equal numbers on the same device."""
    generator = torch.Generator(device=device)
    generator.manual_seed(seed)
    return generator


def normal_bfloat16(generator: torch.Generator, *sizes: int, scale: float = 1.0) -> torch.Tensor:
    """A bfloat16 tensor [sizes] of independent N(0, scale^2) values, on the generator's device.

    :param scale: standard deviation.
    """
    values = torch.empty(sizes, dtype=torch.bfloat16, device=generator.device)
    return values.normal_(0.0, scale, generator=generator)
