"""Names of code in pages, looked up in the source without importing it."""

from __future__ import annotations

import ast
import functools
import pathlib
from collections.abc import Iterator, Sequence

ROOT = pathlib.Path(__file__).parents[2]
ROOTS = [ROOT / "src", *sorted((ROOT / "plugins").glob("*/src"))]


def exists(dotted: str) -> bool:
    """Whether ``package.module.Class.member`` names something: a module, or what one defines."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        for root in ROOTS:
            path = root.joinpath(*parts[:length])
            for file in (path.with_suffix(".py"), path / "__init__.py"):
                if file.is_file():
                    return defines(file, parts[length:])
    return False


def defines(file: pathlib.Path, names: Sequence[str]) -> bool:
    """Whether a file defines ``names[0]`` at its top level, with the rest inside one another."""
    body: list[ast.stmt] | None = _tree(file).body
    for name in names:
        found = [node for node in body or () if name in _bound(node)]
        if not found:
            return False
        body = found[-1].body if isinstance(found[-1], ast.ClassDef) else None
    return True


@functools.cache
def _tree(file: pathlib.Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _bound(node: ast.stmt) -> Iterator[str]:
    """Names that a statement binds; of a method also the attributes it sets on ``self``."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield node.name
    if isinstance(node, ast.FunctionDef):
        for inner in ast.walk(node):
            if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
                yield inner.attr
    if isinstance(node, ast.Assign):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id
    if isinstance(node, ast.ImportFrom):
        yield from (alias.asname or alias.name for alias in node.names)
