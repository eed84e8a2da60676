"""Thinking that is left in a reply's text, told from the answer by the tags that models write.

For replies whose model's template is not known: those of servers, and of models whose template shows no
thinking. What is still being thought is no answer, so a reply whose thinking was never closed has none.
"""

from __future__ import annotations

import re

from ttd_core.policy.models import channels

#: What opens thinking at the beginning of a reply, and what closes it.
_PAIRS = (
    *((f"<{tag}>", f"</{tag}>") for tag in ("think", "thinking", "thought", "reasoning", "seed:think")),
    ("[THINK]", "[/THINK]"),
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
)
#: Channels, each a message of its own: the answer is in the one called final.
_CHANNEL = re.compile(r"(<\|start\|>\s*assistant\s*)?<\|channel\|?>\s*(analysis|commentary|thought)\b")
#: The same with its special tokens left out.
_BARE_FINAL = "assistantfinal"


def answer_within(text: str, end: str = "") -> str:
    """The answer in a reply: what comes after its thinking; empty when the thinking was never closed.

    :param end: what ends thinking in this model's replies, wherever it was opened; empty when unknown.
    """
    rest = text.rpartition(end)[2] if end else text
    if rest.lstrip().startswith("<|channel|>final") or _CHANNEL.match(rest.lstrip()):
        return channels.answer(rest)
    if rest.startswith("analysis") and _BARE_FINAL in rest:
        return rest.rpartition(_BARE_FINAL)[2]
    for opener, closer in _PAIRS:
        begun = rest.lstrip()[: len(opener)].lower() == opener.lower()
        before, closed, answer = rest.rpartition(closer)
        if begun and not closed:
            return ""
        if closed and (begun or opener not in before):
            # Where nothing opened it here, the prompt did.
            return answer_within(answer)
    return rest
