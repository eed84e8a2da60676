"""The lean decoder says what the plain one says, whatever the rows, the pages and the budget."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers
from tests.policy.local.lean.lean_models import FAMILY, VOCABULARY, make_model

from ttd_core.errors import EnvironmentLacksError
from ttd_core.policy.local.lean.decode import LeanDecoder
from ttd_core.policy.local.lean.kv_pages import PageMemory, PagePool
from ttd_core.policy.local.lean.model import LeanModel, why_unsupported
from ttd_core.policy.local.lean.paging import MAX_STEPS, PAGE
from ttd_core.policy.local.plain.decode import PlainDecoder
from ttd_core.policy.local.replies import DecodeLimits, DecodingReply, whole_groups
from ttd_core.policy.local.training import LogprobModel
from ttd_core.types import StopReason

PROMPTS = [[5, 6, 7, 8], list(range(3, 90)), [11]]


def limits_of(
    longest: int, prompts: int = 3, thinking: int | None = None, ends: tuple[int, ...] = (1, 2)
) -> DecodeLimits:
    budget = None if thinking is None else [thinking] * prompts
    return DecodeLimits(frozenset(ends), [longest] * prompts, budget, lambda tokens: [1, 9, len(tokens)])


def plain(
    model: Any, limits: DecodeLimits, count: int = 4, seed: int = 3, temperature: float = 1.0
) -> list[DecodingReply]:
    logprobs = LogprobModel(model, "off")
    decoder = PlainDecoder(logprobs.backbone, logprobs.head, logprobs.layers, model.device, max_rows=5)
    return in_order(decoder.decode(PROMPTS, whole_groups(len(PROMPTS), count), temperature, limits, seed))


def in_order(replies: Any) -> list[DecodingReply]:
    return sorted(replies, key=lambda reply: (reply.prompt_index, reply.index))


def same(found: list[DecodingReply], expected: list[DecodingReply]) -> None:
    assert [(r.prompt_index, r.index) for r in found] == [(r.prompt_index, r.index) for r in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.tokens == other.tokens
        assert one.trained == other.trained
        assert one.stop is other.stop
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


@pytest.mark.parametrize("kind", FAMILY)
@pytest.mark.parametrize("adapted", [True, False])
def test_same_replies_as_the_plain_decoder(kind: str, adapted: bool) -> None:
    model = make_model(kind, adapted)
    assert why_unsupported(model) == ""
    expected = plain(copy.deepcopy(model), limits_of(40))
    assert {reply.stop for reply in expected} == {StopReason.STOP, StopReason.LENGTH}
    same(
        in_order(
            LeanDecoder(LeanModel(model), 7).decode(
                PROMPTS, whole_groups(len(PROMPTS), 4), 1.0, limits_of(40), 3
            )
        ),
        expected,
    )


def test_adapters_are_added_where_a_result_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    lean = LeanModel(make_model("qwen2"))
    asked: list[str] = []
    for name in "adapted_rotate_and_store", "adapted_swiglu":
        operation = getattr(lean.ops, name)

        def noted(*args: Any, name: str = name, operation: Any = operation) -> Any:
            asked.append(name)
            return operation(*args)

        monkeypatch.setattr(lean.ops, name, noted)
    decoder = LeanDecoder(lean, 7)
    assert len([*decoder.decode(PROMPTS, whole_groups(3, 1), 1.0, limits_of(2), 3)]) == 3
    # Prompts are read once, and each of the two steps is one more pass over the layers.
    assert asked == ["adapted_rotate_and_store", "adapted_swiglu"] * (3 * len(lean.layers))


@pytest.mark.parametrize("temperature", [0.6, 1.4])
def test_temperature(temperature: float) -> None:
    model = make_model()
    expected = plain(copy.deepcopy(model), limits_of(20), temperature=temperature)
    decoder = LeanDecoder(LeanModel(model), 7)
    same(
        in_order(decoder.decode(PROMPTS, whole_groups(len(PROMPTS), 4), temperature, limits_of(20), 3)),
        expected,
    )


@pytest.mark.parametrize("thinking", [0, 5, MAX_STEPS, MAX_STEPS + 3])
def test_forced_tokens(thinking: int) -> None:
    model = make_model()
    limits = limits_of(MAX_STEPS + 20, thinking=thinking)
    expected = plain(copy.deepcopy(model), limits)
    assert any(False in reply.trained for reply in expected)
    same(
        in_order(
            LeanDecoder(LeanModel(model), 5).decode(PROMPTS, whole_groups(len(PROMPTS), 4), 1.0, limits, 3)
        ),
        expected,
    )


def test_a_reply_that_ends_while_it_is_forced() -> None:
    model = make_model()
    limits = limits_of(7, thinking=5, ends=())
    expected = plain(copy.deepcopy(model), limits)
    found = in_order(
        LeanDecoder(LeanModel(model), 5).decode(PROMPTS, whole_groups(len(PROMPTS), 4), 1.0, limits, 3)
    )
    same(found, expected)
    assert all(reply.trained == [True] * 5 + [False] * 2 for reply in found)


@pytest.mark.parametrize("rows", [1, 2, 5, 64])
def test_replies_do_not_depend_on_the_rows(rows: int) -> None:
    model = LeanModel(make_model())
    expected = in_order(
        LeanDecoder(model, 12).decode(PROMPTS, whole_groups(len(PROMPTS), 4), 1.0, limits_of(30), 3)
    )
    same(
        in_order(
            LeanDecoder(model, rows).decode(PROMPTS, whole_groups(len(PROMPTS), 4), 1.0, limits_of(30), 3)
        ),
        expected,
    )


def test_replies_swapped_out_go_on_where_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    swapped: list[int] = []
    copy_out = PagePool.copy_out

    def counted(pool: PagePool, pages: list[int]) -> torch.Tensor:
        swapped.append(len(pages))
        return copy_out(pool, pages)

    monkeypatch.setattr(PagePool, "copy_out", counted)
    model = LeanModel(make_model())
    limits = limits_of(3 * PAGE, ends=())
    expected = in_order(LeanDecoder(model, 12).decode(PROMPTS, whole_groups(len(PROMPTS), 3), 1.0, limits, 3))
    assert not swapped
    # The prompts take three pages, one reply up to four; nine rows would take 27.
    same(
        in_order(
            LeanDecoder(model, 12, max_pages=12).decode(
                PROMPTS, whole_groups(len(PROMPTS), 3), 1.0, limits, 3
            )
        ),
        expected,
    )
    assert swapped


def test_a_reply_that_holds_nothing_yet_may_be_swapped_out() -> None:
    memory = PageMemory.allocate([0, 8], [(3, 1), (3, 1)], [(2, 1), (1, 1)], torch.zeros(1))
    held = memory.begin(0)
    contents = memory.copy_out(held)
    memory.copy_in(held, contents)
    assert [one.pages for one in held] == [[], []]


def test_pages_come_back() -> None:
    decoder = LeanDecoder(LeanModel(make_model()), 4)
    for _ in range(2):
        assert len(list(decoder.decode(PROMPTS, whole_groups(len(PROMPTS), 3), 1.0, limits_of(30), 3))) == 9
        (pool,) = decoder._allocated[0].pools
        assert sorted(pool._free) == list(range(1, len(pool.store)))
    abandoned = decoder.decode(PROMPTS, whole_groups(len(PROMPTS), 3), 1.0, limits_of(30), 3)
    next(abandoned)
    abandoned.close()
    assert sorted(pool._free) == list(range(1, len(pool.store)))
    assert decoder.held_bytes() > 0
    decoder.release()
    assert decoder.held_bytes() == 0


def test_disabled_adapters_are_left_out() -> None:
    model = make_model()
    decoder = LeanDecoder(LeanModel(model), 7)
    adapted = in_order(decoder.decode(PROMPTS, whole_groups(len(PROMPTS), 2), 1.0, limits_of(10), 3))
    layers = [m for m in model.modules() if isinstance(m, peft.tuners.lora.LoraLayer)]
    for layer in layers:
        layer.enable_adapters(False)
    same(
        in_order(decoder.decode(PROMPTS, whole_groups(len(PROMPTS), 2), 1.0, limits_of(10), 3)),
        plain(model, limits_of(10), 2),
    )
    for layer in layers:
        layer.enable_adapters(True)
    same(in_order(decoder.decode(PROMPTS, whole_groups(len(PROMPTS), 2), 1.0, limits_of(10), 3)), adapted)


def test_streams_repeat_by_seed_and_differ_by_reply() -> None:
    decoder = LeanDecoder(LeanModel(make_model()), 7)
    first = in_order(decoder.decode(PROMPTS, whole_groups(len(PROMPTS), 4), 1.0, limits_of(20), 3))
    same(in_order(decoder.decode(PROMPTS, whole_groups(len(PROMPTS), 4), 1.0, limits_of(20), 3)), first)
    other = in_order(decoder.decode(PROMPTS, whole_groups(len(PROMPTS), 4), 1.0, limits_of(20), 4))
    assert [r.tokens for r in other] != [r.tokens for r in first]
    assert len({tuple(r.tokens) for r in first}) > 9


def test_arrays_have_the_contract_types() -> None:
    reply = next(
        LeanDecoder(LeanModel(make_model()), 2).decode(
            PROMPTS, whole_groups(len(PROMPTS), 1), 1.0, limits_of(5), 3
        )
    )
    tokens, logprobs, trained = reply.arrays()
    assert (tokens.dtype, logprobs.dtype, trained.dtype) == (np.int64, np.float32, np.bool_)
    assert len(tokens) == len(logprobs) == len(trained)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"head_dim": 24}, "head size is 24"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "dynamic"),
    ],
)
def test_what_does_not_fit_says_why(changes: dict[str, Any], reason: str) -> None:
    assert reason in why_unsupported(make_model(adapted=False, **changes))


def test_other_families_do_not_fit() -> None:
    config = transformers.GPT2Config(n_embd=16, n_layer=1, n_head=1, vocab_size=VOCABULARY)
    assert "gpt2" in why_unsupported(transformers.GPT2LMHeadModel(config))


def test_too_little_memory_names_both_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ttd_core.policy.local.lean.kv_pages.free_bytes", lambda _: 10_000_000)

    class OnDevice:
        device = torch.device("cuda")
        dtype = torch.bfloat16

        @staticmethod
        def element_size() -> int:
            return 2

    with pytest.raises(EnvironmentLacksError, match=r"20\.0 GB are needed and 0\.0 GB may be used"):
        PageMemory.allocate([0], [(2000, 1000)], [(10_000_000,)], OnDevice())  # type: ignore[arg-type]
