"""The application: which address is answered by what."""

from __future__ import annotations

import logging
import pathlib
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from ttd_core.errors import TtdError, UsageError, one_line
from ttd_core.package_files import package_text
from ttd_core.report import page
from ttd_core.ui.doors import Doors
from ttd_core.ui.folders import NotFoundError, RunFolders
from ttd_core.ui.following import RunFollower
from ttd_core.ui.rendering import respond
from ttd_core.ui.streams import Streams
from ttd_core.ui.views import Views

_log = logging.getLogger("ttd_core")
#: Seconds between two looks at the list of runs.
_LIST_INTERVAL = 1.0


def make_app(root: pathlib.Path, streams: Streams) -> Starlette:
    """The application over a folder of runs, without its guards.

    :param root: the folder.
    :param streams: what the server closes when it ends.
    """
    folders = RunFolders(root)
    views = Views(folders)
    pages: dict[str, Callable[[Request], Response]] = {
        "/": views.runs,
        "/parts/runs": views.run_rows,
        "/run": views.run,
        "/parts/run": views.run_sections,
        "/parts/hints": views.hints,
        "/lineage": views.lineage,
        "/lineage.json": views.tree,
        "/parts/state": views.state,
        "/rollouts": views.rollouts,
        "/parts/rollouts": views.rollout_rows,
        "/rollout": views.rollout,
        "/text": views.text,
        "/compare": views.compare,
    }

    async def follow(request: Request) -> Response:
        """What goes on in a run, or in the whole folder."""
        name = request.query_params.get("run")
        if name is None:
            look, interval = (lambda: {"version": views.lines.version()}), _LIST_INTERVAL
            messages = streams.listen("", look, interval)
        else:
            await run_in_threadpool(folders.folder, name)
            messages = streams.listen(f"run {name}", RunFollower(folders, name).look)
        return StreamingResponse(messages, media_type="text/event-stream")

    files = {
        "/ui.css": (page.style() + _template("ui.css"), "text/css"),
        "/ui.js": (_template("ui.js"), "text/javascript"),
    }
    routes = [Route(path, _answered(view)) for path, view in pages.items()]
    routes += [Route(path, _file(text, kind)) for path, (text, kind) in files.items()]
    routes += [Route("/stream", follow)]
    doors = Doors(folders)
    routes += [Route(path, doors.answer, methods=["POST"]) for path in ("/hint", "/unhint", "/stop")]
    handlers: dict[Any, Any] = {
        NotFoundError: _not_found,
        HTTPException: _other,
        TtdError: _cannot,
        Exception: _bug,
    }
    return Starlette(routes=routes, exception_handlers=handlers)


def _template(name: str) -> str:
    return package_text("ttd_core.ui", "templates", name)


def _answered(view: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """A view as Starlette calls it: in a thread, for it reads files."""

    def answer(request: Request) -> Response:
        try:
            return view(request)
        except (NotFoundError, TtdError):
            raise
        except Exception as error:  # noqa: BLE001 - told to whoever looks; the server goes on
            _log.error(f"{request.url.path}: {one_line(error)}")
            return _sentence(request, 500, f"This page failed, which is a bug of ttd: {one_line(error)}.")

    return answer


def _file(text: str, kind: str) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        return Response(text, media_type=kind)

    return answer


def _not_found(request: Request, error: Exception) -> Response:
    return _sentence(request, 404, f"{str(error)[:1].upper()}{str(error)[1:]}.")


def _cannot(request: Request, error: Exception) -> Response:
    return _sentence(request, 400 if isinstance(error, UsageError) else 503, str(error))


def _other(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    said = {404: "There is no such page.", 405: "That cannot be asked of this page."}
    return _sentence(request, status, said.get(status, "This cannot be answered."))


def _bug(request: Request, error: Exception) -> Response:
    return _sentence(request, 500, f"This page failed, which is a bug of ttd: {one_line(error)}.")


def _sentence(request: Request, status: int, sentence: str) -> Response:
    """An answer in one sentence: a page for people, a line for the page's script."""
    if request.url.path.startswith("/parts/") or request.method != "GET" or "." in request.url.path:
        return PlainTextResponse(sentence, status)
    title = "Not here" if status == 404 else "This cannot be shown"
    return respond("sentence.html", status, title=title, sentence=sentence)
