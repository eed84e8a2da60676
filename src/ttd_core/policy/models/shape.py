"""The shape of a model by its config: what it weighs and multiplies, told before anything of it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from ttd_core.errors import ModelUnavailableError

#: What is said of a model whose config has no ``max_position_embeddings``.
_ENDLESS = 1 << 30
#: More layers than this are a mistake.
_MOST_LAYERS = 10_000
#: Bits of a weight of packed experts (MXFP4): four, and a scale of eight for 32 of them.
PACKED_BITS = 4.25


@attrs.frozen
class ModelShape:
    """Sizes of a causal language model.

    :param family: the config's ``model_type``.
    :param layers: decoder layers.
    :param hidden: width of the residual stream.
    :param heads: query heads.
    :param kv_heads: key-value heads.
    :param head_size: width of a head.
    :param vocabulary: tokens.
    :param mlp_width: inner width of a dense MLP.
    :param dense_layers: layers whose MLP is dense.
    :param expert_width: inner width of an expert; 0 in a dense model.
    :param experts: of a layer; 0 in a dense model.
    :param choices: experts a token.
    :param tied: whether the head is the embedding.
    :param packed: whether experts are published in four bits.
    :param windows: tokens that each layer's attention sees, itself included; 0 is all.
    :param longest_context: most tokens of prompt and reply together.
    """

    family: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    mlp_width: int
    dense_layers: int
    expert_width: int
    experts: int
    choices: int
    tied: bool
    packed: bool
    windows: tuple[int, ...]
    longest_context: int

    @property
    def qkv_width(self) -> int:
        """Queries, keys and values of a token side by side."""
        return (self.heads + 2 * self.kv_heads) * self.head_size

    @property
    def attention_weights(self) -> int:
        """Of one layer."""
        return self.hidden * (self.qkv_width + self.heads * self.head_size)

    @property
    def mixtures(self) -> int:
        """Layers that are mixtures of experts."""
        return self.layers - self.dense_layers

    @property
    def expert_weights(self) -> int:
        """Of one expert of one layer."""
        return 3 * self.hidden * self.expert_width

    @property
    def always_weights(self) -> int:
        """Weights of the layers that every token meets: attention, dense MLPs, routers."""
        dense = self.dense_layers * 3 * self.hidden * self.mlp_width
        return self.layers * self.attention_weights + dense + self.mixtures * self.hidden * self.experts

    @property
    def active_weights(self) -> int:
        """Weights of the layers that one token meets."""
        return self.always_weights + self.mixtures * self.choices * self.expert_weights

    @property
    def head_weights(self) -> int:
        """Of the head, which the embedding's are as many as."""
        return self.vocabulary * self.hidden

    @property
    def weights(self) -> int:
        """All of them, norms and biases left out."""
        experts = self.mixtures * self.experts * self.expert_weights
        return self.always_weights + experts + self.head_weights * (1 if self.tied else 2)

    def weight_bytes(self, element: int, keep_packed: bool) -> float:
        """Memory of the weights.

        :param element: bytes of a number.
        :param keep_packed: experts in four bits stay so.
        """
        experts = self.mixtures * self.experts * self.expert_weights
        return (self.weights - experts) * element + experts * self.expert_bytes(element, keep_packed)

    def expert_bytes(self, element: int, keep_packed: bool) -> float:
        """Memory of one weight of an expert."""
        return PACKED_BITS / 8 if self.packed and keep_packed else element

    def token_bytes(self, element: int) -> int:
        """Memory of the keys and values of one token."""
        return self.layers * self.layer_token_bytes(element)

    def layer_token_bytes(self, element: int) -> int:
        """Memory of the keys and values of one token in one layer."""
        return 2 * self.kv_heads * self.head_size * element

    def adapter_weights(self, rank: int, adapt: str) -> int:
        """Weights of a LoRA adapter.

        :param adapt: as ``policy.options.adapt`` has it.
        """
        attended = self.heads * self.head_size
        widths = 3 * self.hidden + self.qkv_width + self.hidden + attended
        per_mlp = 3 * (self.hidden + self.mlp_width)
        dense = self.dense_layers if adapt == "all" or (adapt == "auto" and not self.experts) else 0
        return rank * (self.layers * widths + dense * per_mlp)

    def seen(self, length: float) -> float:
        """Tokens that attention looks back on from a token at ``length``, averaged over the layers."""
        return sum(min(length, window or length) for window in self.windows) / max(len(self.windows), 1)


def shape_of(config: Mapping[str, Any], where: str) -> ModelShape:
    """The shape that a config describes.

    :param where: names the config in an error.
    :raises ModelUnavailableError: when it says too little.
    """
    text = config.get("text_config")
    own: Mapping[str, Any] = {**text, **config} if isinstance(text, Mapping) else config

    def number(*names: str, default: int | None = None) -> int:
        wrong = names[:1] if default is None else ()
        for name in names:
            value = own.get(name)
            if type(value) is int and 0 < value < _ENDLESS:
                return value
            # null leaves a size out, and 0 says that there is none where none is the default.
            if value is not None and not (value == 0 and default == 0):
                wrong = wrong or (name,)
        if wrong or default is None:
            raise ModelUnavailableError(
                f"{where}: '{wrong[0]}' is no positive number, so the model's size cannot be told"
            )
        return default

    layers, hidden, heads = number("num_hidden_layers"), number("hidden_size"), number("num_attention_heads")
    if layers > _MOST_LAYERS:
        raise ModelUnavailableError(f"{where}: it says that the model has {layers:,} layers, which none has")
    experts = number("num_experts", "num_local_experts", "n_routed_experts", default=0)
    mlp_width = number("intermediate_size", default=4 * hidden)
    dense = _dense_layers(own, layers) if experts else layers
    quantization = own.get("quantization_config")
    return ModelShape(
        family=str(own.get("model_type", "")),
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=number("num_key_value_heads", default=heads),
        head_size=number("head_dim", default=max(1, hidden // heads)),
        vocabulary=number("vocab_size"),
        mlp_width=mlp_width,
        dense_layers=dense,
        expert_width=number("moe_intermediate_size", default=mlp_width) if experts else 0,
        experts=experts,
        choices=min(experts, number("num_experts_per_tok", "num_experts_per_token", default=1)),
        tied=bool(own.get("tie_word_embeddings", False)),
        packed=isinstance(quantization, Mapping) and quantization.get("quant_method") == "mxfp4",
        windows=_windows(own, layers),
        longest_context=number("max_position_embeddings", default=_ENDLESS),
    )


def _dense_layers(config: Mapping[str, Any], layers: int) -> int:
    """How many layers of a mixture have a dense MLP, as Qwen's configs say it."""
    dense = config.get("mlp_only_layers")
    step = config.get("decoder_sparse_step")
    step = step if isinstance(step, int) and step > 0 else 1
    named = {layer for layer in dense if isinstance(layer, int)} if isinstance(dense, list) else set()
    return sum(1 for layer in range(layers) if layer in named or (layer + 1) % step)


def _windows(config: Mapping[str, Any], layers: int) -> tuple[int, ...]:
    """Each layer's window."""
    window, types = config.get("sliding_window"), config.get("layer_types")
    window = window if isinstance(window, int) and window > 0 else 0
    if isinstance(types, list) and len(types) == layers:
        return tuple(window if kind == "sliding_attention" else 0 for kind in types)
    if config.get("model_type") == "gpt_oss":
        return tuple(0 if layer % 2 else window for layer in range(layers))
    # Qwen's configs name a window that most of them do not use.
    return (
        window if config.get("use_sliding_window", "qwen" not in str(config.get("model_type"))) else 0,
    ) * layers
