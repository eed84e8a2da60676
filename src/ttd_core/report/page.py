"""Pages: one HTML file each, that needs nothing else.

No scripts, no fonts, no network, and a content security policy that holds the browser to it: programs,
messages and pictures on a page come from candidates and plugins.
"""

from __future__ import annotations

import base64
import importlib.metadata
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import jinja2
from markupsafe import Markup

from ttd_core import config as configs
from ttd_core.config.settings import absent_as_word, dump
from ttd_core.errors import one_line
from ttd_core.metrics import Metric
from ttd_core.package_files import package_text
from ttd_core.problem import Problem
from ttd_core.report import figures
from ttd_core.report.code import DiffLine, count_changes, diff, highlight_lines
from ttd_core.report.comparison import comparison_figures
from ttd_core.report.facts import RunFacts, against_published
from ttd_core.report.pooling import by_problem, notes_on, pool_seeds
from ttd_core.report.transcripts import Links, TranscriptPage, anchor
from ttd_core.run.records import StateRecord
from ttd_core.scores import which_is_better
from ttd_core.text import counted, showable
from ttd_core.types import State

#: A larger picture of a problem is left out, saying so, bytes.
LARGEST_PICTURE = 1_000_000
#: Lines of changes shown along the path to the best, in all.
MOST_DIFF_LINES = 5000
#: Characters of programs that are highlighted along that path, in all; those beyond are shown plain.
MOST_HIGHLIGHTED = 2_000_000


@attrs.frozen(eq=False)
class Milestone:
    """One state on the path to the best.

    :param gain: how much better than its parent, positive is better; ``None`` without two scores.
    :param change: against the parent's program.
    :param note: why no change is shown, or how large it is.
    """

    state: StateRecord
    score: str
    gain: float | None
    change: Sequence[DiffLine]
    note: str


def report_page(runs: Sequence[RunFacts], links: Sequence[Links] | None = None) -> str:
    """The page of one run, or of several with a comparison first.

    :param links: to the pages of each run's rollouts, where they were made.
    """
    title = runs[0].problem.title if len(runs) == 1 else f"{len(runs)} runs"
    values = [
        _run_values(run) | {"links": link}
        for run, link in zip(runs, links or [Links("")] * len(runs), strict=True)
    ]
    return _render("report.html", title=title, runs=values, **_comparisons(runs))


def rollout_page(facts: RunFacts, page: TranscriptPage, links: Links, report: str) -> str:
    """One page of a run's rollouts.

    :param links: that the pages are named by.
    :param report: name of the report's file.
    """
    values = {
        "facts": facts,
        "page": page,
        "links": links,
        "report": urllib.parse.quote(report),
        "anchor": anchor,
    }
    return _render("rollouts.html", title=f"{facts.name}: rollouts", **values)


def compare_page(runs: Sequence[RunFacts], arms: Mapping[str, str] | None = None) -> str:
    """The page of a comparison alone.

    :param arms: what the arm of a run is called, by the run's name; by default what sets it apart.
    """
    names = ", ".join(dict.fromkeys(run.problem.name for run in runs))
    return _render("compare.html", title=f"{names}: {len(runs)} runs compared", **_comparisons(runs, arms))


def run_sections(facts: RunFacts, *, tree: bool = True) -> Markup:
    """The sections of one run's page, for a page around them.

    :param tree: whether the archive's tree is among them.
    """
    return Markup(_render("sections.html", run=_run_values(facts, tree=tree) | {"links": Links("")}))


def comparison_sections(runs: Sequence[RunFacts]) -> Markup:
    """A comparison's tables and figures, for a page around them."""
    return Markup(_render("compared.html", **_comparisons(runs)))


