"""Models of known sizes with random weights, made on the device: nothing is downloaded."""

from __future__ import annotations

import warnings
from typing import Any

import peft
import torch
import transformers

from ttd_core.policy.local.plain import attention

VOCABULARY = 151_936
#: Shapes of two published models.
SIZES: dict[str, dict[str, Any]] = {
    "0.6b": {
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
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
    # For trying the scripts out on a CPU.
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
        "head_dim": 16,
    },
}


def make(size: str, device: torch.device) -> Any:
    """A Qwen3 in bfloat16 (float32 on a CPU) that never ends a reply by itself."""
    transformers.logging.set_verbosity_error()
    settings = {"head_dim": 128, "vocab_size": VOCABULARY, "max_position_embeddings": 40960} | SIZES[size]
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        with torch.device(device):
            model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**settings))
    finally:
        torch.set_default_dtype(before)
    model.generation_config.eos_token_id = None
    return model.eval()


def adapt(model: Any, rank: int = 32) -> Any:
    """The peft model around ``model``, every projection adapted, no adapter zero."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        lora = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules="all-linear", task_type="CAUSAL_LM")
        adapted = peft.get_peft_model(model, lora, autocast_adapter_dtype=False)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.01)
    return adapted


def use_own_attention(model: Any) -> None:
    """As the local policy does before it samples."""
    attention.install(model)


def prompts(count: int, length: int) -> list[list[int]]:
    """Random prompts, the same every time."""
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, VOCABULARY, (count, length), generator=generator).tolist()  # type: ignore[no-any-return]
