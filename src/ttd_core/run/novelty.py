"""When two programs are the same: equal but for comments, blank lines, quotes and docstrings."""

from __future__ import annotations

import ast
import functools


@functools.lru_cache(maxsize=4096)
def fingerprint(code: str) -> str:
    """A text equal for programs that differ only in layout; the stripped source if it is not Python."""
    try:
        tree = ast.parse(code)
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
                _drop_docstring(node)
        return ast.dump(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "\n".join(line.strip() for line in code.splitlines() if line.strip())


def _drop_docstring(node: ast.Module | ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef) -> None:
    first = node.body[0] if node.body else None
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        node.body = node.body[1:]


def same_program(first: str, second: str) -> bool:
    """Whether two programs do the same for the same reason: one merely repeats the other."""
    return fingerprint(first) == fingerprint(second)
