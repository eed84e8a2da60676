"""What each address shows."""

from __future__ import annotations

import functools
import json
import pathlib
from typing import Any

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from ttd_core import config as configs
from ttd_core.config import RunConfig
from ttd_core.errors import TtdError
from ttd_core.problem import Problem
from ttd_core.report.code import count_changes, diff, highlight_lines
from ttd_core.report.page import comparison_sections, picture_of
from ttd_core.run.browsing import RunBrowser
from ttd_core.run.overview import overview
from ttd_core.run.problem_record import problem_of_run
from ttd_core.run.rollout_query import FIELDS, SORTS
from ttd_core.types import Status
from ttd_core.ui.cached import Newest, RunPages
from ttd_core.ui.doors import hint_lines
from ttd_core.ui.folders import NotFoundError, RunFolders
from ttd_core.ui.listing import RolloutLists, parameters_of, place_of, query_of, whole_number
from ttd_core.ui.one_rollout import RolloutView, rollout_view, whole_text
from ttd_core.ui.rendering import respond, url
from ttd_core.ui.summaries import RunLines
from ttd_core.ui.token_view import COLOURINGS
from ttd_core.ui.tree import puct_terms, tree_values

#: The way back from a page: names and addresses.
ALL_RUNS = (("Runs", "/"),)
#: Runs that one comparison may hold.
MOST_COMPARED = 32
#: Sections of a run's page, as the report names them.
SECTIONS = (
    *(
        ("overview", "Overview"),
        ("rewards", "Rewards"),
        ("validity", "Failures"),
        ("lineage", "Path to the best"),
    ),
    *(("best", "Best program"), ("learning", "Learning"), ("time", "Time"), ("config", "Config")),
    ("steps", "Every step"),
)
#: Columns of the list of rollouts: what each is sorted by, its heading, whether it holds numbers.
COLUMNS = (
    *(("place", "Rollout", False), ("status", "Verdict", False), ("score", "Score", True)),
    *(("reward", "Reward", True), ("advantage", "Advantage", True), ("tokens", "Tokens", True)),
    ("seconds", "Seconds", True),
)


