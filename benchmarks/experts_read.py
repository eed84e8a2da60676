"""How many experts of a layer a step of sampling reads, counted in a call that no clock stands beside.

Recording routes takes a few copies in every layer, so what is measured does not record them.
"""

from __future__ import annotations

from collections.abc import Sequence

import models
import torch
from torch import Tensor

from ttd_core.policy.local.lean.decode import LeanDecoder
from ttd_core.policy.local.lean.model import LeanModel
from ttd_core.policy.local.lean.routes import RouteMemory
from ttd_core.policy.local.replies import DecodeLimits, DecodingReply, whole_groups

#: Steps that are counted at most: two launches.
MOST_STEPS = 64


def distinct(routes: Tensor, experts: int) -> Tensor:
    """How many experts occur, float32 [steps, layers].

    :param routes: experts chosen [steps, layers, rows, choices].
    :param experts: of a layer.
    """
    occurs = torch.zeros(*routes.shape[:2], experts, dtype=torch.bool, device=routes.device)
    return occurs.scatter_(2, routes.flatten(2).long(), True).sum(2).float()


class CountingDecoder(LeanDecoder):
    """Counts the experts of each step and mixture over the rows that are decoded at once.

    :param model: a mixture.
    """

    def __init__(self, model: LeanModel, max_rows: int, experts: int) -> None:
        # No route is kept: they are counted where they are, on the device.
        super().__init__(model, max_rows, routes=RouteMemory(0))
        self._experts = experts
        #: Of each launch, see :func:`distinct`.
        self.counted: list[Tensor] = []

    def _collect(self, steps: int, forced: Sequence[int], limits: DecodeLimits) -> list[DecodingReply]:
        rows = len(self._active)
        # It waits for the steps.
        finished = super()._collect(steps, forced, limits)
        if self._new_routes is not None:
            self.counted.append(distinct(self._new_routes[:steps, :, :rows], self._experts).cpu())
        return finished


def experts_read(
    lean: LeanModel, experts: int, prompts: Sequence[Sequence[int]], group: int, new: int, seed: int = 1
) -> Tensor:
    """Experts that a step reads of each mixture, on average over a reply, float32 [mixtures].

    Replies are sampled for at most :data:`MOST_STEPS` tokens. The first step, in which all rows of a group
    read the prompt's last token, is weighted as one of ``new``; the others stand for the rest.

    :param experts: of a layer.
    :param group: replies to each prompt.
    :param new: tokens of a reply.
    """
    decoder = CountingDecoder(lean, len(prompts) * group, experts)
    limits = models.limits(len(prompts), min(new, MOST_STEPS))
    for _ in decoder.decode(prompts, whole_groups(len(prompts), group), 1.0, limits, seed):
        pass
    decoder.release()
    counted = torch.cat(decoder.counted)
    if len(counted) == 1:
        return counted[0]
    return (counted[0] + (new - 1) * counted[1:].mean(0)) / new
