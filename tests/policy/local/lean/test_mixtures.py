"""Mixtures of experts on the lean engine, against transformers' own eager model in float32."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import peft
import pytest
import torch
from tests.policy.local.lean.lean_models import VOCABULARY, make_mixture, make_model

from ttd_core.policy.local.adapter import adapted_modules
from ttd_core.policy.local.lean.decode import LeanDecoder
from ttd_core.policy.local.lean.kv_pages import PagePool
from ttd_core.policy.local.lean.model import LeanModel, why_unsupported
from ttd_core.policy.local.lean.paging import PAGE
from ttd_core.policy.local.lean.routes import RouteMemory
from ttd_core.policy.local.packing import build_pack
from ttd_core.policy.local.replies import DecodeLimits, whole_groups
from ttd_core.policy.local.training import LogprobModel

KINDS = ["qwen3_moe", "qwen3_moe, shares as they are", "qwen3_moe, some layers dense", "gpt_oss"]
PROMPTS = [[5, 6, 7, 8], list(range(3, 33)), [11]]


def eager(model: Any) -> Any:
    """A copy with transformers' own attention."""
    plain = copy.deepcopy(model)
    plain.set_attn_implementation("eager")
    return plain


def logprobs_of(plain: Any, prompt: list[int], reply: list[int]) -> torch.Tensor:
    logits = plain(input_ids=torch.tensor([prompt + reply]), use_cache=False).logits[0].float()
    rows = logits[len(prompt) - 1 : -1].log_softmax(-1)
    return rows.gather(1, torch.tensor(reply)[:, None])[:, 0]


#: Models, and what of them is adapted.
ADAPTED = [*((kind, "auto") for kind in KINDS), ("qwen3_moe, some layers dense", "all"), ("gpt_oss", "all")]


@pytest.mark.parametrize(("kind", "adapt"), [*ADAPTED, *((kind, "nothing") for kind in KINDS)])
def test_sampled_as_transformers_has_it(kind: str, adapt: str) -> None:
    model = make_mixture(kind, adapt != "nothing", adapt)
    assert why_unsupported(model) == ""
    plain = eager(model)
    # Longer than gpt-oss's windows here; seven rows for nine replies, thinking cut off and an end forced.
    limits = DecodeLimits(frozenset(), [26] * 3, [20] * 3, lambda tokens: [1, 9, len(tokens)])
    replies = list(LeanDecoder(LeanModel(model), 7).decode(PROMPTS, whole_groups(3, 3), 1.0, limits, 3))
    assert sorted((reply.prompt_index, reply.index) for reply in replies) == [
        (prompt, index) for prompt in range(3) for index in range(3)
    ]
    for reply in replies:
        expected = logprobs_of(plain, PROMPTS[reply.prompt_index], reply.tokens).detach()
        sampled = torch.tensor(reply.trained)
        assert not sampled.all()
        torch.testing.assert_close(
            torch.tensor(reply.logprobs)[sampled], expected[sampled], rtol=1e-4, atol=1e-4
        )


def test_pages_that_no_window_reaches_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    given_back, copied_out = PagePool.give_back, PagePool.copy_out
    swapped: list[int] = []

    def poisoned(pool: PagePool, pages: list[int]) -> None:
        pool.store[pages] = torch.nan
        given_back(pool, pages)

    def counted(pool: PagePool, pages: list[int]) -> torch.Tensor:
        swapped.append(len(pages))
        return copied_out(pool, pages)

    monkeypatch.setattr(PagePool, "give_back", poisoned)
    monkeypatch.setattr(PagePool, "copy_out", counted)
    model = make_mixture("gpt_oss", num_hidden_layers=3)
    plain = eager(model)
    lean = LeanModel(model)
    assert lean.windows == [0, 8]
    assert lean.places == [(1, 0), (0, 0), (1, 1)]
    prompts = [[5, 6, 7, 8], [token % VOCABULARY for token in range(150)]]
    tokens = 2 * PAGE + 20
    decoder = LeanDecoder(lean, 6, max_pages=13)
    most_held, longest = [0, 0], 0
    limits = DecodeLimits(frozenset(), [tokens] * 2, None, lambda _: [])
    stepping = decoder._launch

    def watched(*arguments: Any) -> Any:
        nonlocal longest
        result = stepping(*arguments)
        for row in decoder._active:
            longest = max(longest, row.own_length)
            for kind, held in enumerate(row.held):
                most_held[kind] = max(most_held[kind], len(held.pages))
        return result

    monkeypatch.setattr(decoder, "_launch", watched)
    replies = list(decoder.decode(prompts, whole_groups(2, 3), 1.0, limits, 3))
    assert len(replies) == 6
    assert longest >= 2 * PAGE
    # Eight tokens and what a look by the host adds lie in two pages.
    assert most_held == [3, 2]
    assert swapped
    for reply in replies:
        expected = logprobs_of(plain, prompts[reply.prompt_index], reply.tokens).detach()
        torch.testing.assert_close(torch.tensor(reply.logprobs), expected, rtol=1e-4, atol=1e-4)
    memory = decoder._allocated[0]
    assert memory.pools[1].store.shape[:2] == (14, 2)
    for pool in memory.pools:
        assert sorted(pool._free) == list(range(1, len(pool.store)))


