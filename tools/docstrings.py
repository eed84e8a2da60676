"""How the site reads our docstrings: an extension of griffe, named in ``mkdocs.yml``.

Three things that griffe does not know by itself. The constructor of an attrs class is written by attrs, so
its parameters are read off the class's fields. A name's meaning may stand above it in a comment that begins
with ``#:``. And references are Sphinx roles, which become links where the site has the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import griffe

#: Decorators that make a class attrs'.
_DECORATORS = frozenset(["attrs.frozen", "attrs.define"])
#: Makers of keyword-only fields: the default, then a sentence of help.
_MAKERS = frozenset(["ttd_core.config.settings.setting", "ttd_core.options.option"])
_ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):`(~?)([\w.]+)`")
#: A line that introduces a block of code, or stands for nothing else.
_LITERAL = re.compile(r"^([ \t]*)(.*?)::$", re.MULTILINE)


class TtdDocstrings(griffe.Extension):
    """Constructors of attrs classes, comments that document, and links."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Prepare every module, class and function of a package that was just loaded."""
        for each in list(_members(pkg)):
            if isinstance(each, griffe.Attribute) and each.docstring is None:
                _read_comment(each)
            if isinstance(each, griffe.Class) and "__init__" not in each.members and _is_attrs(each):
                _add_constructor(each)
        for each in _members(pkg):
            if each.docstring is not None:
                each.docstring.value = with_links(each.docstring.value, each)


def with_links(text: str, where: griffe.Object) -> str:
    """A docstring whose Sphinx roles are links of the site, and whose literal blocks are Markdown's."""

    def link(match: re.Match[str]) -> str:
        short, target = match[1] == "~", match[2]
        shown = f"<code>{target.rpartition('.')[2] if short else target}</code>"
        path = full_name(target, where)
        # Optional: what no page describes stays code.
        return f'<autoref optional identifier="{path}">{shown}</autoref>' if path else shown

    return _LITERAL.sub(lambda match: f"{match[1]}{match[2]}:" if match[2] else "", _ROLE.sub(link, text))


def full_name(name: str, where: griffe.Object) -> str:
    """Full path of a name written in the docstring of ``where``; empty when it is not one of ours."""
    if name.startswith("ttd_core"):
        return name
    first, _, rest = name.removeprefix(".").partition(".")
    owner: griffe.Object | None = where
    while owner is not None:
        if first in owner.members:
            member = owner.members[first]
            path = member.target_path if isinstance(member, griffe.Alias) else member.path
            return ".".join(filter(None, [path, rest])) if path.startswith("ttd_core") else ""
        owner = owner.parent
    return ""


def _members(owner: griffe.Object) -> Iterator[griffe.Object]:
    """``owner`` and all that it holds, aliases left out."""
    yield owner
    for member in owner.members.values():
        if isinstance(member, griffe.Object):
            yield from _members(member)


def _read_comment(attribute: griffe.Attribute) -> None:
    """Take the lines above a name that begin with ``#:`` as its docstring."""
    path = attribute.filepath
    if isinstance(path, list):
        return
    above = attribute.lines_collection[path][: (attribute.lineno or 1) - 1]
    comment: list[str] = []
    while above and (line := above.pop().strip()).startswith("#:"):
        comment.insert(0, line.removeprefix("#:").strip())
    if comment:
        attribute.docstring = griffe.Docstring("\n".join(comment), parent=attribute)


def _is_attrs(cls: griffe.Class) -> bool:
    return any(decorator.callable_path in _DECORATORS for decorator in cls.decorators)


def _add_constructor(cls: griffe.Class) -> None:
    """Give an attrs class the ``__init__`` that attrs will write, fields of its bases included."""
    fields: dict[str, griffe.Parameter] = {}
    for base in (*reversed(cls.mro()), cls):
        if _is_attrs(base):
            parameters = (_parameter(member) for member in base.members.values())
            fields |= {parameter.name: parameter for parameter in parameters if parameter is not None}
    ordered = sorted(fields.values(), key=lambda each: each.kind is griffe.ParameterKind.keyword_only)
    own = griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword)
    constructor = griffe.Function(
        "__init__",
        parameters=griffe.Parameters(own, *ordered),
        returns="None",
        parent=cls,
        lineno=0,
        endlineno=0,
    )
    cls.set_member("__init__", constructor)


def _parameter(member: griffe.Object | griffe.Alias) -> griffe.Parameter | None:
    """The parameter that a field becomes; ``None`` for what the constructor does not take."""
    if not isinstance(member, griffe.Attribute) or member.annotation is None:
        return None
    if "property" in member.labels or "instance-attribute" not in member.labels:
        return None
    kind, default = griffe.ParameterKind.positional_or_keyword, member.value
    if isinstance(member.value, griffe.ExprCall):
        arguments = member.value.arguments
        named = {each.name: each.value for each in arguments if isinstance(each, griffe.ExprKeyword)}
        if str(named.get("init")) == "False":
            return None
        if member.value.canonical_path in _MAKERS:
            kind, default = griffe.ParameterKind.keyword_only, str(arguments[0])
        elif member.value.canonical_path == "attrs.field":
            default = _made_default(named)
        if str(named.get("kw_only")) == "True":
            kind = griffe.ParameterKind.keyword_only
    return griffe.Parameter(member.name.lstrip("_"), annotation=member.annotation, kind=kind, default=default)


def _made_default(named: dict[str, Any]) -> Any:
    """What ``attrs.field`` takes where no value is given; ``None`` when one must be."""
    if "factory" not in named:
        return named.get("default")
    factory = str(named["factory"])
    return factory.partition(": ")[2] if factory.startswith("lambda") else f"{factory}()"
