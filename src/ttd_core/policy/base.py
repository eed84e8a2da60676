"""The policy protocol: where completions come from, and who learns from them.

A frozen policy implements :class:`Policy` alone, one that learns :class:`Trainer` too, one that samples parts
of a group :class:`SamplesParts`, and one that counts what it asks of a server :class:`Metered`.
``ttd_core.testing.policies`` holds implementations to what is said here.
"""

from __future__ import annotations

import datetime
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import attrs
import numpy as np
import numpy.typing as npt

from ttd_core.types import Completion, Message


@attrs.frozen
class SamplingParams:
    """How replies are sampled.

    :param temperature: softmax temperature; log-probabilities are those of the sampled distribution.
    :param context: most tokens of prompt and reply together; the model's own limit counts where it is lower.
    :param max_new_tokens: most tokens of one reply; ``None`` means what the context leaves.
    :param thinking_tokens: prompt and thinking together may use this many before the final answer is
        forced; ``None`` forces nothing.
    :param prefill: text put at the start of the reply: forced, never trained.
    :param seed: makes sampling repeatable on one backend: equal seeds give equal replies to equal prompts.
    """

    temperature: float = 1.0
    context: int = 32768
    max_new_tokens: int | None = None
    thinking_tokens: int | None = None
    prefill: str = ""
    seed: int = 0


@attrs.frozen(eq=False)
class Sample:
    """One finished reply as it streams out of a policy.

    :param prompt: index of the prompt it answers.
    :param index: index within that prompt's group.
    :param completion: the reply.
    :param prompt_tokens: int64 [length], the prompt as tokenised.
    """

    prompt: int
    index: int
    completion: Completion
    prompt_tokens: npt.NDArray[np.int64]


@attrs.frozen(eq=False)
class Sequences:
    """The replies of one group with their per-token advantages: the unit a trainer learns from.

    :param prompt_tokens: int64 [prompt length], shared by all replies.
    :param completions: the replies.
    :param advantages: one float64 [reply length] per reply, KL shaping included, 0 on forced tokens.
    :param recomputed: where given, one float32 [reply length] per reply, all NaN: a trainer that recomputes
        log-probabilities before its step writes them there.
    """

    prompt_tokens: npt.NDArray[np.int64]
    completions: Sequence[Completion]
    advantages: Sequence[npt.NDArray[np.float64]]
    recomputed: Sequence[npt.NDArray[np.float32]] | None = None


class Policy(Protocol):
    """Samples replies to prompts."""

    @property
    def name(self) -> str:
        """Model name for people, with the backend."""
        ...

    def sample(
        self, prompts: Sequence[Sequence[Message]], count: int, params: SamplingParams
    ) -> Iterator[Sample]:
        """Yield ``count`` replies to each prompt, each as soon as it is complete, in any order.

        :raises PromptTooLongError: before sampling starts, when a prompt does not fit the context; names
            both lengths.
        """
        ...

    def close(self) -> None:
        """Release the model."""
        ...


@runtime_checkable
class Trainer(Protocol):
    """A policy that can also learn."""

    def base_logprobs(
        self, prompt_tokens: npt.NDArray[np.int64], completions: Sequence[Completion], temperature: float
    ) -> list[npt.NDArray[np.float32]]:
        """Log-probability of each reply token under the model without its adapter, float32 [length] each."""
        ...

    def train_step(self, batch: Sequence[Sequences], temperature: float) -> Mapping[str, float]:
        """One optimiser step on the batch's summed token losses.

        :param temperature: that the replies were sampled at.
        :return: metrics of the step. All give ``loss``, ``logprob_gap`` (mean absolute difference between
            recomputed and sampled log-probabilities of trained tokens), ``logprob_gap_max`` and ``ratio_max``
            (largest ratio of the two probabilities), and ``grad_norm`` where it is known.
        """
        ...

    def save(self, folder: pathlib.Path) -> None:
        """Write adapter and optimiser state into ``folder`` (exists, empty), or where a server keeps them.

        No random state is part of it: sampling draws from its ``params.seed`` alone.
        """
        ...

    def load(self, folder: pathlib.Path) -> None:
        """Restore exactly what :meth:`save` wrote.

        :raises UsageError: when the folder holds another model's adapter.
        """
        ...

    def adapter_digest(self) -> str:
        """SHA-256 over the adapter's weights: changes exactly when they move."""
        ...


@runtime_checkable
class SamplesParts(Protocol):
    """A policy that samples some replies of a group without the others.

    A run that was stopped in the middle of a step then asks for those that are missing alone.
    """

    def sample_part(
        self,
        prompts: Sequence[Sequence[Message]],
        count: int,
        indices: Sequence[Sequence[int]],
        params: SamplingParams,
    ) -> Iterator[Sample]:
        """Yield some of the ``count`` replies to each prompt, each as :meth:`Policy.sample` would give it.

        Log-probabilities may differ in their last bits, where a model rounds otherwise in other batches.

        :param indices: for each prompt which, by index within its group; none for a group that is complete.
        :raises PromptTooLongError: as :meth:`Policy.sample` does, for any of the prompts.
        """
        ...


@runtime_checkable
class MeasuresPrompts(Protocol):
    """A policy that knows how long a prompt is before it samples."""

    def measure_prompt(self, prompt: Sequence[Message], params: SamplingParams) -> tuple[int, int]:
        """Tokens of a prompt, and those that it and a reply may have together."""
        ...


@runtime_checkable
class SpellsTokens(Protocol):
    """A policy that knows the texts of its tokens."""

    def token_texts(self, tokens: Sequence[int]) -> list[str]:
        """The text of each token by itself; U+FFFD stands for bytes that are no character alone."""
        ...


@runtime_checkable
class TellsEngine(Protocol):
    """A policy that runs its model by one of several engines."""

    @property
    def engine(self) -> object:
        """Which one, and why; its text is a line for people."""
        ...


@runtime_checkable
class DatesPrompts(Protocol):
    """A policy whose chat template may put a date into prompts."""

    def date_prompts(self, day: datetime.date) -> None:
        """Have prompts say that it is this day, whatever day it is: a run stays the same on the next."""
        ...


@runtime_checkable
class Metered(Protocol):
    """A policy that counts what it asks of a server."""

    def take_metrics(self) -> Mapping[str, float]:
        """Numbers of the work done since the last call, by name; a step's metrics take them in.

        ``tokens`` (of replies) replaces the count of the completions' own tokens, for a policy whose
        completions have none.
        """
        ...
