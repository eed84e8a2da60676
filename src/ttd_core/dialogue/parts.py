"""The top-level parts of a program, and what they mean to each other."""

from __future__ import annotations

import ast
import functools
from collections.abc import Sequence

import attrs

from ttd_core.dialogue.effects import Effects, effects_of, imported_name
from ttd_core.dialogue.fences import with_line_ends
from ttd_core.dialogue.syntax import syntax_tree


@attrs.frozen
class Part:
    """One top-level statement of a program; several on one line are one part.

    :param names: the names it binds, sorted; empty for a bare statement.
    :param kind: ``future``, ``import``, ``assign``, ``define``, ``guard`` (what runs in a script alone: ``if
        __name__ == "__main__":``), ``text`` (a value that nobody takes, a docstring say) or ``other``.
    :param first: its first line, decorators included, from 1.
    :param last: its last line.
    :param text: its source, without the line end.
    :param statements: their syntax trees.
    """

    names: tuple[str, ...]
    kind: str
    first: int
    last: int
    text: str
    statements: Sequence[ast.stmt] = attrs.field(repr=False, eq=False)

    @functools.cached_property
    def effects(self) -> Effects:
        """What running it does.

        :raises RecursionError: when it is nested too deeply.
        """
        return effects_of(self.statements)

    @property
    def title(self) -> str:
        """How a message names it: its first line, cut."""
        line = self.text.split("\n")[0].strip()
        return f"`{line[:60]}{'…' if len(line) > 60 else ''}`"


def source_lines(source: str) -> list[str]:
    """The lines of a program as Python counts them: form feeds and the like end none."""
    lines = with_line_ends(source).split("\n")
    return lines if lines[-1] else lines[:-1]


def split_parts(source: str) -> list[Part]:
    """The top-level parts of a program, in order.

    :raises SyntaxError, ValueError, RecursionError, MemoryError: when it does not parse.
    """
    lines = source_lines(source)
    groups: list[tuple[int, int, list[ast.stmt]]] = []
    for statement in syntax_tree(with_line_ends(source)).body:
        decorators = getattr(statement, "decorator_list", [])
        first = min([statement.lineno, *(decorator.lineno for decorator in decorators)])
        last = statement.end_lineno or statement.lineno
        if groups and first <= groups[-1][1]:
            # Neither of two statements on one line can be replaced alone.
            before = groups.pop()
            groups.append((before[0], last, [*before[2], statement]))
        else:
            groups.append((first, last, [statement]))
    return [_part(statements, first, last, lines) for first, last, statements in groups]


def _part(statements: Sequence[ast.stmt], first: int, last: int, lines: Sequence[str]) -> Part:
    names = {name for statement in statements for name in _bound(statement)}
    kinds = [_kind(statement) for statement in statements]
    kind = next((kind for kind in kinds if kind not in ("text", "other")), kinds[0])
    text = "\n".join(lines[first - 1 : last])
    return Part(tuple(sorted(names)), kind, first, last, text, statements)


def _bound(statement: ast.stmt) -> set[str]:
    """The names by which a statement is known."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {imported_name(alias, statement) for alias in statement.names}
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
    return set()


def _kind(statement: ast.stmt) -> str:
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return "define"
        case ast.ImportFrom(module="__future__"):
            return "future"
        case ast.Import() | ast.ImportFrom():
            return "import"
        case ast.Assign() | ast.AnnAssign():
            return "assign"
        case ast.If(test=ast.Compare(left=left, comparators=[right]), orelse=[]):
            if any(isinstance(side, ast.Name) and side.id == "__name__" for side in (left, right)):
                return "guard"
        case ast.Expr(value=ast.Constant()) | ast.Pass():
            return "text"
    return "other"
