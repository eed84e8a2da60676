"""The public names of ``ttd_core``, each with the page that describes it."""

from __future__ import annotations

import ast
import importlib
import inspect
import pathlib
import re
from collections.abc import Sequence

import ttd_core
from tools.reference.markdown import REFERENCE, code, page, plain, table


def names_page() -> str:
    """Every public name of ``ttd_core`` with the page that describes it."""
    rows = []
    for name in ttd_core.__all__:
        module, sentence = documented(name)
        rows.append([f"[`{name}`]({api_pages()[module]}#{module}.{name})", code(module), sentence])
    return page(
        "Python",
        "What `ttd_core` exports, for plugins to build on. A name is imported when it is first used, so "
        "`import ttd_core` is fast. `tests/test_public_names.py` freezes the list, for a change to it is a "
        "change for users.",
        table(["name", "from", "what"], rows),
        "Beside them: [the config](config.md), [reading runs](run.md), and [tests of plugins](testing.md).",
    )


def api_pages() -> dict[str, str]:
    """Module to the page that describes it."""
    pages = {}
    for path in sorted((REFERENCE / "api").glob("*.md")):
        for module in re.findall(r"^::: ([\w.]+)$", path.read_text(encoding="utf-8"), re.MULTILINE):
            pages[module] = path.name
    return pages


def documented(name: str) -> tuple[str, str]:
    """Where a public name is defined, among the modules that have a page, and its first sentence.

    :raises LookupError: when no such module defines it, or nothing says what it is.
    """
    for module in api_pages():
        path = pathlib.Path(inspect.getfile(importlib.import_module(module)))
        source = path.read_text(encoding="utf-8")
        for node in ast.parse(source).body:
            if name in _bound(node):
                said = _said(node, source.splitlines())
                if not said:
                    raise LookupError(f"{module}.{name} has no docstring, nor a comment that begins with #:")
                return module, plain(said.split("\n\n")[0]).partition(". ")[0].rstrip(".") + "."
    raise LookupError(f"no page of docs/reference/api describes a module that defines {name}")


def _bound(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


def _said(node: ast.stmt, lines: Sequence[str]) -> str:
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return ast.get_docstring(node) or ""
    comment: list[str] = []
    for line in reversed(lines[: node.lineno - 1]):
        if not line.startswith("#:"):
            break
        comment.insert(0, line.removeprefix("#:"))
    return "\n".join(comment)
