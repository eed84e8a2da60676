"""Figures as SVG files: whole by themselves, in the words and colours of the page."""

from __future__ import annotations

import copy
import re
import xml.etree.ElementTree as ElementTree

import attrs
import pytest

from ttd_core.package_files import package_text
from ttd_core.report.comparison import comparison_figures
from ttd_core.report.facts import RunFacts, read_facts
from ttd_core.report.figures import Figure
from ttd_core.report.pooling import by_problem, pool_seeds
from ttd_core.report.standalone import as_file, figure_files

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def three(runs) -> list[RunFacts]:
    return [read_facts(folder) for folder in (runs.first, runs.second, runs.other)]


def test_each_figure_of_a_comparison_is_a_file(three) -> None:
    files = figure_files(three)
    (arms,) = by_problem(pool_seeds(three)).values()
    figures = comparison_figures(arms)
    assert len(files) == len(figures) > 3
    assert "best-score-by-rollouts.svg" in files
    for text, figure in zip(files.values(), figures, strict=True):
        root = ElementTree.fromstring(text)
        assert root.tag == f"{SVG}svg"
        words = ["".join(each.itertext()) for each in root.iter(f"{SVG}text")]
        assert words[0] == figure.title
        assert words[1 : 1 + len(figure.legend)] == [label for _, label in figure.legend]
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_every_class_of_a_drawing_has_a_style(three) -> None:
    style = package_text("ttd_core.report", "templates", "charts.css")
    for text in figure_files(three).values():
        used = {name for names in re.findall(r'class="([^"]+)"', text) for name in names.split()}
        # The first three are the file's own; words at an axis look like all others.
        styled = used - {"title", "page", "swatch"} - {"tick", "label"}
        assert {name for name in styled if f".{name}" not in style} == set()


def test_a_long_legend_takes_several_lines() -> None:
    entries = tuple((f"c{number % 6 + 1}", f"learn.kl_coefficient = {number}") for number in range(9))
    drawing = '<svg class="chart" viewBox="0 0 820 100" width="820" height="100"></svg>'
    root = ElementTree.fromstring(as_file(Figure("T <&", drawing, drawing, legend=entries)))
    rows = {each.get("y") for each in root.iter(f"{SVG}text") if each.text and "kl" in each.text}
    assert len(rows) == 3
    assert all(float(each.get("x", 0)) < 820 for each in root.iter(f"{SVG}text"))


def test_names_of_files_hold_no_part_of_a_path_and_never_meet(three) -> None:
    def called(run: RunFacts, name: str) -> RunFacts:
        problem = copy.copy(run.problem)
        problem.__dict__["name"] = name
        return attrs.evolve(run, problem=problem, config=attrs.evolve(run.config, problem=name))

    names = ("adopted:../../tasks/A", "adopted: tasks A", "sum_1")
    files = figure_files([called(run, name) for run, name in zip(three, names, strict=True)])
    assert all(re.fullmatch(r"[a-z0-9_-]+\.svg", name) for name in files)
    alone = figure_files(three[:1])
    assert {f"adopted-tasks-a-{name}" for name in alone} <= set(files)
    assert {f"adopted-tasks-a-{name[:-4]}-2.svg" for name in figure_files(three[1:2])} <= set(files)
    assert any(name.startswith("sum_1-") for name in files)
