"""Whether a program contains a Triton kernel that it launches; read from its text, nothing of it runs."""

from __future__ import annotations

import ast

from ttd_core.dialogue import parsing

_JIT = "jit"
#: Modules whose ``jit`` makes a kernel: Triton, and Gluon, its lower-level dialect.
_DIALECTS = ("triton", "gluon")


def launched_triton_kernels(source: str) -> list[str]:
    """Names of the functions under ``triton.jit`` (or Gluon's) that a program launches, sorted.

    A kernel counts when code outside of kernels launches it by name, ``name[grid](...)``, or hands its name
    on where something is launched that way.

    :param source: of a program; one that does not compile launches none.
    """
    try:
        tree = parsing.syntax_tree(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    names = _names_of_jit(tree)
    jitted = {
        node.name: node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and any(_is_jit(each, names) for each in node.decorator_list)
    }
    outside = _outside_of(tree, {id(node) for node in jitted.values()})
    launches = [node.func for node in outside if isinstance(node, ast.Call) and _is_launch(node)]
    if not launches:
        return []
    named = {node.id for node in outside if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return sorted(jitted.keys() & named)


def _outside_of(tree: ast.AST, left_out: set[int]) -> list[ast.AST]:
    """The nodes of a tree but for those of some functions, each looked at once."""
    found: list[ast.AST] = []
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if id(node) not in left_out:
            found.append(node)
            waiting.extend(ast.iter_child_nodes(node))
    return found


def _is_launch(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Subscript) and isinstance(node.func.value, ast.Name | ast.Attribute)


def _names_of_jit(tree: ast.Module) -> set[str]:
    """Names that ``from triton import jit`` binds."""
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").rpartition(".")[2] in _DIALECTS
        for alias in node.names
        if alias.name == _JIT
    }


def _is_jit(decorator: ast.expr, names: set[str]) -> bool:
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    if isinstance(target, ast.Name):
        return target.id in names
    if not isinstance(target, ast.Attribute) or target.attr != _JIT:
        return False
    owner = target.value
    return (owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")) in _DIALECTS
