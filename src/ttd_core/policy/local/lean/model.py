"""One family of models with nothing between the matrix products but what must be there.

Llama, Qwen2 and Qwen3 differ in biases and in the norms of queries and keys; the rest is one layer: norm,
projections, rotation, attention, norm, gated product. Here that layer runs over a flat list of tokens with
the projections that share an input joined into one product each, adapters included, and the steps between
products as one kernel each. Other models keep to the plain engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.nn import functional

from ttd_core.policy.local.lean import ops

#: Attention over what :func:`rotate_and_store` made: (layer, qkv [tokens, ...]) -> [tokens, heads * size].
Attend = Callable[[int, Tensor], Tensor]

_FAMILY = {"llama", "qwen2", "qwen3"}
#: Rotary embeddings whose angles depend on nothing but the position.
_ROTARY = {"default", "linear", "llama3", "yarn"}
_ADAPTER = "default"


def misfit(model: Any) -> str:
    """Why ``model`` (transformers, adapters in place or not) cannot run here; empty if it can."""
    config = model.config
    if config.model_type not in _FAMILY:
        return f"model type '{config.model_type}' is none of {', '.join(sorted(_FAMILY))}"
    if (
        rotary := (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    ) not in _ROTARY:
        return f"its rotary embedding is of type '{rotary}'"
    if config.hidden_act != "silu":
        return f"its activation is '{config.hidden_act}', not silu"
    attention = model.model.layers[0].self_attn
    if attention.head_dim not in ops.HEAD_SIZES:
        return f"its head size is {attention.head_dim}, none of {ops.HEAD_SIZES}"
    if abs(attention.scaling - attention.head_dim**-0.5) > 1e-9:
        return "it scales its attention in a way of its own"
    if any(getattr(layer.self_attn, "sliding_window", None) for layer in model.model.layers):
        return "it has layers with a sliding window"
    plain = (torch.nn.Linear,)
    for layer in model.model.layers:
        for module in _projections(layer):
            if type(getattr(module, "base_layer", module)) not in plain:
                return "its projections are not plain linear layers"
    return ""


def _projections(layer: Any) -> list[Any]:
    own, mlp = layer.self_attn, layer.mlp
    return [own.q_proj, own.k_proj, own.v_proj, own.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj]


class Projection:
    """Linear layers that read the same input, as one product, plus one more for their adapters.

    The weights are not copied: the layers' own become views of the joined matrix. Its last rows are the first
    halves of the adapters, so that one product gives what both need of the input.

    :param modules: ``torch.nn.Linear``, or peft's layer around one.
    """

    def __init__(self, modules: Sequence[Any]) -> None:
        self._modules = list(modules)
        bases = [getattr(module, "base_layer", module) for module in modules]
        self._adapted = all(hasattr(module, "lora_A") for module in modules)
        ranks = [module.lora_A[_ADAPTER].weight.shape[0] for module in modules] if self._adapted else [0]
        # Matrix products want their strides in multiples of 16 bytes.
        extra = -(-sum(ranks) // 8) * 8
        self.outputs = sum(len(base.weight) for base in bases)
        self.weight = _joined([base.weight for base in bases], extra)
        self.bias = _joined([base.bias for base in bases], extra) if bases[0].bias is not None else None
        self._down = self.weight[self.outputs :]
        self._up = self.weight.new_zeros(extra, self.outputs)

    @torch.no_grad()
    def refresh(self) -> None:
        """Take the adapters' weights as they are now; nothing, while they are disabled."""
        if not self._adapted:
            return
        row, column = 0, 0
        for module in self._modules:
            down, up = module.lora_A[_ADAPTER].weight, module.lora_B[_ADAPTER].weight
            scale = 0.0 if module.disable_adapters else module.scaling[_ADAPTER]
            self._down[row : row + len(down)] = down
            self._up[row : row + len(down), column : column + len(up)] = up.T * scale
            row, column = row + len(down), column + len(up)

    @property
    def parameters(self) -> list[Tensor]:
        """The adapters' weights: of each layer its first half, then its second."""
        layers = self._modules if self._adapted else []
        return [part[_ADAPTER].weight for layer in layers for part in (layer.lora_A, layer.lora_B)]

    def __call__(self, x: Tensor) -> Tensor:
        """[tokens, inputs] to [tokens, outputs of all the layers, side by side]."""
        return self.split(x)[0]

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The result, and what the adapters' first halves made of the input: [tokens, ranks]."""
        both = functional.linear(x, self.weight, self.bias)
        result, down = both[:, : self.outputs], both[:, self.outputs :]
        if self._adapted:
            result.addmm_(down, self._up)
        return result, down

    def backward(self, grad: Tensor, x: Tensor, down: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Gradient by the input, and by each of :attr:`parameters`.

        :param grad: [tokens, outputs], by the result.
        :param x: the input.
        :param down: the second value of :meth:`split`.
        """
        by_input = grad @ self.weight[: self.outputs]
        if not self._adapted:
            return by_input, []
        by_down = grad @ self._up.T
        by_input.addmm_(by_down, self._down)
        of_down, of_up = by_down.T @ x, down.T @ grad
        found, row, column = [], 0, 0
        for module in self._modules:
            first, second = module.lora_A[_ADAPTER].weight, module.lora_B[_ADAPTER].weight
            scale = 0.0 if module.disable_adapters else module.scaling[_ADAPTER]
            rows, columns = slice(row, row + len(first)), slice(column, column + len(second))
            found += [of_down[rows], of_up[rows, columns].T * scale]
            row, column = rows.stop, columns.stop
        return by_input, found


@torch.no_grad()
def _joined(parts: Sequence[Tensor], extra: int) -> Tensor:
    """The parts and ``extra`` rows of zeros as one tensor, of which the parts become views."""
    if len(parts) == 1 and not extra:
        return parts[0].detach()
    whole = torch.cat([*(part.detach() for part in parts), parts[0].new_zeros(extra, *parts[0].shape[1:])])
    start = 0
    for part in parts:
        part.data = whole[start : start + len(part)]
        start += len(part)
    return whole


@attrs.frozen(eq=False)
class Layer:
    """One layer's weights, its projections joined.

    :param qkv: queries, keys and values; ``output`` after attention; then the gated product's two.
    :param norms: weights before attention and before the product.
    :param head_norms: weights of the queries' and keys' norms, where the model has them.
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
    def of(cls, layer: Any) -> Layer:
        """Of a layer of the transformers model."""
        own, mlp = layer.self_attn, layer.mlp
        first, second = layer.input_layernorm, layer.post_attention_layernorm
        normed = hasattr(own, "q_norm")
        return cls(
            qkv=Projection([own.q_proj, own.k_proj, own.v_proj]),
            output=Projection([own.o_proj]),
            gate_and_up=Projection([mlp.gate_proj, mlp.up_proj]),
            down=Projection([mlp.down_proj]),
            norms=(first.weight, second.weight),
            head_norms=(own.q_norm.weight, own.k_norm.weight) if normed else None,
            eps=float(first.variance_epsilon),
        )


class LeanModel:
    """A model of the family, run over flat lists of tokens.

    :param causal: the transformers model; :func:`misfit` must find nothing.
    """

    def __init__(self, causal: Any) -> None:
        self.causal = causal
        self.steps = ops.load(causal.device)
        config = causal.config
        self.heads: tuple[int, int] = (config.num_attention_heads, config.num_key_value_heads)
        self.head_size: int = causal.model.layers[0].self_attn.head_dim
        self.layers = [Layer.of(layer) for layer in causal.model.layers]
        self.dtype: torch.dtype = self.layers[0].qkv.weight.dtype
        self.device: torch.device = causal.device

    def refresh(self) -> None:
        """Take the adapter as it is now."""
        for layer in self.layers:
            for projection in layer.projections:
                projection.refresh()

    def hidden(
        self, ids: Tensor, positions: Tensor, slots: Tensor, pages: Tensor, attend: Attend
    ) -> tuple[Tensor, Tensor]:
        """Run the layers over some tokens and store their keys and values.

        :param ids: int64 [tokens].
        :param positions: int64 [tokens].
        :param slots: int64 [tokens], where their keys and values go.
        :param pages: [pages, layers, 2, kv heads, PAGE, head size].
        :return: the residual stream and its last update, [tokens, hidden size] each.
        """
        base = self.causal.model
        residual = base.embed_tokens(ids)
        cos, sin = (part[0].contiguous() for part in base.rotary_emb(residual, positions[None]))
        update: Tensor | None = None
        for index, layer in enumerate(self.layers):
            residual, normed = self.steps.add_norm(residual, update, layer.norms[0], layer.eps)
            qkv = layer.qkv(normed)
            keys, values = pages[:, index, 0], pages[:, index, 1]
            self.steps.rotate_and_store(
                qkv, cos, sin, layer.head_norms, layer.eps, keys, values, slots, self.heads
            )
            residual, normed = self.steps.add_norm(
                residual, layer.output(attend(index, qkv)), layer.norms[1], layer.eps
            )
            update = layer.down(self.steps.gated(layer.gate_and_up(normed)))
        return residual, update if update is not None else torch.zeros_like(residual)

    def logits(self, residual: Tensor, update: Tensor) -> Tensor:
        """[tokens, vocabulary] in the model's dtype, of what :meth:`hidden` returned."""
        norm = self.causal.model.norm
        _, normed = self.steps.add_norm(residual, update, norm.weight, float(norm.variance_epsilon))
        found: Tensor = self.causal.get_output_embeddings()(normed)
        return found
