"""Models that people have on disk: read rightly in every usual form, or refused in one line."""

from __future__ import annotations

import json
import os
import pathlib
import runpy
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import gguf
import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from ttd_core import config as configs
from ttd_core.config import RunConfig
from ttd_core.errors import ModelUnavailableError
from ttd_core.policy.base import SamplingParams
from ttd_core.policy.local import loading
from ttd_core.policy.local.policy import LocalPolicy, open_rank
from ttd_core.policy.models import fetch, template
from ttd_core.policy.models.chat import ChatCodec

CPU = torch.device("cpu")
IDS = torch.tensor([[1, 2, 3, 4]])
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 269060552\n"
Weights = Mapping[str, torch.Tensor]
Rename = Callable[[str], str]


@pytest.fixture(scope="session")
def tiny() -> Any:
    """The tiny model and tokeniser of the policies' tests."""
    path = pathlib.Path(__file__).parents[1] / "policy" / "conftest.py"
    made = SimpleNamespace(**runpy.run_path(str(path)))
    made.tokenizer = made.make_tokenizer()
    made.model = made.make_model(len(made.tokenizer))
    return made


@pytest.fixture(scope="session")
def whole(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A model's folder with nothing wrong."""
    folder: pathlib.Path = tmp_path_factory.mktemp("models") / "whole"
    tiny.model.save_pretrained(folder)
    tiny.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(whole: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of it, to be spoiled."""
    return pathlib.Path(shutil.copytree(whole, tmp_path / "model"))


@pytest.fixture
def said() -> list[str]:
    """The lines that loading says."""
    return []


@pytest.fixture
def load(folder: pathlib.Path, said: list[str]) -> Callable[..., tuple[Any, Any]]:
    """Load the spoiled model, or what a path names."""

    def load(path: pathlib.Path = folder, **options: Any) -> tuple[Any, Any]:
        return loading.load_model(path, torch.float32, CPU, say=said.append, **options)

    return load


def weights_of(folder: pathlib.Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def put_weights(folder: pathlib.Path, weights: Weights, name: str = "model.safetensors") -> None:
    kept = {key: value.clone().contiguous() for key, value in weights.items()}
    save_file(kept, folder / name, metadata={"format": "pt"})


def edit(path: pathlib.Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        result: torch.Tensor = model(input_ids=IDS).logits
    return result


def refusal(attempt: Callable[[], Any]) -> str:
    """The line that refuses an attempt, whose exit code is 3."""
    with pytest.raises(ModelUnavailableError) as caught:
        attempt()
    line = str(caught.value)
    assert caught.value.exit_code == 3
    assert "\n" not in line
    return line


# -- weights under other names, and weights that are not there ---------------------------------------------

RENAMED: dict[str, tuple[Rename, str]] = {
    "compiled": (lambda name: "_orig_mod." + name, "_orig_mod."),
    "data parallel": (lambda name: "module." + name, "module."),
    "merged by peft": (lambda name: "base_model.model." + name, "base_model.model."),
    "several wrappers": (lambda name: "module._orig_mod.module." + name, "_orig_mod."),
    "a value head's": (lambda name: "pretrained_model." + name, "pretrained_model."),
    "each layer compiled": (
        lambda name: "_orig_mod." + name.replace("layers.1.", "layers.1._orig_mod."),
        "_orig_mod.",
    ),
    "sharded": (
        lambda name: name.replace("layers.1.", "layers.1._fsdp_wrapped_module._checkpoint_wrapped_module."),
        "_fsdp_wrapped_module.",
    ),
    "unloaded by hand": (
        lambda name: "base_model.model." + name.replace("_proj.", "_proj.base_layer."),
        "base_layer.",
    ),
    "a vision model's": (
        lambda name: name.replace("model.", "model.language_model.", 1),
        "model.language_model.",
    ),
    "an older vision model's": (lambda name: "language_model." + name, "language_model.model."),
}


@pytest.mark.parametrize("kind", RENAMED)
def test_weights_under_a_known_prefix_are_the_models_own(
    kind: str, folder: pathlib.Path, tiny: Any, load: Callable[..., Any], said: list[str]
) -> None:
    rename, part = RENAMED[kind]
    put_weights(folder, {rename(name): value for name, value in weights_of(folder).items()})
    model, _ = load()
    assert torch.equal(logits(model), logits(tiny.model))
    assert len(said) == 1
    assert f"'{part}'" in said[0]


def test_a_whole_model_is_read_without_a_word(
    whole: pathlib.Path, tiny: Any, load: Callable[..., Any], said: list[str]
) -> None:
    model, tokenizer = load(whole)
    assert torch.equal(logits(model), logits(tiny.model))
    assert tokenizer("abc")["input_ids"] == tiny.tokenizer("abc")["input_ids"]
    assert model.name_or_path == str(whole)
    assert said == []


def test_names_without_the_models_prefix_are_read(
    folder: pathlib.Path, tiny: Any, load: Callable[..., Any]
) -> None:
    put_weights(folder, {name.removeprefix("model."): value for name, value in weights_of(folder).items()})
    assert torch.equal(logits(load()[0]), logits(tiny.model))


def test_parts_that_are_not_of_the_language_model_are_said_and_left(
    folder: pathlib.Path, tiny: Any, load: Callable[..., Any], said: list[str]
) -> None:
    others = {"v_head.summary.weight": torch.zeros(3), "vision_tower.layers.0.weight": torch.zeros(3)}
    put_weights(folder, weights_of(folder) | others)
    assert torch.equal(logits(load()[0]), logits(tiny.model))
    (line,) = said
    assert "2 weights are no part of the language model" in line


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        (lambda name: ".layers.1" not in name, "12 of its 27 weights are not in its files, 'model.layers.1."),
        (lambda name: name != "lm_head.weight", "1 of its 27 weights are not in its files, 'lm_head.weight'"),
        (lambda name: name != "model.norm.weight", "'model.norm.weight' the first"),
    ],
)
def test_missing_weights_are_refused(
    keep: Callable[[str], bool], words: str, folder: pathlib.Path, load: Callable[..., Any]
) -> None:
    put_weights(folder, {name: value for name, value in weights_of(folder).items() if keep(name)})
    assert words in refusal(load)


def test_an_unknown_prefix_is_refused_with_a_name_that_is_there(
    folder: pathlib.Path, load: Callable[..., Any]
) -> None:
    put_weights(folder, {"foo." + name: value for name, value in weights_of(folder).items()})
    line = refusal(load)
    assert "27 of its 27 weights" in line
    assert "there is 'foo." in line


@pytest.mark.parametrize(
    ("left_out", "is_whole"),
    [
        ((), True),
        (("lm_head.weight",), True),
        (("model.embed_tokens.weight",), True),
        (("lm_head.weight", "model.embed_tokens.weight"), False),
    ],
)
def test_a_tied_head_may_be_missing(
    left_out: tuple[str, ...], is_whole: bool, folder: pathlib.Path, tiny: Any, load: Callable[..., Any]
) -> None:
    tied = tiny.make_model(len(tiny.tokenizer), tie_word_embeddings=True)
    tied.tie_weights()
    tied.save_pretrained(folder)
    put_weights(folder, {name: value for name, value in tied.state_dict().items() if name not in left_out})
    if is_whole:
        assert torch.equal(logits(load()[0]), logits(tied))
    else:
        assert "2 of its 27 weights" in refusal(load)


def test_weights_of_another_shape_or_layer_are_refused(
    folder: pathlib.Path, load: Callable[..., Any]
) -> None:
    weights = weights_of(folder)
    put_weights(folder, weights | {"model.layers.0.self_attn.q_proj.weight": torch.zeros(3, 5)})
    assert "q_proj.weight' is 3x5 in its files and 32x32 by the config" in refusal(load)
    for name in (
        "model.layers.2.mlp.up_proj.weight",
        "model.layers.1.self_attn.q_norm.weight",
        "lm_head.bias",
    ):
        put_weights(folder, weights | {name: torch.zeros(3)})
        assert f"have no place in the model that it describes, '{name}' the first" in refusal(load)


def test_an_unmerged_adapter_among_the_weights_is_refused(
    folder: pathlib.Path, load: Callable[..., Any]
) -> None:
    name = "model.layers.0.self_attn.q_proj.lora_A.default.weight"
    put_weights(folder, weights_of(folder) | {name: torch.zeros(2, 32)})
    assert f"an adapter that was not merged ('{name}')" in refusal(load)


def test_weights_that_are_no_numbers_are_refused(folder: pathlib.Path, load: Callable[..., Any]) -> None:
    put_weights(folder, weights_of(folder) | {"model.norm.weight": torch.full((32,), float("nan"))})
    assert "'model.norm.weight' holds values that are no finite numbers" in refusal(load)


def test_matrices_of_nothing_are_said(
    folder: pathlib.Path, load: Callable[..., Any], said: list[str]
) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    put_weights(folder, weights_of(folder) | {name: torch.zeros(48, 32)})
    load()
    assert f"1 matrices of the weights are zero throughout, '{name}' the first" in said[0]


def test_a_mixture_of_experts_lacks_no_expert(
    folder: pathlib.Path, tiny: Any, load: Callable[..., Any], said: list[str]
) -> None:
    torch.manual_seed(0)
    settings = transformers.Qwen3MoeConfig(
        vocab_size=len(tiny.tokenizer),
        hidden_size=32,
        intermediate_size=48,
        moe_intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        num_experts=4,
        num_experts_per_tok=2,
    )
    mixture = transformers.Qwen3MoeForCausalLM(settings).eval()
    mixture.save_pretrained(folder)
    weights = weights_of(folder)
    put_weights(folder, {"module." + name: value for name, value in weights.items()})
    assert torch.equal(logits(load()[0]), logits(mixture))
    assert "'module.'" in said[0]
    put_weights(folder, {name: value for name, value in weights.items() if "experts.3.gate" not in name})
    assert "its weights do not fit the model that config.json describes" in refusal(load)


# -- numbers of other types ---------------------------------------------------------------------------------


def test_double_precision_and_plain_eight_bit_floats_are_read(
    folder: pathlib.Path, tiny: Any, load: Callable[..., Any]
) -> None:
    weights = weights_of(folder)
    put_weights(folder, {name: value.double() for name, value in weights.items()})
    edit(folder / "config.json", dtype="float64")
    assert torch.equal(logits(load()[0]), logits(tiny.model))
    small = {name: value.to(torch.float8_e4m3fn) for name, value in weights.items()}
    put_weights(folder, small)
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(load()[0].state_dict()[name], small[name].float())


@pytest.mark.parametrize("config", [None, {"quant_method": "nobody's"}])
def test_quantised_weights_that_nothing_reads_are_refused(
    config: dict[str, Any] | None, folder: pathlib.Path, load: Callable[..., Any]
) -> None:
    weights = weights_of(folder)
    edit(folder / "config.json", quantization_config=config)
    put_weights(folder, {name: value.to(torch.int8) for name, value in weights.items()})
    assert "are quantised ('lm_head.weight' is I8)" in refusal(load)
    scaled: dict[str, torch.Tensor] = {n: v.to(torch.float8_e4m3fn) for n, v in weights.items()}
    put_weights(folder, scaled | {"model.layers.0.mlp.up_proj.weight_scale_inv": torch.ones(1)})
    assert "is F8_E4M3)" in refusal(load)


@pytest.mark.parametrize(
    "config",
    [
        {"quant_method": "gptq", "bits": 4, "group_size": 128},
        {"quant_method": "awq", "bits": 4},
        {"quant_method": "bitsandbytes", "load_in_4bit": True},
        {"bits": 4},
        "int4",
    ],
)
def test_quantisation_whose_library_is_missing_is_said_in_a_line(
    config: Any, folder: pathlib.Path, load: Callable[..., Any]
) -> None:
    edit(folder / "config.json", quantization_config=config)
    assert str(folder) in refusal(load)


# -- files that are not what their names say ----------------------------------------------------------------

FILES = (
    "model.safetensors",
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "chat_template.jinja",
)


@pytest.mark.parametrize("name", FILES)
def test_pointers_and_unfinished_downloads_name_the_file(
    name: str, folder: pathlib.Path, load: Callable[..., Any]
) -> None:
    file = folder / name
    content = file.read_bytes()
    spoiled = {
        LFS: "is a git-lfs pointer, not the file itself; run `git lfs pull` there",
        b"# xet version 0\nfilesize = 12\n": "is a git-xet pointer",
        b"": "is empty; download it again",
        b"<!DOCTYPE html>\n<html>": "is a web page",
        b"Entry not found": "",
        b"\0" * 64: "",
        content[: len(content) // 2]: "",
    }
    for data, words in spoiled.items():
        file.write_bytes(data)
        line = refusal(lambda: LocalPolicy(*load(), loaded_config()))
        assert str(folder) in line
        assert words in line
    file.unlink()
    file.symlink_to("../../blobs/0123")
    assert f"{file} leads to ../../blobs/0123, which is not there" in refusal(load)


def loaded_config(model: pathlib.Path | None = None) -> RunConfig:
    """A config for the tiny model, on the CPU."""
    named = {} if model is None else {"policy.model": str(model)}
    return configs.load("none", overrides={"policy.lora_rank": 4, "policy.device": "cpu", **named})


def test_cut_weights_say_how_much_is_there(folder: pathlib.Path, load: Callable[..., Any]) -> None:
    file = folder / "model.safetensors"
    content = file.read_bytes()
    for length in (len(content) - 1, len(content) // 2):
        file.write_bytes(content[:length])
        assert f"is incomplete: it holds {length} bytes of {len(content)}" in refusal(load)
    for length in (7, 9, 900):
        file.write_bytes(content[:length])
        refusal(load)
    file.write_bytes(content + b"x")
    assert "is damaged" in refusal(load)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_with_a_byte_order_mark_are_read(
    encoding: str, folder: pathlib.Path, tiny: Any, load: Callable[..., Any]
) -> None:
    expected = ChatCodec(load()[1], loaded_config().policy).encode([{"role": "user", "content": "é"}], "")
    for name in FILES[1:]:
        (folder / name).write_bytes((folder / name).read_text().encode(encoding))
    model, tokenizer = load()
    assert torch.equal(logits(model), logits(tiny.model))
    codec = ChatCodec(tokenizer, loaded_config().policy)
    assert codec.encode([{"role": "user", "content": "é"}], "") == expected


def test_json_that_is_no_object_is_refused(folder: pathlib.Path, load: Callable[..., Any]) -> None:
    for text in ("[1]", "3", "null", "[" * 100_000):
        (folder / "config.json").write_text(text)
        assert "config.json" in refusal(load)


# -- several files ------------------------------------------------------------------------------------------


@pytest.fixture
def shards(folder: pathlib.Path, tiny: Any) -> list[pathlib.Path]:
    """The model in several files."""
    (folder / "model.safetensors").unlink()
    tiny.model.save_pretrained(folder, max_shard_size="40KB")
    files = sorted(folder.glob("model-*.safetensors"))
    assert len(files) > 2
    return files


def test_shards_are_read_with_their_index_and_without(
    shards: list[pathlib.Path], folder: pathlib.Path, tiny: Any, load: Callable[..., Any]
) -> None:
    assert torch.equal(logits(load()[0]), logits(tiny.model))
    (folder / "model.safetensors.index.json").unlink()
    assert torch.equal(logits(load()[0]), logits(tiny.model))
    shards[1].unlink()
    assert f"{shards[1]} is missing" in refusal(load)


def test_an_index_that_does_not_hold_is_refused(
    shards: list[pathlib.Path], folder: pathlib.Path, load: Callable[..., Any]
) -> None:
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    first, *_, last = index["weight_map"]
    listed = dict(index["weight_map"])
    for file, words in (
        (listed[last], f"{listed[last]} lacks 1 tensors"),
        ("nosuch.safetensors", "nosuch.safetensors is missing"),
        ("../whole/model.safetensors", "which is no safetensors file of its folder"),
        ("pytorch_model.bin", "which is no safetensors file of its folder"),
    ):
        edit(path, weight_map=listed | {first: file})
        assert words in refusal(load)
    for wrong in ({}, [], None):
        edit(path, weight_map=wrong)
        assert "has no weight_map" in refusal(load)
    edit(path, weight_map=listed)
    shards[2].write_bytes(LFS)
    assert f"{shards[2]} is a git-lfs pointer" in refusal(load)


def test_pickled_weights_are_never_read(folder: pathlib.Path, load: Callable[..., Any]) -> None:
    torch.save(weights_of(folder), folder / "pytorch_model.bin")
    load()
    (folder / "model.safetensors").unlink()
    edit(folder / "config.json", transformers_weights="pytorch_model.bin")
    assert "holds its weights pickled only (pytorch_model.bin)" in refusal(load)
    (folder / "pytorch_model.bin").unlink()
    assert "holds no weights (model.safetensors)" in refusal(load)


def test_one_file_under_another_name_is_read(
    folder: pathlib.Path, tiny: Any, load: Callable[..., Any]
) -> None:
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    assert torch.equal(logits(load()[0]), logits(tiny.model))
    shutil.copy(folder / "weights.safetensors", folder / "more.safetensors")
    assert "holds 2 safetensors files and no model.safetensors.index.json" in refusal(load)


def test_a_path_to_a_file_is_explained(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, load: Callable[..., Any]
) -> None:
    assert "is a file; pass the folder" in refusal(lambda: fetch.resolve(str(folder / "model.safetensors")))
    monkeypatch.setenv("HOME", str(folder.parent))
    assert fetch.resolve("~/model") == folder
    (folder / "config.json").unlink()
    assert "holds weights without a config.json" in refusal(load)


# -- configs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "nosuch"}, "has model type `nosuch`"),
        ({"model_type": "llava"}, "is of type 'llava', which writes no text"),
        ({"model_type": "t5"}, "is of type 't5', which writes no text"),
        ({"rope_parameters": {"rope_type": "nosuch", "rope_theta": 1e4}}, "it asks for 'nosuch'"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "factor"),
        ({"hidden_size": "32"}, "hidden_size"),
        ({"num_hidden_layers": 3}, "3"),
        ({"hidden_act": "nosuch"}, "it asks for 'nosuch'"),
        ({"num_attention_heads": 0}, "cannot be loaded"),
    ],
)
def test_configs_that_fit_no_model_are_said_in_a_line(
    changes: dict[str, Any], words: str, folder: pathlib.Path, load: Callable[..., Any]
) -> None:
    edit(folder / "config.json", **changes)
    assert words in refusal(load)


def test_code_that_comes_with_a_model_never_runs(
    folder: pathlib.Path, tiny: Any, load: Callable[..., Any]
) -> None:
    (folder / "modeling_own.py").write_text("raise SystemExit('run')")
    code = {"AutoConfig": "modeling_own.C", "AutoModelForCausalLM": "modeling_own.M"}
    edit(folder / "config.json", auto_map=code)
    assert torch.equal(logits(load()[0]), logits(tiny.model))
    edit(folder / "config.json", model_type="own")
    assert "needs Python code of its own, which is never executed" in refusal(load)


@pytest.mark.parametrize("ends", ["x", True, 2.5, ["x"]])
def test_end_tokens_that_are_no_tokens_are_refused(
    ends: Any, folder: pathlib.Path, load: Callable[..., Any]
) -> None:
    edit(folder / "generation_config.json", eos_token_id=ends)
    line = refusal(lambda: LocalPolicy(*load(), loaded_config()))
    assert "eos_token_id" in line or "generation" in line


# -- tokenisers and templates -------------------------------------------------------------------------------


def test_a_model_without_a_tokeniser_is_refused(folder: pathlib.Path, load: Callable[..., Any]) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()
    assert "holds no tokeniser" in refusal(load)


def test_a_tokeniser_newer_than_the_library_is_refused(
    folder: pathlib.Path, load: Callable[..., Any]
) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["type"] = "ThingOfTomorrow"
    (folder / "tokenizer.json").write_text(json.dumps(content))
    assert f"the tokeniser in {folder} cannot be loaded" in refusal(load)


def test_tokens_that_the_model_was_never_given_are_refused_when_a_prompt_has_them(
    folder: pathlib.Path, tiny: Any, load: Callable[..., Any]
) -> None:
    added = tiny.make_tokenizer()
    added.add_tokens(["<|pad|>"], special_tokens=True)
    added.save_pretrained(folder)
    policy = LocalPolicy(*load(), loaded_config())
    assert list(policy.sample([[{"role": "user", "content": "hi"}]], 1, SamplingParams(max_new_tokens=2)))
    added.chat_template = tiny.PLAIN_TEMPLATE + "<|pad|>"
    added.save_pretrained(folder)
    line = refusal(lambda: open_rank(loaded_config(folder)))
    assert "makes token 258 of a prompt and the model knows 258 tokens" in line


ONE_MESSAGE = (
    "{% if messages|length > 1 %}{{ raise_exception('Only one message is supported') }}{% endif %}"
    "<|im_start|>user\n{{ messages[0].content }}<|im_end|>\n<|im_start|>assistant\n"
)
PARTS = (
    "{% for m in messages %}{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}"
    "{% endfor %}{% endfor %}<|im_start|>"
)


@pytest.mark.parametrize("text", [ONE_MESSAGE, PARTS, "\ufeff" + ONE_MESSAGE])
def test_strict_and_unusual_templates_render_a_prompt(
    text: str, folder: pathlib.Path, load: Callable[..., Any]
) -> None:
    (folder / "chat_template.jinja").write_text(text, encoding="utf-8")
    _, tokenizer = load()
    codec = ChatCodec(tokenizer, loaded_config().policy)
    rendered = tokenizer.decode(codec.encode([{"role": "user", "content": "the question"}], ""))
    assert "the question" in rendered
    assert "\ufeff" not in rendered
    assert codec.closing([]) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{% for m in messages %}{{ m.content }}{% endif %}", "unknown tag 'endif'"),
        ("{{ raise_exception('not\nfor \x1b[31myou') }}", "not"),
        ("{{ messages + 1 }}", "can only concatenate list"),
        ("{{ messages | nosuch }}", "No filter named 'nosuch'"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
        ("{% for i in range(99999999) %}x{% endfor %}", "Range too big"),
        ("Hello.", "leaves out what the prompt says"),
        (None, "has no chat template"),
    ],
)
def test_templates_that_render_no_prompt_are_refused(
    text: str | None, words: str, folder: pathlib.Path, load: Callable[..., Any]
) -> None:
    (folder / "chat_template.jinja").unlink()
    if text is not None:
        (folder / "chat_template.jinja").write_text(text)
    line = refusal(lambda: LocalPolicy(*load(), loaded_config()))
    assert words in line
    assert str(folder) in line


def test_a_template_that_does_not_end_is_refused(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template, "_MOST_SECONDS", 0.3)
    loops = "{% for i in range(600) %}{% for j in range(99999) %}{% set x = i %}{% endfor %}{% endfor %}"
    tokenizer = tiny.make_tokenizer(loops)
    line = refusal(lambda: ChatCodec(tokenizer, loaded_config().policy))
    assert "did not render a short prompt within 0.3 s" in line


# -- adapters -----------------------------------------------------------------------------------------------


def put_adapter(target: pathlib.Path, model: pathlib.Path, base: str, **changes: Any) -> torch.Tensor:
    """Save an adapter of the model in a folder; what model and adapter compute together."""
    causal = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    causal.name_or_path = base
    settings = {"r": 2, "lora_alpha": 4, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **changes}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = peft.get_peft_model(causal, peft.LoraConfig(**settings))
        torch.manual_seed(1)
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(0, 0.5)
        adapted.save_pretrained(target)
    return logits(adapted)


def test_an_adapter_beside_the_model_is_refused_merged_or_ignored(
    folder: pathlib.Path, whole: pathlib.Path, tiny: Any, load: Callable[..., Any], said: list[str]
) -> None:
    together = put_adapter(folder, whole, "somebody/elsewhere")
    assert "holds an adapter beside the model; set policy.options.adapter=merge" in refusal(load)
    torch.testing.assert_close(logits(load(adapter="merge")[0]), together, rtol=1e-4, atol=1e-4)
    assert said == [f"{folder}: the adapter beside the model is merged into its weights"]
    assert torch.equal(logits(load(adapter="ignore")[0]), logits(tiny.model))


@pytest.mark.parametrize("engine", ["plain", "lean"])
def test_both_engines_start_from_the_merged_model_and_learn(
    engine: str, tmp_path: pathlib.Path, tiny: Any, load: Callable[..., Any]
) -> None:
    base = tmp_path / "wide"
    tiny.make_model(len(tiny.tokenizer), hidden_size=64).save_pretrained(base)
    tiny.tokenizer.save_pretrained(base)
    together = put_adapter(tmp_path / "adapter", base, str(base))
    config = tiny.make_config(policy__options={"engine": engine, "adapter": "merge"})
    policy = LocalPolicy(*load(tmp_path / "adapter", adapter="merge"), config)
    torch.testing.assert_close(logits(policy.model), together, rtol=1e-4, atol=1e-4)
    assert len(list(policy.adapter)) == 2 * 14
    (sample,) = policy.sample(
        [[{"role": "user", "content": "hi"}]], 1, SamplingParams(max_new_tokens=4, seed=1)
    )
    tokens = torch.tensor([[*sample.prompt_tokens, *sample.completion.tokens]])
    expected = policy.model(input_ids=tokens).logits[0, len(sample.prompt_tokens) - 1 : -1].log_softmax(-1)
    chosen = expected.gather(1, torch.from_numpy(sample.completion.tokens)[:, None])[:, 0].detach().numpy()
    assert sample.completion.logprobs == pytest.approx(chosen, abs=1e-4)


def test_an_adapters_folder_says_its_model(
    whole: pathlib.Path, tmp_path: pathlib.Path, load: Callable[..., Any], said: list[str]
) -> None:
    together = put_adapter(tmp_path / "adapter", whole, str(whole))
    line = refusal(lambda: load(tmp_path / "adapter"))
    assert f"holds an adapter, not a model: it belongs to '{whole}'" in line
    merged, _ = load(tmp_path / "adapter", adapter="merge")
    torch.testing.assert_close(logits(merged), together, rtol=1e-4, atol=1e-4)
    assert f"its base model '{whole}'" in said[0]


def test_a_checkpoint_of_ours_can_be_the_start_of_another_run(
    whole: pathlib.Path, tmp_path: pathlib.Path, tiny: Any, load: Callable[..., Any]
) -> None:
    policy = LocalPolicy(*load(whole), tiny.make_config())
    with torch.no_grad():
        for weight in policy.adapter:
            weight.add_(0.02)
    step = tmp_path / "step-000001"
    step.mkdir()
    policy.save(step)
    assert "holds an adapter, not a model" in refusal(lambda: load(step))
    again, tokenizer = load(step, adapter="merge")
    torch.testing.assert_close(logits(again), logits(policy.model), rtol=1e-4, atol=1e-4)
    # What is learned on top of it says so: it belongs to the model with that adapter, not to the bare one.
    later = tmp_path / "step-000002"
    later.mkdir()
    LocalPolicy(again, tokenizer, tiny.make_config()).save(later)
    assert json.loads((later / "adapter_config.json").read_text())["base_model_name_or_path"] == str(step)
    assert "which is an adapter itself" in refusal(lambda: load(later, adapter="merge"))


@pytest.mark.parametrize(
    "changes",
    [
        {"modules_to_save": ["lm_head"]},
        {"target_modules": ["q_proj", "embed_tokens", "lm_head"]},
        {"use_dora": True},
        {"rank_pattern": {"q_proj": 4}},
    ],
)
def test_adapters_of_many_kinds_are_merged(
    changes: dict[str, Any], folder: pathlib.Path, whole: pathlib.Path, load: Callable[..., Any]
) -> None:
    together = put_adapter(folder, whole, "", **changes)
    torch.testing.assert_close(logits(load(adapter="merge")[0]), together, rtol=1e-4, atol=1e-4)


def test_damaged_and_foreign_adapters_are_refused(
    folder: pathlib.Path, whole: pathlib.Path, load: Callable[..., Any]
) -> None:
    put_adapter(folder, whole, "")
    config, file = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    settings, content, weights = config.read_text(), file.read_bytes(), load_file(file)

    def attempt() -> str:
        return refusal(lambda: load(adapter="merge"))

    file.write_bytes(LFS)
    assert "adapter_model.safetensors is a git-lfs pointer" in attempt()
    file.write_bytes(content[:-9])
    assert "is incomplete" in attempt()
    first = {name: value for name, value in weights.items() if ".layers.0." in name}
    put_weights(folder, first, file.name)
    assert "does not fit the model: 14 of its weights" in attempt()
    put_weights(folder, {name.replace("model.layers", "h"): v for name, v in weights.items()}, file.name)
    assert "does not fit the model: 56 of its weights" in attempt()
    file.rename(folder / "adapter_model.bin")
    assert "adapter_model.bin is pickled" in attempt()
    file.write_bytes(content)
    for changes, words in (
        ({"r": 3}, "size mismatch"),
        ({"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 3}, "cannot be merged"),
        ({"peft_type": "NOSUCH"}, "it asks for 'NOSUCH'"),
    ):
        edit(config, **changes)
        assert words in attempt()
        config.write_text(settings)
    config.write_text("{")
    assert "adapter_config.json is not JSON" in attempt()


# -- GGUF ---------------------------------------------------------------------------------------------------

GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def put_gguf(path: pathlib.Path, tiny: Any, left_out: str = "", architecture: str = "qwen2") -> None:
    """Write the tiny model as a GGUF file."""
    config = tiny.model.config
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    vocabulary = tiny.tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    # A file without any merge is not read; no text here has the byte whose place this takes.
    tokens[200] = "ab"
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in tokens])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(vocabulary["<|im_end|>"])
    writer.add_chat_template(tiny.PLAIN_TEMPLATE)
    for name, value in tiny.model.state_dict().items():
        if name != left_out:
            module, _, kind = name.rpartition(".")
            block = module.split(".", 3)
            start = f"blk.{block[2]}." if "layers" in module else ""
            own = GGUF_NAMES[block[3] if start else module]
            writer.add_tensor(f"{start}{own}.{kind}", value.numpy().astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def quiet_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the bars of converting."""
    monkeypatch.setenv("TQDM_DISABLE", "1")


@pytest.mark.usefixtures("quiet_bars")
def test_a_gguf_file_is_unpacked_once_for_each_content(
    tmp_path: pathlib.Path, tiny: Any, load: Callable[..., Any]
) -> None:
    put_gguf(tmp_path / "model.gguf", tiny)
    shutil.copy(pathlib.Path(__file__), tmp_path / "mmproj-vision.gguf")
    rounded = {name: value.bfloat16().float() for name, value in tiny.model.state_dict().items()}
    loaded = load(tmp_path)[0].state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in rounded.items())
    written = (tmp_path / "unpacked" / "config.json").stat().st_mtime_ns
    load(tmp_path)
    load(tmp_path / "model.gguf")
    assert (tmp_path / "unpacked" / "config.json").stat().st_mtime_ns == written
    # Another file of that name, downloaded over it, is not mistaken for what was unpacked.
    put_gguf(tmp_path / "model.gguf", tiny, left_out="lm_head.weight")
    assert load(tmp_path)[0].config.tie_word_embeddings


@pytest.mark.slow
@pytest.mark.usefixtures("quiet_bars")
def test_two_processes_that_begin_together_unpack_a_file_once(tmp_path: pathlib.Path, tiny: Any) -> None:
    put_gguf(tmp_path / "model.gguf", tiny)
    code = (
        "import pathlib, sys; from ttd_core.policy.local.unpacking import ready_folder; "
        "folder = ready_folder(pathlib.Path(sys.argv[1])); "
        "print((folder / 'model.safetensors').stat().st_ino)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "model.gguf")]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    answers = [process.communicate(timeout=50) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], answers
    # All have the very file that the first one wrote.
    assert len({out for out, _ in answers}) == 1


def test_of_several_gguf_files_one_is_named(
    tmp_path: pathlib.Path, tiny: Any, load: Callable[..., Any]
) -> None:
    for name in ("model-q4.gguf", "model-q8.gguf"):
        put_gguf(tmp_path / name, tiny)
    assert "holds 2 GGUF files (model-q4.gguf, model-q8.gguf); pass the path" in refusal(
        lambda: load(tmp_path)
    )
    load(fetch.resolve(str(tmp_path / "model-q8.gguf")))
    assert (tmp_path / "unpacked-model-q8" / "config.json").is_file()
    for number, name in enumerate(("model-q4.gguf", "model-q8.gguf"), 1):
        (tmp_path / name).rename(tmp_path / f"model-{number:05}-of-00002.gguf")
    assert "is one of 2 parts of a model" in refusal(lambda: load(tmp_path))


@pytest.mark.usefixtures("quiet_bars")
def test_damaged_and_foreign_gguf_files_are_refused(
    tmp_path: pathlib.Path, tiny: Any, load: Callable[..., Any]
) -> None:
    file = tmp_path / "model.gguf"

    def attempt() -> str:
        line = refusal(lambda: load(tmp_path))
        assert not (tmp_path / "unpacked").exists()
        return line

    put_gguf(file, tiny, left_out="model.layers.1.mlp.up_proj.weight")
    assert "1 of its 27 weights are not in its files, 'model.layers.1.mlp.up_proj.weight'" in attempt()
    put_gguf(file, tiny, architecture="nosuch")
    assert "nosuch" in attempt()
    put_gguf(file, tiny)
    content = file.read_bytes()
    for length in (len(content) - 4, len(content) // 2, 3000, 9):
        file.write_bytes(content[:length])
        assert f"{file} is incomplete or damaged" in attempt()
    for data, words in ((LFS, "git-lfs pointer"), (b"", "is empty"), (b"PK\3\4" * 9, "is no GGUF file")):
        file.write_bytes(data)
        assert words in attempt()
    file.unlink()
    assert "holds neither config.json nor a .gguf file" in attempt()
    assert os.listdir(tmp_path) == ["model"]
