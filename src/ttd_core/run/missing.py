"""Which rollouts of a step that was stopped are used again, and the replies to the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import attrs
import numpy as np

from ttd_core.policy.base import Policy, Sample, SamplesParts, SamplingParams
from ttd_core.run.records import RolloutIndex
from ttd_core.types import Message

Kept = TypeVar("Kept")


def usable(policy: Policy, kept: Mapping[RolloutIndex, Kept], count: int) -> dict[RolloutIndex, Kept]:
    """The rollouts that can be used: of a policy that samples whole groups only, those of complete groups.

    :param kept: what is there, by group and index.
    :param count: rollouts a group.
    """
    if isinstance(policy, SamplesParts):
        return dict(kept)
    sizes = dict.fromkeys((group for group, _ in kept), 0)
    for group, _ in kept:
        sizes[group] += 1
    return {rollout: each for rollout, each in kept.items() if sizes[rollout[0]] == count}


def sample_missing(
    policy: Policy,
    prompts: Sequence[Sequence[Message]],
    count: int,
    params: SamplingParams,
    kept: Mapping[RolloutIndex, object],
) -> Iterator[Sample]:
    """Replies to the prompts but those that are there already, each as soon as it is complete.

    A policy that samples parts of a group gives the replies that it would have given beside the others.
    Another is asked for whole groups with a seed of their own, so these are drawn anew: with the step's seed,
    a policy that counts its prompts from the first one on might say again what another group has.

    :param kept: usable ones (:func:`usable`), by group and index.
    """
    if not kept:
        return policy.sample(prompts, count, params)
    groups = range(len(prompts))
    missing = [[index for index in range(count) if (group, index) not in kept] for group in groups]
    if not any(missing):
        return iter(())
    if isinstance(policy, SamplesParts):
        return policy.sample_part(prompts, count, missing, params)
    return _whole_groups(policy, prompts, count, params, [group for group in groups if missing[group]])


def _whole_groups(
    policy: Policy,
    prompts: Sequence[Sequence[Message]],
    count: int,
    params: SamplingParams,
    groups: Sequence[int],
) -> Iterator[Sample]:
    rng = np.random.default_rng([params.seed, *groups])
    params = attrs.evolve(params, seed=int(rng.integers(2**63)))
    for sample in policy.sample([prompts[group] for group in groups], count, params):
        yield attrs.evolve(sample, prompt=groups[sample.prompt])
