"""What one step of a run asks of a model: how many replies, how long, how many at once, packed how."""

from __future__ import annotations

import math

import attrs

from ttd_core.config import RunConfig
from ttd_core.policy.local.options import DEFAULT_ROWS
from ttd_core.policy.models.shape import ModelShape


@attrs.frozen
class Packs:
    """How the replies of a group are packed for learning.

    :param replies: in a pack.
    :param count: packs of a group.
    :param tokens: of one pack, its prompt among them.
    """

    replies: int
    count: int
    tokens: int

    @classmethod
    def of(cls, prompt: int, reply: int, group_size: int, budget: int) -> Packs:
        """As :func:`ttd_core.policy.local.packing.plan_packs` packs replies of one length.

        :param budget: ``learn.micro_batch_tokens``.
        """
        fitting = max(1, min(group_size, (budget - prompt) // max(reply, 1)))
        return cls(fitting, math.ceil(group_size / fitting), prompt + fitting * reply)


@attrs.frozen
class Workload:
    """One step, as far as the model goes.

    :param groups: of the step.
    :param group_size: replies of each.
    :param prompt: tokens of a prompt.
    :param reply: tokens that a reply has, on average.
    :param longest: tokens that a reply may have.
    :param rows: most replies decoded at once on a device.
    :param devices: that share the work.
    :param budget: ``learn.micro_batch_tokens``.
    :param learns: whether the policy learns.
    """

    groups: int
    group_size: int
    prompt: int
    reply: int
    longest: int
    rows: int
    devices: int
    budget: int
    learns: bool

    @property
    def rollouts(self) -> int:
        """Of the whole step."""
        return self.groups * self.group_size

    @property
    def rollouts_here(self) -> int:
        """Of one device."""
        return math.ceil(self.rollouts / self.devices)

    @property
    def packs(self) -> Packs:
        """Of one group, at the replies' average length."""
        return Packs.of(self.prompt, self.reply, self.group_size, self.budget)

    @property
    def longest_pack(self) -> int:
        """Tokens of the largest pack there may be."""
        replies = max(1, (self.budget - self.prompt) // max(self.longest, 1))
        most = self.prompt + min(replies, self.group_size) * self.longest
        # Shorter replies fill a pack up to the budget.
        return max(most, min(self.budget, self.prompt + self.group_size * self.longest))


def workload_of(
    config: RunConfig, shape: ModelShape, engine: str, prompt: int, reply: int | None, devices: int
) -> Workload:
    """What a config asks of a model.

    :param prompt: tokens of a prompt.
    :param reply: tokens of a reply, on average; ``None``: as many as it may have.
    """
    context = min(config.policy.context, shape.longest_context)
    longest = max(1, min(context - prompt, config.policy.max_new_tokens or context))
    return Workload(
        groups=config.groups,
        group_size=config.group_size,
        prompt=prompt,
        reply=longest if reply is None else max(1, min(reply, longest)),
        longest=longest,
        rows=config.policy.batch or DEFAULT_ROWS[engine],
        devices=devices,
        budget=config.learn.micro_batch_tokens,
        learns=config.learn.train,
    )
