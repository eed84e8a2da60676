"""Log-probabilities of a pack and their gradient with respect to the adapter, for the models that run lean.

The backward pass is written out, so nothing is kept that it does not need: the input of each layer, and the
derivative of each log-probability with respect to its hidden state. A layer's activations are computed again
when its gradient is due, or kept, if there is memory for those of all layers. The head's logits live for one
chunk of tokens and become that derivative in place, so neither pass ever holds more than one chunk of them.

Names: ``grad_x`` is the gradient of the loss with respect to ``x``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from ttd_core.policy.local.lean import ops
from ttd_core.policy.local.lean.mlp import Kept
from ttd_core.policy.local.lean.model import LeanLayer, LeanModel
from ttd_core.policy.local.lean.pack_attention import AttentionOutput, PackAttention, attention_for
from ttd_core.policy.local.packing import Pack

#: Tokens whose logits are held at once: 1024 rows of 150,000 bfloat16 logits are 300 MB.
CHUNK = 1024


class LeanTrainer:
    """Differentiable log-probabilities of packs.

    :param model: the model, adapters in place.
    """

    def __init__(self, model: LeanModel) -> None:
        self._model = model
        self._ops = ops.training_ops(model.device)
        #: The adapters' weights, layer by layer: what :meth:`gradients` are with respect to.
        self.parameters: list[Tensor] = [
            parameter
            for layer in model.layers
            for projection in layer.projections
            for parameter in projection.parameters
        ]

    def activation_bytes(self, tokens: int) -> int:
        """Device memory of all layers' activations, for a pack of ``tokens`` tokens."""
        element_size = self._model.layers[0].qkv.weight.element_size()
        per_token = 0
        for layer in self._model.layers:
            hidden_size = layer.qkv.weight.shape[1]
            # Norms and residual streams; queries and keys once more.
            per_token += 2 * layer.qkv.outputs + layer.output.outputs + 3 * hidden_size
            per_token += layer.mlp.kept_width(hidden_size)
        return tokens * per_token * element_size

    def logprobs(self, pack: Pack, temperature: float, keep: bool) -> Tensor:
        """Float32 [reply tokens] of one pack, with gradient to the adapter if gradients are enabled.

        :param keep: keep every layer's activations for the backward pass.
        """
        if not torch.is_grad_enabled():
            return self.run(pack, temperature, backward=False, keep=False).logprobs
        arguments = (self, pack, temperature, keep, *self.parameters)
        logprobs: Tensor = _PackLogprobs.apply(*arguments)  # type: ignore[no-untyped-call]
        return logprobs

    def run(self, pack: Pack, temperature: float, *, backward: bool, keep: bool) -> Tape:
        """The forward pass.

        :param backward: leave on the tape what the backward pass needs.
        :param keep: with ``backward``, every layer's activations too.
        """
        with ops.on_device(self._model.device):
            return self._run(pack, temperature, backward, keep)

    def _run(self, pack: Pack, temperature: float, backward: bool, keep: bool) -> Tape:
        base = self._model.causal.model
        x = base.embed_tokens(pack.ids[0])
        cos, sin = self._model.rotary(x, pack.positions[0])
        windows = {layer.window for layer in self._model.layers}
        tape = Tape(pack, cos, sin, {window: attention_for(pack, x.dtype, window) for window in windows})
        for index, layer in enumerate(self._model.layers):
            activations = self._layer(index, layer, x, tape)
            if backward:
                tape.inputs.append(x)
                tape.activations.append(activations if keep else None)
            x = activations.output
        tape.last = x
        self._head(x, tape, temperature, backward)
        return tape

    def _head(self, x: Tensor, tape: Tape, temperature: float, backward: bool) -> None:
        """Log-probabilities chunk by chunk and, with ``backward``, their derivatives by the normed states."""
        norm = self._model.causal.model.norm
        head = self._model.causal.get_output_embeddings()
        temperature_tensor = torch.tensor([temperature], dtype=torch.float32, device=x.device)
        pack, logprobs, derivatives = tape.pack, [], []
        for start in range(0, len(pack.targets), CHUNK):
            sources = pack.sources[start : start + CHUNK]
            _, normed = self._ops.add_norm(x[sources], None, norm.weight, float(norm.variance_epsilon))
            logits = head(normed)
            targets = pack.targets[start : start + CHUNK]
            logprobs.append(self._ops.target_logprobs(logits, targets, temperature_tensor, backward))
            if backward:
                derivatives.append(logits @ head.weight)
        tape.logprobs = torch.cat(logprobs)
        tape.derivatives = torch.cat(derivatives) if derivatives else None

    def _layer(self, index: int, layer: LeanLayer, x: Tensor, tape: Tape) -> _Activations:
        heads = self._model.heads
        _, attention_input = self._ops.add_norm(x, None, layer.norms[0], layer.eps)
        qkv, qkv_lora = layer.qkv.forward(attention_input)
        query, key = self._ops.rotate(qkv, tape.cos, tape.sin, layer.head_norms, layer.eps, heads)
        value = qkv.view(len(qkv), -1, self._model.head_size)[:, heads[0] + heads[1] :]
        attention = tape.attention[layer.window].forward(query, key, value, layer.sinks)
        attended = attention[0].reshape(len(x), -1)
        update, output_lora = layer.output.forward(attended)
        residual, mlp_input = self._ops.add_norm(x, update, layer.norms[1], layer.eps)
        last_update, mlp_kept = layer.mlp.forward(mlp_input, self._model.routes_of(index, tape.pack.routes))
        return _Activations(
            attention_input=attention_input,
            qkv=qkv,
            query=query,
            key=key,
            value=value,
            attention=attention,
            attended=attended,
            residual=residual,
            mlp=mlp_kept,
            lora_hidden=(qkv_lora, output_lora),
            output=residual + last_update,
        )

    def gradients(self, tape: Tape, grad_logprobs: Tensor) -> list[Tensor]:
        """The backward pass: the gradient with respect to each of :attr:`parameters`.

        :param tape: of a forward pass with ``backward``; used up.
        :param grad_logprobs: float32 [reply tokens].
        """
        with ops.on_device(self._model.device):
            return self._gradients(tape, grad_logprobs)

    def _gradients(self, tape: Tape, grad_logprobs: Tensor) -> list[Tensor]:
        model, pack = self._model, tape.pack
        if tape.derivatives is None or tape.last is None:
            raise RuntimeError("the forward pass kept nothing for a backward pass")
        norm = model.causal.model.norm
        # A prompt's last token predicts the first of every reply: sums are taken in float32.
        grad_normed = torch.zeros(tape.last.shape, dtype=torch.float32, device=tape.last.device)
        grad_normed.index_add_(0, pack.sources, tape.derivatives.float() * grad_logprobs[:, None])
        eps = float(norm.variance_epsilon)
        grad = self._ops.add_norm_backward(tape.last, norm.weight, eps, None, grad_normed.to(tape.last.dtype))
        del grad_normed
        by_layer: list[list[Tensor]] = []
        for index, layer in reversed([*enumerate(model.layers)]):
            x, activations = tape.inputs.pop(), tape.activations.pop()
            if activations is None:
                activations = self._layer(index, layer, x, tape)
            grad, adapter_grads = self._layer_backward(layer, x, activations, grad, tape)
            by_layer.append(adapter_grads)
        return [gradient for adapter_grads in reversed(by_layer) for gradient in adapter_grads]

    def _layer_backward(
        self, layer: LeanLayer, x: Tensor, kept: _Activations, grad: Tensor, tape: Tape
    ) -> tuple[Tensor, list[Tensor]]:
        """Gradients with respect to the layer's input, and to its adapters.

        :param kept: the layer's activations; those of the MLP are deleted as they are used up.
        """
        heads = self._model.heads
        mlp_kept = [*kept.mlp]
        kept.mlp = ()
        grad_mlp_input, mlp_grads = layer.mlp.backward(grad, mlp_kept)
        grad_residual = self._ops.add_norm_backward(
            kept.residual, layer.norms[1], layer.eps, grad, grad_mlp_input
        )
        grad_attended, output_grads = layer.output.backward(grad_residual, kept.attended, kept.lora_hidden[1])
        grad_query_key_value = tape.attention[layer.window].backward(
            grad_attended.view(kept.query.shape),
            kept.query,
            kept.key,
            kept.value,
            kept.attention,
            layer.sinks,
        )
        grad_qkv = self._ops.rotate_backward(
            kept.qkv, tape.cos, tape.sin, layer.head_norms, layer.eps, heads, grad_query_key_value
        )
        grad_attention_input, qkv_grads = layer.qkv.backward(
            grad_qkv, kept.attention_input, kept.lora_hidden[0]
        )
        grad_x = self._ops.add_norm_backward(
            x, layer.norms[0], layer.eps, grad_residual, grad_attention_input
        )
        return grad_x, [*qkv_grads, *output_grads, *mlp_grads]