@pytest.mark.parametrize(("kind", "adapt"), ADAPTED)
@pytest.mark.parametrize("checkpointing", ["on", "off"])
def test_learned_as_transformers_has_it(kind: str, adapt: str, checkpointing: str) -> None:
    model = make_mixture(kind, adapt=adapt)
    plain = eager(model)
    rng = np.random.default_rng(0)
    replies = [rng.integers(0, VOCABULARY, length) for length in (20, 3, 11)]
    pack = build_pack(np.array(PROMPTS[1]), replies, range(3), torch.device("cpu"))
    logprobs = LogprobModel(model, checkpointing, LeanModel(model))
    logprobs.set_training(pack.ids.shape[1])
    found = logprobs.pack_logprobs(pack, 1.0)
    expected = torch.cat([logprobs_of(plain, PROMPTS[1], reply.tolist()) for reply in replies])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    weights = torch.linspace(-1, 2, len(found))
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    named = dict(plain.named_parameters())
    adapter = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert adapter
    assert all("lora" in name for name in adapter)
    assert any("experts" in name for name in adapter) == (adapt == "all")
    for name, parameter in model.named_parameters():
        if name in adapter:
            torch.testing.assert_close(parameter.grad, named[name].grad, rtol=1e-4, atol=1e-4, msg=name)


def test_an_adapted_router_keeps_to_the_plain_engine() -> None:
    model = make_mixture(adapted=False)
    config = peft.LoraConfig(target_modules=["q_proj"], target_parameters=["mlp.gate.weight"])
    with warnings.catch_warnings():
        # peft asks transformers by a name that transformers has since deprecated.
        warnings.simplefilter("ignore", FutureWarning)
        peft.get_peft_model(model, config)
    assert why_unsupported(model) == "its router is adapted"


def test_one_of_the_experts_matrices_may_be_adapted() -> None:
    model = make_mixture(adapted=False)
    config = peft.LoraConfig(r=3, target_modules=["q_proj"], target_parameters=["mlp.experts.down_proj"])
    with warnings.catch_warnings():
        # peft asks transformers by a name that transformers has since deprecated.
        warnings.simplefilter("ignore", FutureWarning)
        peft.get_peft_model(model, config)
    assert why_unsupported(model) == ""
    mixture = LeanModel(model).layers[0].mlp
    assert [projection.rank for projection in mixture.projections] == [0, 3]


def test_what_learns_is_said_by_name() -> None:
    dense, mixture = make_model(adapted=False), make_mixture(adapted=False)
    attention = ["k_proj", "o_proj", "q_proj", "v_proj"]
    assert adapted_modules(dense, "auto") == adapted_modules(dense, "all") == "all-linear"
    assert adapted_modules(mixture, "auto") == adapted_modules(mixture, "attention") == attention
    assert adapted_modules(dense, "attention") == attention
    model = make_model(adapt="attention")
    assert not any("lora" in name for name, _ in model.model.layers[0].mlp.named_parameters())
    limits = DecodeLimits(frozenset(), [9] * 3, None, lambda _: [])
    plain = eager(model)
    for reply in LeanDecoder(LeanModel(model), 3).decode(PROMPTS, whole_groups(3, 1), 1.0, limits, 3):
        expected = logprobs_of(plain, PROMPTS[reply.prompt_index], reply.tokens).detach()
        torch.testing.assert_close(torch.tensor(reply.logprobs), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["qwen3_moe, some layers dense", "gpt_oss"])
def test_the_experts_of_sampling_are_replayed(kind: str) -> None:
    model = make_mixture(kind)
    memory = RouteMemory()
    lean = LeanModel(model)
    limits = DecodeLimits(frozenset([2]), [12] * 3, None, lambda _: [])
    decoder = LeanDecoder(lean, 5, routes=memory)
    replies = list(decoder.decode(PROMPTS, whole_groups(3, 3), 1.0, limits, 3))
    logprobs = LogprobModel(model, "off", lean, memory)
    for index, prompt in enumerate(PROMPTS):
        own = [np.array(reply.tokens) for reply in replies if reply.prompt_index == index]
        bare = build_pack(np.array(prompt), own, range(3), torch.device("cpu"))
        pack = logprobs.replayed(bare, np.array(prompt), own)
        assert pack.routes is not None
        assert pack.routes.shape == (len(lean.mixtures), bare.ids.shape[1], 2)
        # In float32 the router chooses the same again, so replaying changes nothing.
        found = logprobs.pack_logprobs(pack, 1.0)
        torch.testing.assert_close(found, logprobs.pack_logprobs(bare, 1.0), rtol=1e-5, atol=1e-5)
        # Another router would choose otherwise; what is replayed does not depend on it.
        weights = [layer.mlp.router for layer in lean.layers if hasattr(layer.mlp, "router")]
        kept = [weight.clone() for weight in weights]
        for weight in weights:
            weight.neg_()
        assert not torch.allclose(found, logprobs.pack_logprobs(bare, 1.0), atol=1e-2)
        experts = pack.routes[0, 0].tolist()
        mixture = next(layer.mlp for layer in lean.layers if hasattr(layer.mlp, "router"))
        _, tape = mixture.forward(torch.randn(bare.ids.shape[1], 48), pack.routes[0])
        assert tape[1][0].tolist() == experts
        for weight, before in zip(weights, kept, strict=True):
            weight.copy_(before)
    unknown = np.array([5, 6, 7])
    assert logprobs.replayed(bare, unknown, own).routes is None


def test_the_oldest_routes_go_first() -> None:
    memory = RouteMemory(most_bytes=100)
    routes = np.zeros((5, 2, 2), np.uint8)
    for reply in range(20):
        memory.put([1, 2], [reply, 4], routes[:1], routes[:2])
    known = [
        memory.of_pack(np.array([1, 2]), [np.array([reply, 4])], torch.device("cpu")) is not None
        for reply in range(20)
    ]
    # A prompt's take 4 bytes and a reply's 8; the prompt's stay with its newest reply.
    assert known == [False] * 8 + [True] * 12
