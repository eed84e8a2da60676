"""A model's chat template, which is a program of the model's authors: rendered, or refused in one line."""

from __future__ import annotations

import datetime
import json
import queue
import threading
from collections.abc import Sequence
from typing import Any

from ttd_core.errors import ModelUnavailableError
from ttd_core.policy.models.files import brief
from ttd_core.types import Message

#: What a prompt says when a template is tried.
_TRIED = "QUESTIONMARK"
#: Wall seconds in which it must be rendered; it takes milliseconds.
_MOST_SECONDS = 20.0
#: The function that templates ask for the date, with a form as that of ``datetime.strftime``.
_CLOCK = "strftime_now"
#: What such a form may hold; a day begins at midnight.
_DIRECTIVES = [
    *(f"%{letter}" for letter in "aAbBcdfGHIjmMpSuUVwWxXyY"),
    *(f"%-{letter}" for letter in "dmyHIMSj"),
]


class ChatTemplate:
    """Renders chats by the template of a tokeniser.

    :param tokenizer: a transformers tokeniser.
    :param options: go to the template.
    :raises ModelUnavailableError: when there is no template, or it cannot render a prompt of one message.
    """

    def __init__(self, tokenizer: Any, options: dict[str, Any]) -> None:
        self._tokenizer = tokenizer
        self._options = options
        #: What templates that ask for the date are told; ``None`` for the date of the machine's clock.
        self.day: datetime.date | None = None
        if not tokenizer.chat_template:
            raise ModelUnavailableError(
                f"the tokeniser of {_where(tokenizer)} has no chat template, which says how a prompt is "
                "written; take an instruction-tuned model, or put a chat_template.jinja beside the tokeniser"
            )
        #: Whether contents are given as lists of parts: what templates of models that see images may want.
        self._in_parts = False
        if _TRIED not in self._try():
            self._in_parts = True
            if _TRIED not in self._try():
                raise ModelUnavailableError(
                    f"the chat template of {_where(tokenizer)} leaves out what the prompt says; put one that "
                    "does not beside the tokeniser, as chat_template.jinja"
                )

    def render(self, messages: Sequence[Message], *, prompt: bool) -> str:
        """The chat as text.

        :param prompt: whether the reply is to follow.
        :raises ModelUnavailableError: when the template fails; says its words.
        """
        try:
            text: str = self._tokenizer.apply_chat_template(
                [self._shown(message) for message in messages],
                tokenize=False,
                add_generation_prompt=prompt,
                **self._options,
                **self._dated(),
            )
        except Exception as error:
            raise ModelUnavailableError(
                f"the chat template of {_where(self._tokenizer)} does not render the prompt: {brief(error)}"
            ) from error
        return text

    def _dated(self) -> dict[str, Any]:
        """The template with its own clock, where it asks for one and a day is set."""
        if self.day is None:
            return {}
        template = self._tokenizer.get_chat_template()
        return {"chat_template": _clock_of(self.day) + template} if _CLOCK in template else {}

    def _shown(self, message: Message) -> dict[str, Any]:
        content = message["content"]
        return {**message, "content": [{"type": "text", "text": content}] if self._in_parts else content}

    def _try(self) -> str:
        """What the template makes of a short prompt, in a thread: one that never ends must not hold us."""
        told: queue.SimpleQueue[str | ModelUnavailableError] = queue.SimpleQueue()

        def render() -> None:
            try:
                told.put(self.render([{"role": "user", "content": _TRIED}], prompt=True))
            except ModelUnavailableError as error:
                told.put(error)

        threading.Thread(target=render, name="chat template", daemon=True).start()
        try:
            answer = told.get(timeout=_MOST_SECONDS)
        except queue.Empty as error:
            raise ModelUnavailableError(
                f"the chat template of {_where(self._tokenizer)} did not render a short prompt within "
                f"{_MOST_SECONDS:g} s; put another beside the tokeniser, as chat_template.jinja"
            ) from error
        if isinstance(answer, ModelUnavailableError):
            raise answer
        return answer


def _where(tokenizer: Any) -> str:
    return str(getattr(tokenizer, "name_or_path", "")) or "the model"


def _clock_of(day: datetime.date) -> str:
    """A macro that takes the function's place in a template: transformers hands no functions on to it.

    Its line ends where the template begins, so that blanks there mean what they did.
    """
    midnight = datetime.datetime.combine(day, datetime.time())
    filled = "".join(
        f" | replace({json.dumps(form)}, {json.dumps(midnight.strftime(form))})" for form in _DIRECTIVES
    )
    return (
        f"{{%- macro {_CLOCK}(form) -%}}"
        f'{{{{ form | replace("%%", "\\0"){filled} | replace("\\0", "%") }}}}'
        "{%- endmacro %}\n"
    )
