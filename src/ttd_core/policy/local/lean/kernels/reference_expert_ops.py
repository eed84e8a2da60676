"""Operations of mixtures of experts in plain torch: what the kernels must compute, and what a CPU runs.

An *assignment* is a token and one of the experts chosen for it; its number is ``token * choices + choice``.
Products run over assignments sorted by expert: nothing is padded to the expert with the most tokens.
"""

from __future__ import annotations

import itertools

import attrs
import torch
from torch import Tensor
from torch.nn import functional

from ttd_core.policy.local.lean.mxfp4 import FRAGMENT, GROUP, in_fragments, unpack, unpack_arranged

#: What an adapter adds to a product: its second matrix [experts, outputs, rank], in any order in memory, and
#: what it is multiplied with, [assignments, rank] by place.
LowRank = tuple[Tensor, Tensor]


@attrs.frozen(eq=False)
class ExpertWeights:
    """One matrix of every expert, of one layer.

    :param values: [experts, outputs, inputs], in any order in memory; or, packed, uint8 [experts, outputs,
        inputs / 2], two MXFP4 codes in a byte; or, arranged (:mod:`..mxfp4`), uint8 [experts, inputs / 32,
        outputs, 16], or in fragments [experts, inputs / 64, outputs / 16, 512].
    :param scales: uint8 [experts, outputs, inputs / 32] of packed ones, [experts, inputs / 32, outputs] of
        arranged ones, or in fragments [experts, inputs / 64, outputs / 16, 32], none above 128 then; else
        ``None``.
    :param bias: [experts, outputs], where there is one.
    """

    values: Tensor
    scales: Tensor | None = None
    bias: Tensor | None = None

    @property
    def arranged(self) -> bool:
        """Whether codes do not lie as they are published: in fragments, or by row."""
        return self.values.dim() == 4

    @property
    def fragments(self) -> bool:
        """Whether codes lie in fragments."""
        return self.arranged and in_fragments(self.values)

    @property
    def outputs(self) -> int:
        """Rows of each expert's matrix."""
        rows = self.values.shape[2 if self.arranged else 1]
        return rows * FRAGMENT[0] if self.fragments else rows

    @property
    def inputs(self) -> int:
        """Columns of each expert's matrix."""
        if self.arranged:
            return self.values.shape[1] * (FRAGMENT[1] if self.fragments else GROUP)
        return self.values.shape[2] * (1 if self.scales is None else 2)

    def of(self, expert: int, dtype: torch.dtype) -> Tensor:
        """One expert's matrix [outputs, inputs]."""
        if self.scales is None:
            return self.values[expert]
        if self.arranged:
            return unpack_arranged(self.values[expert], self.scales[expert], dtype)
        return unpack(self.values[expert], self.scales[expert], dtype)


@attrs.frozen(eq=False)
class Groups:
    """Assignments sorted by expert; a *place* is a position in that order.

    :param choices: experts of one token.
    :param order: int32 [assignments], the assignment at each place.
    :param places: int32 [assignments], the place of each assignment.
    :param offsets: int32 [experts + 1], the place at which each expert begins, and the end.
    :param tile_experts: int32 [tiles], the expert of each tile of a kernel, or -1; empty here.
    :param tile_starts: int32 [tiles], the place at which each tile begins; empty here.
    :param tile_rows: most assignments of a tile.
    """

    choices: int
    order: Tensor
    places: Tensor
    offsets: Tensor
    tile_experts: Tensor
    tile_starts: Tensor
    tile_rows: int


def route(
    logits: Tensor, choices: int, normalised: bool, given: Tensor | None = None
) -> tuple[Tensor, Tensor, Groups]:
    """Choose experts for each token, and sort the assignments by expert.

    :param logits: [tokens, experts], of the router.
    :param choices: experts a token.
    :param normalised: shares are those of the chosen experts alone, and add up to 1; else of all experts.
    :param given: int32 [tokens, choices], the experts to take instead of those with the largest logits.
    :return: experts (int32) and shares (float32), [tokens, choices] each, and the groups.
    """
    wide = logits.float()
    chosen = wide.topk(choices, dim=-1).indices if given is None else given.long()
    values = wide.gather(1, chosen)
    shares = values.softmax(-1) if normalised else (values - wide.logsumexp(-1, keepdim=True)).exp()
    flat = chosen.flatten()
    order = flat.argsort(stable=True)
    places = torch.empty_like(order)
    places[order] = torch.arange(len(order), device=order.device)
    counts = torch.bincount(flat, minlength=logits.shape[1])
    offsets = functional.pad(counts.cumsum(0), (1, 0)).int()
    none = order.new_empty(0, dtype=torch.int32)
    return chosen.int(), shares, Groups(choices, order.int(), places.int(), offsets, none, none, 0)


