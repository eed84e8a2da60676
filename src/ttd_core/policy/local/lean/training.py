"""Log-probabilities of a pack and their gradient by the adapter, for the family of :mod:`.lean`.

The backward pass is written out, so nothing is kept that it does not need: the input of each layer, and the
derivative of each log-probability by its hidden state. A layer's inner values are computed again when its
gradient is due, or kept, if there is memory for all layers. The head's logits live for one chunk of tokens
and are turned into that derivative in place, so neither pass ever holds more than one chunk of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from ttd_core.policy.local.lean import ops
from ttd_core.policy.local.lean.model import Layer, LeanModel
from ttd_core.policy.local.lean.pack_attention import PackAttention, Result, attention_of
from ttd_core.policy.local.packing import Pack

#: Tokens whose logits are held at once: 1024 rows of 150,000 bfloat16 logits are 300 MB.
CHUNK = 1024


class LeanTrainer:
    """Differentiable log-probabilities of packs.

    :param model: the model, adapters in place.
    """

    def __init__(self, model: LeanModel) -> None:
        self._model = model
        self._kernels = ops.load_training(model.device)
        self.parameters: list[Tensor] = [
            parameter
            for layer in model.layers
            for projection in layer.projections
            for parameter in projection.parameters
        ]

    def kept_bytes(self, tokens: int) -> int:
        """Device memory of all layers' inner values, for a pack of ``tokens`` tokens."""
        layer = self._model.layers[0]
        hidden = layer.qkv.weight.shape[1]
        widths = [projection.outputs for projection in layer.projections]
        # Norms and residual streams; queries and keys once more; the gated product.
        numbers = sum(widths) + 4 * hidden + widths[0] + widths[2] // 2
        return tokens * len(self._model.layers) * numbers * layer.qkv.weight.element_size()

    def logprobs(self, pack: Pack, temperature: float, keep: bool) -> Tensor:
        """Float32 [reply tokens] of one pack, with gradient by the adapter if gradients are enabled.

        :param keep: keep every layer's inner values for the backward pass.
        """
        if not torch.is_grad_enabled():
            return self.run(pack, temperature, False, False).logprobs
        arguments = (self, pack, temperature, keep, *self.parameters)
        found: Tensor = _PackLogprobs.apply(*arguments)  # type: ignore[no-untyped-call]
        return found

    def run(self, pack: Pack, temperature: float, backward: bool, keep: bool) -> _Tape:
        """The forward pass; with ``backward``, what the backward pass needs stays on the tape."""
        with ops.on(self._model.device):
            return self._run(pack, temperature, backward, keep)

    def _run(self, pack: Pack, temperature: float, backward: bool, keep: bool) -> _Tape:
        base = self._model.causal.model
        x = base.embed_tokens(pack.ids[0])
        cos, sin = (part[0].contiguous() for part in base.rotary_emb(x, pack.positions))
        tape = _Tape(pack, cos, sin, attention_of(pack, x.dtype))
        for layer in self._model.layers:
            inner = self._layer(layer, x, tape)
            if backward:
                tape.inputs.append(x)
                tape.inner.append(inner if keep else None)
            x = inner.output
        tape.last = x
        self._head(x, tape, temperature, backward)
        return tape

    def _head(self, x: Tensor, tape: _Tape, temperature: float, backward: bool) -> None:
        """Log-probabilities chunk by chunk and, with ``backward``, their derivatives by the normed states."""
        norm = self._model.causal.model.norm
        head = self._model.causal.get_output_embeddings()
        heat = torch.tensor([temperature], dtype=torch.float32, device=x.device)
        pack, parts, derivatives = tape.pack, [], []
        for start in range(0, len(pack.targets), CHUNK):
            sources = pack.sources[start : start + CHUNK]
            _, normed = self._kernels.add_norm(x[sources], None, norm.weight, float(norm.variance_epsilon))
            logits = head(normed)
            parts.append(self._kernels.chosen(logits, pack.targets[start : start + CHUNK], heat, backward))
            if backward:
                derivatives.append(logits @ head.weight)
        tape.logprobs = torch.cat(parts)
        tape.derivatives = torch.cat(derivatives) if derivatives else None

    def _layer(self, layer: Layer, x: Tensor, tape: _Tape) -> _Inner:
        kernels, heads = self._kernels, self._model.heads
        _, normed = kernels.add_norm(x, None, layer.norms[0], layer.eps)
        qkv, mixed_down = layer.qkv.split(normed)
        query, key = kernels.rotate(qkv, tape.cos, tape.sin, layer.head_norms, layer.eps, heads)
        value = qkv.view(len(qkv), -1, self._model.head_size)[:, heads[0] + heads[1] :]
        result = tape.attention.forward(query, key, value)
        attended = result[0].reshape(len(x), -1)
        update, update_down = layer.output.split(attended)
        middle, second = kernels.add_norm(x, update, layer.norms[1], layer.eps)
        both, both_down = layer.gate_and_up.split(second)
        product = kernels.gated(both)
        last, last_down = layer.down.split(product)
        return _Inner(
            normed=normed,
            qkv=qkv,
            query=query,
            key=key,
            value=value,
            result=result,
            attended=attended,
            middle=middle,
            second=second,
            both=both,
            product=product,
            downs=(mixed_down, update_down, both_down, last_down),
            output=middle + last,
        )

    def gradients(self, tape: _Tape, grad_logprobs: Tensor) -> list[Tensor]:
        """The gradient by each of :attr:`parameters`."""
        with ops.on(self._model.device):
            return self._gradients(tape, grad_logprobs)

    def _gradients(self, tape: _Tape, grad_logprobs: Tensor) -> list[Tensor]:
        model, kernels, pack = self._model, self._kernels, tape.pack
        if tape.derivatives is None or tape.last is None:
            raise RuntimeError("the forward pass kept nothing for a backward pass")
        norm = model.causal.model.norm
        # A prompt's last token predicts the first of every reply: sums are taken in float32.
        states = torch.zeros(tape.last.shape, dtype=torch.float32, device=tape.last.device)
        states.index_add_(0, pack.sources, tape.derivatives.float() * grad_logprobs[:, None])
        eps = float(norm.variance_epsilon)
        grad = kernels.add_norm_backward(tape.last, norm.weight, eps, None, states.to(tape.last.dtype))
        del states
        found: list[list[Tensor]] = []
        for layer in reversed(model.layers):
            x, inner = tape.inputs.pop(), tape.inner.pop()
            grad, new = self._layer_backward(
                layer, x, inner if inner is not None else self._layer(layer, x, tape), grad, tape
            )
            found.append(new)
        return [gradient for new in reversed(found) for gradient in new]

    def _layer_backward(
        self, layer: Layer, x: Tensor, inner: _Inner, grad: Tensor, tape: _Tape
    ) -> tuple[Tensor, list[Tensor]]:
        """Gradient by the layer's input, and by its adapters."""
        kernels, heads = self._kernels, self._model.heads
        by_product, of_down = layer.down.backward(grad, inner.product, inner.downs[3])
        # What is done with goes at once: these are the widest tensors.
        del inner.product
        by_both = kernels.gated_backward(inner.both, by_product)
        del inner.both, by_product
        by_second, of_gate = layer.gate_and_up.backward(by_both, inner.second, inner.downs[2])
        del by_both, inner.second
        by_middle = kernels.add_norm_backward(inner.middle, layer.norms[1], layer.eps, grad, by_second)
        by_attended, of_output = layer.output.backward(by_middle, inner.attended, inner.downs[1])
        by_heads = tape.attention.backward(
            by_attended.view(inner.query.shape), inner.query, inner.key, inner.value, inner.result
        )
        by_mixed = kernels.rotate_backward(
            inner.qkv, tape.cos, tape.sin, layer.head_norms, layer.eps, heads, by_heads
        )
        by_normed, of_mixed = layer.qkv.backward(by_mixed, inner.normed, inner.downs[0])
        by_x = kernels.add_norm_backward(x, layer.norms[0], layer.eps, by_middle, by_normed)
        return by_x, [*of_mixed, *of_output, *of_gate, *of_down]


@attrs.define(eq=False)
class _Inner:
    """What one layer computed on the way."""

    normed: Tensor
    qkv: Tensor
    query: Tensor
    key: Tensor
    value: Tensor
    result: Result
    attended: Tensor
    middle: Tensor
    second: Tensor
    both: Tensor
    product: Tensor
    downs: Sequence[Tensor]
    output: Tensor


@attrs.define(eq=False)
class _Tape:
    """What one pass leaves for the backward pass."""

    pack: Pack
    cos: Tensor
    sin: Tensor
    attention: PackAttention
    inputs: list[Tensor] = attrs.field(factory=list)
    inner: list[_Inner | None] = attrs.field(factory=list)
    last: Tensor | None = None
    derivatives: Tensor | None = None
    logprobs: Tensor = attrs.field(factory=lambda: torch.empty(0))


class _PackLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, trainer: LeanTrainer, pack: Pack, temperature: float, keep: bool, *_parameters: Tensor
    ) -> Tensor:
        ctx.trainer = trainer
        ctx.tape = trainer.run(pack, temperature, True, keep)
        found: Tensor = ctx.tape.logprobs
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        found = ctx.trainer.gradients(ctx.tape, grads[0])
        ctx.tape = None
        return (None, None, None, None, *found)
