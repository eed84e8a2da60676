"""Whether a program contains a Triton kernel that it launches; read from its text, nothing of it runs."""

from __future__ import annotations

import ast

from ttd_core import parsing

_JIT = "jit"


def triton_kernels(source: str) -> list[str]:
    """Names of the functions decorated with ``triton.jit`` that some other code of the program launches.

    :param source: a program that compiles.
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
    inside = {id(each) for node in jitted.values() for each in ast.walk(node)}
    launched = {
        node.func.value.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and id(node) not in inside
        and isinstance(node.func, ast.Subscript)
        and isinstance(node.func.value, ast.Name)
    }
    return sorted(jitted.keys() & launched)


def _names_of_jit(tree: ast.Module) -> set[str]:
    """Names that ``from triton import jit`` binds."""
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "triton"
        for alias in node.names
        if alias.name == _JIT
    }


def _is_jit(decorator: ast.expr, names: set[str]) -> bool:
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    if isinstance(target, ast.Name):
        return target.id in names
    return isinstance(target, ast.Attribute) and target.attr == _JIT and ast.unparse(target.value) == "triton"
