"""One matrix of every expert of a layer, with the experts' LoRA adapters, and the backward pass.

An expert computes ``W x + scale * B (A x)``, each with a pair of its own. They are those of peft's
``ParamWrapper`` around the experts' parameter: A of all experts is [experts * rank, inputs], expert by
expert, and B is [outputs, rank * experts], rank by rank.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ttd_core.policy.local.lean.kernels.reference_expert_ops import ExpertWeights, Groups, LowRank
from ttd_core.policy.local.lean.projection import ADAPTER


class ExpertProjection:
    """Products by expert.

    :param weights: the experts' matrices.
    :param operations: see :func:`.ops.expert_ops`.
    :param wrapper: peft's wrapper around the parameter, where it is adapted.
    """

    def __init__(self, weights: ExpertWeights, operations: Any, wrapper: Any = None) -> None:
        self.weights = weights
        self._operations = operations
        self._wrapper = wrapper
        self._experts = len(weights.values)
        #: B times the scale, [experts, outputs, rank], as products read it; A is read where it lies.
        self._up: Tensor | None = None
        if wrapper is not None:
            down = self._down
            self._up = down.new_zeros(self._experts, weights.outputs, down.shape[1])

    @property
    def outputs(self) -> int:
        """Of each expert."""
        return self.weights.outputs

    @property
    def rank(self) -> int:
        """Of the adapters; 0 without."""
        return 0 if self._up is None else self._up.shape[2]

    @property
    def parameters(self) -> list[Tensor]:
        """The adapters' weights: A, then B."""
        return [] if self._wrapper is None else [self._a, self._b]

    @property
    def _a(self) -> Tensor:
        weight: Tensor = self._wrapper.lora_A[ADAPTER].weight
        return weight

    @property
    def _b(self) -> Tensor:
        weight: Tensor = self._wrapper.lora_B[ADAPTER].weight
        return weight

    @property
    def _down(self) -> Tensor:
        """A as [experts, rank, inputs]."""
        return self._a.detach().view(self._experts, -1, self.weights.inputs)

    @property
    def _scale(self) -> float:
        return 0.0 if self._wrapper.disable_adapters else float(self._wrapper.scaling[ADAPTER])

    @torch.no_grad()
    def load_adapter(self) -> None:
        """Take the adapters' weights as they are now; B is zero while they are disabled."""
        if self._up is not None:
            by_rank = self._b.view(self.outputs, self.rank, self._experts)
            self._up.copy_(by_rank.permute(2, 0, 1)).mul_(self._scale)

    def forward(self, x: Tensor, groups: Groups, gathered: bool) -> tuple[Tensor, Tensor | None]:
        """Each assignment's product [assignments, outputs] by place, and ``A x``, which `backward` needs.

        :param x: [assignments, inputs] by place; with ``gathered`` [tokens, inputs].
        """
        added: LowRank | None = None
        hidden: Tensor | None = None
        if self._up is not None:
            hidden = self._operations.product(x, ExpertWeights(self._down), groups, gathered)
            added = (self._up, hidden)
        result: Tensor = self._operations.product(x, self.weights, groups, gathered, added)
        return result, hidden

    def backward(
        self, grad: Tensor, x: Tensor | None, groups: Groups, gathered: bool, hidden: Tensor | None
    ) -> tuple[Tensor, list[Tensor]]:
        """Gradients with respect to each assignment's input [assignments, inputs], and to `parameters`.

        :param grad: [assignments, outputs], with respect to the result.
        :param x: what `forward` was given; read only where there are adapters.
        :param hidden: the second value of `forward`.
        """
        if self._up is None or hidden is None or x is None:
            unadapted: Tensor = self._operations.product_backward(grad, self.weights, groups)
            return unadapted, []
        grad_hidden: Tensor = self._operations.product_backward(grad, ExpertWeights(self._up), groups)
        added = (self._down.transpose(1, 2), grad_hidden)
        grad_x: Tensor = self._operations.product_backward(grad, self.weights, groups, added)
        grad_a: Tensor = self._operations.adapter_grads(grad_hidden, x, groups, gathered)
        grad_b: Tensor = self._operations.adapter_grads(hidden, grad, groups, False)
        # Both come as [experts, rank, ...].
        grad_b = grad_b.permute(2, 1, 0).reshape(self._b.shape).mul_(self._scale)
        return grad_x, [grad_a.view(self._a.shape), grad_b]
