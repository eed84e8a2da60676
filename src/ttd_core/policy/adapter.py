"""The adapter's weights, twice where the model is not float32: float32 masters, and copies the model uses.

Sampling and training multiply in the model's own dtype, so an adapter in float32 would cast every layer's
input back and forth and keep a float32 copy of it for the backward pass. Instead the model holds the
adapter in its dtype, gradients are summed and steps are taken on float32 masters, and each step publishes
the masters to the model. In a float32 model the two are one and the same.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import Any

import torch


class Adapter:
    """The trained weights of a peft model.

    :param model: a peft model; whatever of it requires gradients is the adapter.
    """

    def __init__(self, model: Any) -> None:
        self._working = {name: p for name, p in model.named_parameters() if p.requires_grad}
        #: Float32 weights by name: what the optimiser steps and a checkpoint keeps.
        self.masters = {
            name: p if p.dtype == torch.float32 else torch.nn.Parameter(p.detach().float())
            for name, p in self._working.items()
        }

    def __iter__(self) -> Iterator[torch.nn.Parameter]:
        return iter(self.masters.values())

    def collect_gradients(self) -> None:
        """Add the gradients of the last backward pass to the masters', in float32."""
        for name, working in self._working.items():
            master = self.masters[name]
            if working is master or working.grad is None:
                continue
            gradient = working.grad.float()
            master.grad = gradient if master.grad is None else master.grad.add_(gradient)
            working.grad = None

    @torch.no_grad()
    def publish(self) -> None:
        """Let the model use the masters as they are now."""
        for name, working in self._working.items():
            if working is not self.masters[name]:
                working.copy_(self.masters[name])

    def gradient_norm(self) -> float:
        """Euclidean norm of the collected gradients."""
        return math.sqrt(sum(float(p.grad.square().sum()) for p in self if p.grad is not None))

    def digest(self) -> str:
        """SHA-256 over names and weights, in name order: changes exactly when a weight does."""
        total = hashlib.sha256()
        for name in sorted(self.masters):
            total.update(name.encode())
            total.update(self.masters[name].detach().contiguous().cpu().numpy().tobytes())
        return total.hexdigest()
