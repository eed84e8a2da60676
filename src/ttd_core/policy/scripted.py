"""The ``scripted`` backend: replies from a list. For tests, docs and dry runs of a problem.

A step takes the replies in order, from one that its seed picks, so a run is repeatable and needs no model.
"""

from __future__ import annotations

import pathlib
import time
from collections.abc import Iterator, Sequence

import attrs
import numpy as np

from ttd_core.config import RunConfig
from ttd_core.config.settings import MOST_SECONDS, at_least, at_most, fill, setting
from ttd_core.errors import ConfigError, UsageError
from ttd_core.input_files import read_data_file
from ttd_core.policy.base import Sample, SamplingParams
from ttd_core.text import counted
from ttd_core.types import Completion, Message


@attrs.frozen
class ScriptedOptions:
    """What ``policy.options`` takes; the file counts where both are given."""

    replies: tuple[str, ...] | None = setting(None, "the replies, a list of texts")
    file: str | None = setting(None, "a JSON file that holds such a list")
    seconds: float = setting(
        0.0, "seconds that each reply takes", validator=[at_least(0), at_most(MOST_SECONDS)]
    )


def open_scripted(config: RunConfig) -> ScriptedPolicy:
    """Read the replies a config names.

    :raises ConfigError: when there are none, the file cannot be read, or an option is wrong.
    """
    options = fill(ScriptedOptions, config.policy.options, prefix="policy.options.")
    replies = options.replies if options.file is None else _read(pathlib.Path(options.file))
    if not isinstance(replies, list | tuple) or not replies or not all(isinstance(r, str) for r in replies):
        raise ConfigError(
            "policy.backend = 'scripted' needs policy.options.replies, a list of texts, or ...file"
        )
    return ScriptedPolicy(replies, options.seconds)


def _read(path: pathlib.Path) -> object:
    try:
        return read_data_file(path)
    except UsageError as error:
        raise ConfigError(f"policy.options.file needs a JSON list of texts: {error}") from error


class ScriptedPolicy:
    """Gives out fixed replies; learns nothing.

    :param replies: texts, given in order and over again.
    :param seconds: that each takes.
    """

    def __init__(self, replies: Sequence[str], seconds: float = 0.0) -> None:
        self._replies = list(replies)
        self._seconds = seconds

    @property
    def name(self) -> str:
        """How many replies there are, for people."""
        return counted(len(self._replies), "scripted reply", "scripted replies")

    def sample(
        self, prompts: Sequence[Sequence[Message]], count: int, params: SamplingParams
    ) -> Iterator[Sample]:
        """Replies from one on that the sampling seed picks, so that a repeated step repeats its replies."""
        return self.sample_part(prompts, count, [range(count)] * len(prompts), params)

    def sample_part(
        self,
        prompts: Sequence[Sequence[Message]],
        count: int,
        indices: Sequence[Sequence[int]],
        params: SamplingParams,
    ) -> Iterator[Sample]:
        """Some of these replies."""
        rng = np.random.default_rng(params.seed)
        first = int(rng.integers(len(self._replies)))
        for prompt, group in enumerate(indices):
            for index in group:
                if self._seconds:
                    time.sleep(self._seconds)
                text = self._replies[(first + prompt * count + index) % len(self._replies)]
                yield Sample(
                    prompt=prompt,
                    index=index,
                    completion=Completion(text),
                    prompt_tokens=np.zeros(0, np.int64),
                )

    def close(self) -> None:
        """Nothing to release."""
