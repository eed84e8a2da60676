"""What a former run measured of itself: the best source there is, for the same model on the same machine."""

from __future__ import annotations

import pathlib
import statistics
from collections.abc import Sequence

import attrs
import numpy as np

from ttd_core import config as configs
from ttd_core.config import RunConfig
from ttd_core.errors import UsageError
from ttd_core.metrics import Metric, Timing
from ttd_core.run.reading import RunReader


@attrs.frozen
class FormerRun:
    """A run's own measures, of its finished steps.

    :param folder: its folder.
    :param config: it ran under.
    :param steps: how many are measured.
    :param prompt: tokens of a prompt, on average; 0 where the policy does not tell.
    :param reply: tokens of a reply, on average; 0 where the policy does not tell.
    :param tokens_per_s: of all replies together, while sampling.
    :param evaluation_s: seconds that a program took to be judged, on average over all rollouts.
    :param rollouts_s: seconds from a step's first prompt to its last verdict, on average.
    :param base_s: seconds of the base model's log-probabilities for each token that was learned from.
    :param train_s: seconds of gradients and the optimiser's step for each such token.
    :param learned: share of the tokens that were learned from: those in groups whose rewards differ.
    """

    folder: pathlib.Path
    config: RunConfig
    steps: int
    prompt: float
    reply: float
    tokens_per_s: float
    evaluation_s: float
    rollouts_s: float
    base_s: float
    train_s: float
    learned: float

    @classmethod
    def of(cls, folder: pathlib.Path) -> FormerRun:
        """Of a run's folder.

        :raises UsageError: when it has no finished step.
        :raises ResumeError, StorageError: when it holds no run that can be read.
        """
        with RunReader.open(folder) as run:
            config = configs.from_toml(run.config(), where=str(folder))
            metrics = list(run.metrics().values())
            outcomes = run.outcomes()
            prompts = [group.prompt_tokens for group in run.groups() if group.prompt_tokens]
        if not metrics or not outcomes:
            raise UsageError(f"{folder}: no step of it is finished, so it has measured nothing yet")
        rollouts = sum(outcome.count for outcome in outcomes)
        tokens = sum(outcome.tokens for outcome in outcomes)
        trained = sum(values.get(Metric.TOKENS_TRAINED, 0.0) for values in metrics)
        return cls(
            folder=folder,
            config=config,
            steps=len(metrics),
            prompt=statistics.fmean(prompts) if prompts else 0.0,
            reply=tokens / rollouts,
            tokens_per_s=_mean(metrics, Metric.TOKENS_PER_S),
            evaluation_s=sum(outcome.seconds for outcome in outcomes) / rollouts,
            rollouts_s=_mean(metrics, Timing.ROLLOUTS.key),
            base_s=_total(metrics, Metric.SECONDS_BASE) / trained if trained else 0.0,
            train_s=_total(metrics, Metric.SECONDS_TRAIN) / trained if trained else 0.0,
            learned=min(1.0, trained / max(tokens, 1)),
        )


def _values(metrics: Sequence[dict[str, float]], name: str) -> list[float]:
    return [values[name] for values in metrics if np.isfinite(values.get(name, np.nan))]


def _mean(metrics: Sequence[dict[str, float]], name: str) -> float:
    """Over the steps; the first one, which starts everything up, is left out where there are others."""
    values = _values(metrics, name)
    kept = values[1:] or values
    return statistics.fmean(kept) if kept else 0.0


def _total(metrics: Sequence[dict[str, float]], name: str) -> float:
    return sum(_values(metrics, name))
