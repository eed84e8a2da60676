"""The losses' gradients against a direct computation over a small vocabulary."""

from __future__ import annotations

import attrs
import pytest
import torch

from ttd_core.config import LearnConfig
from ttd_core.policy.losses import token_losses

CONFIG = LearnConfig()


def scene(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits [5, 7] to train, sampled tokens, the sampler's log-probabilities, advantages."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(5, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    tokens = torch.randint(7, (5,), generator=generator)
    stale = (logits.detach() + 0.3 * torch.randn(5, 7, generator=generator, dtype=torch.float64)).log_softmax(
        -1
    )
    sampler = stale.gather(1, tokens[:, None])[:, 0]
    advantages = torch.randn(5, generator=generator, dtype=torch.float64)
    return logits, tokens, sampler, advantages


def chosen(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    return logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0]


def test_importance_gradient_is_the_weighted_score_function() -> None:
    logits, tokens, sampler, advantages = scene()
    token_losses(chosen(logits, tokens), sampler, advantages, CONFIG).sum().backward()
    probabilities = logits.detach().softmax(-1)
    expected = torch.zeros_like(logits)
    for row in range(5):
        ratio = (probabilities[row, tokens[row]].log() - sampler[row]).exp()
        score = torch.nn.functional.one_hot(tokens[row], 7).double() - probabilities[row]
        expected[row] = -advantages[row] * ratio * score
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, expected, rtol=1e-12, atol=1e-12)


def test_on_policy_gradient_is_plain_policy_gradient() -> None:
    logits, tokens, _, advantages = scene()
    logprobs = chosen(logits, tokens)
    (gradient,) = torch.autograd.grad(
        token_losses(logprobs, logprobs.detach(), advantages, CONFIG).sum(), logits, retain_graph=True
    )
    (plain,) = torch.autograd.grad(-(advantages * logprobs).sum(), logits)
    torch.testing.assert_close(gradient, plain)


def test_truncated_bounds_the_weight_and_keeps_the_score() -> None:
    logits, tokens, sampler, advantages = scene()
    logprobs = chosen(logits, tokens)
    config = attrs.evolve(CONFIG, loss="truncated")
    (gradient,) = torch.autograd.grad(
        token_losses(logprobs, sampler, advantages, config).sum(), logits, retain_graph=True
    )
    weight = (logprobs.detach() - sampler).exp().clamp(max=1.2)
    (expected,) = torch.autograd.grad(-(advantages * weight * logprobs).sum(), logits)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize(
    ("shift", "advantage", "moves"), [(0.5, 1.0, False), (-0.5, 1.0, True), (0.5, -1.0, True)]
)
def test_clipped_stops_only_what_would_go_further(shift: float, advantage: float, moves: bool) -> None:
    logprob = torch.tensor([-1.0], requires_grad=True)
    sampler = torch.tensor([-1.0 - shift])
    config = attrs.evolve(CONFIG, loss="clipped")
    token_losses(logprob, sampler, torch.tensor([advantage]), config).sum().backward()
    assert logprob.grad is not None
    assert bool(logprob.grad.abs() > 0) is moves
