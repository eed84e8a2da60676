"""Pages and parts of pages from templates; everything that is put into one is escaped and shown as text."""

from __future__ import annotations

import functools
import importlib.metadata
import time
import urllib.parse
from typing import Any

import jinja2
from starlette.responses import HTMLResponse

from ttd_core.package_files import package_text
from ttd_core.report.page import duration
from ttd_core.text import counted, showable


def url(path: str, **parameters: object) -> str:
    """An address of ours, its parameters quoted; those that are ``None`` are left out."""
    known = {name: value for name, value in parameters.items() if value is not None}
    return f"/{path}?{urllib.parse.urlencode(known, doseq=True)}" if known else f"/{path}"


def respond(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page, or a part of one."""
    return HTMLResponse(render(template, **values).encode("utf-8", "replace"), status)


def render(template: str, **values: Any) -> str:
    """A template's text."""
    # Escaping keeps HTML out; this, marks that turn the direction of writing or hide what follows.
    return showable(_environment().get_template(template).render(**values))


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_source),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "url": url,
        "duration": duration,
        "counted": counted,
        "number": _number,
        "clock": lambda moment: time.strftime("%Y-%m-%d %H:%M", time.localtime(moment)),
        "version": importlib.metadata.version("ttd-core"),
    }
    return environment


def _source(name: str) -> str:
    """A template of ours, else of the report's: its macros are used here, too."""
    try:
        return package_text("ttd_core.ui", "templates", name)
    except FileNotFoundError:
        return package_text("ttd_core.report", "templates", name)


def _number(value: float | None, form: str = ".6g") -> str:
    return "–" if value is None else f"{value:{form}}"
