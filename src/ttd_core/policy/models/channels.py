"""Replies in channels, as gpt-oss writes them: a row of messages, each with a header that names its channel.

``<|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>final<|message|>...<|return|>`` thinks
in the channel ``analysis`` and answers in ``final``; ``commentary`` holds remarks and calls of tools, which
are no answer. The prompt ends with ``<|start|>assistant``, so a reply begins within a header.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import attrs

_START, _CHANNEL, _MESSAGE, _END = "<|start|>", "<|channel|>", "<|message|>", "<|end|>"
_ROLE = "assistant"
#: What ends a reply, where ``<|end|>`` ends one of its messages: the last, or a call of a tool.
STOPS = ("<|return|>", "<|call|>")
#: What a message is closed with when the final answer is to come next.
CLOSING = f"{_END}{_START}{_ROLE}{_CHANNEL}final{_MESSAGE}"
_MARK = re.compile(r"(<\|(?:start|channel|message|end|return|call)\|>)")
_LAST = re.compile(r"(<\|(?:return|end|call)\|>\s*)+$")
_NAME = re.compile(r"\s*(\w*)")
#: Channels other than that of the answer.
_OTHERS = ("analysis", "commentary")


@attrs.frozen
class ChannelMessage:
    """One message of a reply.

    :param header: what stands before ``<|message|>``, without ``<|start|>``.
    :param content: what it says so far; ``None`` while its header is being written.
    :param ended: whether its end was written.
    """

    header: str
    content: str | None
    ended: bool

    @property
    def channel(self) -> str | None:
        """The name of its channel, as far as it is written; ``None`` before it is begun."""
        _, mark, rest = self.header.partition(_CHANNEL)
        found = _NAME.match(rest)
        return found[1] if mark and found else None

    @property
    def calls(self) -> bool:
        """Whether it is addressed to a tool."""
        return " to=" in self.header

    @property
    def answers(self) -> bool:
        """Whether it is the final answer, begun at least."""
        return self.content is not None and self.channel == "final"


def read_messages(text: str) -> Sequence[ChannelMessage]:
    """The messages of a reply (special tokens kept); the last may be unfinished, and one is always there."""
    messages: list[ChannelMessage] = []
    now = ChannelMessage("", None, False)
    for piece in _MARK.split(text):
        if piece == _START or (piece == _CHANNEL and (now.content is not None or now.ended)):
            # A message may be broken off by the next one's header.
            if now != ChannelMessage("", None, False):
                messages.append(now)
            now = ChannelMessage("" if piece == _START else piece, None, False)
        elif piece == _MESSAGE and now.content is None:
            now = attrs.evolve(now, content="")
        elif piece in (_END, *STOPS):
            now = attrs.evolve(now, ended=True)
        elif now.ended:
            # Nothing belongs between two messages.
            continue
        elif now.content is None:
            now = attrs.evolve(now, header=now.header + piece)
        else:
            now = attrs.evolve(now, content=now.content + piece)
    return [*messages, now]


def has_answer(text: str) -> bool:
    """Whether the final answer of a reply has been begun."""
    return any(message.answers for message in read_messages(text))


def answer(text: str) -> str:
    """What a reply says in its last final message; empty where there is none."""
    said = [message.content for message in read_messages(text) if message.answers]
    return (said[-1] or "") if said else ""


def without_end(text: str) -> str:
    """A reply without what ends it, so that it ends as its answer does."""
    return _LAST.sub("", text)


def closing(text: str, sentence: str) -> str:
    """What to append to a reply, wherever it was cut, so that its final answer comes next; empty if it does.

    :param sentence: said at the end of thinking that goes on.
    """
    if has_answer(text):
        return ""
    last = read_messages(text)[-1]
    if last.ended:
        return CLOSING.removeprefix(_END)
    if last.content is not None:
        return ("" if last.calls else sentence) + CLOSING
    name = last.channel
    if name is None:
        # At the beginning of a reply the prompt has written the role.
        role = last.header.strip()
        rest = _ROLE.removeprefix(role) if _START in text and _ROLE.startswith(role) else ""
        return f"{rest}{_CHANNEL}final{_MESSAGE}"
    if "final".startswith(name):
        return "final".removeprefix(name) + _MESSAGE
    whole = next((other for other in _OTHERS if other.startswith(name)), name)
    return whole.removeprefix(name) + _MESSAGE + ("" if last.calls else sentence) + CLOSING
