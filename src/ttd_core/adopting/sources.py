"""A task's own sources, followed from import to import, and what their syntax trees say; nothing runs."""

from __future__ import annotations

import ast
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence

import attrs

from ttd_core.adopting.folder import require_within
from ttd_core.dialogue.syntax import MAX_PROGRAM_CHARS, UNPARSABLE, bound_names, syntax_tree
from ttd_core.errors import UsageError
from ttd_core.input_files import read_text_file
from ttd_core.text import showable_line

#: Most files of a task that are followed, parts of a module's name, and names of a program looked for.
MAX_SOURCES, MAX_PARTS, MAX_NAMES = 200, 10, 200
#: Metrics that stand for a score where an evaluator gives no ``combined_score``, in this order.
_SCORES = ("combined_score", "score", "overall_score", "final_score", "fitness")
#: What catches a module that is not there.
_CATCH_IMPORTS = frozenset({"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})


@attrs.frozen
class Source:
    """A file of a task.

    :param path: it, absolute.
    :param name: it, as messages name it.
    :param text: what it holds.
    :param tree: its syntax tree; ``None`` where it is no Python.
    """

    path: pathlib.Path
    name: str
    text: str
    tree: ast.Module | None

    def at(self, node: ast.AST) -> str:
        """File and line of a node."""
        return f"{self.name}:{getattr(node, 'lineno', 0)}"


@attrs.frozen
class Import:
    """A module that a source imports.

    :param module: its dotted name.
    :param names: what is taken of it; empty for the module itself.
    :param where: file and line.
    :param optional: whether the source goes on where the module is missing.
    :param deferred: whether it is imported only where a function is called.
    """

    module: str
    names: tuple[str, ...]
    where: str
    optional: bool
    deferred: bool


def source_of(path: pathlib.Path, folder: pathlib.Path) -> Source:
    """A file and, where it is Python, its syntax tree.

    :raises UsageError: when it cannot be read, is named as Python and is none, or is a link that leads out
        of the folder.
    """
    require_within(path, folder)
    text = read_text_file(path)
    name = str(path.relative_to(folder)) if path.is_relative_to(folder) else path.name
    if path.suffix != ".py":
        if len(text) > MAX_PROGRAM_CHARS:
            raise UsageError(f"{path}: {len(text)} characters; at most {MAX_PROGRAM_CHARS} are read")
        return Source(path, name, text, None)
    try:
        return Source(path, name, text, syntax_tree(text))
    except UNPARSABLE as error:
        line = getattr(error, "lineno", None)
        reason = getattr(error, "msg", None) or str(error) or "it is nested too deeply"
        raise UsageError(
            f"{path}: not Python that can be read: {showable_line(reason)[:200]}"
            + (f" (line {line})" if line else "")
        ) from error


def followed(
    first: Sequence[Source],
    folder: pathlib.Path,
    places: Sequence[pathlib.Path],
    named: Mapping[str, pathlib.Path],
) -> list[Source]:
    """Sources and the task's own files that they import, directly or not; a file that cannot be read is left.

    :param places: folders where a module may lie.
    :param named: modules that lie elsewhere, by name.
    """
    found = {source.path.resolve(): source for source in first}
    waiting = list(first)
    while waiting and len(found) < MAX_SOURCES:
        source = waiting.pop(0)
        for each in imports_of(source):
            for path in _files_of(each, source, places, named):
                if path.resolve() in found:
                    continue
                try:
                    new = source_of(path, folder)
                except UsageError:
                    continue
                found[path.resolve()] = new
                waiting.append(new)
    return list(found.values())


def is_local(module: str, places: Sequence[pathlib.Path], named: Mapping[str, pathlib.Path]) -> bool:
    """Whether a module is a file or a folder of the task's own."""
    top = module.split(".")[0]
    return top in named or any(
        os.path.isfile(place / f"{top}.py") or os.path.isdir(place / top) for place in places
    )


def _files_of(
    each: Import, source: Source, places: Sequence[pathlib.Path], named: Mapping[str, pathlib.Path]
) -> Iterator[pathlib.Path]:
    module = each.module.lstrip(".")
    level = len(each.module) - len(module)
    if not level and module in named:
        yield named[module]
        return
    roots = [source.path.parents[level - 1]] if 0 < level <= len(source.path.parents) else list(places)
    parts = module.split(".")[:MAX_PARTS] if module else []
    for root in roots:
        # The module, the packages around it, and the modules that are taken out of a package.
        for end in range(1, len(parts) + 1):
            base = root.joinpath(*parts[:end])
            yield from (
                path for path in (base.with_suffix(".py"), base / "__init__.py") if os.path.isfile(path)
            )
        base = root.joinpath(*parts)
        yield from (path for name in each.names if os.path.isfile(path := base / f"{name}.py"))


def imports_of(source: Source) -> Iterator[Import]:
    """Every import of a source, those in functions too; not what stands under ``if TYPE_CHECKING``."""
    waiting: list[tuple[ast.AST, bool, bool]] = [(source.tree, False, False)] if source.tree else []
    while waiting:
        node, optional, deferred = waiting.pop()
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, (), source.at(node), optional, deferred)
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            yield Import("." * node.level + (node.module or ""), names, source.at(node), optional, deferred)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting.extend((child, optional, deferred) for child in node.orelse)
        elif isinstance(node, ast.Try):
            inside = optional or any(_catches_imports(handler) for handler in node.handlers)
            waiting.extend((child, inside, deferred) for child in node.body)
            waiting.extend(
                (child, optional, deferred) for child in (*node.handlers, *node.orelse, *node.finalbody)
            )
        else:
            deferred = deferred or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            waiting.extend((child, optional, deferred) for child in ast.iter_child_nodes(node))


def _catches_imports(handler: ast.ExceptHandler) -> bool:
    caught = [] if handler.type is None else list(ast.walk(handler.type))
    names = {each.id for each in caught if isinstance(each, ast.Name)}
    # A handler that raises again, or that ends the program, does not go on.
    goes_on = not any(isinstance(each, ast.Raise) for each in ast.walk(handler))
    return goes_on and (handler.type is None or bool(names & _CATCH_IMPORTS))


def defined_names(tree: ast.Module) -> set[str]:
    """Names bound at a module's top level."""
    return set(bound_names(tree))


def entry_of(program: str, suffix: str, evaluators: Sequence[Source]) -> str:
    """The function or class of a program that its evaluator calls; empty where that cannot be read.

    Only what the program defines at its top level can be it. What the evaluator names as text, as in
    ``experiment_fn_name="run"`` or ``hasattr(program, "run")``, comes before what it calls by
    ``program.run(`` and what it imports; of several, the one that is named first.

    :param evaluators: the evaluator, and the files that it imports.
    """
    if suffix != ".py":
        return ""
    try:
        tree = syntax_tree(program)
    except UNPARSABLE:
        return ""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    defined = [each.name for each in tree.body if isinstance(each, kinds)][:MAX_NAMES]
    for pattern in (
        r"experiment_fn_name\s*=\s*[\"']{}[\"']",
        r"(?:has|get)attr\(\s*\w+\s*,\s*[\"']{}[\"']",
        r"\b(?:prog|program|mod|module|solution|candidate|submission)(?:_module)?\.{}\(",
        r"\bimport\s+(?:\w+\s*,\s*)*{}\b",
        r"[\"']{}[\"']",
        r"\.{}\(",
    ):
        for evaluator in evaluators:
            matches = [(re.search(pattern.format(name), evaluator.text), name) for name in defined]
            if found := [(match.start(), name) for match, name in matches if match]:
                return min(found)[1]
    return ""


def metric_of(sources: Sequence[Source], framework: str) -> tuple[str, str]:
    """Which metric of an evaluator is its score, and a line where it is not ``combined_score``.

    :param sources: the evaluator and the files that it imports.
    """
    keys = [key for source in sources for key in _keys_of(source)]
    known = [name for name in _SCORES if name in keys] or [key for key in keys if key.endswith("score")]
    if "combined_score" in known or not keys:
        return "combined_score", ""
    why = f"{sources[0].name}: it gives no combined_score, and {framework} takes the mean of its metrics then"
    return (known or ["combined_score"])[0], (
        f"{why}: the score is its {known[0]} (--metric names another)"
        if known
        else f"{why}: name one by --metric"
    )


def _keys_of(source: Source) -> list[str]:
    """Keys that a source gives to dicts, in the order of its lines."""
    found = []
    for node in ast.walk(source.tree) if source.tree else ():
        keys: list[ast.expr | None] = []
        if isinstance(node, ast.Dict):
            keys = list(node.keys)
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            keys = [node.slice]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "dict":
            found += [(node.lineno, each.arg) for each in node.keywords if each.arg]
        found += [
            (key.lineno, key.value)
            for key in keys
            if isinstance(key, ast.Constant) and isinstance(key.value, str)
        ]
    return [key for _, key in sorted(found)]
