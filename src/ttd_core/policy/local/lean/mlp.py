"""What follows attention in a layer: a gated MLP, or a mixture of experts, each with its backward pass.

Both are called with a normed stream [tokens, hidden size] and return its update. ``forward`` returns besides
a tuple of what ``backward`` needs, which ``backward`` uses up: these are the widest tensors of a layer.
"""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor
from torch.nn import functional

from ttd_core.policy.local.lean import ops
from ttd_core.policy.local.lean.expert_projection import ExpertProjection
from ttd_core.policy.local.lean.kernels.reference_expert_ops import ExpertWeights
from ttd_core.policy.local.lean.projection import Projection

#: What a backward pass needs.
Kept = tuple[Any, ...]


@attrs.frozen(eq=False)
class DenseMlp:
    """A gated MLP.

    :param gate_and_up: its first two products.
    :param down: its last one.
    :param decoding_ops: see :func:`.ops.decoding_ops`.
    :param training_ops: see :func:`.ops.training_ops`.
    """

    gate_and_up: Projection
    down: Projection
    decoding_ops: Any
    training_ops: Any

    @classmethod
    def of(cls, mlp: Any, device: torch.device) -> DenseMlp:
        """Of the MLP of a transformers model."""
        return cls(
            Projection([mlp.gate_proj, mlp.up_proj]),
            Projection([mlp.down_proj]),
            ops.decoding_ops(device),
            ops.training_ops(device),
        )

    @property
    def projections(self) -> tuple[Projection, ...]:
        """What may be adapted, in the order it is used."""
        return self.gate_and_up, self.down

    def kept_width(self, hidden_size: int) -> int:
        """Numbers that ``forward`` keeps of a token, the input among them."""
        return hidden_size + self.gate_and_up.outputs * 3 // 2

    def __call__(self, x: Tensor, routes: Tensor | None = None) -> Tensor:
        """The update, in decoding; there is nothing to route."""
        return self.down(self.decoding_ops.adapted_swiglu(self.gate_and_up.partial(x)))

    def forward(self, x: Tensor, _routes: Tensor | None = None) -> tuple[Tensor, Kept]:
        """The update, and what :meth:`backward` needs."""
        gate_and_up, gate_and_up_lora = self.gate_and_up.forward(x)
        gated = self.training_ops.swiglu(gate_and_up)
        update, down_lora = self.down.forward(gated)
        return update, (x, gate_and_up, gated, gate_and_up_lora, down_lora)

    def backward(self, grad: Tensor, kept: list[Any]) -> tuple[Tensor, list[Tensor]]:
        """Gradients with respect to the input and to the adapters.

        :param kept: what :meth:`forward` kept; emptied.
        """
        x, gate_and_up, gated, gate_and_up_lora, down_lora = kept
        kept.clear()
        grad_gated, down_grads = self.down.backward(grad, gated, down_lora)
        del gated
        grad_gate_and_up = self.training_ops.swiglu_backward(gate_and_up, grad_gated)
        del gate_and_up, grad_gated
        grad_x, gate_and_up_grads = self.gate_and_up.backward(grad_gate_and_up, x, gate_and_up_lora)
        return grad_x, [*gate_and_up_grads, *down_grads]


