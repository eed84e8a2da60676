"""Syntax trees of programs that nobody trusts, read in bounded time and memory; nothing of them runs.

Only the tree is made. Bytecode is not: nested ``finally`` blocks double it with each level, so that a
thousand characters take gigabytes. What only Python's compiler finds (``return`` outside a function), the
sandbox says, where the program is compiled under its limits.

Measured on Python 3.11, 3.12 and 3.13 with programs of the greatest length, a tree takes below half a second
and 150 MB, and f-strings alone take more than linear time: :data:`~ttd_core.dialogue.literals.MAX_FIELD_COST`
bounds them.
"""

from __future__ import annotations

import ast
import threading
import warnings
from collections.abc import Iterator

from ttd_core.dialogue.literals import MAX_FIELD_COST, field_cost
from ttd_core.types import Status, Verdict

#: Longest program read, in characters: far above any real one, far below what makes the parser slow.
MAX_PROGRAM_CHARS = 200_000
#: What :func:`syntax_tree` raises on what is no program.
UNPARSABLE = (SyntaxError, ValueError, RecursionError, MemoryError)
# `warnings.catch_warnings` swaps process-wide state, so two threads must not do it at once.
_PARSE_LOCK = threading.Lock()


def syntax_tree(source: str) -> ast.Module:
    """The syntax tree of a program.

    :raises SyntaxError, ValueError, RecursionError, MemoryError: when Python cannot parse it, or when it is
        too long or has f-strings with too many fields to be read.
    """
    if len(source) > MAX_PROGRAM_CHARS:
        raise ValueError(f"the program has {len(source)} characters; at most {MAX_PROGRAM_CHARS} are read")
    if field_cost(source) > MAX_FIELD_COST:
        raise ValueError("the program's f-strings have too many fields to be read; write shorter ones")
    with _PARSE_LOCK, warnings.catch_warnings():
        # A candidate's dubious escapes are its own affair and must not become our warnings or errors.
        warnings.simplefilter("ignore")
        tree = compile(source, "<program>", "exec", flags=ast.PyCF_ONLY_AST, dont_inherit=True)
    assert isinstance(tree, ast.Module)
    return tree


def syntax_failure(source: str) -> Verdict | None:
    """A verdict when Python cannot parse ``source``."""
    found = _tree_or_failure(source)
    return found if isinstance(found, Verdict) else None


def checked_program(source: str, entry: str) -> Verdict | None:
    """A verdict when a Python program does not parse or does not define ``entry``; else ``None``."""
    found = _tree_or_failure(source)
    if isinstance(found, Verdict):
        return found
    if not entry or any(name == entry for name in bound_names(found)):
        return None
    return Verdict.failed(
        Status.PARSE_ERROR, f"the program does not define {entry} at its top level", code=source
    )


def binds_something(source: str) -> bool:
    """Whether a text is a Python program that binds a name at its top level or changes something there."""
    found = _tree_or_failure(source)
    if isinstance(found, Verdict):
        return False
    return any(_binds(statement) for statement in found.body)


def _binds(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Call)
    if isinstance(statement, ast.AnnAssign):
        return statement.value is not None
    return not isinstance(statement, ast.Pass)


def clipped(text: str) -> str:
    """A program as a verdict shows it."""
    return text[:MAX_PROGRAM_CHARS]


def _tree_or_failure(source: str) -> ast.Module | Verdict:
    try:
        return syntax_tree(source)
    except SyntaxError as error:
        line = f" (line {error.lineno})" if error.lineno else ""
        message = f"{error.msg}{line}"
    except (RecursionError, MemoryError):
        message = "the program is nested too deeply"
    except ValueError as error:
        message = str(error)
    return Verdict.failed(Status.SYNTAX_ERROR, message, code=clipped(source))


def bound_names(tree: ast.AST) -> Iterator[str]:
    """Names bound at module level, those inside top-level ``if``, ``try``, ``with`` and loops included."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        for child in ast.iter_child_nodes(waiting.pop()):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield child.name
            elif isinstance(child, ast.Import | ast.ImportFrom):
                yield from (alias.asname or alias.name.split(".")[0] for alias in child.names)
            elif isinstance(child, ast.AnnAssign) and child.value is None:
                # It declares a type and binds nothing.
                continue
            elif isinstance(child, ast.Assign | ast.AnnAssign | ast.NamedExpr):
                targets = child.targets if isinstance(child, ast.Assign) else [child.target]
                yield from (
                    name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)
                )
            elif isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
                waiting.append(child)
