"""Reading programs out of replies; nothing read here is ever executed.

A reply is text from a model: fences may be unclosed, nested or mislabelled, sources may be huge or crafted to
exhaust the parser. All of that ends in a failed :class:`~ttd_core.types.Verdict`, never in an exception.
"""

from __future__ import annotations

import ast
import re
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import attrs

from ttd_core.types import Action, Status, Verdict

#: Longest program read, in characters: far above any real one, far below what makes the compiler slow.
MAX_PROGRAM_CHARS = 200_000
#: Fence labels that may hold a program of each language; no label fits every language.
_LABELS: dict[str, frozenset[str]] = {
    "python": frozenset(["python", "py", "python3", "py3", "python2", "ipython"]),
    "c++": frozenset(["c++", "cpp", "cc", "cxx", "c", "c++17", "c++20", "cpp17", "cpp20"]),
}
# `warnings.catch_warnings` swaps process-wide state, so two threads must not do it at once.
_COMPILE_LOCK = threading.Lock()


@attrs.frozen
class FencedBlock:
    """A fenced block of a reply.

    :param label: the language it is labelled with, in lower case; empty if none.
    :param text: what is between the fences.
    """

    label: str
    text: str


def fenced_blocks(text: str) -> list[FencedBlock]:
    """All fenced blocks of a reply, in order; a block that is never closed runs to the end.

    A labelled fence inside an open block closes it and opens the next, as models do when they start over.
    """
    blocks: list[FencedBlock] = []
    mark, label, lines = "", "", list[str]()
    for line in text.replace("\r\n", "\n").split("\n"):
        fence = _fence(line)
        if not mark:
            fence = fence or _fence_after_prose(line)
            if fence:
                (mark, label), lines = fence, []
        elif fence and fence[0].startswith(mark):
            blocks.append(FencedBlock(label, "\n".join(lines)))
            mark, label, lines = (fence[0] if _is_language(fence[1]) else ""), fence[1], []
        else:
            lines.append(line)
    if mark:
        blocks.append(FencedBlock(label, "\n".join(lines)))
    return blocks


def _fence(line: str) -> tuple[str, str] | None:
    """The fence characters and the lower-case label of a line that starts with a fence."""
    text = line.strip()
    if text[:3] not in ("```", "~~~"):
        return None
    rest = text.lstrip(text[0])
    if "`" in rest:
        return None
    # The label is what a language name can hold: ``{.python}`` and ``python:name.py`` both mean python.
    label = re.match(r"[\s{.]*([\w+#]*)", rest)
    return text[: len(text) - len(rest)], label[1].lower() if label else ""


def _fence_after_prose(line: str) -> tuple[str, str] | None:
    """A labelled fence at the end of a line of prose: ``Here it is: ```python``."""
    before, mark, label = line.rstrip().rpartition("```")
    if not mark or "`" in before or not _is_language(label.lower()):
        return None
    return mark, label.lower()


def parse_program(text: str, language: str, entry: str) -> Action | Verdict:
    """The program of a reply: its last fenced block that defines ``entry``.

    :param text: the reply, thinking removed.
    :param language: ``python`` (must compile) or ``c++`` (left to its compiler).
    :param entry: name the program must define; empty asks for none.
    :return: the action, or a verdict: ``parse_error`` without a fitting block, ``syntax_error`` (with the
        line) when the block does not compile.
    """
    labels = _LABELS.get(language, frozenset([language]))
    blocks = [block for block in fenced_blocks(text) if not block.label or block.label in labels]
    blocks = [block for block in blocks if block.text.strip()]
    if not blocks:
        return Verdict.failed(Status.PARSE_ERROR, f"the reply has no fenced {language} code block")
    chosen = next((block for block in reversed(blocks) if _mentions(block.text, language, entry)), None)
    if chosen is None:
        if language == "python":
            failure = _compile_failure(blocks[-1].text)
            if failure is not None:
                return failure
        return Verdict.failed(
            Status.PARSE_ERROR, f"no code block defines {entry}", code=_clip(blocks[-1].text)
        )
    source = chosen.text.strip("\n") + "\n"
    if len(source) > MAX_PROGRAM_CHARS:
        return Verdict.failed(
            Status.PARSE_ERROR,
            f"the program has {len(source)} characters; at most {MAX_PROGRAM_CHARS} are read",
        )
    if language == "python":
        failure = checked_program(source, entry)
        if failure is not None:
            return failure
    return Action(code=source, language=language)