def route_backward(
    logits: Tensor, experts: Tensor, shares: Tensor, normalised: bool, grad_shares: Tensor
) -> Tensor:
    """Gradient with respect to the router's logits, float32 [tokens, experts].

    :param grad_shares: float32 [tokens, choices], with respect to the shares that :func:`route` returned.
    """
    weighted = shares * grad_shares
    total = weighted.sum(-1, keepdim=True)
    if normalised:
        grad = torch.zeros(logits.shape, dtype=torch.float32, device=logits.device)
        return grad.scatter_(1, experts.long(), weighted - shares * total)
    return (-total * logits.float().softmax(-1)).scatter_add_(1, experts.long(), weighted)


def product(
    x: Tensor, weights: ExpertWeights, groups: Groups, gathered: bool, added: LowRank | None = None
) -> Tensor:
    """Each assignment's input times its expert's matrix, plus its bias: [assignments, outputs], by place.

    :param x: [assignments, inputs] by place; with ``gathered`` [tokens, inputs].
    :param added: is multiplied and added to the result.
    """
    result = x.new_empty(len(groups.order), weights.outputs)
    for expert, (first, last) in _parts(groups):
        rows = groups.order[first:last].long() // groups.choices if gathered else slice(first, last)
        bias = weights.bias[expert] if weights.bias is not None else None
        result[first:last] = functional.linear(x[rows], weights.of(expert, x.dtype), bias)
        if added is not None:
            result[first:last] += added[1][first:last] @ added[0][expert].T
    return result


def product_backward(
    grad: Tensor, weights: ExpertWeights, groups: Groups, added: LowRank | None = None
) -> Tensor:
    """Gradient with respect to the input of :func:`product`: [assignments, inputs], by place.

    :param grad: [assignments, outputs], by place.
    :param added: is multiplied and added to the result; its first part is [experts, inputs, rank].
    """
    result = grad.new_empty(len(grad), weights.inputs)
    for expert, (first, last) in _parts(groups):
        result[first:last] = grad[first:last] @ weights.of(expert, grad.dtype)
        if added is not None:
            result[first:last] += added[1][first:last] @ added[0][expert].T
    return result


def adapter_grads(left: Tensor, right: Tensor, groups: Groups, gathered: bool) -> Tensor:
    """The sum of ``left`` times ``right`` over each expert's assignments: [experts, rank, columns].

    :param left: [assignments, rank] by place.
    :param right: [assignments, columns] by place; with ``gathered`` [tokens, columns].
    """
    result = right.new_zeros(len(groups.offsets) - 1, left.shape[1], right.shape[1])
    for expert, (first, last) in _parts(groups):
        rows = groups.order[first:last].long() // groups.choices if gathered else slice(first, last)
        result[expert] = left[first:last].T @ right[rows]
    return result


def clamped_swiglu(gate_and_up: Tensor, alpha: float, limit: float) -> Tensor:
    """``(up + 1) * gate * sigmoid(alpha * gate)`` of clamped values, as gpt-oss has it: [rows, size].

    :param gate_and_up: [rows, 2 * size], a gate before each up.
    :param limit: most that a gate may be, and that an up may be either way.
    """
    gate = gate_and_up[:, ::2].clamp(max=limit)
    up = gate_and_up[:, 1::2].clamp(min=-limit, max=limit)
    return (up + 1) * (gate * torch.sigmoid(gate * alpha))


def clamped_swiglu_backward(gate_and_up: Tensor, grad: Tensor, alpha: float, limit: float) -> Tensor:
    """Gradient with respect to what :func:`clamped_swiglu` was given, [rows, 2 * size].

    :param grad: [rows, size], with respect to its result.
    """
    with torch.enable_grad():
        leaf = gate_and_up.detach().requires_grad_()
        return torch.autograd.grad(clamped_swiglu(leaf, alpha, limit), leaf, grad)[0]


def combine(parts: Tensor, shares: Tensor | None, groups: Groups) -> Tensor:
    """For each token the sum over its assignments, weighted by their shares: [tokens, size].

    :param parts: [assignments, size], by place.
    :param shares: float32 [tokens, choices]; ``None`` weighs each with 1.
    """
    own = parts[groups.places.long()].view(-1, groups.choices, parts.shape[1]).float()
    return (own if shares is None else own * shares[..., None]).sum(1).to(parts.dtype)


def combine_backward(grad: Tensor, parts: Tensor, shares: Tensor, groups: Groups) -> tuple[Tensor, Tensor]:
    """Gradients with respect to ``parts`` (by place) and ``shares`` of :func:`combine`.

    :param grad: [tokens, size], with respect to its result.
    """
    own = parts[groups.places.long()].view(-1, groups.choices, parts.shape[1]).float()
    grad_shares = (own * grad.float()[:, None]).sum(-1)
    grad_parts = torch.empty_like(parts)
    by_assignment = (grad.float()[:, None] * shares[..., None]).to(parts.dtype)
    grad_parts[groups.places.long()] = by_assignment.flatten(0, 1)
    return grad_parts, grad_shares


def _parts(groups: Groups) -> list[tuple[int, tuple[int, int]]]:
    """Each expert that has assignments, and its first place and the one behind its last."""
    spans = itertools.pairwise(groups.offsets.tolist())
    return [(expert, span) for expert, span in enumerate(spans) if span[0] < span[1]]
