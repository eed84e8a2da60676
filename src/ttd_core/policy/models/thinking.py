"""Thinking budgets: how a model's own template separates thinking from the final answer.

Everything is read off the chat template, by rendering a reply that has both parts and one that has only an
answer, so any family works: ``</think>`` for some, a channel header for others. A model whose template shows
no thinking, or whose prompt has closed it already, writes its final answer from the start, and nothing is
ever forced on it.
"""

from __future__ import annotations

import re
from typing import Any

import attrs

from ttd_core.errors import ModelUnavailableError
from ttd_core.policy.models import channels
from ttd_core.policy.models.template import ChatTemplate
from ttd_core.types import Message

#: Said on the model's behalf when its thinking budget is used up (after the paper's Table 9, in our words).
SENTENCE = "\n\nMy budget for thinking is used up, so I give the final answer now."

_THOUGHT = "THOUGHTMARK"
_ANSWER = "ANSWERMARK"
_THINKING_KEYS = ("reasoning_content", "thinking", "reasoning")
#: A prompt that ends with an opening tag, ``<think>`` or ``[THINK]``: its bracket, and the rest of it.
_OPEN_TAG = re.compile(r"([<\[])(\w+[>\]])\s*$")


@attrs.frozen
class ThinkingFormat:
    """How one model's template opens and closes its thinking.

    :param marker: the text between thinking and answer, ``</think>`` or a channel's header with the space
        around it; empty when replies have no thinking.
    :param opener: what a reply that thinks begins with; empty when the prompt has opened the thinking.
    :param direct: what a reply without thinking puts before its answer; empty when nothing.
    """

    marker: str
    opener: str = ""
    direct: str = ""

    @classmethod
    def of(cls, template: ChatTemplate) -> ThinkingFormat:
        """Read the format off a chat template.

        A template that takes no replies, and says so by an error, shows no format.
        """
        question: Message = {"role": "user", "content": "x"}

        def with_reply(**thinking: str) -> str:
            reply: Any = {"role": "assistant", "content": _ANSWER, **thinking}
            return template.render([question, reply], prompt=False)

        prompt = template.render([question], prompt=True)
        opened = _OPEN_TAG.search(prompt)
        for key in _THINKING_KEYS:
            try:
                text, plain = with_reply(**{key: _THOUGHT}), with_reply()
            except ModelUnavailableError:
                continue
            before, thought, rest = text.partition(_THOUGHT)
            if not thought or _ANSWER not in rest or _ANSWER in before:
                continue
            marker = rest[: rest.index(_ANSWER)]
            if not marker.strip() or _ends_with(prompt, marker.strip()):
                return cls("")
            answered = plain.partition(_ANSWER)[0]
            return cls(marker, _added_to(prompt, before), _added_to(prompt, answered))
        # Some templates open the thinking in the prompt and leave it out of past replies.
        return cls(f"\n{opened[1]}/{opened[2]}\n\n") if opened else cls("")

    @property
    def core(self) -> str:
        """The marker without surrounding space: what is looked for in a reply."""
        return self.marker.strip()

    @property
    def in_channels(self) -> bool:
        """Whether thinking and answer are messages in channels of their own (:mod:`.channels`)."""
        return self.core == channels.CLOSING

    def is_open(self, text: str) -> bool:
        """Whether the final answer has been opened in ``text`` (special tokens kept)."""
        if self.in_channels:
            return channels.has_answer(text)
        if not self.core or self.core in text:
            return True
        reply, opener, direct = text.strip(), self.opener.strip(), self.direct.strip()
        if direct and reply.startswith(direct):
            return True
        # A reply that begins otherwise than thinking does is an answer; one within the opener may yet think.
        return bool(opener) and not reply.startswith(opener) and not opener.startswith(reply)

    def closing(self, text: str) -> str:
        """What to append to a reply whose thinking budget is used up; empty if the answer is open."""
        if self.in_channels:
            return channels.closing(text, SENTENCE)
        return "" if self.is_open(text) else SENTENCE + self.marker

    def answer(self, text: str) -> str:
        """The final answer within a reply (special tokens kept); empty if the thinking was never closed."""
        if self.in_channels:
            return channels.answer(text)
        if self.core and self.core in text:
            return text.rsplit(self.core, 1)[1]
        if not self.is_open(text):
            return ""
        direct = self.direct.strip()
        return text.strip().removeprefix(direct) if direct else text


def _ends_with(prompt: str, core: str) -> bool:
    """Whether the prompt ends by closing the thinking: nothing but space after the marker's core."""
    return prompt.rstrip().endswith(core)


def _added_to(prompt: str, text: str) -> str:
    """What ``text`` adds to ``prompt``; empty where the template writes its past replies otherwise."""
    return text[len(prompt) :] if text.startswith(prompt) else ""
