"""Linear layers that share an input as one matrix product, LoRA adapters included, with the backward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.nn import functional

#: The name that peft gives to a model's only adapter.
ADAPTER = "default"


@attrs.frozen(eq=False)
class PartialProduct:
    """``W x`` and ``A x`` of some tokens side by side; ``B (A x)`` is still to be added.

    :param both: [tokens, outputs + A rows].
    :param lora_b: [A rows, outputs], the B of all adapters, transposed and scaled, each in its own block.
    :param ranks: A rows of each layer, in order; none where nothing is adapted.
    """

    both: Tensor
    lora_b: Tensor
    ranks: tuple[int, ...]

    @property
    def result(self) -> Tensor:
        """``W x``, [tokens, outputs]: a view."""
        return self.both[:, : self.lora_b.shape[1]]

    @property
    def lora_hidden(self) -> Tensor:
        """``A x`` of all adapters, [tokens, A rows]: a view."""
        return self.both[:, self.lora_b.shape[1] :]

    def complete(self) -> Tensor:
        """The projection's result, [tokens, outputs]: what is missing is added in place."""
        result = self.result
        return result.addmm_(self.lora_hidden, self.lora_b) if self.ranks else result


class Projection:
    """Linear layers that read the same input, as one matrix product, and their LoRA adapters in one more.

    A layer computes ``W x + scale * B (A x)``. The weights are not copied: the layers' own become views of
    the joined matrix. Its last rows are the A of all adapters, so that one product gives ``W x`` and ``A x``.

    :param modules: ``torch.nn.Linear``, or peft's layer around one.
    """

    def __init__(self, modules: Sequence[Any]) -> None:
        self._modules = list(modules)
        bases = [getattr(module, "base_layer", module) for module in modules]
        self._adapted = all(hasattr(module, "lora_A") for module in modules)
        modules = modules if self._adapted else []
        self._ranks = tuple(int(module.lora_A[ADAPTER].weight.shape[0]) for module in modules)
        # Matrix products want their strides in multiples of 16 bytes.
        lora_rows = -(-sum(self._ranks) // 8) * 8
        #: Width of the result: the outputs of all layers together.
        self.outputs = sum(len(base.weight) for base in bases)
        #: [outputs + A rows, inputs].
        self.weight = _joined([base.weight for base in bases], lora_rows)
        self.bias = _joined([base.bias for base in bases], lora_rows) if bases[0].bias is not None else None
        self._lora_a = self.weight[self.outputs :]
        self._lora_b = self.weight.new_zeros(lora_rows, self.outputs)

    @torch.no_grad()
    def load_adapter(self) -> None:
        """Take the adapters' weights as they are now; B is zero while they are disabled."""
        if not self._adapted:
            return
        row, column = 0, 0
        for module in self._modules:
            a, b = module.lora_A[ADAPTER].weight, module.lora_B[ADAPTER].weight
            scale = 0.0 if module.disable_adapters else module.scaling[ADAPTER]
            self._lora_a[row : row + len(a)] = a
            self._lora_b[row : row + len(a), column : column + len(b)] = b.T * scale
            row, column = row + len(a), column + len(b)

    @property
    def parameters(self) -> list[Tensor]:
        """The adapters' weights: A, then B, of each layer."""
        modules = self._modules if self._adapted else []
        return [part[ADAPTER].weight for module in modules for part in (module.lora_A, module.lora_B)]

    def __call__(self, x: Tensor) -> Tensor:
        """[tokens, inputs] to [tokens, outputs]: the layers' results side by side."""
        return self.forward(x)[0]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The result, and ``A x`` of all adapters [tokens, A rows], which :meth:`backward` needs."""
        product = self.partial(x)
        return product.complete(), product.lora_hidden

    def partial(self, x: Tensor) -> PartialProduct:
        """The first of the two products; whoever reads it next adds the second."""
        return PartialProduct(functional.linear(x, self.weight, self.bias), self._lora_b, self._ranks)

    def backward(self, grad: Tensor, x: Tensor, lora_hidden: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Gradients with respect to the input and to each of :attr:`parameters`.

        :param grad: [tokens, outputs], with respect to the result.
        :param x: the input.
        :param lora_hidden: the second value of :meth:`forward`.
        """
        grad_x = grad @ self.weight[: self.outputs]
        if not self._adapted:
            return grad_x, []
        grad_lora_hidden = grad @ self._lora_b.T
        grad_x.addmm_(grad_lora_hidden, self._lora_a)
        grad_a, grad_b = grad_lora_hidden.T @ x, lora_hidden.T @ grad
        grads, row, column = [], 0, 0
        for module in self._modules:
            a, b = module.lora_A[ADAPTER].weight, module.lora_B[ADAPTER].weight
            scale = 0.0 if module.disable_adapters else module.scaling[ADAPTER]
            rows, columns = slice(row, row + len(a)), slice(column, column + len(b))
            grads += [grad_a[rows], grad_b[rows, columns].T * scale]
            row, column = rows.stop, columns.stop
        return grad_x, grads


@torch.no_grad()
def _joined(parts: Sequence[Tensor], extra_rows: int) -> Tensor:
    """The parts and rows of zeros as one tensor, of which the parts become views."""
    if len(parts) == 1 and not extra_rows:
        return parts[0].detach()
    zeros = parts[0].new_zeros(extra_rows, *parts[0].shape[1:])
    joined = torch.cat([*(part.detach() for part in parts), zeros])
    start = 0
    for part in parts:
        part.data = joined[start : start + len(part)]
        start += len(part)
    return joined
