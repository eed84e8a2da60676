"""What every policy keeps, as pytest classes: subclass one, say how a policy is opened, done.

::

    from ttd_core.testing.policies import PolicyContract, TrainerContract

    class TestFrozen(PolicyContract):
        def open_policy(self, **changes):
            return MyPolicy(config.load("none", overrides={"policy.model": "small", **changes}))

    class TestLearning(TrainerContract):
        def open_policy(self, **changes):
            ...
        def open_thinking_policy(self):
            ...

An attribute of the class says what a policy cannot be held to. Where opening one needs a fixture (a server, a
folder), an ``autouse`` fixture of the subclass takes it and keeps it on ``self``.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np
import pytest

from ttd_core.errors import PromptTooLongError, UsageError
from ttd_core.policy.base import (
    MeasuresPrompts,
    Policy,
    Sample,
    SamplingParams,
    Sequences,
    SpellsTokens,
    Trainer,
)
from ttd_core.types import Message, StopReason

__all__ = ["PolicyContract", "TrainerContract"]

_COUNT = 4


def _chat(text: str) -> list[Message]:
    return [{"role": "user", "content": text}]


def _key(sample: Sample) -> tuple[int, int]:
    return sample.prompt, sample.index


class PolicyContract:
    """What a policy that samples keeps (:class:`~ttd_core.policy.base.Policy`).

    :cvar prompts: two prompts that replies are sampled to.
    :cvar params: how; ``max_new_tokens`` keeps the tests short.
    :cvar keeps_limits: whether ``max_new_tokens`` ends a reply; not where replies are given out whole.
    :cvar refuses_long_prompts: whether a prompt that does not fit the context is refused with both lengths.
    :cvar context: the context that :attr:`long_prompt` does not fit, in tokens.
    """

    prompts: ClassVar[Sequence[Sequence[Message]]] = (_chat("short"), _chat("a rather longer prompt"))
    params: ClassVar[SamplingParams] = SamplingParams(max_new_tokens=12, seed=7)
    keeps_limits: ClassVar[bool] = True
    refuses_long_prompts: ClassVar[bool] = True
    context: ClassVar[int] = 512
    long_prompt: ClassVar[str] = " ".join(str(number) for number in range(2000))

    def open_policy(self, **changes: Any) -> Policy:
        """A new policy on a small model, for the subclass to say.

        :param changes: config keys that the policy is opened with beside its own.
        """
        raise NotImplementedError(f"{type(self).__name__} must define open_policy")

    @pytest.fixture
    def opened(self) -> Iterator[Callable[..., Any]]:
        """Call :meth:`open_policy`, and close what it returns when the test is over."""
        policies: list[Policy] = []

        def open_one(**changes: Any) -> Policy:
            policies.append(self.open_policy(**changes))
            return policies[-1]

        yield open_one
        for policy in policies:
            policy.close()

    @pytest.fixture
    def policy(self, opened: Callable[..., Any]) -> Any:
        """A policy, closed when the test is over."""
        return opened()

    def sample(self, policy: Policy, **changes: Any) -> list[Sample]:
        """Four replies to each prompt, by prompt and index.

        :param changes: of :attr:`params`.
        """
        return sorted(
            policy.sample(self.prompts, _COUNT, attrs.evolve(self.params, **changes)),
            key=_key,
        )

    def test_every_reply_comes_once_and_whole(self, policy: Any) -> None:
        samples = self.sample(policy)
        assert [_key(one) for one in samples] == [
            (prompt, index) for prompt in range(len(self.prompts)) for index in range(_COUNT)
        ]
        for one in samples:
            reply = one.completion
            assert len(reply.tokens) == len(reply.logprobs) == len(reply.trained)
            arrays = (one.prompt_tokens, reply.tokens, reply.logprobs, reply.trained)
            assert [array.dtype.name for array in arrays] == ["int64", "int64", "float32", "bool"]
            assert reply.answer in reply.text
            assert reply.trained.all()
            assert np.isfinite(reply.logprobs).all()
            assert (reply.logprobs <= 0).all()

    def test_its_name_is_for_people(self, policy: Any) -> None:
        assert policy.name.strip()
        assert "\n" not in policy.name

    def test_the_same_seed_repeats_and_another_does_not(self, policy: Any) -> None:
        def texts(**changes: Any) -> list[str]:
            return [one.completion.text for one in self.sample(policy, **changes)]

        first = texts()
        assert first == texts()
        assert any(texts(seed=seed) != first for seed in range(3))

    def test_a_limit_ends_replies(self, policy: Any) -> None:
        if not self.keeps_limits:
            pytest.skip("its replies are given out whole")
        samples = self.sample(policy, max_new_tokens=5)
        assert any(one.completion.stop is StopReason.LENGTH for one in samples)
        for one in samples:
            assert len(one.completion.tokens) <= 5
            # Where replies have no tokens, their length is the server's to keep.
            assert one.completion.stop is StopReason.STOP or len(one.completion.tokens) in (0, 5)

    def test_an_abandoned_step_leaves_it_usable(self, policy: Any) -> None:
        stream = policy.sample(self.prompts, _COUNT, self.params)
        next(iter(stream))
        stream.close()
        assert len(self.sample(policy)) == _COUNT * len(self.prompts)

    def test_a_prompt_that_does_not_fit_names_both_lengths(self, policy: Any) -> None:
        if not self.refuses_long_prompts:
            pytest.skip("how long a prompt may be is not its affair")
        params = SamplingParams(context=self.context, max_new_tokens=4)
        with pytest.raises(PromptTooLongError) as caught:
            list(policy.sample([_chat(self.long_prompt)], 1, params))
        if isinstance(policy, MeasuresPrompts):
            tokens, context = policy.measure_prompt(_chat(self.long_prompt), params)
            assert tokens > context == self.context
        lengths = [int(number) for number in re.findall(r"\d+", str(caught.value))]
        assert self.context in lengths, caught.value
        assert any(length > self.context for length in lengths), caught.value


class TrainerContract(PolicyContract):
    """What a policy that learns keeps beside that (:class:`~ttd_core.policy.base.Trainer`).

    Its policies are opened with a learning rate at which one step moves a small model visibly (0.01, say).

    :cvar gap: largest difference between the log-probabilities of sampling and those of learning; wider for
        a model in bfloat16.
    :cvar tells_recomputed: whether it writes the log-probabilities that it recomputes into its batch.
    :cvar small_step: config keys of a step small enough not to go beyond what its gradient says.
    :cvar other_adapter: config keys of an adapter that must refuse the checkpoint of the default one.
    :cvar other_adapter_message: a pattern of what is said then; ``unreadable_message`` the same of a folder
        that holds no checkpoint.
    :cvar closing: what closes the thinking in the template of :meth:`open_thinking_policy`.
    :cvar least_forced: tokens that are forced to close it, at least.
    """

    gap: ClassVar[float] = 1e-4
    tells_recomputed: ClassVar[bool] = False
    small_step: ClassVar[Mapping[str, Any]] = {"learn.learning_rate": 1e-3}
    other_adapter: ClassVar[Mapping[str, Any]] = {"policy.lora_rank": 2}
    other_adapter_message: ClassVar[str | None] = None
    unreadable_message: ClassVar[str | None] = None
    closing: ClassVar[str] = "\n</think>\n\n"
    least_forced: ClassVar[int] = 1

    def open_thinking_policy(self) -> Policy:
        """A new policy whose chat template separates thinking from answers, where these can be forced."""
        pytest.skip("no thinking policy is given to test")

    def batch_of(self, samples: Sequence[Sample]) -> list[Sequences]:
        """A batch that rewards replies of even index and punishes the others, per token."""
        batch = []
        for prompt in range(len(self.prompts)):
            group = [one for one in samples if one.prompt == prompt]
            advantages = [np.full(len(one.completion.tokens), (-1.0) ** one.index) for one in group]
            batch.append(Sequences(group[0].prompt_tokens, [one.completion for one in group], advantages))
        return batch

    def test_what_is_sampled_is_what_is_trained(self, policy: Any) -> None:
        samples = self.sample(policy)
        assert isinstance(policy, Trainer)
        for item in self.batch_of(samples):
            base = policy.base_logprobs(item.prompt_tokens, item.completions, 1.0)
            assert [len(part) for part in base] == [len(one.tokens) for one in item.completions]
            assert all(np.isfinite(part).all() and (part <= 0).all() for part in base)
        batch = [
            attrs.evolve(item, recomputed=[np.full_like(one.logprobs, np.nan) for one in item.completions])
            for item in self.batch_of(samples)
        ]
        metrics = policy.train_step(batch, 1.0)
        for item in batch:
            for one, told in zip(item.completions, item.recomputed or (), strict=True):
                assert np.isnan(told).all() != self.tells_recomputed
                if self.tells_recomputed:
                    np.testing.assert_allclose(told[one.trained], one.logprobs[one.trained], atol=self.gap)
        if isinstance(policy, SpellsTokens):
            reply = samples[0].completion.tokens.tolist()
            assert [type(text) for text in policy.token_texts(reply)] == [str] * len(reply)
        assert metrics["logprob_gap_max"] < self.gap
        assert metrics["grad_norm"] > 0

    def test_a_step_raises_what_was_rewarded(self, opened: Callable[..., Any]) -> None:
        policy = opened(**self.small_step)
        batch = self.batch_of(self.sample(policy))
        digest = policy.adapter_digest()
        first = policy.train_step(batch, 1.0)
        assert policy.adapter_digest() != digest
        # The surrogate is the expected advantage, negated: on the batch it was taken for, a step lowers it.
        assert policy.train_step(batch, 1.0)["loss"] < first["loss"]

    def test_a_checkpoint_restores_the_next_step(
        self, opened: Callable[..., Any], tmp_path: pathlib.Path
    ) -> None:
        policy = opened()
        policy.train_step(self.batch_of(self.sample(policy)), 1.0)
        policy.save(tmp_path)
        digest = policy.adapter_digest()
        later = self.sample(policy)
        expected = policy.train_step(self.batch_of(later), 1.0)

        other = opened()
        assert other.adapter_digest() != digest
        other.load(tmp_path)
        assert other.adapter_digest() == digest
        again = self.sample(other)
        assert [one.completion.tokens.tolist() for one in again] == [
            one.completion.tokens.tolist() for one in later
        ]
        metrics = other.train_step(self.batch_of(again), 1.0)
        assert metrics == pytest.approx(expected, rel=1e-6, abs=1e-7)
        assert other.adapter_digest() == policy.adapter_digest()
        third = opened(**self.other_adapter)
        with pytest.raises(UsageError, match=self.other_adapter_message):
            third.load(tmp_path)

    def test_a_checkpoint_that_is_none_is_refused(self, policy: Any, tmp_path: pathlib.Path) -> None:
        with pytest.raises(UsageError, match=self.unreadable_message):
            policy.load(tmp_path)

    def test_the_answer_is_forced_and_teaches_nothing(self) -> None:
        policy: Any = self.open_thinking_policy()
        try:
            self._check_forcing(policy)
        finally:
            policy.close()

    def _check_forcing(self, policy: Any) -> None:
        prompt = self.prompts[:1]
        (length,) = {len(one.prompt_tokens) for one in policy.sample(prompt, 1, self.params)}
        params = SamplingParams(max_new_tokens=120, thinking_tokens=length + 6, seed=2)
        samples = [one for one in policy.sample(prompt, 4, params) if len(one.completion.tokens) > 10]
        assert samples
        for one in samples:
            reply = one.completion
            forced = ~reply.trained
            assert self.closing in reply.text
            assert self.closing.strip() not in reply.answer
            assert not forced[:6].any()
            assert forced.sum() >= self.least_forced
            assert (reply.logprobs[forced] == 0).all()
        # An advantage on the forced tokens alone must not move anything.
        batch = Sequences(
            samples[0].prompt_tokens,
            [one.completion for one in samples],
            [np.where(one.completion.trained, 0.0, 5.0) for one in samples],
        )
        assert policy.train_step([batch], 1.0)["grad_norm"] == 0
