"""The written-out backward pass gives torch's own gradients for every family, activations kept or not."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from tests.policy.local.lean.lean_models import FAMILY, VOCABULARY, make_model

from ttd_core.policy.local.lean import training
from ttd_core.policy.local.lean.model import LeanModel
from ttd_core.policy.local.packing import build_pack
from ttd_core.policy.local.training import LogprobModel

CPU = torch.device("cpu")


def sequences(prompt: int, lengths: list[int]) -> tuple[np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(prompt)
    return rng.integers(0, VOCABULARY, prompt), [rng.integers(0, VOCABULARY, n) for n in lengths]


def gradients(
    logprob_model: LogprobModel, model: Any, prompt: int, lengths: list[int], temperature: float
) -> Any:
    """Log-probabilities of a pack, and the adapter's gradient of a weighted sum of them."""
    tokens, replies = sequences(prompt, lengths)
    logprob_model.set_training(prompt + sum(lengths))
    found = logprob_model.pack_logprobs(build_pack(tokens, replies, range(len(replies)), CPU), temperature)
    (found * torch.linspace(-1, 2, len(found))).sum().backward()
    logprob_model.set_sampling()
    named = {n: p.grad.clone() for n, p in model.named_parameters() if "lora" in n and p.grad is not None}
    for parameter in model.parameters():
        parameter.grad = None
    return found.detach(), named


@pytest.mark.parametrize("kind", FAMILY)
@pytest.mark.parametrize("checkpointing", ["on", "off"])
def test_gradients_are_torchs_own(kind: str, checkpointing: str) -> None:
    model = make_model(kind)
    plain = LogprobModel(copy.deepcopy(model), "off")
    lean = LogprobModel(model, checkpointing, LeanModel(model))
    for prompt, lengths, temperature in (5, [4, 1, 9], 1.0), (1, [6], 0.7):
        expected, wanted = gradients(plain, plain.causal, prompt, lengths, temperature)
        found, got = gradients(lean, model, prompt, lengths, temperature)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        assert got.keys() == wanted.keys()
        for name, gradient in wanted.items():
            torch.testing.assert_close(got[name], gradient, rtol=1e-4, atol=1e-4, msg=name)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    lean = LogprobModel(model, "on", LeanModel(model))
    whole, wanted = gradients(lean, model, 5, [4, 1, 9], 1.0)
    monkeypatch.setattr(training, "CHUNK", 3)
    parts, got = gradients(lean, model, 5, [4, 1, 9], 1.0)
    torch.testing.assert_close(parts, whole)
    for name, gradient in wanted.items():
        torch.testing.assert_close(got[name], gradient)


def test_nothing_is_kept_without_gradients() -> None:
    model = make_model()
    lean = LogprobModel(model, "off", LeanModel(model))
    tokens, replies = sequences(5, [4, 1])
    pack = build_pack(tokens, replies, range(2), CPU)
    lean.set_training(10)
    with torch.inference_mode():
        found = lean.pack_logprobs(pack, 1.0)
    assert lean.pack_logprobs(pack, 1.0).requires_grad
    torch.testing.assert_close(found, lean.pack_logprobs(pack, 1.0).detach())


def test_the_estimate_of_what_is_kept_is_near() -> None:
    model = make_model()
    trainer = training.LeanTrainer(LeanModel(model))
    tokens, replies = sequences(50, [400, 350])
    tape = trainer.run(build_pack(tokens, replies, range(2), CPU), 1.0, backward=True, keep=True)
    held: dict[int, int] = {}
    for activations in tape.activations:
        assert activations is not None
        for name in activations.__slots__:
            value = getattr(activations, name, None)
            for part in value if isinstance(value, tuple) else [value]:
                if isinstance(part, torch.Tensor):
                    storage = part.untyped_storage()
                    held[storage.data_ptr()] = storage.nbytes()
    assert 0.8 < trainer.activation_bytes(800) / sum(held.values()) < 1.25
