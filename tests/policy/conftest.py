"""A tiny Qwen2 with random weights and a real tokeniser, both made here: exact tests in milliseconds."""

from __future__ import annotations

import json
import os
import pathlib
import runpy
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import tokenizers
import torch
import transformers

from ttd_core import config as configs
from ttd_core.config import RunConfig
from ttd_core.policy.local.policy import LocalPolicy

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
    tokenizer: Any = None,
    **overrides: Any,
) -> LocalPolicy:
    """A policy on the tiny model whose adapter is not zero any more."""
    tokenizer = tokenizer or make_tokenizer(template)
    model = make_model(len(tokenizer), **(model_changes or {})).to(device, dtype)
    policy = LocalPolicy(model, tokenizer, make_config(**overrides))
    with torch.no_grad():
        for name, parameter in policy.adapter.masters.items():
            if "lora_B" in name:
                noise = torch.empty(parameter.shape).normal_(
                    0, 0.1, generator=torch.Generator().manual_seed(len(name))
                )
                parameter.copy_(noise)
        policy.adapter.copy_to_model()
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


@pytest.fixture
def open_tinker(tmp_path: pathlib.Path) -> Callable[..., Any]:
    """Open a ``tinker`` policy with the byte tokeniser: ``open_tinker(template=..., **keys)``."""

    def open_policy(template: str = PLAIN_TEMPLATE, **changes: Any) -> Any:
        from ttd_core.policy.tinker import policy

        folder = tmp_path / f"tokenizer-{abs(hash(template))}"
        make_tokenizer(template).save_pretrained(folder)
        values = {"policy.lora_rank": 4, "learn.learning_rate": 1e-2, **changes}
        values["policy.options"] = {"tokenizer": str(folder), **changes.get("policy.options", {})}
        return policy.open_tinker(configs.load("none", overrides=values))

    return open_policy


@pytest.fixture
def open_skyrl(open_tinker: Callable[..., Any]) -> Callable[..., Any]:
    """Open a ``tinker`` policy on the SkyRL server that the environment names (see :func:`skyrl`)."""
    options = {"base_url": os.environ["TTD_TEST_TINKER"], "sequence_loss": "mean", "longest_context": 512}
    fixed = {"policy.model": os.environ["TTD_TEST_TINKER_MODEL"], "policy.options": options}
    return lambda **changes: open_tinker(**changes, **fixed)


@pytest.fixture
def open_double(monkeypatch: pytest.MonkeyPatch, open_tinker: Callable[..., Any]) -> Callable[..., Any]:
    """Open a ``tinker`` policy on a double of the client's classes."""
    tinker = pytest.importorskip("tinker")
    double = SimpleNamespace(**runpy.run_path(str(pathlib.Path(__file__).with_name("tinker_double.py"))))
    server = double.Server(lambda rank: make_policy(policy__lora_rank=rank))
    rest = SimpleNamespace(get_server_capabilities=server.offer)
    monkeypatch.setattr(tinker, "ServiceClient", lambda **_: double.Service(server))
    monkeypatch.setattr(tinker, "RestClient", lambda **_: rest, raising=False)
    monkeypatch.setenv("TINKER_API_KEY", "tml-secret")

    def open_policy(**changes: Any) -> Any:
        policy = open_tinker(**{"policy.model": "tiny", **changes})
        policy.server = server
        return policy

    return open_policy


@pytest.fixture(scope="session")
def servers() -> Any:
    """Real servers, in environments of their own."""
    return SimpleNamespace(**runpy.run_path(str(pathlib.Path(__file__).with_name("servers.py"))))


@pytest.fixture(scope="session")
def served_model(servers: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Address and model name of ``transformers serve`` with a real small model."""
    from ttd_core.errors import ModelUnavailableError
    from ttd_core.policy.local import loading
    from ttd_core.policy.models import fetch

    try:
        folder = fetch.resolve("smollm2-135m")
    except ModelUnavailableError as error:
        pytest.skip(str(error))
    if not (folder / "config.json").is_file():
        # Loading it once leaves it unpacked, as servers want it.
        loading.load_model(folder, torch.float32, torch.device("cpu"))
        folder = folder / "unpacked"
    served = tmp_path_factory.mktemp("model") / folder.name
    served.mkdir()
    for file in folder.iterdir():
        if file.name != "generation_config.json":
            (served / file.name).symlink_to(file)
    # Without this the server takes the likeliest token, whatever temperature it is asked for.
    generation = json.loads((folder / "generation_config.json").read_text()) | {"do_sample": True}
    (served / "generation_config.json").write_text(json.dumps(generation))
    with servers.transformers_serve(tmp_path_factory.mktemp("serve"), served) as address:
        yield address, str(served)


@pytest.fixture(scope="session")
def skyrl(servers: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A real SkyRL server with a tiny Qwen3 of random weights: the environment of what speaks to it.

    ``TTD_TEST_TINKER`` is its address, ``TTD_TEST_TINKER_MODEL`` its model's folder; the client that it
    speaks to comes first on the path.
    """
    folder = tmp_path_factory.mktemp("skyrl")
    model = folder / "model"
    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    settings = transformers.Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=1024,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
    )
    made = transformers.Qwen3ForCausalLM(settings)
    for parameter in made.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.15)
    # A few likely tokens, as a trained model has, so that a handful of samples teaches something.
    made.lm_head.weight.data.normal_(0, 0.5)
    made.save_pretrained(model)
    tokenizer.save_pretrained(model)
    with servers.skyrl(folder, model) as (address, client):
        # The client leaves connections to the garbage collector, which says so.
        quiet = {"PYTHONWARNINGS": "ignore::ResourceWarning", "PYTHONPATH": str(client)}
        named = {"TTD_TEST_TINKER": address, "TTD_TEST_TINKER_MODEL": str(model)}
        yield {**os.environ, **quiet, **named, "OMP_NUM_THREADS": "1"}
