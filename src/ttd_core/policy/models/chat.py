"""Chats as tokens: how a prompt is rendered, how long replies may be, and what the tokens of a reply say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from ttd_core.config import PolicyConfig
from ttd_core.errors import UsageError
from ttd_core.policy.base import SamplingParams
from ttd_core.policy.models.template import ChatTemplate
from ttd_core.policy.models.thinking import ThinkingFormat
from ttd_core.types import Message


@attrs.frozen
class ReplyLimits:
    """How long the replies to some prompts may be.

    :param max_tokens: most tokens of a reply, per prompt.
    :param thinking_tokens: tokens of a reply after which its answer is forced, per prompt; ``None`` never.
    """

    max_tokens: Sequence[int]
    thinking_tokens: Sequence[int] | None


class ChatCodec:
    """Chat messages to token ids and back, by one model's chat template and tokeniser.

    :param tokenizer: a transformers tokeniser with a chat template.
    :param config: its ``reasoning_effort`` goes to the template.
    :param end_tokens: token ids that end a reply, besides the tokeniser's own.
    :raises ModelUnavailableError: when the template cannot render a prompt.
    """

    def __init__(self, tokenizer: Any, config: PolicyConfig, end_tokens: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        effort = config.reasoning_effort
        self._template = ChatTemplate(tokenizer, {"reasoning_effort": effort} if effort else {})
        self._thinking = ThinkingFormat.of(self._template)
        eos = tokenizer.eos_token_id
        #: Token ids that end a reply.
        self.end_tokens = frozenset([*end_tokens, *([] if eos is None else [eos])])

    def encode(self, prompt: Sequence[Message], prefill: str) -> list[int]:
        """Token ids of the rendered chat, up to where the reply (after any prefill) begins."""
        return self._ids(self._template.render(prompt, prompt=True) + prefill)

    def closing(self, tokens: Sequence[int]) -> list[int]:
        """Token ids that close the thinking of a reply; none when its final answer is open already."""
        closing = self._thinking.closing(self._tokenizer.decode(list(tokens)))
        return self._ids(closing) if closing else []

    def decode(self, tokens: Sequence[int], prefill: str) -> tuple[str, str]:
        """The reply's text and its final answer, prefill included, special tokens removed."""
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        if not self._thinking.core:
            return prefill + text, prefill + text
        with_specials: str = self._tokenizer.decode(list(tokens))
        answer = self._thinking.answer(prefill + with_specials)
        for special in self._tokenizer.all_special_tokens:
            answer = answer.replace(special, "")
        return prefill + text, answer

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


def reply_limits(prompt_lengths: Sequence[int], params: SamplingParams, longest_context: int) -> ReplyLimits:
    """Where replies to prompts of these lengths end.

    :param prompt_lengths: tokens of each prompt.
    :param longest_context: most tokens of prompt and reply that the model takes.
    :raises UsageError: when a prompt leaves no room for a reply; names its length and the context's.
    """
    context = min(params.context, longest_context)
    for length in prompt_lengths:
        if length >= context:
            raise UsageError(
                f"the prompt is {length} tokens long and the context holds {context}; raise "
                "policy.context or shorten the prompt (a smaller -o output_chars, a shorter program)"
            )
    max_tokens = [min(context - length, params.max_new_tokens or context) for length in prompt_lengths]
    thinking_tokens = None
    if params.thinking_tokens is not None:
        thinking_tokens = [max(0, params.thinking_tokens - length) for length in prompt_lengths]
    return ReplyLimits(max_tokens, thinking_tokens)