def _is_language(label: str) -> bool:
    return any(label in labels for labels in _LABELS.values())


def _clip(text: str) -> str:
    return text[:MAX_PROGRAM_CHARS]


def _mentions(text: str, language: str, entry: str) -> bool:
    if not entry:
        return True
    name = re.escape(entry)
    if language == "python":
        # Only a filter before the real parse; [ \t] rather than \s keeps blank lines from costing n squared.
        bound = rf"^[ \t]*(?:(?:async[ \t]+)?def[ \t]+{name}\b|class[ \t]+{name}\b|{name}[ \t]*[:=])"
        if re.search(bound, text, re.MULTILINE):
            return True
        return any("import" in line and re.search(rf"\b{name}\b", line) for line in text.split("\n"))
    return re.search(rf"\b{name}\s*\(", text) is not None


def _compile_failure(source: str) -> Verdict | None:
    """A verdict when Python cannot compile ``source``; compiling runs none of it."""
    try:
        _compiled(source, 0)
    except SyntaxError as error:
        line = f" (line {error.lineno})" if error.lineno else ""
        return Verdict.failed(Status.SYNTAX_ERROR, f"{error.msg}{line}", code=_clip(source))
    except (RecursionError, MemoryError):
        return Verdict.failed(Status.SYNTAX_ERROR, "the program is nested too deeply", code=_clip(source))
    except (ValueError, OverflowError) as error:
        return Verdict.failed(Status.SYNTAX_ERROR, str(error), code=_clip(source))
    return None


def _entry_failure(source: str, entry: str) -> Verdict | None:
    if not entry:
        return None
    try:
        tree = syntax_tree(source)
    except (RecursionError, MemoryError):
        return Verdict.failed(Status.SYNTAX_ERROR, "the program is nested too deeply", code=_clip(source))
    if entry in set(_bound_names(tree)):
        return None
    return Verdict.failed(
        Status.PARSE_ERROR, f"the program does not define {entry} at its top level", code=source
    )


def syntax_tree(source: str) -> ast.Module:
    """The syntax tree of a program; nothing of it runs.

    :raises SyntaxError, ValueError, RecursionError, MemoryError: as :func:`compile` does.
    """
    tree: ast.Module = _compiled(source, ast.PyCF_ONLY_AST)
    return tree


def checked_program(source: str, entry: str) -> Verdict | None:
    """A verdict when a Python program does not compile or does not define ``entry``; else ``None``."""
    return _compile_failure(source) or _entry_failure(source, entry)


def _compiled(source: str, flags: int) -> Any:
    if len(source) > MAX_PROGRAM_CHARS:
        raise ValueError(f"the program has {len(source)} characters; at most {MAX_PROGRAM_CHARS} are read")
    with _COMPILE_LOCK, warnings.catch_warnings():
        # A candidate's dubious escapes are its own affair and must not become our warnings or errors.
        warnings.simplefilter("ignore")
        return compile(source, "<program>", "exec", flags=flags, dont_inherit=True)


def _bound_names(node: ast.AST) -> Iterator[str]:
    """Names bound at module level, those inside top-level ``if``, ``try``, ``with`` and loops included."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield child.name
        elif isinstance(child, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.split(".")[0] for alias in child.names)
        elif isinstance(child, ast.Assign | ast.AnnAssign | ast.NamedExpr):
            targets = child.targets if isinstance(child, ast.Assign) else [child.target]
            yield from (
                name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)
            )
        elif isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            yield from _bound_names(child)
