"""Attention of a pack without a mask is attention under its mask; flash attention is written out here."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ttd_core.policy.local.lean import pack_attention
from ttd_core.policy.local.lean.pack_attention import (
    CopiedPromptAttention,
    MaskedAttention,
    SeparatePromptAttention,
    attention_for,
)
from ttd_core.policy.local.packing import build_pack

Sequences = tuple[Tensor, Tensor, int, int]


def parts(sequences: Sequences) -> list[tuple[slice, slice]]:
    """Queries and keys of each sequence; the longest of both are what they are said to be."""
    cumulative = [tensor.tolist() for tensor in sequences[:2]]
    queries, keys = ([slice(a, b) for a, b in itertools.pairwise(bounds)] for bounds in cumulative)
    assert sequences[2] == max(part.stop - part.start for part in queries)
    assert sequences[3] == max(part.stop - part.start for part in keys)
    return list(zip(queries, keys, strict=True))


def scores(query: Tensor, key: Tensor, causal: bool, window: int) -> Tensor:
    """[heads, queries, keys]; a causal mask is aligned to the last query and key, as flash attention's is."""
    wide = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
    result = torch.einsum("qhd,khd->hqk", query, wide) * query.shape[-1] ** -0.5
    queries, keys = result.shape[1:]
    before = torch.arange(queries)[:, None] + keys - queries - torch.arange(keys)[None]
    seen = (before >= 0) & (before < (window or keys))
    return result.masked_fill(~seen, -torch.inf) if causal else result


def flash(
    query: Tensor, key: Tensor, value: Tensor, sequences: Sequences, causal: bool, window: int = 0
) -> tuple[Tensor, Tensor]:
    outputs, logsumexps = [], []
    for rows, columns in parts(sequences):
        weights = scores(query[rows], key[columns], causal, window)
        wide = value[columns].repeat_interleave(query.shape[1] // value.shape[1], 1)
        outputs.append(torch.einsum("hqk,khd->qhd", weights.softmax(-1), wide))
        logsumexps.append(weights.logsumexp(-1))
    return torch.cat(outputs), torch.cat(logsumexps, 1)


def flash_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    logsumexp: Tensor,
    sequences: Sequences,
    causal: bool,
    window: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """From the result and its log-sum-exp alone, as flash attention has it."""
    shared = query.shape[1] // key.shape[1]
    grads = [torch.zeros_like(part) for part in (query, key, value)]
    dots = (grad * output).sum(-1)
    for rows, columns in parts(sequences):
        weights = (scores(query[rows], key[columns], causal, window) - logsumexp[:, rows, None]).exp()
        wide_key, wide_value = (part[columns].repeat_interleave(shared, 1) for part in (key, value))
        by_weight = torch.einsum("qhd,khd->hqk", grad[rows], wide_value) - dots[rows].T[..., None]
        by_score = weights * by_weight * query.shape[-1] ** -0.5
        grads[0][rows] += torch.einsum("hqk,khd->qhd", by_score, wide_key)
        for target, part in (
            (grads[1], torch.einsum("hqk,qhd->khd", by_score, query[rows])),
            (grads[2], torch.einsum("hqk,qhd->khd", weights, grad[rows])),
        ):
            target[columns] += part.unflatten(1, (-1, shared)).sum(2)
    return grads[0], grads[1], grads[2]


@pytest.mark.parametrize(
    ("kind", "window"),
    [(SeparatePromptAttention, 0), *((CopiedPromptAttention, window) for window in (0, 1, 12, 99))],
)
@pytest.mark.parametrize("lengths", [[40], [7, 30, 1]])
@pytest.mark.parametrize("with_sinks", [False, True])
def test_it_is_attention_under_the_mask(
    kind: type[Any], window: int, lengths: list[int], with_sinks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack_attention, "flash", flash)
    monkeypatch.setattr(pack_attention, "_flash_backward", flash_backward)
    rng = np.random.default_rng(0)
    replies = [rng.integers(0, 9, length) for length in lengths]
    pack = build_pack(rng.integers(0, 9, 70), replies, range(len(replies)), torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    query, key, value, grad = (
        torch.randn(pack.ids.shape[1], heads, 16, dtype=torch.float64, generator=generator)
        for heads in (8, 2, 2, 8)
    )
    sinks = torch.randn(8, generator=generator) if with_sinks else None
    masked = attention_for(pack, torch.float64, window)
    assert isinstance(masked, MaskedAttention)
    attention = kind.of(pack, window) if window else kind.of(pack)
    expected, found = (one.forward(query, key, value, sinks) for one in (masked, attention))
    # With sinks, scores and gradients of a key's copies are summed in float32.
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if with_sinks else {}
    torch.testing.assert_close(found[0], expected[0], **tolerance)
    for one, other in zip(
        attention.backward(grad, query, key, value, found, sinks),
        masked.backward(grad, query, key, value, expected, sinks),
        strict=True,
    ):
        # Gradients of a key's copies add up in float32.
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
