"""Replies that give only what they change: top-level parts of a program, merged into the last one.

A part is a function, a class, an import or an assignment. A part of the reply replaces the part of the
program that binds the same names; a new one is added. So a small model that cannot retype forty lines
without a slip can still change one of them, for a tenth of the tokens.
"""

from __future__ import annotations

import ast

import attrs

from ttd_core.dialogue.parsing import checked_program, syntax_tree
from ttd_core.types import Action, Verdict


@attrs.frozen
class Part:
    """One top-level statement of a program; several on one line are one part.

    :param names: the names it binds, sorted; empty for a bare statement.
    :param kind: ``import``, ``assign``, ``define`` or ``other``.
    :param first: its first line, decorators included, from 1.
    :param last: its last line.
    :param text: its source, without the line end.
    """

    names: tuple[str, ...]
    kind: str
    first: int
    last: int
    text: str


def split_parts(source: str) -> list[Part]:
    """The top-level parts of a program, in order.

    :raises SyntaxError: when it does not parse.
    """
    lines = source.splitlines()
    parts: list[Part] = []
    for statement in syntax_tree(source).body:
        decorators = getattr(statement, "decorator_list", [])
        first = min([statement.lineno, *(decorator.lineno for decorator in decorators)])
        last = statement.end_lineno or statement.lineno
        names, kind = _bound(statement)
        if parts and first <= parts[-1].last:
            # Neither of two statements on one line can be replaced alone.
            before = parts.pop()
            names, kind, first = tuple(sorted({*before.names, *names})), before.kind, before.first
        parts.append(Part(names, kind, first, last, "\n".join(lines[first - 1 : last])))
    return parts


def _bound(statement: ast.stmt) -> tuple[tuple[str, ...], str]:
    """The names a statement binds, and its kind."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return (statement.name,), "define"
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return tuple(sorted(alias.asname or alias.name for alias in statement.names)), "import"
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        names = {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
        return tuple(sorted(names)), "assign"
    return (), "other"


def complete_program(program: str, action: Action, entry: str) -> Action | Verdict:
    """The whole program that an action made of parts stands for.

    :param program: the last program; empty when there is none, then the parts must be a whole one.
    :param action: parts that compile.
    :param entry: name the whole must define.
    :return: the merged program, or a verdict when it does not compile or lacks the entry.
    """
    merged = merge_parts(program, action.code) if program.strip() else action.code
    failure = checked_program(merged, entry)
    return failure if failure is not None else Action(merged, action.language)


def merge_parts(program: str, reply: str) -> str:
    """``program`` with the reply's parts put in.

    A part that binds the same names replaces the old one where it stands. New imports and assignments go
    after the leading imports and assignments, where later parts can use them; new definitions go to the end.
    Bare statements of the reply (a call that tries the program out, say) are left out.

    :raises SyntaxError: when either does not parse.
    """
    old = split_parts(program)
    # Of two versions of one part the last is in force, as it would be had the reply been run.
    new = {part.names: part for part in split_parts(reply) if part.names}.values()
    lines = program.splitlines()
    old_by_names = {part.names: part for part in old if part.names}
    # New parts by the first line of the old part that they replace.
    replaced: dict[int, Part] = {}
    heading: list[str] = []
    ending: list[str] = []
    for part in new:
        if part.names in old_by_names:
            replaced[old_by_names[part.names].first] = part
        elif part.kind == "define":
            ending.append(part.text)
        else:
            heading.append(part.text)
    leading = 0
    for part in old:
        if part.kind not in ("import", "assign") and not _is_docstring(part):
            break
        leading = part.last
    result: list[str] = [] if leading else list(heading)
    skip_to = 0
    for number, line in enumerate(lines, start=1):
        if number in replaced:
            result.append(replaced[number].text)
            skip_to = next(part.last for part in old if part.first == number)
        elif number > skip_to:
            result.append(line)
        if number == leading:
            result.extend(heading)
    for text in ending:
        result += ["", "", text]
    return "\n".join(result).strip("\n") + "\n"


def _is_docstring(part: Part) -> bool:
    return part.kind == "other" and part.text.lstrip("rRuU")[:1] in ("'", '"')
