"""Reading programs out of replies; nothing read here is ever executed.

A reply is text from a model: fences may be unclosed, nested or mislabelled, sources may be huge or crafted to
exhaust the parser. All of that ends in a failed :class:`~ttd_core.types.Verdict`, never in an exception.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ttd_core.dialogue.fences import NEUTRAL, fits, tagged_texts, with_line_ends
from ttd_core.dialogue.fences import FencedBlock as FencedBlock
from ttd_core.dialogue.fences import fenced_blocks as fenced_blocks
from ttd_core.dialogue.syntax import MAX_PROGRAM_CHARS as MAX_PROGRAM_CHARS
from ttd_core.dialogue.syntax import binds_something, clipped, syntax_failure
from ttd_core.dialogue.syntax import checked_program as checked_program
from ttd_core.dialogue.syntax import syntax_tree as syntax_tree
from ttd_core.text import without_surrogates
from ttd_core.types import Action, Status, Verdict

#: What a C++ program begins with, where no fence says that it is one.
_CPP_BEGINNING = re.compile(r"\s*(?://[^\n]*\n\s*|/\*[\s\S]*?\*/\s*)*(?:#\s*\w|using\s|int\s+main\b)")


def parse_program(text: str, language: str, entry: str) -> Action | Verdict:
    """The program of a reply: its last fenced block that defines ``entry``.

    Fences inside strings and comments of the program belong to it. Where what they leave does not parse, the
    block may end at any fence. A block of another label, text between tags such as ``<code>``, and a reply
    that is a program from its first line to its last are programs where no block with a fitting label is one.

    :param text: the reply, thinking removed.
    :param language: ``python`` (must parse; what only its compiler finds, the sandbox says) or ``c++`` (left
        to its compiler).
    :param entry: name the program must define; empty for parts of a program, then the blocks that parse are
        taken together, in order.
    :return: the action, or a verdict: ``parse_error`` without a fitting block, ``syntax_error`` (with the
        line) when the block does not parse.
    """
    blocks = fenced_blocks(text, language)
    found = _fenced_program(blocks, language, entry)
    if isinstance(found, Action):
        return found
    if found is None or found.status is not Status.SYNTAX_ERROR:
        for source in _other_programs(text, blocks, language, entry):
            action = _as_action(source, language, entry)
            if isinstance(action, Action):
                return action
    plainly = fenced_blocks(text)
    again = _fenced_program(plainly, language, entry) if plainly != blocks else None
    if isinstance(again, Action):
        return again
    return found or Verdict.failed(Status.PARSE_ERROR, f"the reply has no fenced {language} code block")


def _fenced_program(blocks: Sequence[FencedBlock], language: str, entry: str) -> Action | Verdict | None:
    """What the blocks with a fitting label hold; ``None`` without any."""
    blocks = [block for block in blocks if fits(block.label, language) and block.text.strip()]
    if not blocks:
        return None
    return _chosen(blocks, language, entry) if entry else _parts(blocks, language)


def _chosen(blocks: Sequence[FencedBlock], language: str, entry: str) -> Action | Verdict:
    """The last block that defines the entry, or else imports it."""
    texts = [block.text for block in reversed(blocks)]
    chosen = next((text for text in texts if seems_to_define(text, language, entry)), None)
    if chosen is None:
        chosen = next((text for text in texts if language == "python" and _imports(text, entry)), None)
    if chosen is not None:
        return _as_action(chosen, language, entry)
    source = _source(blocks[-1].text, language)
    failure = syntax_failure(source) if language == "python" else None
    return failure or Verdict.failed(
        Status.PARSE_ERROR, f"no code block defines {entry}", code=clipped(source)
    )


def _parts(blocks: Sequence[FencedBlock], language: str) -> Action | Verdict:
    """All blocks that parse, in order, so that none of the parts is lost; the last one must."""
    last = _as_action(blocks[-1].text, language, "")
    if language != "python" or isinstance(last, Verdict):
        return last
    kept = [_source(block.text, language) for block in blocks[:-1]]
    size = len(last.code)
    joined = [last.code]
    for source in reversed(kept):
        size += len(source)
        if size > MAX_PROGRAM_CHARS:
            break
        if binds_something(source):
            joined.append(source)
    return Action("\n\n".join(reversed(joined)), language)


def _other_programs(text: str, blocks: Sequence[FencedBlock], language: str, entry: str) -> list[str]:
    """Texts that are programs though no fitting fence says so, the likeliest first."""
    if blocks:
        known = language == "python" and bool(entry)
        candidates = [
            block.text
            for block in reversed(blocks)
            if block.label in NEUTRAL or (known and not fits(block.label, language))
        ]
    else:
        candidates = [*tagged_texts(text), with_line_ends(text)]
        if language == "c++":
            candidates = [each for each in candidates if _CPP_BEGINNING.match(each)]
    programs = [each for each in candidates if each.strip() and _may_be(each, language, entry)]
    return programs[:4]


def _may_be(text: str, language: str, entry: str) -> bool:
    if entry:
        return seems_to_define(text, language, entry)
    return language != "python" or binds_something(_source(text, language))


def _as_action(text: str, language: str, entry: str) -> Action | Verdict:
    source = _source(text, language)
    if len(source) > MAX_PROGRAM_CHARS:
        return Verdict.failed(
            Status.PARSE_ERROR,
            f"the program has {len(source)} characters; at most {MAX_PROGRAM_CHARS} are read",
        )
    if language != "python":
        return Action(code=without_surrogates(source), language=language)
    failure = checked_program(source, entry)
    if failure is not None and "\ufeff" in source:
        # Files put together, each with its byte order mark.
        source = source.replace("\ufeff", "")
        failure = checked_program(source, entry)
    return failure if failure is not None else Action(code=source, language=language)


def _source(text: str, language: str) -> str:
    """A block's text as a source file: without blank lines around it, nor the indentation of a list."""
    text = text.strip("\n").removeprefix("\ufeff")
    if language == "python":
        text = _dedented(text)
    return text.strip("\n") + "\n"


def _dedented(text: str) -> str:
    """A Python program without what its first statement is indented by: no program begins so."""
    lines = text.split("\n")
    first = next((line for line in lines if line.strip() and not line.lstrip().startswith("#")), "")
    indent = first[: len(first) - len(first.lstrip(" \t"))]
    if not indent:
        return text
    return "\n".join(
        line[len(indent) :] if line.startswith(indent) else _less(line, len(indent)) for line in lines
    )


def _less(line: str, width: int) -> str:
    """A line without its first blanks, ``width`` of them at most."""
    return line[min(width, len(line) - len(line.lstrip(" \t"))) :]


def seems_to_define(text: str, language: str, entry: str) -> bool:
    """Whether a text seems to define a name: only a filter before the real parse."""
    name = re.escape(entry)
    if language == "python":
        # [ \t] rather than \s keeps blank lines from costing n squared.
        bound = rf"^[ \t\ufeff]*(?:(?:async[ \t]+)?def[ \t]+{name}\b|class[ \t]+{name}\b|{name}[ \t]*[:=,])"
        return re.search(bound, text, re.MULTILINE) is not None
    return not entry or re.search(rf"\b{name}\s*\(", text) is not None


def _imports(text: str, entry: str) -> bool:
    name = re.compile(rf"\b{re.escape(entry)}\b")
    return any("import" in line and name.search(line) for line in text.split("\n"))