def path_to_best(facts: RunFacts) -> list[Milestone]:
    """How the best state came to be, oldest first, with the change that each step made."""
    milestones: list[Milestone] = []
    room, highlighted = MOST_DIFF_LINES, 0
    parent: StateRecord | None = None
    for state in facts.path_to_best():
        change: list[DiffLine] = []
        gain = None
        note = "where the run started" if parent is None else "the same program as before"
        if parent is not None:
            if state.reward is not None and parent.reward is not None:
                gain = facts.problem.gain(parent.reward.score, state.reward.score)
            if state.code != parent.code and room < 0:
                note = "another program; left out to keep the page small"
            elif state.code != parent.code:
                highlighted += len(parent.code) + len(state.code)
                language = facts.problem.language if highlighted <= MOST_HIGHLIGHTED else ""
                change = diff(parent.code, state.code, language)
                room -= len(change)
                note = count_changes(change)
                if room < 0:
                    change, note = [], f"{note}; left out to keep the page small"
        score = "no score" if state.reward is None else facts.problem.format_score(state.reward.score)
        milestones.append(Milestone(state, score, gain, change, note))
        parent = state
    return milestones


def _last_change(milestones: Sequence[Milestone], language: str) -> dict[str, Any] | None:
    """The best program against its parent's, or against the nearest ancestor's that differs."""
    if len(milestones) < 2:
        return None
    best = milestones[-1].state
    for distance, each in enumerate(reversed(milestones[:-1])):
        if each.state.code != best.code:
            lines = diff(each.state.code, best.code, language)
            return {
                "node": each.state.id,
                "parent": distance == 0,
                "lines": lines,
                "note": count_changes(lines),
            }
    return None


def picture(facts: RunFacts) -> tuple[Markup | None, str]:
    """The problem's picture of the best state (:func:`picture_of`)."""
    return (None, "") if facts.best_state is None else picture_of(facts.problem, facts.best_state)


def picture_of(problem: Problem, state: State) -> tuple[Markup | None, str]:
    """The problem's picture of a state as the address of an image, and words where there is none.

    As an image rather than inline, so that nothing in it can run or touch the page.
    """
    try:
        svg = problem.plot(state)
    except Exception as error:  # noqa: BLE001 - a plugin's fault costs its picture, not the report
        return None, f"The problem could not draw it: {one_line(error)}"
    if not svg:
        return None, ""
    content = showable(svg).encode()
    if len(content) > LARGEST_PICTURE:
        return None, f"The problem's picture is left out: {len(content) / 1e6:.1f} MB is too much for a page."
    return Markup("data:image/svg+xml;base64," + base64.b64encode(content).decode()), ""


def _run_values(facts: RunFacts, *, tree: bool = True) -> dict[str, Any]:
    """The values that ``run.html`` shows of one run."""
    address, complaint = picture(facts)
    best = facts.best
    language = facts.problem.language
    milestones = path_to_best(facts)
    times = figures.time_by_part(facts) if facts.steps else {}
    total = sum(sum(values) for values in times.values()) or 1.0
    return {
        "facts": facts,
        "overview": _overview(facts),
        "score": figures.score_figures(facts),
        "rewards": figures.reward_figures(facts) if facts.steps else [],
        "validity": figures.validity_figure(facts) if facts.steps else None,
        "tree": figures.tree_figure(facts) if facts.states and tree else None,
        "path": milestones,
        "program": highlight_lines(best.code, language) if best is not None and best.code else [],
        "change": _last_change(milestones, language),
        "picture": address,
        "picture_complaint": complaint,
        "metrics": figures.metric_figures(facts),
        "time": figures.time_figure(facts) if facts.steps else None,
        "times": [(name, sum(values), sum(values) / total) for name, values in times.items()],
        "tokens": {"all": sum(facts.tokens.values()), "forced": facts.total(Metric.TOKENS_FORCED)},
        "learned": any(Metric.KL in values for values in facts.metrics.values()),
        "changed": _changed(facts),
        "config": configs.to_toml(facts.config),
        "rows": _step_rows(facts),
    }


def _remark_on(problem: Problem, score: float) -> str:
    """The caution about a score, where there is one, and how it compares with what is published."""
    return "; ".join(filter(None, [problem.score_caution(), against_published(problem, score)]))


