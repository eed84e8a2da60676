"""Models of known sizes with random weights, made on the device: nothing is downloaded."""

from __future__ import annotations

from typing import Any

import attrs
import random_weights
import torch
import transformers

from ttd_core.policy.local import adapter
from ttd_core.policy.local.packed import PackedExperts
from ttd_core.policy.local.plain import attention
from ttd_core.policy.local.replies import DecodeLimits

VOCABULARY = 151_936
#: The models' classes by the word that SIZES has for them; gpt-oss's experts are packed, as published.
FAMILIES: dict[str, tuple[Any, Any]] = {
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
    "qwen3_moe": (transformers.Qwen3MoeConfig, transformers.Qwen3MoeForCausalLM),
    "gpt_oss": (transformers.GptOssConfig, transformers.GptOssForCausalLM),
}
_GPT_OSS: dict[str, Any] = {
    "family": "gpt_oss",
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "num_experts_per_tok": 4,
    "vocab_size": 201_088,
    "max_position_embeddings": 131_072,
}
#: Shapes of published models.
SIZES: dict[str, dict[str, Any]] = {
    "0.6b": {
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "tie_word_embeddings": True,
    },
    "1.5b": {
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "8b": {
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "tie_word_embeddings": False,
    },
    "30b-a3b": {
        "family": "qwen3_moe",
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "moe_intermediate_size": 768,
        "num_hidden_layers": 48,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "norm_topk_prob": True,
        "tie_word_embeddings": False,
    },
    "gpt-oss-20b": _GPT_OSS | {"num_hidden_layers": 24, "num_local_experts": 32},
    "gpt-oss-120b": _GPT_OSS | {"num_hidden_layers": 36, "num_local_experts": 128},
    # For trying the scripts out on a CPU.
    "tiny-moe": {
        "family": "qwen3_moe",
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 96,
        "moe_intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "head_dim": 16,
        "norm_topk_prob": True,
    },
    "tiny-oss": _GPT_OSS
    | {
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "head_dim": 16,
    },
    "tiny": {
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
        "head_dim": 16,
    },
}


def make(size: str, device: torch.device, dtype: torch.dtype | None = None) -> Any:
    """A model that never ends a reply by itself.

    :param dtype: bfloat16 by default, on a CPU float32.
    """
    transformers.logging.set_verbosity_error()
    settings = {"head_dim": 128, "vocab_size": VOCABULARY, "max_position_embeddings": 40960} | SIZES[size]
    config_class, model_class = FAMILIES[settings.pop("family", "qwen3")]
    config = config_class(**settings)
    dtype = dtype or (torch.float32 if device.type == "cpu" else torch.bfloat16)
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        # Without memory first: packed experts never exist as numbers.
        with torch.device("meta"):
            model = model_class(config)
            for layer in model.model.layers if model_class is transformers.GptOssForCausalLM else []:
                layer.mlp.experts = PackedExperts(layer.mlp.experts)
        model.to_empty(device=device)
    finally:
        torch.set_default_dtype(before)
    model.model.rotary_emb = type(model.model.rotary_emb)(config).to(device)
    if device.type != "meta":
        for name, tensor in weights(model).items():
            random_weights.fill(name, tensor, experts_of(config) > 0)
    model.tie_weights()
    model.generation_config.eos_token_id = None
    return model.eval()


def experts_of(config: Any) -> int:
    """Experts of a layer; 0 of a dense model."""
    experts: int = getattr(config, "num_experts", 0) or getattr(config, "num_local_experts", 0)
    return experts


def weights(model: Any) -> dict[str, torch.Tensor]:
    """Every weight by its name, each once, packed ones too."""
    found: dict[str, torch.Tensor] = model.state_dict()
    if model.config.tie_word_embeddings:
        del found["lm_head.weight"]
    return found


@attrs.frozen
class Work:
    """What a model multiplies, the adapter left out.

    :param layer_weights: weights that one token meets in the layers.
    :param head_weights: those of the head.
    :param always_bytes: weights read in every step.
    :param expert_bytes: one expert's, of all layers together.
    :param experts: of a layer; 0 of a dense model.
    :param choices: experts a token.
    """

    layer_weights: int
    head_weights: int
    always_bytes: int
    expert_bytes: int
    experts: int
    choices: int

    @classmethod
    def of(cls, model: Any) -> Work:
        """Of a model, adapted or not."""
        config = model.config
        experts = experts_of(config)
        choices = config.num_experts_per_tok if experts else 0
        head = model.get_output_embeddings().weight
        layer_weights = always_bytes = expert_bytes = 0
        for name, tensor in [*model.model.layers.named_parameters(), *model.model.layers.named_buffers()]:
            if tensor.dim() < 2 or "lora" in name:
                continue
            if ".experts." not in name:
                layer_weights += tensor.numel()
                always_bytes += tensor.nbytes
                continue
            expert_bytes += tensor.nbytes // experts
            if not name.endswith(("_scales", "_bias")):
                # Two packed weights lie in a byte.
                layer_weights += (
                    choices * tensor.numel() // experts * (2 if tensor.dtype == torch.uint8 else 1)
                )
        return cls(layer_weights, head.numel(), always_bytes + head.nbytes, expert_bytes, experts, choices)

    def evenly_read(self, rows: int) -> float:
        """Experts of a layer that ``rows`` tokens need on average, drawn evenly; 0 of a dense model."""
        return self.experts * (1 - (1 - self.choices / self.experts) ** rows) if self.experts else 0.0

    def step_bytes(self, rows: int, read: float | None = None) -> float:
        """Weights read in a step of ``rows`` tokens.

        :param read: experts of a layer that are read; those of an even draw by default.
        """
        needed = self.evenly_read(rows) if read is None else read
        return self.always_bytes + needed * self.expert_bytes


def adapt(model: Any, what: adapter.Adapt = "auto", rank: int = 32) -> Any:
    """The peft model around ``model``, adapted as the local policy does it, no adapter zero."""
    adapted = adapter.adapted(model, what, rank, rank)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.01)
    return adapted


def use_own_attention(model: Any) -> None:
    """As the local policy does before it samples."""
    attention.install(model)


def vocabulary(size: str) -> int:
    """Tokens that a model of a size knows."""
    return int(SIZES[size].get("vocab_size", VOCABULARY))


def prompts(count: int, length: int, known: int = VOCABULARY) -> list[list[int]]:
    """Random prompts, the same every time.

    :param known: see :func:`vocabulary`.
    """
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, known, (count, length), generator=generator).tolist()


def limits(groups: int, new: int) -> DecodeLimits:
    """Every reply is ``new`` tokens long."""
    return DecodeLimits(frozenset(), [new] * groups, None, lambda _: [])
