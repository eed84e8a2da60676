"""The families of models that run lean: one layer written out, with nothing between its matrix products but
what must be there.

Llama, Qwen2 and Qwen3 differ in biases and in the norms of queries and keys; the rest is one layer: norm,
projections, rotation, attention, norm, gated MLP. Qwen3's mixtures and gpt-oss have experts in place of the
MLP, and gpt-oss windows and sinks in its attention. Here that layer runs over a flat list of tokens; the
projections that share an input are joined into one product each, adapters included, and what lies between
products is one kernel each. Other models keep to the plain engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from ttd_core.policy.local.engine import why_layers_unsupported
from ttd_core.policy.local.lean import ops
from ttd_core.policy.local.lean.expert_projection import ExpertProjection
from ttd_core.policy.local.lean.mlp import DenseMlp, Experts, Mlp, unwrapped
from ttd_core.policy.local.lean.projection import Projection
from ttd_core.policy.local.lean.routes import route_dtype

#: Attention over what ``adapted_rotate_and_store`` stored:
#: (layer, qkv [tokens, ...]) -> [tokens, heads * head size].
Attend = Callable[[int, Tensor], Tensor]


def why_unsupported(model: Any) -> str:
    """Why ``model`` (transformers', adapters in place or not) cannot run lean; empty if it can."""
    if reason := why_layers_unsupported(model.config.to_dict()):
        return reason
    attention = model.model.layers[0].self_attn
    if abs(attention.scaling - attention.head_dim**-0.5) > 1e-9:
        return "it scales its attention in a way of its own"
    for layer in model.model.layers:
        if hasattr(layer.mlp, "experts") and (reason := _why_mixture_unsupported(layer.mlp)):
            return reason
        for module in _linear_modules(layer):
            if type(getattr(module, "base_layer", module)) is not torch.nn.Linear:
                return "its projections are not plain linear layers"
    return ""


def _why_mixture_unsupported(mlp: Any) -> str:
    """The same of a mixture alone."""
    if any(hasattr(module, "base_layer") for name, module in mlp.named_children() if name != "experts"):
        return "its router is adapted"
    _, wrappers = unwrapped(mlp.experts)
    hidden_size = (mlp.gate if hasattr(mlp, "gate") else mlp.router).weight.shape[1]
    for name, wrapper in wrappers.items():
        # Earlier releases of peft take outputs for inputs where a matrix lies as [outputs, inputs].
        found = wrapper.in_features if name == "gate_up_proj" else wrapper.out_features
        if found != hidden_size:
            return "this release of peft adapts its experts in another order; a later one is needed"
    return ""


def _linear_modules(layer: Any) -> list[Any]:
    attention, mlp = layer.self_attn, layer.mlp
    modules = [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj]
    return modules if hasattr(mlp, "experts") else [*modules, mlp.gate_proj, mlp.up_proj, mlp.down_proj]


@attrs.frozen(eq=False)
class LeanLayer:
    """One decoder layer's weights, projections that share an input joined.

    :param qkv: queries, keys and values.
    :param output: what follows attention.
    :param mlp: what follows that.
    :param norms: weights [hidden size] of the norms before attention and before the MLP.
    :param head_norms: weights [head size] of the queries' and the keys' norms, where the model has them.
    :param eps: of all norms.
    :param window: tokens that each token's attention sees, itself included; 0 is all.
    :param sinks: [heads], the logits that take part in the softmax without a value, where the model has them.
    """

    qkv: Projection
    output: Projection
    mlp: Mlp
    norms: tuple[Tensor, Tensor]
    head_norms: tuple[Tensor, Tensor] | None
    eps: float
    window: int
    sinks: Tensor | None

    @property
    def projections(self) -> tuple[Projection | ExpertProjection, ...]:
        """All of them, in the order they are used."""
        return self.qkv, self.output, *self.mlp.projections

    @classmethod
    def of(cls, layer: Any, device: torch.device) -> LeanLayer:
        """Of a decoder layer of the transformers model."""
        attention, mlp = layer.self_attn, layer.mlp
        first, second = layer.input_layernorm, layer.post_attention_layernorm
        has_head_norms = hasattr(attention, "q_norm")
        sinks = getattr(attention, "sinks", None)
        return cls(
            qkv=Projection([attention.q_proj, attention.k_proj, attention.v_proj]),
            output=Projection([attention.o_proj]),
            mlp=(Experts if hasattr(mlp, "experts") else DenseMlp).of(mlp, device),
            norms=(first.weight, second.weight),
            head_norms=(attention.q_norm.weight, attention.k_norm.weight) if has_head_norms else None,
            eps=float(first.variance_epsilon),
            window=int(getattr(attention, "sliding_window", None) or 0),
            sinks=None if sinks is None else sinks.detach(),
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
        self.layers = [LeanLayer.of(layer, causal.device) for layer in causal.model.layers]
        mixtures = [index for index, layer in enumerate(self.layers) if isinstance(layer.mlp, Experts)]
        #: The layers that are mixtures of experts, and the number of each among them.
        self.mixtures: dict[int, int] = {index: number for number, index in enumerate(mixtures)}
        #: The windows of the kinds of layers that there are: first 0, of those that see everything.
        self.windows: list[int] = []
        #: The kind of each layer, and its number among the layers of that kind.
        self.places: list[tuple[int, int]] = [(0, 0)] * len(self.layers)
        for windowed in False, True:
            members = [index for index, layer in enumerate(self.layers) if bool(layer.window) == windowed]
            for number, index in enumerate(members):
                self.places[index] = (len(self.windows), number)
            if members:
                self.windows.append(max(self.layers[index].window for index in members))
        self.dtype: torch.dtype = self.layers[0].qkv.weight.dtype
        self.device: torch.device = causal.device

    def load_adapter(self) -> None:
        """Take the adapter's weights as they are now."""
        for layer in self.layers:
            for projection in layer.projections:
                projection.load_adapter()

    def rotary(self, like: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines [tokens, head size] of the rotary embedding, in the dtype of ``like``.

        :param positions: int64 [tokens].
        """
        parts = [part[0] for part in self.causal.model.rotary_emb(like, positions[None])]
        if parts[0].shape[1] != self.head_size:
            # gpt-oss's serve both halves of a head.
            parts = [torch.cat((part, part), dim=-1) for part in parts]
        return parts[0].contiguous(), parts[1].contiguous()

    def forward(
        self,
        ids: Tensor,
        positions: Tensor,
        slots: Sequence[Tensor],
        stores: Sequence[Tensor],
        attend: Attend,
        routes: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run the layers over some tokens and store their keys and values.

        :param ids: int64 [tokens].
        :param positions: int64 [tokens].
        :param slots: int64 [tokens] of each kind of layers, where their keys and values go: page times PAGE
            plus offset in it.
        :param stores: of each kind of layers, [pages, layers, 2, kv heads, PAGE, head size].
        :param routes: [mixtures, tokens, choices], is given the experts that are chosen.
        :return: the residual stream and the last layer's update of it, [tokens, hidden size] each.
        """
        base = self.causal.model
        residual = base.embed_tokens(ids)
        cos, sin = self.rotary(residual, positions)
        update: Tensor | None = None
        for index, layer in enumerate(self.layers):
            residual, normed = self.ops.add_norm(residual, update, layer.norms[0], layer.eps)
            kind, number = self.places[index]
            keys, values = stores[kind][:, number, 0], stores[kind][:, number, 1]
            place = (cos, sin, layer.head_norms, layer.eps, keys, values, slots[kind], self.heads)
            qkv = self.ops.adapted_rotate_and_store(layer.qkv.partial(normed), *place)
            residual, normed = self.ops.add_norm(
                residual, layer.output(attend(index, qkv)), layer.norms[1], layer.eps
            )
            update = layer.mlp(normed, self.routes_of(index, routes))
        return residual, update if update is not None else torch.zeros_like(residual)

    def routes_of(self, layer: int, routes: Tensor | None) -> Tensor | None:
        """One layer's part of the routes of all mixtures, [tokens, choices], if it is one of them."""
        return routes[self.mixtures[layer]] if routes is not None and layer in self.mixtures else None

    def new_routes(self, *shape: int) -> Tensor:
        """Room for the experts of some tokens: [..., mixtures, tokens, choices] for (..., tokens)."""
        mixture = next(layer.mlp for layer in self.layers if isinstance(layer.mlp, Experts))
        dtype = route_dtype(len(mixture.router))
        shape = (*shape[:-1], len(self.mixtures), shape[-1], mixture.choices)
        return torch.zeros(shape, dtype=dtype, device=self.device)

    def logits(self, residual: Tensor, update: Tensor) -> Tensor:
        """[tokens, vocabulary] in the model's dtype, of what :meth:`forward` returned."""
        norm = self.causal.model.norm
        _, normed = self.ops.add_norm(residual, update, norm.weight, float(norm.variance_epsilon))
        logits: Tensor = self.causal.get_output_embeddings()(normed)
        return logits
