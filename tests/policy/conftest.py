"""A tiny Qwen2 with random weights and a real tokeniser, both made here: exact tests in milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tokenizers
import torch
import transformers

from ttd_core import config as configs
from ttd_core.config import RunConfig
from ttd_core.policy.local import LocalPolicy

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n"
    "{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
PLAIN_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|im_start|>", "<|im_end|>"]


def make_tokenizer(template: str = PLAIN_TEMPLATE) -> Any:
    """A byte-level tokeniser without merges: one token a byte, plus the chat markers."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(alphabet)}
    core = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    core.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = tokenizers.decoders.ByteLevel()
    core.add_special_tokens(SPECIAL)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|im_end|>", chat_template=template
    )


def make_model(vocabulary: int, seed: int = 0, **changes: Any) -> Any:
    """A two-layer Qwen2 with grouped key-value heads, float32."""
    torch.manual_seed(seed)
    settings: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": False,
    }
    model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**(settings | changes)))
    for parameter in model.parameters():
        # Wider than the usual initialisation, so that distributions are far from uniform.
        parameter.data.normal_(0, 0.25)
    model.generation_config.eos_token_id = vocabulary - 1
    return model.eval()


def make_config(**overrides: Any) -> RunConfig:
    """A config for the tiny model; dotted keys with ``__`` for the dot."""
    values = {"policy.lora_rank": 4, "learn.learning_rate": 1e-2, "policy.batch": 3}
    values |= {key.replace("__", "."): value for key, value in overrides.items()}
    return configs.load("none", overrides=values)


def make_policy(
    template: str = PLAIN_TEMPLATE,
    model_changes: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    **overrides: Any,
) -> LocalPolicy:
    """A policy on the tiny model whose adapter is not zero any more."""
    tokenizer = make_tokenizer(template)
    model = make_model(len(tokenizer), **(model_changes or {})).to(device, dtype)
    policy = LocalPolicy(model, tokenizer, make_config(**overrides))
    with torch.no_grad():
        for name, parameter in policy.adapter.masters.items():
            if "lora_B" in name:
                noise = torch.empty(parameter.shape).normal_(
                    0, 0.1, generator=torch.Generator().manual_seed(len(name))
                )
                parameter.copy_(noise)
        policy.adapter.publish()
    return policy


@pytest.fixture(name="make_tokenizer")
def make_tokenizer_fixture() -> Callable[[str], Any]:
    """Make the byte-level tokeniser with a chat template."""
    return make_tokenizer


@pytest.fixture(name="make_policy")
def make_policy_fixture() -> Callable[..., LocalPolicy]:
    """Make a policy on the tiny model: ``make_policy(template=..., policy__batch=2)``."""
    return make_policy


@pytest.fixture
def thinking_template() -> str:
    """A chat template that separates thinking from the answer."""
    return TEMPLATE


@pytest.fixture
def policy() -> LocalPolicy:
    """A policy on the tiny model."""
    return make_policy()
