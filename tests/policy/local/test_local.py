"""The local policy: what it samples is what it trains, to rounding; packs, checkpoints and limits hold."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
import transformers

from ttd_core.errors import ConfigError, ModelUnavailableError, UsageError
from ttd_core.policy.base import Policy, Sample, SamplingParams, Sequences, Trainer
from ttd_core.policy.local.plain import attention
from ttd_core.policy.local.policy import LocalPolicy
from ttd_core.types import Message, StopReason

Make = Callable[..., LocalPolicy]

PROMPTS: list[list[Message]] = [
    [{"role": "user", "content": "short"}],
    [{"role": "user", "content": "a rather longer prompt than the first one"}],
]
PARAMS = SamplingParams(max_new_tokens=20, seed=7)


def sample(policy: LocalPolicy, count: int = 4, params: SamplingParams = PARAMS) -> list[Sample]:
    return list(policy.sample(PROMPTS, count, params))


def by_prompt(samples: Sequence[Sample], prompt: int) -> list[Sample]:
    return sorted((s for s in samples if s.prompt == prompt), key=lambda s: s.index)


def batch_of(samples: Sequence[Sample]) -> list[Sequences]:
    """Advantages that differ from token to token, as KL shaping makes them."""
    batch = []
    for prompt in range(len(PROMPTS)):
        group = by_prompt(samples, prompt)
        advantages = [
            np.linspace(-1, 1, len(s.completion.tokens)) * (1 + s.index) * s.completion.trained for s in group
        ]
        batch.append(Sequences(group[0].prompt_tokens, [s.completion for s in group], advantages))
    return batch


def plain_logprobs(policy: LocalPolicy, one: Sample, temperature: float = 1.0) -> torch.Tensor:
    """The reply's log-probabilities from one ordinary forward pass over prompt and reply."""
    tokens = np.concatenate([one.prompt_tokens, one.completion.tokens])
    logits = policy.model(input_ids=torch.from_numpy(tokens)[None]).logits[0].float() / temperature
    first = len(one.prompt_tokens)
    rows = logits[first - 1 : -1].log_softmax(-1)
    return rows.gather(1, torch.from_numpy(one.completion.tokens)[:, None])[:, 0]


def test_protocols(policy: LocalPolicy) -> None:
    named: Policy = policy
    assert "cpu" in named.name
    assert isinstance(policy, Trainer)


def test_every_reply_once(policy: LocalPolicy) -> None:
    samples = sample(policy, 5)
    assert sorted((s.prompt, s.index) for s in samples) == [(p, i) for p in range(2) for i in range(5)]
    for one in samples:
        stopped = one.completion.stop is StopReason.STOP
        assert stopped or len(one.completion.tokens) == 20
        assert one.completion.trained.all()


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_sampled_logprobs_are_the_models_own(policy: LocalPolicy, temperature: float) -> None:
    params = SamplingParams(max_new_tokens=20, seed=3, temperature=temperature)
    for one in sample(policy, 4, params):
        expected = plain_logprobs(policy, one, temperature).detach().numpy()
        assert one.completion.logprobs == pytest.approx(expected, abs=1e-4)


def test_sampling_repeats_with_its_seed(policy: LocalPolicy) -> None:
    first, again = sample(policy), sample(policy)
    other = sample(policy, params=SamplingParams(max_new_tokens=20, seed=8))
    tokens = [s.completion.tokens.tolist() for s in first]
    assert tokens == [s.completion.tokens.tolist() for s in again]
    assert tokens != [s.completion.tokens.tolist() for s in other]


def test_samples_follow_the_models_distribution(policy: LocalPolicy) -> None:
    params = SamplingParams(max_new_tokens=1, seed=1)
    samples = list(policy.sample(PROMPTS[:1], 3000, params))
    prompt = torch.from_numpy(samples[0].prompt_tokens)[None]
    expected = policy.model(input_ids=prompt).logits[0, -1].float().softmax(-1).detach().numpy()
    counts = np.bincount([int(s.completion.tokens[0]) for s in samples], minlength=len(expected))
    # Total variation of 3000 draws from at most 258 outcomes stays well under this.
    assert 0.5 * np.abs(counts / 3000 - expected).sum() < 0.15


