"""What running a top-level statement does to the names of a program, from its syntax tree alone.

An over-estimate where Python leaves it open: whatever a bare call is given, it may change.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable

import attrs

#: Methods that change what they are called on, in whatever expression they stand.
_MUTATORS = frozenset(
    [
        *("add", "append", "appendleft", "clear", "discard", "extend", "extendleft", "fill", "insert", "pop"),
        *("popitem", "popleft", "put", "remove", "resize", "reverse", "rotate", "setdefault", "setflags"),
        *("shuffle", "sort", "update", "difference_update", "intersection_update"),
    ]
)
#: Functions that change nothing they are given.
_HARMLESS = frozenset(["print", "pprint", "display", "help", "repr", "len", "str", "sum", "sorted", "type"])
#: Stands for a value that no name leads to: ``globals()["x"] = 1`` changes it.
UNKNOWN = "?"


@attrs.frozen
class Effects:
    """Names that a statement reads, binds and changes.

    :param binds: names it binds in the module, on some path.
    :param fresh: those it binds on every path, whatever they held before.
    :param temporary: those that are loop variables and the like.
    :param changes: names whose values it may change in place.
    :param reads: names read while it runs.
    :param calls: those of ``reads`` that bare calls call.
    :param later: names read when the functions run that it defines.
    :param changes_later: names that those functions bind in the module or change in place.
    """

    binds: frozenset[str]
    fresh: frozenset[str]
    temporary: frozenset[str]
    changes: frozenset[str]
    reads: frozenset[str]
    calls: frozenset[str]
    later: frozenset[str]
    changes_later: frozenset[str]


def effects_of(statements: Iterable[ast.stmt]) -> Effects:
    """The effects of statements that run one after the other.

    :raises RecursionError: when one is nested too deeply.
    """
    names = _Names()
    fresh: set[str] = set()
    for statement in statements:
        names.visit(statement)
        fresh |= _bound_on_all_paths(statement)
    return Effects(
        frozenset(names.binds),
        frozenset(fresh - names.reads - names.temporary),
        frozenset(names.temporary),
        frozenset(names.changes),
        frozenset(names.reads),
        frozenset(names.calls),
        frozenset(names.later),
        frozenset(names.changes_later),
    )


def imported_name(alias: ast.alias, statement: ast.Import | ast.ImportFrom) -> str:
    """The name under which an import is known: ``a.b`` of ``import a.b``, ``*math`` of a star import."""
    if alias.name == "*" and isinstance(statement, ast.ImportFrom):
        return f"*{'.' * statement.level}{statement.module or ''}"
    return alias.asname or alias.name


def _bound_on_all_paths(statement: ast.stmt) -> set[str]:
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return {statement.name}
        case ast.Import() | ast.ImportFrom():
            return {imported_name(alias, statement) for alias in statement.names}
        case ast.Assign():
            return {name for target in statement.targets for name in _target_names(target)}
        case ast.AnnAssign(value=ast.expr()):
            return set(_target_names(statement.target))
        case ast.If():
            return _all_of(statement.body) & _all_of(statement.orelse)
        case ast.With():
            return _all_of(statement.body)
        case ast.Try():
            bound = _all_of([*statement.body, *statement.orelse])
            for handler in statement.handlers:
                bound &= _all_of(handler.body)
            return bound | _all_of(statement.finalbody)
    return set()


def _all_of(statements: Iterable[ast.stmt]) -> set[str]:
    return {name for statement in statements for name in _bound_on_all_paths(statement)}


def _target_names(target: ast.expr) -> list[str]:
    """Names that an assignment's target binds: not those whose items or attributes it sets."""
    found: list[str] = []
    waiting = [target]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name):
            found.append(node.id)
        elif isinstance(node, ast.Tuple | ast.List):
            waiting += node.elts
        elif isinstance(node, ast.Starred):
            waiting.append(node.value)
    return found


