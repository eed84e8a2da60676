"""Which programs merely repeat another: equal but for comments, blank lines, quotes and docstrings.

A repeat brings no news. Whether a verdict is taken over is another question, for which programs must be equal
in every character (:mod:`ttd_core.run.known_verdicts`).
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ttd_core.dialogue.parsing import syntax_tree
from ttd_core.types import Group


class Repeats:
    """Tells which rollouts merely repeat a program that they started from.

    :param starting_codes: the programs a run started from.
    """

    def __init__(self, starting_codes: Sequence[str]) -> None:
        self._starting = {fingerprint(code) for code in starting_codes}

    def among(self, group: Group, start_code: str) -> npt.NDArray[np.bool_]:
        """bool [rollouts]: whether a rollout's program is that of its start, or one of the starting ones.

        :param start_code: the program of the group's start state; empty when it has none.
        """
        known = self._starting | ({fingerprint(start_code)} if start_code else set())
        codes = [rollout.verdict.code for rollout in group]
        return np.array([bool(code) and fingerprint(code) in known for code in codes], np.bool_)


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