@attrs.define(eq=False)
class _Activations:
    """What one layer computed on the way, [tokens, ...] each.

    :param attention: what attention returned, and what its backward pass needs.
    :param residual: the residual stream after attention.
    :param mlp: what the MLP keeps for its backward pass.
    :param lora_hidden: ``A x`` of the adapters of the projections around attention.
    :param output: the residual stream after the layer.
    """

    attention_input: Tensor
    qkv: Tensor
    query: Tensor
    key: Tensor
    value: Tensor
    attention: AttentionOutput
    attended: Tensor
    residual: Tensor
    mlp: Kept
    lora_hidden: Sequence[Tensor]
    output: Tensor


@attrs.define(eq=False)
class Tape:
    """What a forward pass leaves for the backward pass.

    :param cos: [tokens, head size] of the rotary embedding; ``sin`` likewise.
    :param attention: attention within the pack, by the layers' windows.
    :param inputs: each layer's input [tokens, hidden size].
    :param activations: each layer's activations, ``None`` where they are to be computed again.
    :param last: the last layer's output [tokens, hidden size].
    :param derivatives: [reply tokens, hidden size], of each log-probability with respect to its normed state.
    :param logprobs: float32 [reply tokens].
    """

    pack: Pack
    cos: Tensor
    sin: Tensor
    attention: Mapping[int, PackAttention]
    inputs: list[Tensor] = attrs.field(factory=list)
    activations: list[_Activations | None] = attrs.field(factory=list)
    last: Tensor | None = None
    derivatives: Tensor | None = None
    logprobs: Tensor = attrs.field(factory=lambda: torch.empty(0))


class _PackLogprobs(torch.autograd.Function):
    """Hands :class:`LeanTrainer`'s two passes to autograd."""

    @staticmethod
    def forward(
        ctx: Any, trainer: LeanTrainer, pack: Pack, temperature: float, keep: bool, *_parameters: Tensor
    ) -> Tensor:
        ctx.trainer = trainer
        ctx.tape = trainer.run(pack, temperature, backward=True, keep=keep)
        logprobs: Tensor = ctx.tape.logprobs
        return logprobs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.trainer.gradients(ctx.tape, grads[0])
        ctx.tape = None
        # One for each argument of `forward`: the first four have none.
        return (None, None, None, None, *gradients)
