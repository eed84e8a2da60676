"""Programs on a page: whatever a candidate wrote, the lines are all there and none is markup."""

from __future__ import annotations

import html
import random
import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttd_core.report.code import LONGEST, LONGEST_LINE, count_changes, diff, highlight_lines

OLD = "import os\n\n\ndef run(seed):\n    x = 1\n    return x\n" + "".join(f"# {n}\n" for n in range(30))


def plain(line: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", line))


def split(source: str) -> list[str]:
    lines = source.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines[:-1] if not lines[-1] else lines


programs = st.text(st.sampled_from("ab <>&\"'#\n\r\t\x0c\u2028(){}=\\1"), max_size=80)


@settings(max_examples=150, deadline=None)
@given(programs, st.sampled_from(["python", "c++", "nosuchlanguage"]))
def test_highlighting_changes_no_character(source: str, language: str) -> None:
    lines = highlight_lines(source, language)
    assert [plain(line) for line in lines] == split(source)


@settings(max_examples=100, deadline=None)
@given(programs, programs)
def test_a_diff_leads_from_one_to_the_other(old: str, new: str) -> None:
    lines = diff(old, new, "python")
    if split(old) == split(new):
        assert lines == []
        return
    before = set(split(old))
    after = set(split(new))
    assert {plain(line.html) for line in lines if line.kind == "del"} <= before
    assert {plain(line.html) for line in lines if line.kind == "add"} <= after
    removed = [plain(line.html) for line in lines if line.kind == "del"]
    added = [plain(line.html) for line in lines if line.kind == "add"]
    assert len(split(old)) - len(removed) + len(added) == len(split(new))


def test_a_diff_shows_the_change_and_what_is_around() -> None:
    lines = diff(OLD, OLD.replace("x = 1", "x = 2").replace("# 28", "# twenty-eight"), "python")
    assert [line.kind for line in lines] == [
        *("same", "same", "same", "del", "add", "same", "same", "same", "gap"),
        *("same", "same", "same", "del", "add", "same"),
    ]
    assert count_changes(lines) == "2 lines added, 2 removed"
    assert [line.sign for line in lines][3:5] == ["−", "+"]
    assert '<span class="k-mi">2</span>' in lines[4].html


#: Each took an expression of a lexer, or difflib, between 2 s and minutes.
BOMBS = {
    "blanks": " " * 20_000,
    "blank lines": (" " * 60 + "\n") * LONGEST,
    "one line": "x" * 1_000_000,
    "many lines": "x = 1\n" * 100_000,
    "slashes": "/" * 200_000,
    "raw strings": 'R"(' * 60_000,
    "words": "a b(" * 50_000,
    "nested": "(" * 100_000 + ")" * 100_000,
    "fields": 'f"""' + "{x:{y}}" * 20_000,
    "quotes": '"' * 200_000,
    "backslashes": "\\" * 200_000,
    "carriage returns": "\r" * 200_000,
}


@pytest.mark.parametrize("language", ["python", "c++"])
@pytest.mark.parametrize("bomb", BOMBS)
def test_programs_made_to_be_slow_are_not(bomb: str, language: str, cpu_clock: Callable[[], float]) -> None:
    started = cpu_clock()
    lines = highlight_lines(BOMBS[bomb], language)
    assert cpu_clock() - started < 3
    assert len(lines) <= LONGEST + 1
    assert max(len(plain(line)) for line in lines) < LONGEST_LINE + 50


def pairs() -> dict[str, tuple[list[str], list[str]]]:
    """Two programs each that are slow to compare, by their lines."""
    rng, half = random.Random(0), range(LONGEST // 2)
    return {
        "two kinds": ([rng.choice("ab") for _ in range(LONGEST)], [rng.choice("ab") for _ in range(LONGEST)]),
        "short matches": (
            [line for i in half for line in (f"k{i % 50}", f"x{i}")],
            [line for i in half for line in (f"k{i % 50}", f"y{i}")],
        ),
        "unlike": ([f"x{i}" for i in range(LONGEST)], [f"y{i}" for i in range(LONGEST)]),
        "turned round": ([str(i) for i in range(LONGEST)], [str(-i) for i in range(1 - LONGEST, 1)]),
        "steps": ([str(i % 150) for i in range(LONGEST)], [str(7 * i % 150) for i in range(LONGEST)]),
    }


@pytest.mark.parametrize("name", pairs())
def test_programs_made_to_be_slow_to_compare_are_not(name: str, cpu_clock: Callable[[], float]) -> None:
    old, new = ("\n".join(lines) for lines in pairs()[name])
    started = cpu_clock()
    lines = diff(old, new, "python")
    assert cpu_clock() - started < 4
    kinds = [line.kind for line in lines]
    # Whatever was not compared counts as changed, and nothing is lost.
    assert len(split(old)) - kinds.count("del") + kinds.count("add") == len(split(new))


def test_a_long_program_is_highlighted_as_one() -> None:
    source = 'x = """' + "\n".join(f"word {n} in a string" for n in range(200)) + '"""\ny = 1\n'
    lines = highlight_lines(source, "python")
    assert all('class="k-s2"' in line or 'class="k-sd"' in line for line in lines[:200])
    assert '<span class="k-mi">1</span>' in lines[200]


def test_a_very_long_line_is_cut_saying_so() -> None:
    (line,) = highlight_lines("x" * (LONGEST_LINE + 7), "python")
    assert plain(line) == "x" * LONGEST_LINE + " … 7 more characters"


def test_each_line_is_whole_even_inside_a_long_string() -> None:
    lines = highlight_lines('x = """a\nb\nc"""\n', "python")
    assert len(lines) == 3
    assert all(line.count("<span") == line.count("</span") for line in lines)


def test_a_very_long_program_is_cut_saying_so() -> None:
    lines = highlight_lines("x\n" * (LONGEST + 5), "python")
    assert len(lines) == LONGEST + 1
    assert lines[-1] == "… 5 more lines"


@pytest.mark.parametrize("source", ["", "\n", "\ud800 = 1\n"])
def test_odd_sources(source: str) -> None:
    for line in highlight_lines(source, "python"):
        line.encode()
