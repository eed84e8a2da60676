"""The ``scripted`` backend: replies from a list. For tests, docs and dry runs of a problem.

``policy.options.replies`` is a list of texts, or ``policy.options.file`` a JSON file that holds one. A step
takes them in order from a place its seed picks, so a run is repeatable and needs no model.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from ttd_core.config import RunConfig
from ttd_core.errors import ConfigError
from ttd_core.policy.base import Sample, SamplingParams
from ttd_core.types import Completion, Message


def open_scripted(config: RunConfig) -> ScriptedPolicy:
    """Read the replies a config names.

    :raises ConfigError: when there are none, or the file cannot be read.
    """
    options = config.policy.options
    if "file" in options:
        path = pathlib.Path(str(options["file"]))
        try:
            replies = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"policy.options.file: {path} is not a JSON list of texts: {error}") from error
    else:
        replies = options.get("replies")
    if not isinstance(replies, list) or not replies or not all(isinstance(text, str) for text in replies):
        raise ConfigError(
            "policy.backend = 'scripted' needs policy.options.replies, a list of texts, or ...file"
        )
    return ScriptedPolicy(replies)


class ScriptedPolicy:
    """Gives out fixed replies; learns nothing.

    :param replies: texts, given in order and over again.
    """

    def __init__(self, replies: Sequence[str]) -> None:
        self._replies = list(replies)

    @property
    def name(self) -> str:
        """For people."""
        return f"{len(self._replies)} scripted replies"

    def sample(
        self, prompts: Sequence[Sequence[Message]], count: int, params: SamplingParams
    ) -> Iterator[Sample]:
        """Replies picked by the sampling seed, so that a repeated step repeats its replies."""
        rng = np.random.default_rng(params.seed)
        first = int(rng.integers(len(self._replies)))
        for place in range(len(prompts) * count):
            text = self._replies[(first + place) % len(self._replies)]
            yield Sample(
                prompt=place // count,
                index=place % count,
                completion=Completion(text),
                prompt_tokens=np.zeros(0, np.int64),
            )

    def close(self) -> None:
        """Nothing to release."""
