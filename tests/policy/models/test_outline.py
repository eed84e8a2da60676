"""What is known of a model before it is loaded: its shape by its config, and GGUF files by their heads."""

from __future__ import annotations

import json
import pathlib
import struct
from typing import Any

import gguf
import huggingface_hub
import numpy as np
import pytest
import safetensors.numpy
import torch
import transformers

from ttd_core.errors import ModelUnavailableError
from ttd_core.policy.local import sizes
from ttd_core.policy.models.gguf_header import read_gguf
from ttd_core.policy.models.outline import outline_of
from ttd_core.policy.models.published import PUBLISHED, published
from ttd_core.policy.models.shape import shape_of

CLASSES = {
    "llama": transformers.LlamaConfig,
    "qwen2": transformers.Qwen2Config,
    "qwen3": transformers.Qwen3Config,
    "qwen3_moe": transformers.Qwen3MoeConfig,
    "gpt_oss": transformers.GptOssConfig,
    "mistral": transformers.MistralConfig,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_shape_weighs_what_the_model_does(name: str) -> None:
    config = dict(PUBLISHED[name])
    # Two layers tell of all: gpt-oss's alternate.
    config |= {"num_hidden_layers": 2} | {"rope_scaling": None}
    shape = shape_of(config, name)
    made = CLASSES[shape.family](**{k: v for k, v in config.items() if k != "quantization_config"})
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(made)
    # Experts have biases in gpt-oss, which the shape leaves out.
    matrices = {
        parameter: parameter.numel()
        for key, parameter in model.named_parameters()
        if parameter.dim() > 1 and not key.endswith("_bias")
    }
    assert shape.weights == sum(matrices.values())
    assert shape.token_bytes(2) == 2 * 2 * 2 * made.num_key_value_heads * shape.head_size


@pytest.mark.parametrize(
    ("name", "billions"),
    [("qwen3-8b", 8.19), ("gpt-oss-20b", 20.9), ("gpt-oss-120b", 116.8), ("Qwen3-30B-A3B", 30.5)],
)
def test_published_models_are_found_by_any_part_of_their_names(name: str, billions: float) -> None:
    found = outline_of(name)
    assert shape_of(found.config, name).weights / 1e9 == pytest.approx(billions, rel=0.005)
    assert found.source.startswith("the published sizes of ")
    assert published(name.upper()) == published(name)


def test_windows_and_dense_layers_are_read_as_the_configs_have_them() -> None:
    small = {"hidden_size": 8, "num_hidden_layers": 4, "num_attention_heads": 2, "vocab_size": 10}
    every = shape_of(small | {"model_type": "mistral", "sliding_window": 6}, "x")
    assert every.windows == (6,) * 4
    assert shape_of(small | {"model_type": "qwen2", "sliding_window": 6}, "x").windows == (0,) * 4
    named = {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"] * 2}
    assert shape_of(small | named, "x").windows == (6, 0, 6, 0)
    mixed = {"num_experts": 4, "mlp_only_layers": [0], "decoder_sparse_step": 2, "moe_intermediate_size": 3}
    shape = shape_of(small | mixed, "x")
    # Layers 1 and 3 are mixtures: every second one.
    assert (shape.dense_layers, shape.mixtures, shape.expert_weights) == (2, 2, 3 * 8 * 3)
    assert shape.seen(10) == 10
    assert every.seen(10) == 6
    # A model that sees images too has its text's sizes within.
    assert shape_of({"model_type": "gemma3", "text_config": small}, "x").layers == 4


@pytest.mark.parametrize("wrong", [{}, {"hidden_size": "8"}, {"hidden_size": 8, "num_hidden_layers": True}])
def test_a_config_that_says_too_little_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ModelUnavailableError, match="x: 'num_hidden_layers' is no positive number"):
        shape_of(wrong, "x")


@pytest.mark.parametrize("wrong", [0, -1, "64", 64.0, True, [64], float("inf"), 10**40])
@pytest.mark.parametrize(
    "key", ["head_dim", "num_key_value_heads", "intermediate_size", "max_position_embeddings", "num_experts"]
)
def test_a_size_that_is_none_is_refused_where_it_may_be_left_out_too(key: str, wrong: Any) -> None:
    config = {"hidden_size": 8, "num_attention_heads": 2, "vocab_size": 10, "num_hidden_layers": 2}
    assert shape_of({**config, key: None}, "x") == shape_of(config, "x")
    if key == "num_experts" and wrong == 0:
        assert shape_of({**config, key: 0}, "x") == shape_of(config, "x")
        return
    with pytest.raises(ModelUnavailableError, match=f"^x: '{key}' is no positive number"):
        shape_of({**config, key: wrong}, "x")


def test_sizes_beyond_any_model_are_refused() -> None:
    config = {"hidden_size": 8, "num_attention_heads": 2, "vocab_size": 10, "num_hidden_layers": 10**9}
    with pytest.raises(ModelUnavailableError, match="x: it says that the model has 1,000,000,000 layers"):
        shape_of(config, "x")
    with pytest.raises(ModelUnavailableError, match="'hidden_size' is no positive number"):
        shape_of(config | {"num_hidden_layers": 1, "hidden_size": 10**30}, "x")


def write_gguf(path: pathlib.Path, family: str = "qwen2") -> None:
    """A tiny file as the format's own library writes it, its vocabulary among it."""
    writer = gguf.GGUFWriter(path, family)
    writer.add_block_count(2)
    writer.add_context_length(64)
    writer.add_embedding_length(8)
    writer.add_feed_forward_length(12)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_token_list([f"word{number}" for number in range(20)])
    writer.add_token_scores([0.5] * 20)
    writer.add_bool("general.odd", True)
    # A number for each layer, as some families have it, is not one for all.
    writer.add_array(f"{family}.attention.key_length", [2, 2])
    writer.add_tensor("token_embd.weight", np.zeros((20, 8), np.float32))
    writer.add_tensor("blk.0.attn_q.weight", np.zeros((8, 8), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_the_head_of_a_gguf_file(tmp_path: pathlib.Path) -> None:
    write_gguf(tmp_path / "model.gguf")
    found = outline_of(str(tmp_path / "model.gguf"))
    assert found == outline_of(str(tmp_path))
    shape = shape_of(found.config, "x")
    assert (shape.family, shape.layers, shape.hidden, shape.mlp_width) == ("qwen2", 2, 8, 12)
    assert (shape.heads, shape.kv_heads, shape.vocabulary, shape.tied) == (4, 2, 20, True)
    assert shape.longest_context == 64
    # What it will be unpacked to: bfloat16.
    assert sizes.tensors_bytes(found.tensors, 2, keep_packed=False) == 2 * (160 + 64)
    write_gguf(tmp_path / "other.gguf")
    with pytest.raises(ModelUnavailableError, match="holds 2 GGUF files; pass the path of the one to use"):
        outline_of(str(tmp_path))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:40],
        lambda data: b"GGUX" + data[4:],
        lambda data: data[:4] + struct.pack("<I", 99) + data[8:],
        lambda data: data[:8] + b"\xff" * 16 + data[24:],
        lambda data: data[:24] + b"\xff" * 8 + data[32:],
        lambda data: b"GGUF",
    ],
)
def test_a_broken_gguf_file_is_refused_in_a_line(tmp_path: pathlib.Path, spoil: Any) -> None:
    file = tmp_path / "model.gguf"
    write_gguf(file)
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(ModelUnavailableError, match=r"model.gguf is no GGUF file") as error:
        read_gguf(file)
    assert "\n" not in str(error.value)


def test_a_folder_is_told_by_its_files(tmp_path: pathlib.Path) -> None:
    config = {"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    (tmp_path / "config.json").write_text(json.dumps(config | {"vocab_size": 10}))
    # A config alone tells what a model will weigh; nothing need be fetched for it.
    assert outline_of(str(tmp_path)).tensors == {}
    (tmp_path / "tokenizer.json").write_text("{}")
    weights = {"model.embed_tokens.weight": np.zeros((10, 8), np.float32)}
    safetensors.numpy.save_file(weights, tmp_path / "model.safetensors")
    found = outline_of(str(tmp_path))
    assert sizes.tensors_bytes(found.tensors, 2, keep_packed=True) == 160
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelUnavailableError, match=r"holds neither config.json nor a .gguf file"):
        outline_of(str(tmp_path / "empty"))


def test_a_model_that_nobody_knows_is_told_of_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise OSError("no way to the hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(ModelUnavailableError, match="'no/such' is not here and the hub did not"):
        outline_of("no/such")
    with pytest.raises(ModelUnavailableError, match="is neither a folder nor a known name"):
        outline_of("nosuch")
