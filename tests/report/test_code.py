"""Programs on a page: whatever a candidate wrote, the lines are all there and none is markup."""

from __future__ import annotations

import html
import random
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttd_core.report.code import LONGEST, count_changes, diff, highlight_lines

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


def test_programs_made_to_be_slow_are_not() -> None:
    rng = random.Random(0)
    old, new = ("".join(rng.choice(["a\n", "b\n"]) for _ in range(LONGEST)) for _ in range(2))
    started = time.monotonic()
    assert diff(old, new, "python")
    assert time.monotonic() - started < 10


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
