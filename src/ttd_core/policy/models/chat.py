"""Chats as tokens: how a prompt is rendered, how long replies may be, and what the tokens of a reply say.

A prompt quotes what candidates wrote, and a candidate may write ``<|im_end|>``: only the template's own text
may become such tokens, never a message's content.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import attrs

from ttd_core.config import PolicyConfig
from ttd_core.errors import PromptTooLongError
from ttd_core.policy.base import SamplingParams
from ttd_core.policy.models import channels
from ttd_core.policy.models.tags import answer_within
from ttd_core.policy.models.template import ChatTemplate
from ttd_core.policy.models.thinking import ThinkingFormat
from ttd_core.types import Message

_STAND_IN = re.compile(r"TTDCONTENT(\d+)END")
#: A mark as templates write them: brackets around a word.
_MARK = re.compile(r"<{1,2}[^\s<>\[\]]{1,40}>{1,2}|\[[^\s<>\[\]]{1,40}\]")
#: Cutting what spells one token may uncover the next; more rounds than this are nobody's honest text.
_ROUNDS = 8
#: Most kinds of tokens that are looked for in a text one by one.
_KINDS = 64


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
    :param config: its ``reasoning_effort`` and its ``prompt_date`` go to the template; its ``prefill`` begins
        every reply.
    :param end_tokens: token ids that end a reply, besides the tokeniser's own.
    :raises ModelUnavailableError: when the template cannot render a prompt.
    """

    def __init__(self, tokenizer: Any, config: PolicyConfig, end_tokens: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        effort = config.reasoning_effort
        self._template = ChatTemplate(tokenizer, {"reasoning_effort": effort} if effort else {})
        if config.prompt_date:
            self.date_prompts(datetime.date.fromisoformat(config.prompt_date))
        self._thinking = ThinkingFormat.of(self._template)
        self._markup = _markup(tokenizer)
        self._prefill = config.prefill
        eos = tokenizer.eos_token_id
        # In channels a reply ends with a call of a tool, too, whatever the model's other files say.
        stops = [token for token, text in self._markup.items() if text in channels.STOPS]
        of_template = stops if self._thinking.in_channels else []
        #: Token ids that end a reply.
        self.end_tokens = frozenset([*end_tokens, *of_template, *([] if eos is None else [eos])])

    def date_prompts(self, day: datetime.date) -> None:
        """Have a template that asks for the date be told this day."""
        self._template.day = day

    def encode(self, prompt: Sequence[Message], prefill: str) -> list[int]:
        """Token ids of the rendered chat, up to where the reply (after any prefill) begins.

        Of the tokens that are markup, the chat has those that its template writes, whatever a message says.
        """
        outline = self._render([{**message, "content": _stand_in(i)} for i, message in enumerate(prompt)])
        contents = [_without_marks(message["content"], self._written_marks(outline)) for message in prompt]
        text = self._render(
            [{**message, "content": content} for message, content in zip(prompt, contents, strict=True)]
        )
        tokens = self._ids(text + prefill)
        if self._markup_in(tokens) == self._markup_in(self._ids(outline + prefill)):
            return tokens
        if not any(self._markup_in(self._ids(content)) for content in contents):
            # The template looks at what messages say.
            return tokens
        return self._encode_apart(outline + prefill, [c if c in text else c.strip() for c in contents])

    def closing(self, tokens: Sequence[int]) -> list[int]:
        """Token ids that close the thinking of a reply; none when its final answer is open already."""
        closing = self._thinking.closing(self._prefill + self._tokenizer.decode(list(tokens)))
        return self._ids(closing) if closing else []

    def decode(self, tokens: Sequence[int], prefill: str) -> tuple[str, str]:
        """The reply's text and its final answer, prefill included, special tokens removed.

        Those that make channels stay in the text: without them nothing would tell its messages apart.
        """
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        if not self._thinking.core:
            return prefill + text, answer_within(prefill + text)
        with_specials: str = self._tokenizer.decode(list(tokens))
        answer = self._thinking.answer(prefill + with_specials)
        if self._thinking.in_channels:
            text = channels.without_end(with_specials)
        for special in self._tokenizer.all_special_tokens:
            answer = answer.replace(special, "")
        return prefill + text, answer

    def token_texts(self, tokens: Sequence[int]) -> list[str]:
        """The text of each token by itself; U+FFFD stands for bytes that are no character alone."""
        written = self._tokenizer.convert_ids_to_tokens(list(tokens))
        texts = [str(self._tokenizer.decode([token])) for token in tokens]
        # Some tokenisers leave out the blank before a text's first word, which a word in its midst has.
        return [
            f" {text}" if str(name).startswith("\u2581") and not text.startswith(" ") else text
            for name, text in zip(written, texts, strict=True)
        ]

    def _render(self, messages: Sequence[Message]) -> str:
        return self._template.render(messages, prompt=True)

    def _written_marks(self, outline: str) -> list[str]:
        """Marks such as ``[INST]`` that the template writes as plain text, for want of tokens."""
        return [mark for mark in set(_MARK.findall(outline)) if mark not in self._markup.values()]

    def _markup_in(self, tokens: Sequence[int]) -> list[int]:
        return [token for token in tokens if token in self._markup]

    def _encode_apart(self, outline: str, contents: Sequence[str]) -> list[int]:
        """Token ids of a chat whose contents are encoded apart from the template's text around them.

        :param outline: the rendered chat with stand-ins for the contents.
        """
        tokens: list[int] = []
        for number, piece in enumerate(_STAND_IN.split(outline)):
            if number % 2:
                tokens += self._plain_ids(contents[int(piece)])
            elif piece:
                tokens += self._ids(piece)
        return tokens

    def _plain_ids(self, text: str) -> list[int]:
        """Token ids of a text, none of which is markup: what spells such a token is encoded in two halves."""
        pieces = [text]
        for _ in range(_ROUNDS):
            encoded = self._tokenizer(pieces, add_special_tokens=False)["input_ids"] if pieces else []
            found = {token for tokens in encoded for token in self._markup_in(tokens)}
            if not found:
                return [token for tokens in encoded for token in tokens]
            if len(found) > _KINDS:
                break
            spelled = [self._markup[token] for token in found]
            pieces = [part for piece in pieces for part in _halved(piece, spelled)]
        # Spelled in a way that only the tokeniser's normalisation sees.
        single = self._tokenizer(list(text), add_special_tokens=False)["input_ids"]
        return [token for tokens in single for token in tokens if token not in self._markup]

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


def _markup(tokenizer: Any) -> dict[int, str]:
    """The tokens that a tokeniser knows by their spelling, special or not; blanks are none of them."""
    added = {token: spelled.content for token, spelled in tokenizer.added_tokens_decoder.items()}
    return {token: text for token, text in added.items() if text.replace("\u2581", " ").strip()}


def _stand_in(index: int) -> str:
    """What stands for the content of a message while its template is read."""
    return f"TTDCONTENT{index}END"


def _without_marks(text: str, marks: Collection[str]) -> str:
    """A content in which no mark of the template is spelled: each gets a space behind its first character."""
    for mark in marks:
        text = text.replace(mark, f"{mark[0]} {mark[1:]}")
    return text


def _halved(text: str, spelled: Collection[str]) -> Iterator[str]:
    """The text cut behind the first character of everything that is spelled in it."""
    anywhere = "|".join(sorted(map(re.escape, spelled), key=len, reverse=True))
    start = 0
    # Looked ahead, so that those which overlap are found too.
    for match in re.finditer(f"(?={anywhere})", text):
        yield text[start : match.start() + 1]
        start = match.start() + 1
    if start < len(text):
        yield text[start:]


def reply_limits(prompt_lengths: Sequence[int], params: SamplingParams, longest_context: int) -> ReplyLimits:
    """Where replies to prompts of these lengths end.

    :param prompt_lengths: tokens of each prompt.
    :param longest_context: most tokens of prompt and reply that the model takes.
    :raises PromptTooLongError: when a prompt leaves no room for a reply; names its length and the context's.
    """
    context = min(params.context, longest_context)
    for length in prompt_lengths:
        if length >= context:
            raise PromptTooLongError(
                f"the prompt is {length} tokens long and the context holds {context}; raise "
                "policy.context or shorten the prompt (a smaller -o output_chars, a shorter program)"
            )
    max_tokens = [min(context - length, params.max_new_tokens or context) for length in prompt_lengths]
    thinking_tokens = None
    if params.thinking_tokens is not None:
        thinking_tokens = [max(0, params.thinking_tokens - length) for length in prompt_lengths]
    return ReplyLimits(max_tokens, thinking_tokens)