def test_base_logprobs_ignore_the_adapter(policy: LocalPolicy, make_policy: Make) -> None:
    group = by_prompt(sample(policy), 0)
    found = policy.base_logprobs(group[0].prompt_tokens, [s.completion for s in group], 1.0)
    with policy.without_adapter():
        for one, logprobs in zip(group, found, strict=True):
            assert logprobs == pytest.approx(plain_logprobs(policy, one).detach().numpy(), abs=1e-4)
    assert any(
        np.abs(logprobs - one.completion.logprobs).max() > 1e-2
        for one, logprobs in zip(group, found, strict=True)
    )


def test_packed_gradient_is_the_plain_gradient(make_policy: Make) -> None:
    policy = make_policy(learn__learning_rate=0.0)
    samples = sample(policy)
    batch = batch_of(samples)
    metrics = policy.train_step(batch, 1.0)
    packed = {name: p.grad.clone() for name, p in policy.adapter.masters.items() if p.grad is not None}
    for parameter in policy.adapter.masters.values():
        parameter.grad = None
    for item, prompt in zip(batch, range(2), strict=True):
        for one, advantages in zip(by_prompt(samples, prompt), item.advantages, strict=True):
            logprobs = plain_logprobs(policy, one)
            ratio = (logprobs - torch.from_numpy(one.completion.logprobs)).exp()
            (-(torch.from_numpy(advantages).float() * ratio)).sum().backward()
    assert metrics["logprob_gap"] < 1e-4
    assert len(packed) == len(policy.adapter.masters)
    for name, parameter in policy.adapter.masters.items():
        assert parameter.grad is not None
        torch.testing.assert_close(packed[name], parameter.grad, rtol=1e-4, atol=1e-5)


def test_step_does_not_depend_on_the_micro_batch(make_policy: Make) -> None:
    stepped = []
    samples: list[Sample] = []
    for budget in (10_000, 120, 1):
        policy = make_policy(learn__micro_batch_tokens=budget)
        samples = samples or sample(policy)
        metrics = policy.train_step(batch_of(samples), 1.0)
        stepped.append(
            (
                metrics["packs"],
                {n: p.detach().clone() for n, p in policy.adapter.masters.items()},
                metrics["loss"],
            )
        )
    assert stepped[0][0] == 2
    assert stepped[2][0] == 8
    for _, parameters, loss in stepped[1:]:
        assert loss == pytest.approx(stepped[0][2], rel=1e-5, abs=1e-5)
        for name, parameter in parameters.items():
            torch.testing.assert_close(parameter, stepped[0][1][name], rtol=0, atol=1e-6)


def test_activation_checkpointing_changes_nothing(make_policy: Make) -> None:
    stepped = []
    for mode in ("off", "on"):
        policy = make_policy(learn__activation_checkpointing=mode)
        policy.train_step(batch_of(sample(policy)), 1.0)
        stepped.append({n: p.detach().clone() for n, p in policy.adapter.masters.items()})
    for name, parameter in stepped[0].items():
        torch.testing.assert_close(parameter, stepped[1][name], rtol=0, atol=1e-6)


def test_a_step_raises_what_was_rewarded(make_policy: Make) -> None:
    policy = make_policy(learn__learning_rate=1e-3)
    samples = by_prompt(sample(policy), 0)
    signs = [1.0, -1.0, 1.0, -1.0]
    advantages = [np.full(len(s.completion.tokens), sign) for s, sign in zip(samples, signs, strict=True)]
    before = [plain_logprobs(policy, s).sum().item() for s in samples]
    digest = policy.adapter_digest()
    item = Sequences(samples[0].prompt_tokens, [s.completion for s in samples], advantages)
    policy.train_step([item], 1.0)
    after = [plain_logprobs(policy, s).sum().item() for s in samples]
    assert policy.adapter_digest() != digest
    assert sum(s * (a - b) for s, a, b in zip(signs, after, before, strict=True)) > 0


