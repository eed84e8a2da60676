"""Which programs merely repeat another: equal but for comments, blank lines, quotes and docstrings."""

from __future__ import annotations

import ast
import functools
import hashlib

from ttd_core.dialogue.parsing import syntax_tree


@functools.lru_cache(maxsize=4096)
def fingerprint(code: str) -> str:
    """A digest that is equal for programs that differ only in layout.

    Of the syntax tree without docstrings; for what is not Python, of the lines stripped of their surrounding
    white space, empty ones left out.
    """
    return hashlib.sha256(_substance(code).encode("utf-8", "surrogatepass")).hexdigest()


def _substance(code: str) -> str:
    try:
        tree = syntax_tree(code)
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
    """Whether one program merely repeats the other."""
    return fingerprint(first) == fingerprint(second)