def _base(node: ast.expr) -> str:
    """The name that leads to a value: ``np`` of ``np.random.seed``."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
        node = node.value
    return node.id if isinstance(node, ast.Name) else UNKNOWN


class _Names:
    """Walks a statement; ``local`` are the names that belong to the functions around a node."""

    def __init__(self) -> None:
        self.binds: set[str] = set()
        self.temporary: set[str] = set()
        self.changes: set[str] = set()
        self.reads: set[str] = set()
        self.calls: set[str] = set()
        self.later: set[str] = set()
        self.changes_later: set[str] = set()

    def visit(self, node: ast.AST, local: frozenset[str] = frozenset(), deferred: bool = False) -> None:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                self._function(node, local, deferred)
                return
            case ast.ClassDef():
                self._class(node, local, deferred)
                return
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                own = {name for each in node.generators for name in _target_names(each.target)}
                local = local | own
            case ast.Import() | ast.ImportFrom():
                self._import(node, local, deferred)
            case ast.Name():
                self._name(node, local, deferred)
            case ast.AugAssign(target=ast.Name(id=name)):
                self._read(name, local, deferred)
                self._change(name, local, deferred)
            case ast.Attribute() | ast.Subscript() if not isinstance(node.ctx, ast.Load):
                self._change(_base(node), local, deferred)
            case ast.For() | ast.AsyncFor():
                self.temporary.update(set(_target_names(node.target)) - local if not deferred else ())
            case ast.withitem(optional_vars=ast.expr() as target):
                self.temporary.update(set(_target_names(target)) - local if not deferred else ())
            case ast.ExceptHandler(name=str(name)):
                self._bind(name, local, deferred)
                self.temporary.update(() if deferred else {name} - local)
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                self._bind(name, local, deferred)
            case ast.Expr(value=ast.Call() as call):
                self._bare_call(call, local, deferred)
            case ast.Call(func=ast.Attribute(attr=attr, value=value)) if attr in _MUTATORS:
                self._change(_base(value), local, deferred)
        for child in ast.iter_child_nodes(node):
            self.visit(child, local, deferred)

    def _read(self, name: str, local: frozenset[str], deferred: bool) -> None:
        if name not in local:
            (self.later if deferred else self.reads).add(name)

    def _bind(self, name: str, local: frozenset[str], deferred: bool) -> None:
        if name not in local:
            (self.changes_later if deferred else self.binds).add(name)

    def _change(self, name: str, local: frozenset[str], deferred: bool) -> None:
        if name not in local:
            (self.changes_later if deferred else self.changes).add(name)

    def _name(self, node: ast.Name, local: frozenset[str], deferred: bool) -> None:
        if isinstance(node.ctx, ast.Load):
            self._read(node.id, local, deferred)
            return
        self._bind(node.id, local, deferred)
        if isinstance(node.ctx, ast.Del):
            self._change(node.id, local, deferred)

    def _import(self, node: ast.Import | ast.ImportFrom, local: frozenset[str], deferred: bool) -> None:
        for alias in node.names:
            name = imported_name(alias, node)
            self._bind(name, local, deferred)
            if isinstance(node, ast.Import) and "." in name:
                self._change(name.partition(".")[0], local, deferred)

    def _bare_call(self, call: ast.Call, local: frozenset[str], deferred: bool) -> None:
        """A call whose value nobody takes is there for what it changes."""
        if isinstance(call.func, ast.Name):
            if call.func.id in _HARMLESS:
                return
            if not deferred:
                self.calls.add(call.func.id)
        else:
            self._change(_base(call.func), local, deferred)
        for value in [*call.args, *(keyword.value for keyword in call.keywords)]:
            if isinstance(value, ast.Name | ast.Attribute | ast.Subscript | ast.Starred):
                self._change(_base(value), local, deferred)

    def _function(
        self,
        node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda,
        local: frozenset[str],
        deferred: bool,
    ) -> None:
        arguments = node.args
        for default in [*arguments.defaults, *filter(None, arguments.kw_defaults)]:
            self.visit(default, local, deferred)
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        every += filter(None, [arguments.vararg, arguments.kwarg])
        body: list[ast.AST] = [node.body] if isinstance(node, ast.Lambda) else list(node.body)
        if not isinstance(node, ast.Lambda):
            self._bind(node.name, local, deferred)
            for each in [*node.decorator_list, *filter(None, [node.returns, *(a.annotation for a in every)])]:
                self.visit(each, local, deferred)
        stored, shared = _stored_in(body)
        own = (local | stored | {argument.arg for argument in every}) - shared
        for part in body:
            self.visit(part, own, True)

    def _class(self, node: ast.ClassDef, local: frozenset[str], deferred: bool) -> None:
        self._bind(node.name, local, deferred)
        for each in [*node.decorator_list, *node.bases, *(keyword.value for keyword in node.keywords)]:
            self.visit(each, local, deferred)
        inner = _Names()
        stored, _ = _stored_in(list(node.body))
        for statement in node.body:
            inner.visit(statement, local, deferred)
        # What the class binds is its own; its methods do not see it, so their reads stay.
        self.reads |= inner.reads - stored
        self.later |= inner.later
        self.changes |= inner.changes - stored
        self.calls |= inner.calls - stored
        self.changes_later |= inner.changes_later - (stored if deferred else set())


def _stored_in(body: list[ast.AST]) -> tuple[frozenset[str], frozenset[str]]:
    """Names that a function's own statements bind, and those that it declares global."""
    stored: set[str] = set()
    shared: set[str] = set()
    waiting = list(body)
    while waiting:
        node = waiting.pop()
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                stored.add(node.name)
                continue
            case ast.Lambda():
                continue
            case ast.Global():
                shared.update(node.names)
            case ast.Name(ctx=ast.Store()):
                stored.add(node.id)
            case ast.Import() | ast.ImportFrom():
                stored.update((alias.asname or alias.name).partition(".")[0] for alias in node.names)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
                stored.add(name)
        waiting += ast.iter_child_nodes(node)
    return frozenset(stored - shared), frozenset(shared)
