"""The toy policy with one fault each; ``test_policy_contract.py`` runs this file and says what must fail."""

from __future__ import annotations

import itertools
import pathlib
import sys
from collections.abc import Iterator
from typing import Any, ClassVar

import attrs
import numpy as np

from ttd_core.errors import PromptTooLongError, UsageError
from ttd_core.policy.base import Policy, Sample
from ttd_core.testing.policies import PolicyContract, TrainerContract
from ttd_core.types import StopReason

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from toy_policies import BytePolicy, EchoPolicy, make_config


class Contract(TrainerContract):
    fault: ClassVar[type[BytePolicy]] = BytePolicy

    def open_policy(self, **changes: Any) -> Policy:
        return self.fault(make_config(**changes))

    def open_thinking_policy(self) -> Policy:
        return self.fault(make_config(), thinks=True)


class Twice(BytePolicy):
    def sample(self, prompts: Any, count: int, params: Any) -> Iterator[Sample]:
        for one in super().sample(prompts, count, params):
            yield one
            if one.index == 0:
                yield one


class TestGivesAReplyTwice(Contract):
    fault = Twice


class WrongTypes(EchoPolicy):
    def sample(self, prompts: Any, count: int, params: Any) -> Iterator[Sample]:
        for one in super().sample(prompts, count, params):
            yield attrs.evolve(one, prompt_tokens=np.zeros(0, np.float64))


class TestGivesArraysOfOtherTypes(PolicyContract):
    keeps_limits = refuses_long_prompts = False

    def open_policy(self, **changes: Any) -> Policy:
        return WrongTypes()


class NotALine(BytePolicy):
    name = "bytes\n(toy)"  # type: ignore[assignment]


class TestHasNoNameForPeople(Contract):
    fault = NotALine


class Forgetful(BytePolicy):
    calls = itertools.count()

    def sample(self, prompts: Any, count: int, params: Any) -> Iterator[Sample]:
        return super().sample(prompts, count, attrs.evolve(params, seed=next(self.calls)))


class TestIgnoresTheSeed(Contract):
    fault = Forgetful


class Counted(BytePolicy):
    def sample_part(self, prompts: Any, count: int, indices: Any, params: Any) -> Iterator[Sample]:
        whole = [list(range(len(group))) for group in indices]
        for one in super().sample_part(prompts, count, whole, params):
            yield attrs.evolve(one, index=indices[one.prompt][one.index])


class TestCountsAPartFromTheFirst(Contract):
    fault = Counted


class Stubborn(BytePolicy):
    def sample_part(self, prompts: Any, count: int, indices: Any, params: Any) -> Iterator[Sample]:
        return super().sample_part(prompts, count, indices, attrs.evolve(params, seed=0))


class TestHasOneSeed(Contract):
    fault = Stubborn


class Endless(BytePolicy):
    def reply(self, prompt: int, params: Any, rng: Any) -> Any:
        return super().reply(prompt, attrs.evolve(params, max_new_tokens=30), rng)


class TestIgnoresTheLimit(Contract):
    fault = Endless


class Cut(BytePolicy):
    def reply(self, prompt: int, params: Any, rng: Any) -> Any:
        return attrs.evolve(super().reply(prompt, params, rng), stop=StopReason.STOP)


class TestCallsACutReplyComplete(Contract):
    fault = Cut


class Busy(BytePolicy):
    busy = False

    def sample(self, prompts: Any, count: int, params: Any) -> Iterator[Sample]:
        if self.busy:
            raise RuntimeError("a step is under way")
        self.busy = True
        yield from super().sample(prompts, count, params)
        self.busy = False


class TestIsBlockedByAnAbandonedStep(Contract):
    fault = Busy


class Curt(BytePolicy):
    def check_fits(self, length: int, context: int) -> None:
        if length >= context:
            raise PromptTooLongError(f"the prompt does not fit {context} tokens")


class TestDoesNotSayHowLongThePromptIs(Contract):
    fault = Curt


class Mismatched(BytePolicy):
    def train_step(self, batch: Any, temperature: float) -> Any:
        self.base = self.base + 0.01 * np.arange(len(self.base)) / len(self.base)
        return super().train_step(batch, temperature)


class TestLearnsUnderAnotherModelThanItSamples(Contract):
    fault = Mismatched


class Backwards(BytePolicy):
    def train_step(self, batch: Any, temperature: float) -> Any:
        before = self.b
        metrics = super().train_step(batch, temperature)
        self.b = 2 * before - self.b
        return metrics


class TestLowersWhatWasRewarded(Contract):
    fault = Backwards


class SameDigest(BytePolicy):
    def adapter_digest(self) -> str:
        return "0" * 64


class TestHasOneDigest(Contract):
    fault = SameDigest


class HalfSaved(BytePolicy):
    def load(self, folder: pathlib.Path) -> None:
        super().load(folder)
        self.velocity = np.zeros_like(self.b)


class TestForgetsTheOptimiser(Contract):
    fault = HalfSaved


class Careless(BytePolicy):
    def load(self, folder: pathlib.Path) -> None:
        try:
            super().load(folder)
        except UsageError:
            return


class TestLoadsWhateverThereIs(Contract):
    fault = Careless


class Unmasked(BytePolicy):
    def trained_mask(self, completion: Any) -> np.ndarray:
        return np.ones_like(completion.trained)


class TestLearnsFromForcedTokens(Contract):
    fault = Unmasked


class Claimed(BytePolicy):
    def forced_mask(self) -> list[bool]:
        return [not forced for forced in super().forced_mask()]


class TestSaysThatForcedTokensWereSampled(Contract):
    fault = Claimed


class FlatBase(BytePolicy):
    def base_logprobs(self, prompt_tokens: Any, completions: Any, temperature: float) -> Any:
        return [part[1:] for part in super().base_logprobs(prompt_tokens, completions, temperature)]


class TestLeavesATokenOutOfTheBaseLogprobs(Contract):
    fault = FlatBase
