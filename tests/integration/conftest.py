"""A tiny real model on disk and a problem it can learn on, for runs through the command line."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import textwrap
from collections.abc import Callable

import pytest
import tokenizers
import torch
import transformers

#: Any reply becomes a program, rewarded for each of its letters: something a policy can learn.
PROBLEM = """
    from ttd_core import Action, Problem, Reward, State


    class Letters(Problem):
        name = "letters"
        title = "Many letters"
        metric = "letters"
        direction = "max"
        preload = ()

        def task(self):
            return "Write letters."

        def parse_action(self, completion):
            return Action(f"def run(seed, budget_s, **kwargs):\\n    return {completion.text!r}\\n")

        def construct(self, value):
            return {"text": str(value)}

        def check(self, state):
            return [] if state.data.get("text") else ["the text is empty"]

        def reward(self, state):
            count = sum(character.isalpha() for character in state.data["text"])
            return Reward(count, count)
"""

TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A two-layer Llama with random weights and a byte tokeniser, saved as any model is."""
    folder = tmp_path_factory.mktemp("model")
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    core = tokenizers.Tokenizer(tokenizers.models.BPE({t: i for i, t in enumerate(alphabet)}, []))
    core.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = tokenizers.decoders.ByteLevel()
    core.add_special_tokens(["<end>"])
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<end>", pad_token="<end>", chat_template=TEMPLATE
    )
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        eos_token_id=len(tokenizer) - 1,
        bos_token_id=None,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def problem_file(tmp_path: pathlib.Path) -> pathlib.Path:
    """The problem as one file."""
    path = tmp_path / "letters.py"
    path.write_text(textwrap.dedent(PROBLEM))
    return path


Ttd = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def ttd(tmp_path: pathlib.Path) -> Ttd:
    """Start ``ttd`` with arguments, in a process of its own, in the test's folder."""

    def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "ttd_core.cli", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )

    return start
