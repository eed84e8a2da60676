"""The two events of a rollout, made of its reply and of its verdict."""

from __future__ import annotations

from ttd_core.run import events
from ttd_core.run.known_verdicts import is_reused
from ttd_core.run.records import RolloutIndex
from ttd_core.types import Completion, Verdict


def sampled(step: int, rollout: RolloutIndex, completion: Completion) -> events.Event:
    """The event of a reply that is complete.

    :param rollout: index of its group, and in that group.
    """
    group, index = rollout
    tokens, stop = len(completion.tokens), completion.stop.value
    return events.rollout_sampled(step=step, group=group, index=index, tokens=tokens, stop=stop)


def evaluated(step: int, rollout: RolloutIndex, verdict: Verdict) -> events.Event:
    """The event of a rollout that is judged.

    :param rollout: index of its group, and in that group.
    """
    group, index = rollout
    reward = verdict.reward
    return events.rollout_evaluated(
        step=step,
        group=group,
        index=index,
        status=verdict.status.value,
        message=verdict.message,
        value=None if reward is None else reward.value,
        score=None if reward is None else reward.score,
        seconds=verdict.seconds,
        stages=len(verdict.stages),
        reused=is_reused(verdict),
    )
