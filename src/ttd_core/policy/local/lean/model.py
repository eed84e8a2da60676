"""The family of models that runs lean: one layer written out, with nothing between its matrix products but
what must be there.

Llama, Qwen2 and Qwen3 differ in biases and in the norms of queries and keys; the rest is one layer: norm,
projections, rotation, attention, norm, gated MLP. Here that layer runs over a flat list of tokens; the
projections that share an input are joined into one product each, adapters included, and what lies between
products is one kernel each. Other models keep to the plain engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.nn import functional

from ttd_core.policy.local.lean import ops

#: Attention over what ``rotate_and_store`` stored: (layer, qkv [tokens, ...]) -> [tokens, heads * head size].
Attend = Callable[[int, Tensor], Tensor]

_MODEL_TYPES = {"llama", "qwen2", "qwen3"}
#: Rotary embeddings whose angles depend on nothing but the position.
_ROPE_TYPES = {"default", "linear", "llama3", "yarn"}
#: The name that peft gives to a model's only adapter.
_ADAPTER = "default"


def why_unsupported(model: Any) -> str:
    """Why ``model`` (transformers', adapters in place or not) cannot run lean; empty if it can."""
    config = model.config
    if config.model_type not in _MODEL_TYPES:
        return f"model type '{config.model_type}' is none of {', '.join(sorted(_MODEL_TYPES))}"
    rope_type = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if rope_type not in _ROPE_TYPES:
        return f"its rotary embedding is of type '{rope_type}'"
    if config.hidden_act != "silu":
        return f"its activation is '{config.hidden_act}', not silu"
    attention = model.model.layers[0].self_attn
    if attention.head_dim not in ops.HEAD_SIZES:
        return f"its head size is {attention.head_dim}, none of {ops.HEAD_SIZES}"
    if abs(attention.scaling - attention.head_dim**-0.5) > 1e-9:
        return "it scales its attention in a way of its own"
    if any(getattr(layer.self_attn, "sliding_window", None) for layer in model.model.layers):
        return "it has layers with a sliding window"
    for layer in model.model.layers:
        for module in _linear_modules(layer):
            if type(getattr(module, "base_layer", module)) is not torch.nn.Linear:
                return "its projections are not plain linear layers"
    return ""


def _linear_modules(layer: Any) -> list[Any]:
    attention, mlp = layer.self_attn, layer.mlp
    return [
        attention.q_proj,
        attention.k_proj,
        attention.v_proj,
        attention.o_proj,
        mlp.gate_proj,
        mlp.up_proj,
        mlp.down_proj,
    ]


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
        ranks = [module.lora_A[_ADAPTER].weight.shape[0] for module in modules] if self._adapted else [0]
        # Matrix products want their strides in multiples of 16 bytes.
        lora_rows = -(-sum(ranks) // 8) * 8
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
            a, b = module.lora_A[_ADAPTER].weight, module.lora_B[_ADAPTER].weight
            scale = 0.0 if module.disable_adapters else module.scaling[_ADAPTER]
            self._lora_a[row : row + len(a)] = a
            self._lora_b[row : row + len(a), column : column + len(b)] = b.T * scale
            row, column = row + len(a), column + len(b)

    @property
    def parameters(self) -> list[Tensor]:
        """The adapters' weights: A, then B, of each layer."""
        modules = self._modules if self._adapted else []
        return [part[_ADAPTER].weight for module in modules for part in (module.lora_A, module.lora_B)]

    def __call__(self, x: Tensor) -> Tensor:
        """[tokens, inputs] to [tokens, outputs]: the layers' results side by side."""
        return self.forward(x)[0]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The result, and ``A x`` of all adapters [tokens, A rows], which :meth:`backward` needs."""
        both = functional.linear(x, self.weight, self.bias)
        result, lora_hidden = both[:, : self.outputs], both[:, self.outputs :]
        if self._adapted:
            result.addmm_(lora_hidden, self._lora_b)
        return result, lora_hidden

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
            a, b = module.lora_A[_ADAPTER].weight, module.lora_B[_ADAPTER].weight
            scale = 0.0 if module.disable_adapters else module.scaling[_ADAPTER]
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


@attrs.frozen(eq=False)
class LeanLayer:
    """One decoder layer's weights, projections that share an input joined.

    :param qkv: queries, keys and values.
    :param output: what follows attention.
    :param gate_and_up: the MLP's first two products.
    :param down: the MLP's last one.
    :param norms: weights [hidden size] of the norms before attention and before the MLP.
    :param head_norms: weights [head size] of the queries' and the keys' norms, where the model has them.
    :param eps: of all norms.
    """

    qkv: Projection
    output: Projection
    gate_and_up: Projection
    down: Projection
    norms: tuple[Tensor, Tensor]
    head_norms: tuple[Tensor, Tensor] | None
    eps: float

    @property
    def projections(self) -> tuple[Projection, ...]:
        """All four, in the order they are used."""
        return self.qkv, self.output, self.gate_and_up, self.down

    @classmethod
    def of(cls, layer: Any) -> LeanLayer:
        """Of a decoder layer of the transformers model."""
        attention, mlp = layer.self_attn, layer.mlp
        first, second = layer.input_layernorm, layer.post_attention_layernorm
        has_head_norms = hasattr(attention, "q_norm")
        return cls(
            qkv=Projection([attention.q_proj, attention.k_proj, attention.v_proj]),
            output=Projection([attention.o_proj]),
            gate_and_up=Projection([mlp.gate_proj, mlp.up_proj]),
            down=Projection([mlp.down_proj]),
            norms=(first.weight, second.weight),
            head_norms=(attention.q_norm.weight, attention.k_norm.weight) if has_head_norms else None,
            eps=float(first.variance_epsilon),
        )


class LeanModel:
    """A model of the family, run over flat lists of tokens.

    :param causal: the transformers model; :func:`why_unsupported` must be empty for it.
    """

    def __init__(self, causal: Any) -> None:
        self.causal = causal
        #: The operations of decoding, for the model's device.
        self.ops = ops.decoding_ops(causal.device)
        config = causal.config
        #: Query heads, key-value heads.
        self.heads: tuple[int, int] = (config.num_attention_heads, config.num_key_value_heads)
        self.head_size: int = causal.model.layers[0].self_attn.head_dim
        self.layers = [LeanLayer.of(layer) for layer in causal.model.layers]
        self.dtype: torch.dtype = self.layers[0].qkv.weight.dtype
        self.device: torch.device = causal.device

    def load_adapter(self) -> None:
        """Take the adapter's weights as they are now."""
        for layer in self.layers:
            for projection in layer.projections:
                projection.load_adapter()

    def forward(
        self, ids: Tensor, positions: Tensor, slots: Tensor, store: Tensor, attend: Attend
    ) -> tuple[Tensor, Tensor]:
        """Run the layers over some tokens and store their keys and values.

        :param ids: int64 [tokens].
        :param positions: int64 [tokens].
        :param slots: int64 [tokens], where their keys and values go: page times PAGE plus offset in it.
        :param store: [pages, layers, 2, kv heads, PAGE, head size].
        :return: the residual stream and the last layer's update of it, [tokens, hidden size] each.
        """
        base = self.causal.model
        residual = base.embed_tokens(ids)
        cos, sin = (part[0].contiguous() for part in base.rotary_emb(residual, positions[None]))
        update: Tensor | None = None
        for index, layer in enumerate(self.layers):
            residual, normed = self.ops.add_norm(residual, update, layer.norms[0], layer.eps)
            qkv = layer.qkv(normed)
            keys, values = store[:, index, 0], store[:, index, 1]
            self.ops.rotate_and_store(
                qkv, cos, sin, layer.head_norms, layer.eps, keys, values, slots, self.heads
            )
            residual, normed = self.ops.add_norm(
                residual, layer.output(attend(index, qkv)), layer.norms[1], layer.eps
            )
            update = layer.down(self.ops.swiglu(layer.gate_and_up(normed)))
        return residual, update if update is not None else torch.zeros_like(residual)

    def logits(self, residual: Tensor, update: Tensor) -> Tensor:
        """[tokens, vocabulary] in the model's dtype, of what :meth:`forward` returned."""
        norm = self.causal.model.norm
        _, normed = self.ops.add_norm(residual, update, norm.weight, float(norm.variance_epsilon))
        logits: Tensor = self.causal.get_output_embeddings()(normed)
        return logits
