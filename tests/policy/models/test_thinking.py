"""Thinking budgets in the shapes that families of chat templates have."""

from __future__ import annotations

import pathlib
from typing import Any

import attrs
import pytest
import transformers

from ttd_core.policy.models.template import ChatTemplate
from ttd_core.policy.models.thinking import SENTENCE, ThinkingFormat


@attrs.frozen
class Family:
    """A chat template, and replies as its model writes them.

    :param thinking: replies that are still thinking.
    :param answering: replies whose final answer is open, each with that answer.
    """

    template: str
    core: str
    thinking: tuple[str, ...]
    answering: tuple[tuple[str, str], ...]


_USER = "{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content }}{% else %}"
_GENERATE = "{% endif %}{% endfor %}{% if add_generation_prompt %}"

FAMILIES = {
    # The reply may think or not; past thinking is kept.
    "tag": Family(
        _USER
        + "<|im_start|>assistant\n{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>"
        + "\n\n{% endif %}{{ m.content }}<|im_end|>\n"
        + _GENERATE
        + "<|im_start|>assistant\n{% endif %}",
        "</think>",
        ("<think>\nHmm", "<thi", ""),
        (("<think>\nso\n</think>\n\nforty-two", "forty-two"), ("forty-two", "forty-two")),
    ),
    # A reply without thinking shows an empty one.
    "empty tag": Family(
        _USER
        + "<|im_start|>assistant\n<think>\n{{ m.reasoning_content or '' }}\n</think>\n\n"
        + "{{ m.content }}<|im_end|>"
        + _GENERATE
        + "<|im_start|>assistant\n{% endif %}",
        "</think>",
        ("<think>\nHmm", "<think>"),
        (("<think>\n\n</think>\n\nforty-two", "forty-two"), ("forty-two", "forty-two")),
    ),
    # The prompt opens the thinking, and past thinking is left out.
    "opened by the prompt": Family(
        _USER + "<|assistant|>{{ m.content }}<|end|>" + _GENERATE + "<|assistant|><think>\n{% endif %}",
        "</think>",
        ("Hmm", ""),
        (("so\n</think>\n\nforty-two", "forty-two"),),
    ),
    "brackets": Family(
        _USER
        + "{% if m.thinking %}[THINK]{{ m.thinking }}[/THINK]{% endif %}{{ m.content }}</s>"
        + _GENERATE
        + "{% endif %}",
        "[/THINK]",
        ("[THINK]Hmm",),
        (("[THINK]so[/THINK]forty-two", "forty-two"),),
    ),
    # Thinking and answer are channels, each a message of its own.
    "channels": Family(
        _USER
        + "<|start|>assistant{% if m.thinking %}<|channel|>analysis<|message|>{{ m.thinking }}<|end|>"
        + "<|start|>assistant{% endif %}<|channel|>final<|message|>{{ m.content }}<|return|>"
        + _GENERATE
        + "<|start|>assistant{% endif %}",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
        # Where a header is cut, test_channels.py says what is forced.
        ("<|channel|>analysis<|message|>Hmm",),
        (
            (
                "<|channel|>analysis<|message|>so<|end|><|start|>assistant<|channel|>final<|message|>forty-two",
                "forty-two",
            ),
            ("<|channel|>final<|message|>forty-two", "forty-two"),
        ),
    ),
}

NEVER = {
    "no thinking": _USER + "<|im_start|>{{ m.content }}<|im_end|>" + _GENERATE + "<|im_start|>{% endif %}",
    "closed by the prompt": _USER
    + "<|a|>{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}"
    + _GENERATE
    + "<|a|><think>\n\n</think>\n\n{% endif %}",
}


@pytest.fixture
def format_of(make_tokenizer: Any) -> Any:
    return lambda template: ThinkingFormat.of(ChatTemplate(make_tokenizer(template), {}))


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_every_family_by_its_own_marker(format_of: Any, family: Family) -> None:
    found = format_of(family.template)
    assert found.core == family.core
    for reply in family.thinking:
        assert not found.is_open(reply)
        assert found.answer(reply) == ""
        assert found.closing(reply) == SENTENCE + found.marker
        assert found.is_open(reply + found.closing(reply))
        assert found.answer(reply + found.closing(reply) + "forty-two").strip() == "forty-two"
    for reply, answer in family.answering:
        assert found.is_open(reply)
        assert found.closing(reply) == ""
        assert found.answer(reply).strip() == answer


@pytest.mark.parametrize("template", NEVER.values(), ids=NEVER)
def test_nothing_is_forced_where_the_answer_comes_first(format_of: Any, template: str) -> None:
    found = format_of(template)
    assert found.closing("so far") == ""
    assert found.answer("so far") == "so far"


def test_options_of_the_template_count(make_tokenizer: Any) -> None:
    tokenizer = make_tokenizer(
        _USER + "{{ m.content }}" + _GENERATE + "{% if thinks %}<think>{% endif %}{% endif %}"
    )
    assert ThinkingFormat.of(ChatTemplate(tokenizer, {"thinks": True})).core == "</think>"
    assert ThinkingFormat.of(ChatTemplate(tokenizer, {})).core == ""


def test_a_saved_tokeniser_keeps_its_format(make_tokenizer: Any, tmp_path: pathlib.Path) -> None:
    tokenizer = make_tokenizer(FAMILIES["channels"].template)
    tokenizer.save_pretrained(tmp_path)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert ThinkingFormat.of(ChatTemplate(again, {})) == ThinkingFormat.of(ChatTemplate(tokenizer, {}))