def _overview(facts: RunFacts) -> list[tuple[str, str, str]]:
    """The first facts of a run: name, value, and a remark."""
    problem, summary = facts.problem, facts.summary
    score = summary.best_score
    entries = [
        (
            f"Best {problem.metric}",
            "none yet" if score is None else problem.format_score(score),
            "" if score is None else _remark_on(problem, score),
        )
    ]
    if summary.start_score is not None:
        gain = "" if summary.novel_gain is None else f"best new program {summary.novel_gain:+.3g}"
        entries.append(("At the start", problem.format_score(summary.start_score), gain))
    valid = f"{summary.valid:,} valid, {summary.valid_share:.0%}" if summary.rollouts else ""
    entries.append(("Rollouts", f"{summary.rollouts:,}", valid))
    entries.append(("Steps", f"{len(facts.steps)} of {facts.config.steps}", _ending(facts)))
    entries.append(("Wall time", duration(facts.seconds), f"sandbox: {facts.sandbox or 'not said'}"))
    if summary.programs:
        entries.append(("Repeats", f"{summary.repeats:.0%}", "of the programs repeat what they started from"))
    return entries


def _ending(facts: RunFacts) -> str:
    for event in reversed(facts.events):
        if event["kind"] == "run_finished":
            return time.strftime("finished %Y-%m-%d %H:%M UTC", time.gmtime(event["time"]))
        if event["kind"] == "run_interrupted":
            return "interrupted"
    return "not finished"


def duration(seconds: float) -> str:
    """``1 h 02 min``, ``2 min 03 s`` or ``4.5 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def _changed(facts: RunFacts) -> list[tuple[str, str, str]]:
    """Keys that differ from the defaults, those of the problem's options among them: key, value, default."""
    defaults = dump(type(facts.problem).options_type())
    # A run of before an option came is stored without it.
    defaults = {name: value for name, value in defaults.items() if name in facts.config.options}
    standard = configs.RunConfig(options=defaults)
    return [
        (each.key, str(absent_as_word(each.second)), "" if each.first is None else str(each.first))
        for each in configs.diff(standard, facts.config)
    ]


def _step_rows(facts: RunFacts) -> list[dict[str, Any]]:
    """Each step in numbers."""
    _, best = facts.best_by_step()
    times = figures.time_by_part(facts)
    return [
        {
            "record": record,
            "best": best[index + 1],
            "metrics": facts.metrics.get(record.step, {}),
            "tokens": facts.tokens.get(record.step, 0),
            "programs": facts.program_seconds.get(record.step, 0.0),
            "seconds": sum(values[index] for values in times.values()),
        }
        for index, record in enumerate(facts.steps)
    ]


def _comparisons(runs: Sequence[RunFacts], names: Mapping[str, str] | None = None) -> dict[str, Any]:
    arms = by_problem(pool_seeds(runs, names)) if len(runs) > 1 else {}
    return {
        "comparisons": [
            (
                of_problem[0].runs[0].problem,
                [arm.row() for arm in of_problem],
                comparison_figures(of_problem),
                notes_on(of_problem),
            )
            for of_problem in arms.values()
        ]
    }


def _score(problem: Problem, score: float | None) -> str:
    return "–" if score is None or score != score else problem.format_score(score)


def style() -> str:
    """The style sheet of every page: that of charts, and that of all else."""
    return "".join(_template(name) for name in ("charts.css", "style.css"))


def _template(name: str) -> str:
    return package_text("ttd_core.report", "templates", name)


def _render(template: str, **values: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "score": _score,
        "counted": counted,
        "duration": duration,
        "which_is_better": which_is_better,
        "Metric": Metric,
        # The project's own files, not a reader's.
        "style": Markup(style()),
        "version": importlib.metadata.version("ttd-core"),
        "written": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }
    # Escaping keeps HTML out; this, marks that turn the direction of writing or hide what follows.
    return showable(environment.get_template(template).render(**values))
