"""The policy contract: toy policies keep it, and each of their faults fails the test that is about it."""

from __future__ import annotations

import pathlib
import subprocess
import sys
from typing import Any

from tests.testing.toy_policies import BytePolicy, EchoPolicy, make_config

from ttd_core.policy.base import Policy
from ttd_core.testing.policies import PolicyContract, TrainerContract

BROKEN = pathlib.Path(__file__).with_name("broken_policies.py")
_WHOLE = "every_reply_comes_once_and_whole"
_SEED = "the_same_seed_repeats_and_another_does_not"
_LIMIT = "a_limit_ends_replies"
_TRAINED = "what_is_sampled_is_what_is_trained"
_STEP = "a_step_raises_what_was_rewarded"
_CHECKPOINT = "a_checkpoint_restores_the_next_step"
_PART = "a_part_is_what_the_whole_has"
_FORCED = "the_answer_is_forced_and_teaches_nothing"
#: What each fault breaks: the test about it, and those that rest on the same promise.
FAILS = {
    "GivesAReplyTwice": {_WHOLE, "an_abandoned_step_leaves_it_usable"},
    "GivesArraysOfOtherTypes": {_WHOLE},
    "HasNoNameForPeople": {"its_name_is_for_people"},
    "IgnoresTheSeed": {_SEED, _PART, _CHECKPOINT},
    "HasOneSeed": {_SEED},
    "CountsAPartFromTheFirst": {_PART},
    "IgnoresTheLimit": {_LIMIT},
    "CallsACutReplyComplete": {_LIMIT},
    "IsBlockedByAnAbandonedStep": {"an_abandoned_step_leaves_it_usable"},
    "DoesNotSayHowLongThePromptIs": {"a_prompt_that_does_not_fit_names_both_lengths"},
    "LearnsUnderAnotherModelThanItSamples": {_TRAINED, _CHECKPOINT},
    "LowersWhatWasRewarded": {_STEP},
    "HasOneDigest": {_STEP, _CHECKPOINT},
    "ForgetsTheOptimiser": {_CHECKPOINT},
    "LoadsWhateverThereIs": {_CHECKPOINT, "a_checkpoint_that_is_none_is_refused"},
    "LearnsFromForcedTokens": {_FORCED},
    "SaysThatForcedTokensWereSampled": {_FORCED},
    "LeavesATokenOutOfTheBaseLogprobs": {_TRAINED},
}


class TestEcho(PolicyContract):
    """A frozen policy whose replies are whole words."""

    keeps_limits = False
    refuses_long_prompts = False

    def open_policy(self, **changes: Any) -> Policy:
        return EchoPolicy()


class TestBytes(TrainerContract):
    """A policy that learns."""

    def open_policy(self, **changes: Any) -> Policy:
        return BytePolicy(make_config(**changes))

    def open_thinking_policy(self) -> Policy:
        return BytePolicy(make_config(), thinks=True)


def test_each_fault_fails_the_test_that_is_about_it() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-rf", "-p", "no:cacheprovider", str(BROKEN)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    failed: dict[str, set[str]] = {}
    for line in done.stdout.splitlines():
        if line.startswith("FAILED"):
            _, case, test = line.split()[1].split("::")
            failed.setdefault(case.removeprefix("Test"), set()).add(test.removeprefix("test_"))
    assert failed == FAILS, done.stdout
    # Every test of the contract can fail.
    tests = {name.removeprefix("test_") for name in dir(TrainerContract) if name.startswith("test_")}
    assert set().union(*FAILS.values()) == tests
