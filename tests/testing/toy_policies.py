"""Policies as a third party might bring them, in NumPy alone: a frozen one, and one that learns.

The model is a distribution over bytes that knows no context: logits plus what a low-rank adapter adds. That
is enough for everything a policy promises, and exact.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ttd_core.config import RunConfig, load
from ttd_core.errors import PromptTooLongError, UsageError
from ttd_core.policy.base import Sample, SamplingParams, Sequences
from ttd_core.types import Completion, Message, StopReason

END, VOCABULARY = 256, 257
CLOSING = b" Enough.\n</think>\n\n"


def make_config(**changes: Any) -> RunConfig:
    """Settings under which one step moves the adapter visibly."""
    return load("none", overrides={"policy.lora_rank": 4, "learn.learning_rate": 1e-2, **changes})


class EchoPolicy:
    """A frozen policy: repeats a word of the prompt that the seed picks."""

    name = "echo (toy)"

    def sample(
        self, prompts: Sequence[Sequence[Message]], count: int, params: SamplingParams
    ) -> Iterator[Sample]:
        rng = np.random.default_rng(params.seed)
        for prompt, messages in enumerate(prompts):
            words = [*messages[-1]["content"].split(), "nothing"]
            for index in range(count):
                reply = Completion(words[rng.integers(len(words))])
                yield Sample(prompt, index, reply, np.zeros(0, np.int64))

    def close(self) -> None:
        pass


class BytePolicy:
    """A policy that learns; each step of its loss is written out here, with momentum.

    :param thinks: whether a reply begins with thinking, which :data:`CLOSING` ends.
    """

    def __init__(self, config: RunConfig, thinks: bool = False) -> None:
        self.config, self.thinks = config, thinks
        rng = np.random.default_rng(0)
        self.base = np.full(VOCABULARY, -30.0)
        self.base[[*b"abcdefgh", END]] = rng.normal(size=9)
        self.base[END] = -2.0
        self.a = rng.normal(size=config.policy.lora_rank)
        self.b = np.zeros((config.policy.lora_rank, VOCABULARY))
        self.velocity = np.zeros_like(self.b)

    @property
    def name(self) -> str:
        return "bytes (toy)"

    def logprobs(self) -> np.ndarray:
        logits = self.base + self.a @ self.b
        return logits - np.log(np.exp(logits).sum())

    def encode(self, prompt: Sequence[Message]) -> np.ndarray:
        return np.frombuffer("".join(m["content"] for m in prompt).encode(), np.uint8).astype(np.int64)

    def sample(
        self, prompts: Sequence[Sequence[Message]], count: int, params: SamplingParams
    ) -> Iterator[Sample]:
        return self.sample_part(prompts, count, [range(count)] * len(prompts), params)

    def sample_part(
        self,
        prompts: Sequence[Sequence[Message]],
        count: int,
        indices: Sequence[Sequence[int]],
        params: SamplingParams,
    ) -> Iterator[Sample]:
        encoded = [self.encode(prompt) for prompt in prompts]
        for tokens in encoded:
            self.check_fits(len(tokens), params.context)
        for prompt, tokens in enumerate(encoded):
            for index in indices[prompt]:
                rng = np.random.default_rng([params.seed, prompt, index])
                yield Sample(prompt, index, self.reply(len(tokens), params, rng), tokens)

    def check_fits(self, length: int, context: int) -> None:
        if length >= context:
            raise PromptTooLongError(f"the prompt is {length} tokens long and the context holds {context}")

    def reply(self, prompt: int, params: SamplingParams, rng: np.random.Generator) -> Completion:
        logprobs = self.logprobs()
        longest = min(params.max_new_tokens or params.context, params.context - prompt)
        tokens: list[int] = []
        trained: list[bool] = []
        while len(tokens) < longest and not (tokens and tokens[-1] == END):
            if self.thinks and params.thinking_tokens == prompt + len(tokens):
                tokens += CLOSING
                trained += self.forced_mask()
            else:
                tokens.append(int(rng.choice(VOCABULARY, p=np.exp(logprobs))))
                trained.append(True)
        text = bytes(token for token in tokens if token != END).decode()
        return Completion(
            text,
            np.array(tokens, np.int64),
            np.where(trained, logprobs[tokens], 0.0).astype(np.float32),
            np.array(trained, np.bool_),
            StopReason.STOP if tokens[-1] == END else StopReason.LENGTH,
            text.rpartition("</think>")[2],
        )

    def forced_mask(self) -> list[bool]:
        return [False] * len(CLOSING)

    def base_logprobs(
        self, prompt_tokens: np.ndarray, completions: Sequence[Completion], temperature: float
    ) -> list[np.ndarray]:
        logprobs = self.base - np.log(np.exp(self.base).sum())
        return [logprobs[one.tokens].astype(np.float32) for one in completions]

    def trained_mask(self, completion: Completion) -> np.ndarray:
        return completion.trained

    def train_step(self, batch: Sequence[Sequences], temperature: float) -> Mapping[str, float]:
        logprobs = self.logprobs()
        loss, gap, gradient = 0.0, 0.0, np.zeros(VOCABULARY)
        for group in batch:
            for one, advantages in zip(group.completions, group.advantages, strict=True):
                mask = self.trained_mask(one)
                tokens, advantage = one.tokens[mask], advantages[mask]
                difference = logprobs[tokens] - one.logprobs[mask]
                weighted = advantage * np.exp(difference)
                loss -= weighted.sum()
                gap = max(gap, np.abs(difference).max(initial=0.0))
                np.add.at(gradient, tokens, -weighted)
                gradient += weighted.sum() * np.exp(logprobs)
        gradient_b = np.outer(self.a, gradient)
        self.velocity = 0.9 * self.velocity + gradient_b
        self.b = self.b - self.config.learn.learning_rate * self.velocity
        norm = float(np.linalg.norm(gradient_b))
        return {"loss": float(loss), "logprob_gap_max": float(gap), "grad_norm": norm}

    def save(self, folder: pathlib.Path) -> None:
        kept = {"b": self.b.tolist(), "velocity": self.velocity.tolist()}
        (folder / "toy.json").write_text(json.dumps(kept))

    def load(self, folder: pathlib.Path) -> None:
        try:
            kept = json.loads((folder / "toy.json").read_text())
        except (OSError, ValueError) as error:
            raise UsageError(f"{folder} cannot be read: {error}") from error
        if len(kept["b"]) != len(self.a):
            raise UsageError(f"{folder} holds an adapter of another rank")
        self.b, self.velocity = np.array(kept["b"]), np.array(kept["velocity"])

    def adapter_digest(self) -> str:
        return hashlib.sha256(self.b.tobytes()).hexdigest()

    def close(self) -> None:
        pass
