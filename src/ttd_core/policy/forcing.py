"""Thinking budgets: how a model's own template separates thinking from the final answer.

The marker that opens the final answer is read off the chat template by rendering a reply that has both
parts, so any family works: ``</think>`` for some, a channel header for others. A model whose template shows
no thinking writes its final answer from the start, and nothing is ever forced on it.
"""

from __future__ import annotations

from typing import Any

import attrs

#: Said on the model's behalf when its thinking budget is used up (after the paper's Table 9, in our words).
SENTENCE = "\n\nMy budget for thinking is used up, so I give the final answer now."

_THOUGHT = "THOUGHTMARK"
_ANSWER = "ANSWERMARK"
_THINKING_KEYS = ("reasoning_content", "thinking", "reasoning")


@attrs.frozen
class ThinkingFormat:
    """How one model's template closes its thinking and opens the final answer.

    :param marker: the text between the two; empty when the template knows no thinking.
    """

    marker: str

    @classmethod
    def of(cls, tokenizer: Any, template_options: dict[str, Any]) -> ThinkingFormat:
        """Read the marker off a tokeniser's chat template."""
        for key in _THINKING_KEYS:
            reply = {"role": "assistant", "content": _ANSWER, key: _THOUGHT}
            text = tokenizer.apply_chat_template(
                [{"role": "user", "content": "x"}, reply], tokenize=False, **template_options
            )
            before, found, rest = text.partition(_THOUGHT)
            if found and _ANSWER in rest and _ANSWER not in before:
                return cls(rest[: rest.index(_ANSWER)])
        return cls("")

    @property
    def core(self) -> str:
        """The marker without surrounding space: what is looked for in a reply."""
        return self.marker.strip()

    def is_open(self, text: str) -> bool:
        """Whether the final answer has been opened in ``text`` (special tokens kept)."""
        return not self.core or self.core in text

    def closing(self, text: str) -> str:
        """What to append to a reply whose thinking budget is used up; empty if the answer is open."""
        return "" if self.is_open(text) else SENTENCE + self.marker

    def answer(self, text: str) -> str:
        """The final answer within a reply (special tokens kept); the whole reply if it was never opened."""
        if not self.core or self.core not in text:
            return text
        return text.rsplit(self.core, 1)[1]
