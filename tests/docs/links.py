"""Links of Markdown pages and the anchors they may point to, as a forge and the site make them."""

from __future__ import annotations

import ast
import pathlib
import re
from collections.abc import Callable, Iterator

from markdown.extensions.toc import slugify, unique

_FENCE = re.compile(r"^([ \t]*)(```+|~~~+).*?^\1\2[ \t]*$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_REFERENCE = re.compile(r"^\[[^\]]+\]:\s+(\S+)", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6}[ \t]+(.*?)[ \t]*#*[ \t]*$", re.MULTILINE)
_MODULE = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)


def links(text: str) -> Iterator[str]:
    """Targets of all links and images, code left out."""
    text = _CODE.sub("`code`", _FENCE.sub("", text))
    yield from _LINK.findall(text)
    yield from _REFERENCE.findall(text)


def _headings(text: str) -> list[str]:
    """The words of each heading, its marks taken off."""
    found = _HEADING.findall(_FENCE.sub("", text))
    return [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "") for heading in found]


def forge_anchors(text: str) -> set[str]:
    """Lower case, punctuation gone, a hyphen for each space; a number behind what is there already."""
    anchors: set[str] = set()
    for heading in _headings(text):
        plain = re.sub(r"[^\w\- ]", "", heading.replace("*", "").lower()).replace(" ", "-")
        anchor, number = plain, 0
        while anchor in anchors:
            number += 1
            anchor = f"{plain}-{number}"
        anchors.add(anchor)
    return anchors


def site_anchors(text: str, sources: pathlib.Path) -> set[str]:
    """As Python-Markdown's ``toc`` makes them; and the names of a module that the page describes.

    :param sources: the folder that modules are in.
    """
    anchors: set[str] = set()
    for heading in _headings(text):
        unique(slugify(heading.replace("*", ""), "-"), anchors)
    for module in _MODULE.findall(text):
        file = sources / f"{module.replace('.', '/')}.py"
        anchors |= {f"{module}.{name}" for name in _defined(ast.parse(file.read_text(encoding="utf-8")))}
    return anchors


def _defined(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def broken(page: pathlib.Path, anchors_of: Callable[[str], set[str]], inside: pathlib.Path) -> list[str]:
    """Links of a page that lead nowhere.

    :param anchors_of: the anchors that a page's text has.
    :param inside: the folder that links may not leave.
    """
    wrong = []
    for target in links(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        known = (
            anchors_of(file.read_text(encoding="utf-8")) if file.suffix == ".md" and file.exists() else {""}
        )
        if not file.exists() or not file.is_relative_to(inside) or (anchor and anchor not in known):
            wrong.append(target)
    return wrong