@attrs.frozen(eq=False)
class Experts:
    """A mixture of experts: a router chooses some for each token and says what share each has in the update.

    The router never learns; gradients pass through it, and through the shares.

    :param router: weight [experts, hidden size].
    :param router_bias: [experts], where there is one.
    :param gate_and_up: each expert's first two matrices.
    :param down: each expert's last one.
    :param choices: experts that each token gets.
    :param normalised: the shares of the chosen ones add up to 1.
    :param clamp: alpha and limit of gpt-oss's activation, whose gates and ups alternate; ``None`` is SwiGLU,
        all gates before all ups.
    :param operations: see :func:`.ops.expert_ops`.
    :param decoding_ops: see :func:`.ops.decoding_ops`.
    :param training_ops: see :func:`.ops.training_ops`.
    """

    router: Tensor
    router_bias: Tensor | None
    gate_and_up: ExpertProjection
    down: ExpertProjection
    choices: int
    normalised: bool
    clamp: tuple[float, float] | None
    operations: Any
    decoding_ops: Any
    training_ops: Any

    @classmethod
    def of(cls, mlp: Any, device: torch.device) -> Experts:
        """Of the MLP of a transformers mixture: Qwen3's, or gpt-oss's as numbers or packed."""
        modules = ops.expert_ops(device), ops.decoding_ops(device), ops.training_ops(device)
        experts, wrappers = unwrapped(mlp.experts)
        weights_of = _of_qwen3 if hasattr(mlp, "gate") else _of_gpt_oss
        gate_and_up, down = (
            ExpertProjection(weights_of(experts, name), modules[0], wrappers.get(name))
            for name in ("gate_up_proj", "down_proj")
        )
        if hasattr(mlp, "gate"):
            router, bias, clamp, normalised = mlp.gate, None, None, bool(mlp.gate.norm_topk_prob)
        else:
            router, bias, normalised = mlp.router, mlp.router.bias.detach(), True
            clamp = (float(experts.alpha), float(experts.limit))
        weight = router.weight.detach()
        return cls(weight, bias, gate_and_up, down, router.top_k, normalised, clamp, *modules)

    @property
    def projections(self) -> tuple[ExpertProjection, ...]:
        """What may be adapted, in the order it is used."""
        return self.gate_and_up, self.down

    def kept_width(self, hidden_size: int) -> int:
        """Numbers that ``forward`` keeps of a token."""
        numbers = self.choices * (self.gate_and_up.outputs + hidden_size) + len(self.router)
        if self.gate_and_up.rank or self.down.rank:
            # The input, what the second product reads, and what the adapters' first ones made.
            ranks = self.gate_and_up.rank + self.down.rank
            numbers += hidden_size + self.choices * (self.down.weights.inputs + ranks)
        return numbers

    def __call__(self, x: Tensor, routes: Tensor | None = None) -> Tensor:
        """The update, in decoding.

        :param routes: [tokens, choices], is given the experts chosen.
        """
        experts, shares, groups = self.operations.route(self._logits(x), self.choices, self.normalised)
        if routes is not None:
            routes.copy_(experts)
        gated = self._gated(self.gate_and_up.forward(x, groups, True)[0], self.decoding_ops)
        update: Tensor = self.operations.combine(self.down.forward(gated, groups, False)[0], shares, groups)
        return update

    def forward(self, x: Tensor, routes: Tensor | None = None) -> tuple[Tensor, Kept]:
        """The update, and what :meth:`backward` needs.

        :param routes: int32 [tokens, choices], the experts to take, whatever the router says now.
        """
        logits = self._logits(x)
        experts, shares, groups = self.operations.route(logits, self.choices, self.normalised, routes)
        gate_and_up, gate_and_up_lora = self.gate_and_up.forward(x, groups, True)
        gated = self._gated(gate_and_up, self.training_ops)
        parts, down_lora = self.down.forward(gated, groups, False)
        update: Tensor = self.operations.combine(parts, shares, groups)
        # Only adapters' gradients need the inputs.
        inputs = (None if gate_and_up_lora is None else x, None if down_lora is None else gated)
        lora = (gate_and_up_lora, down_lora)
        return update, (logits, experts, shares, groups, gate_and_up, parts, *inputs, *lora)

    def backward(self, grad: Tensor, kept: list[Any]) -> tuple[Tensor, list[Tensor]]:
        """Gradients with respect to the input and to the adapters.

        :param kept: what :meth:`forward` kept; emptied.
        """
        logits, experts, shares, groups, gate_and_up, parts, x, gated, gate_and_up_lora, down_lora = kept
        kept.clear()
        grad_parts, grad_shares = self.operations.combine_backward(grad, parts, shares, groups)
        del parts
        grad_gated, down_grads = self.down.backward(grad_parts, gated, groups, False, down_lora)
        del grad_parts, gated
        if self.clamp is None:
            grad_gate_and_up = self.training_ops.swiglu_backward(gate_and_up, grad_gated)
        else:
            grad_gate_and_up = self.operations.clamped_swiglu_backward(gate_and_up, grad_gated, *self.clamp)
        del gate_and_up, grad_gated
        grad_inputs, gate_and_up_grads = self.gate_and_up.backward(
            grad_gate_and_up, x, groups, True, gate_and_up_lora
        )
        del grad_gate_and_up
        grad_x: Tensor = self.operations.combine(grad_inputs, None, groups)
        grad_logits = self.operations.route_backward(logits, experts, shares, self.normalised, grad_shares)
        grad_x.addmm_(grad_logits.to(grad_x.dtype), self.router)
        return grad_x, [*gate_and_up_grads, *down_grads]

    def _logits(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.router, self.router_bias)

    def _gated(self, gate_and_up: Tensor, plain_ops: Any) -> Tensor:
        if self.clamp is None:
            gated: Tensor = plain_ops.swiglu(gate_and_up)
        else:
            gated = self.operations.clamped_swiglu(gate_and_up, *self.clamp)
        return gated


Mlp = DenseMlp | Experts


def unwrapped(experts: Any) -> tuple[Any, dict[str, Any]]:
    """transformers' experts, and peft's wrappers around them by the parameter that each adapts."""
    wrappers = {}
    while hasattr(experts, "base_layer"):
        wrappers[experts.parameter_name] = experts
        experts = experts.base_layer
    return experts, wrappers


def _of_qwen3(experts: Any, name: str) -> ExpertWeights:
    """One matrix of all experts of a layer of Qwen3's mixtures."""
    return ExpertWeights(getattr(experts, name).detach())


def _of_gpt_oss(experts: Any, name: str) -> ExpertWeights:
    """One matrix of all experts of a layer of gpt-oss."""
    bias = getattr(experts, f"{name}_bias").detach()
    if not hasattr(experts, f"{name}_blocks"):
        # These lie as [experts, inputs, outputs].
        return ExpertWeights(getattr(experts, name).detach().transpose(1, 2), bias=bias)
    if bias.dtype == torch.bfloat16 and ops.has_triton(bias.device):
        # Once for all: what reads them besides asks the module how they lie.
        experts.arrange(name)
    arranged = experts.is_arranged(name)
    blocks, scales = getattr(experts, f"{name}_blocks"), getattr(experts, f"{name}_scales")
    return ExpertWeights(blocks if arranged else blocks.flatten(2), scales, bias)