def test_checkpoint_restores_the_next_step_exactly(make_policy: Make, tmp_path: pathlib.Path) -> None:
    policy = make_policy()
    policy.train_step(batch_of(sample(policy)), 1.0)
    policy.save(tmp_path)
    digest = policy.adapter_digest()
    later = sample(policy)
    policy.train_step(batch_of(later), 1.0)

    other = make_policy()
    assert other.adapter_digest() != digest
    other.load(tmp_path)
    assert other.adapter_digest() == digest
    again = sample(other)
    assert [s.completion.tokens.tolist() for s in again] == [s.completion.tokens.tolist() for s in later]
    other.train_step(batch_of(again), 1.0)
    assert other.adapter_digest() == policy.adapter_digest()
    assert not any(path.suffix in {".pt", ".bin", ".pkl"} for path in tmp_path.iterdir())


def test_checkpoint_of_another_rank_is_refused(make_policy: Make, tmp_path: pathlib.Path) -> None:
    make_policy().save(tmp_path)
    with pytest.raises(UsageError, match="another model or adapter rank"):
        make_policy(policy__lora_rank=2).load(tmp_path)


def test_damaged_checkpoint_is_refused(policy: LocalPolicy, tmp_path: pathlib.Path) -> None:
    policy.save(tmp_path)
    (tmp_path / "optimiser.safetensors").write_bytes(b"torn")
    with pytest.raises(UsageError, match="cannot be read"):
        policy.load(tmp_path)


def test_prompt_too_long_names_both_lengths(policy: LocalPolicy) -> None:
    prompt: list[Message] = [{"role": "user", "content": "x" * 600}]
    with pytest.raises(UsageError, match=r"the prompt is 6\d\d tokens long and the context holds 512"):
        list(policy.sample([prompt], 1, SamplingParams()))


def test_context_ends_a_reply(policy: LocalPolicy) -> None:
    length = len(sample(policy, 1)[0].prompt_tokens)
    for one in policy.sample(PROMPTS[:1], 4, SamplingParams(context=length + 5)):
        assert len(one.completion.tokens) <= 5


def test_prefill_is_part_of_the_text_and_not_trained(policy: LocalPolicy) -> None:
    params = SamplingParams(max_new_tokens=5, prefill="```python\n")
    for one in sample(policy, 2, params):
        assert one.completion.text.startswith("```python\n")
        assert len(one.completion.tokens) <= 5


def test_thinking_budget_forces_the_answer(make_policy: Make, thinking_template: str) -> None:
    policy = make_policy(template=thinking_template)
    length = len(sample(policy, 1)[0].prompt_tokens)
    params = SamplingParams(max_new_tokens=120, thinking_tokens=length + 6, seed=2)
    long = [s for s in policy.sample(PROMPTS[:1], 4, params) if len(s.completion.tokens) > 10]
    assert long
    for one in long:
        completion = one.completion
        forced = ~completion.trained
        assert "\n</think>\n\n" in completion.text
        assert "</think>" not in completion.answer
        assert forced.sum() > 20
        assert not forced[:6].any()
        assert (completion.logprobs[forced] == 0).all()
        expected = plain_logprobs(policy, one).detach().numpy()
        assert completion.logprobs[~forced] == pytest.approx(expected[~forced], abs=1e-4)


def test_nothing_is_forced_without_thinking(policy: LocalPolicy) -> None:
    params = SamplingParams(max_new_tokens=20, thinking_tokens=1, seed=2)
    assert all(one.completion.trained.all() for one in sample(policy, 3, params))