class Views:
    """The pages over a folder of runs. Each method answers one address.

    :param folders: where the runs are.
    """

    def __init__(self, folders: RunFolders) -> None:
        self.folders = folders
        self.lines = RunLines(folders)
        self._pages = RunPages()
        self._lists = RolloutLists()
        self._trees: Newest[bytes] = Newest(4)
        # Building a problem imports its plugin; a config's text says all that it depends on.
        self._problem = functools.lru_cache(maxsize=64)(self._built)

    # -- runs ---------------------------------------------------------------------------------------

    def runs(self, request: Request) -> Response:
        """Every run."""
        return respond(
            "runs.html",
            title="Runs",
            folder=str(self.folders.root),
            lines=self.lines.lines(),
            stream=url("stream"),
        )

    def run_rows(self, request: Request) -> Response:
        """The rows of that list."""
        return respond("run_rows.html", lines=self.lines.lines())

    def compare(self, request: Request) -> Response:
        """Some runs side by side."""
        names = list(dict.fromkeys(request.query_params.getlist("run")))
        if not 2 <= len(names) <= MOST_COMPARED:
            raise NotFoundError(
                f"a comparison needs 2 to {MOST_COMPARED} runs; pick them in the list of runs"
            )
        facts = [self._pages.facts(self.folders.folder(name)) for name in names]
        return respond(
            "compare_runs.html",
            title=f"{len(facts)} runs compared",
            crumbs=ALL_RUNS,
            names=names,
            sections=comparison_sections(facts),
        )

    # -- one run ------------------------------------------------------------------------------------

    def run(self, request: Request) -> Response:
        """A run, live; its sections are asked for by the page's script."""
        name, folder = self._named(request)
        head = self._head(name, folder, "run") | {"sections": SECTIONS, "hints": hint_lines(folder)}
        return respond("run_live.html", **head, stream=url("stream", run=name))

    def run_sections(self, request: Request) -> Response:
        """The sections of a run's page."""
        _, folder = self._named(request)
        return respond("part.html", part=self._pages.sections(folder))

    def hints(self, request: Request) -> Response:
        """The hints that people left for a run."""
        _, folder = self._named(request)
        return respond("hints.html", hints=hint_lines(folder))

    def lineage(self, request: Request) -> Response:
        """The archive's tree; its data is asked for by the page's script."""
        name, folder = self._named(request)
        return respond("lineage.html", **self._head(name, folder, "lineage"), stream=url("stream", run=name))

    def tree(self, request: Request) -> Response:
        """The tree's data, JSON."""
        _, folder = self._named(request)
        with RunBrowser.open(folder) as run:
            problem = self._problem(folder, run.config())
            content = self._trees.get(
                folder, run.version(), lambda: json.dumps(tree_values(run, problem), allow_nan=False).encode()
            )
        return Response(content, media_type="application/json")

    def state(self, request: Request) -> Response:
        """One state: picture, program, change to its parent, and why it was picked."""
        name, folder = self._named(request)
        asked = request.query_params.get("node", "")
        number = whole_number(asked)
        with RunBrowser.open(folder) as run:
            problem = self._problem(folder, run.config())
            try:
                state = run.state_record(-1 if number is None else number)
            except KeyError as error:
                raise NotFoundError(f"the run has no node {asked[:40]}") from error
            parent = run.state_record(state.parent) if state.parent is not None else None
            change = diff(parent.code, state.code, problem.language) if parent is not None else []
            address, complaint = _picture(run, problem, state.id)
            groups = run.groups_from(state.id)
            return respond(
                "state.html",
                run=name,
                state=state,
                parent=parent,
                problem=problem,
                picture=address,
                complaint=complaint,
                change=change,
                change_note=count_changes(change),
                program=highlight_lines(state.code, problem.language) if state.code else (),
                terms=puct_terms(run, self._config(run), state.id),
                groups=groups[-12:],
                more_groups=max(0, len(groups) - 12),
                found=run.found_by(state.step, state.id),
            )

    # -- rollouts -----------------------------------------------------------------------------------

    def rollouts(self, request: Request) -> Response:
        """The list of a run's rollouts."""
        name, folder = self._named(request)
        return respond(
            "rollouts.html",
            **self._head(name, folder, "rollouts") | self._list(request, name, folder),
            statuses=list(Status),
            fields=list(FIELDS),
            sorts=list(SORTS),
            stream=None,
        )

    def rollout_rows(self, request: Request) -> Response:
        """That list alone."""
        name, folder = self._named(request)
        return respond("rollout_rows.html", **self._list(request, name, folder))

    def rollout(self, request: Request) -> Response:
        """One rollout whole, or two side by side."""
        name, folder = self._named(request)
        places = [request.query_params.get("at", ""), *request.query_params.getlist("beside")[:1]]
        with RunBrowser.open(folder) as run:
            problem = self._problem(folder, run.config())
            views: list[RolloutView] = [
                rollout_view(run, problem, place_of(place)) for place in places if place
            ]
        if not views:
            return RedirectResponse(url("rollouts", run=name), 303)
        head = self._head(name, folder, "rollouts")
        head["crumbs"] = (*ALL_RUNS, (head["title"], url("run", run=name)))
        head["title"] = f"Rollout {views[0].place}"
        return respond(
            "rollout.html", **head, views=views, problem=problem, colourings=COLOURINGS, stream=None
        )

    def text(self, request: Request) -> Response:
        """One text of a rollout, whole."""
        _, folder = self._named(request)
        with RunBrowser.open(folder) as run:
            part = request.query_params.get("part", "")
            text = whole_text(run, place_of(request.query_params.get("at", "")), part)
        return PlainTextResponse(text.encode("utf-8", "replace"))

    # -- what they share ----------------------------------------------------------------------------

    def _named(self, request: Request) -> tuple[str, pathlib.Path]:
        """The run that an address names, and its folder.

        :raises NotFoundError: when there is none.
        """
        name = request.query_params.get("run", "")
        return name, self.folders.folder(name)

    def _head(self, name: str, folder: pathlib.Path, tab: str) -> dict[str, Any]:
        """What is at the top of a run's pages."""
        title = self.folders.title(name)
        return {"title": title, "run": name, "tab": tab, "overview": overview(folder), "crumbs": ALL_RUNS}

    def _list(self, request: Request, name: str, folder: pathlib.Path) -> dict[str, Any]:
        query = query_of(request.query_params)
        page = self._lists.page(folder, query, whole_number(request.query_params.get("page", "")) or 1)
        return {
            "run": name,
            "page": page,
            "query": query,
            "columns": COLUMNS,
            "parameters": parameters_of(query),
        }

    def _built(self, folder: pathlib.Path, config: str) -> Problem:
        with RunBrowser.open(folder) as run:
            return problem_of_run(run, configs.from_toml(config, where=str(folder)))

    def _config(self, run: RunBrowser) -> RunConfig:
        return configs.from_toml(run.config(), where=str(run.folder))


def _picture(run: RunBrowser, problem: Problem, node: int) -> tuple[Markup | None, str]:
    """The problem's picture of a state, and words where there is none."""
    try:
        return picture_of(problem, run.state(node))
    except TtdError as error:
        return None, f"There is no picture: {error}"
