"""Random weights of the benchmarks send rows of a group to many experts, and are alike in every engine."""

from __future__ import annotations

import pathlib
import re
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ttd_core.policy.local.lean.model import LeanModel

CPU = torch.device("cpu")
#: Wide enough that with embeddings as small as other weights the layers outweigh a token.
WIDER = {
    "vocab_size": 2048,
    "hidden_size": 256,
    "num_hidden_layers": 6,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "num_experts_per_tok": 4,
}
OF_FAMILY = {
    "tiny-moe": WIDER | {"num_experts": 32, "moe_intermediate_size": 128},
    "tiny-oss": WIDER | {"num_local_experts": 32, "intermediate_size": 128},
}
ROWS, PROMPT, NEW = 24, 32, 20


def shares_of_even(benchmark: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, family: str) -> Any:
    """Of each layer, the experts that one group's rows read, over those of an even draw."""
    models = benchmark("models")
    monkeypatch.setitem(models.SIZES, family, models.SIZES[family] | OF_FAMILY[family])
    model = models.make(family, CPU)
    models.use_own_attention(model)
    work = models.Work.of(model)
    prompts = models.prompts(1, PROMPT, models.vocabulary(family))
    read = benchmark("experts_read").experts_read(LeanModel(model), work.experts, prompts, ROWS, NEW)
    assert len(read) == WIDER["num_hidden_layers"]
    return read / work.evenly_read(ROWS)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("family", OF_FAMILY)
def test_rows_of_a_group_are_routed_about_evenly(
    benchmark: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    shares = shares_of_even(benchmark, monkeypatch, family)
    assert shares.min() > 0.9
    assert shares.max() < 1.05


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("family", OF_FAMILY)
def test_it_is_the_embeddings_that_keep_rows_apart(
    benchmark: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    monkeypatch.setattr(benchmark("random_weights"), "MIXTURE_EMBEDDING_STD", 0.02)
    assert shares_of_even(benchmark, monkeypatch, family)[-1] < 0.8


def test_experts_are_counted_by_step_and_layer(benchmark: Callable[[str], Any]) -> None:
    # Two steps of one layer; three rows choose two each.
    routes = torch.tensor([[[[0, 1], [1, 0], [0, 1]]], [[[7, 2], [3, 4], [4, 7]]]], dtype=torch.uint8)
    assert benchmark("experts_read").distinct(routes, 8).tolist() == [[2.0], [4.0]]


def test_the_first_step_counts_as_one_of_all(
    benchmark: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = benchmark("experts_read")

    def decode(self: Any, *_: Any) -> Iterator[Any]:
        self.counted = [torch.tensor([[2.0], [6.0]]), torch.tensor([[8.0]])]
        yield from ()

    monkeypatch.setattr(script.LeanDecoder, "__init__", lambda self, *_, **__: None)
    monkeypatch.setattr(script.LeanDecoder, "decode", decode)
    monkeypatch.setattr(script.LeanDecoder, "release", lambda self: None)
    assert script.experts_read(None, 8, [[1, 2]], 3, 100).tolist() == [pytest.approx((2 + 99 * 7) / 100)]


def test_the_floor_takes_what_was_counted(benchmark: Callable[[str], Any]) -> None:
    models = benchmark("models")
    work = models.Work(0, 0, always_bytes=100, expert_bytes=10, experts=8, choices=2)
    assert work.step_bytes(1) == 120
    assert work.step_bytes(64, 3.5) == 135
    assert models.Work(0, 0, 100, 0, 0, 0).step_bytes(64) == 100


@pytest.mark.parametrize("size", ["tiny", "tiny-moe", "tiny-oss"])
def test_the_peer_gets_our_weights(
    benchmark: Callable[[str], Any], tmp_path: pathlib.Path, size: str
) -> None:
    model = benchmark("models").make(size, CPU, torch.bfloat16)
    if size == "tiny-oss":
        # Packed experts have the names they are published with.
        ours = model.state_dict()
    else:
        model.save_pretrained(tmp_path)
        ours = load_file(tmp_path / "model.safetensors")
    theirs = dict(benchmark("vllm_peer").weights_for(size, CPU))
    assert theirs.keys() == ours.keys()
    for name, tensor in theirs.items():
        assert tensor.dtype == ours[name].dtype
        assert torch.equal(tensor, ours[name]), name
    layers = [tensor for name, tensor in theirs.items() if name.endswith("q_proj.weight")]
    assert not torch.equal(*layers)


class Peer(torch.nn.Module):
    """What vLLM's loader hands weights to: takes those that it has parameters for."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.named = {name: torch.nn.Parameter(torch.empty(1)) for name in names}

    def named_parameters(self, *_: Any, **__: Any) -> Any:
        return iter(self.named.items())

    def load_weights(self, weights: Iterator[tuple[str, torch.Tensor]]) -> set[str]:
        return {name for name, _ in weights} & self.named.keys()


def test_a_weight_that_vllm_would_leave_as_it_is_is_named(
    benchmark: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = types.ModuleType("vllm.model_executor.model_loader.dummy_loader")
    loader.DummyModelLoader = type("DummyModelLoader", (), {"load_weights": None})  # type: ignore[attr-defined]
    folder = types.ModuleType("vllm.model_executor.model_loader")
    folder.dummy_loader = loader  # type: ignore[attr-defined]
    for name in ("vllm", "vllm.model_executor"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, folder.__name__, folder)
    monkeypatch.setitem(sys.modules, loader.__name__, loader)
    benchmark("vllm_peer")._draw_as_ours("tiny")
    load = loader.DummyModelLoader().load_weights  # type: ignore[attr-defined]
    load(Peer("model.embed_tokens.weight", "model.layers.0.attn.k_scale"), None)
    for name in ("model.router.weight", "model.layers.0.mlp.experts.w2_weight_scale"):
        with pytest.raises(RuntimeError, match=rf"none of our weights as {re.escape(name)}$"):
            load(Peer("model.embed_tokens.weight", name), None)