def test_forced_tokens_get_no_gradient(make_policy: Make, thinking_template: str) -> None:
    policy = make_policy(template=thinking_template, learn__learning_rate=0.0)
    params = SamplingParams(max_new_tokens=90, thinking_tokens=0, seed=2)
    group = list(policy.sample(PROMPTS[:1], 2, params))
    # An advantage on the forced tokens alone must not move anything: the mask wins.
    advantages = [np.where(s.completion.trained, 0.0, 5.0) for s in group]
    item = Sequences(group[0].prompt_tokens, [s.completion for s in group], advantages)
    assert policy.train_step([item], 1.0)["grad_norm"] == 0


def test_the_lean_engine_samples_and_learns_the_same(make_policy: Make, thinking_template: str) -> None:
    length = len(sample(make_policy(template=thinking_template), 1)[0].prompt_tokens)
    params = SamplingParams(max_new_tokens=60, thinking_tokens=length + 6, seed=2)
    said = []
    for engine in ("lean", "plain"):
        options = {"engine": engine}
        policy = make_policy(thinking_template, {"hidden_size": 64}, policy__options=options)
        group = sorted(policy.sample(PROMPTS, 4, params), key=lambda s: (s.prompt, s.index))
        # Learning gives the memory back and moves the adapter; the next replies come from the new one.
        policy.train_step(batch_of(group), 1.0)
        group += sorted(policy.sample(PROMPTS, 4, params), key=lambda s: (s.prompt, s.index))
        said.append([s.completion for s in group])
    for one, other in zip(*said, strict=True):
        assert one.tokens.tolist() == other.tokens.tolist()
        assert one.trained.tolist() == other.trained.tolist()
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_a_wrong_engine_is_named(make_policy: Make) -> None:
    with pytest.raises(ConfigError, match="needs one of 'auto', 'lean', 'plain', not 'quick'"):
        make_policy(policy__options={"engine": "quick"})
    with pytest.raises(ModelUnavailableError, match="its head size is 8"):
        make_policy(policy__options={"engine": "lean"})


def test_unknown_attention_is_refused_by_name() -> None:
    for config, named in (
        (transformers.Qwen3NextConfig(), "linear_attention"),
        (transformers.Gemma2Config(), "capped attention scores"),
    ):
        with pytest.raises(ModelUnavailableError, match=f"'it' uses {named}, which"):
            attention.require_known_attention(config, "it")


def test_bfloat16_keeps_float32_masters(make_policy: Make, tmp_path: pathlib.Path) -> None:
    policy = make_policy(dtype=torch.bfloat16, learn__learning_rate=1e-4, learn__micro_batch_tokens=120)
    working = {n: p for n, p in policy.model.named_parameters() if "lora" in n}
    assert {p.dtype for p in working.values()} == {torch.bfloat16}
    before = {n: p.clone() for n, p in policy.adapter.masters.items()}
    samples = sample(policy)
    metrics = policy.train_step(batch_of(samples), 1.0)
    assert 0 < metrics["logprob_gap"] < 0.1
    assert metrics["update_norm"] > 0
    # A step of 1e-4 is lost on bfloat16 weights near 0.1; the masters keep it.
    moved = [(policy.adapter.masters[n] - old).abs().max().item() for n, old in before.items()]
    assert max(moved) == pytest.approx(1e-4, rel=0.01)
    for name, parameter in working.items():
        (master,) = (m for n, m in policy.adapter.masters.items() if n.endswith(name))
        torch.testing.assert_close(parameter, master.bfloat16(), rtol=0, atol=0)
    policy.save(tmp_path)
    other = make_policy(dtype=torch.bfloat16)
    other.load(tmp_path)
    assert other.adapter_digest() == policy.adapter_digest()
    assert [s.completion.tokens.tolist() for s in sample(other)] == [
        s.completion.tokens.tolist() for s in sample(policy)
    ]
