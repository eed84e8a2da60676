"""The tutorial, followed to the letter."""

from __future__ import annotations

import pathlib

import pytest
from tests.docs.reader import Reader, blocks, commands

DOCS = pathlib.Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "write-a-problem.md").read_text()
#: The tests' environment stays as it is, and nothing is fetched.
REPLACEMENTS = {
    "python -m build --wheel": "python -m build --wheel --no-isolation",
    "pip install ttd-far": "pip install --no-deps --target site ttd-far",
}


@pytest.mark.slow
def test_the_tutorial_works_as_it_stands(tmp_path: pathlib.Path) -> None:
    reader = Reader(tmp_path, REPLACEMENTS)
    found = blocks(PAGE)
    assert len(found) == PAGE.count("\n```") / 2
    for block in found:
        reader.follow(block)


def test_the_first_file_is_about_thirty_lines() -> None:
    first = blocks(PAGE)[0]
    assert first.title == "far_points.py"
    assert len(first.text.splitlines()) <= 32


def test_a_reader_notices_what_is_wrong(tmp_path: pathlib.Path) -> None:
    reader = Reader(tmp_path)
    reader.type("echo one; echo two", "one\n...\n")
    with pytest.raises(AssertionError, match="one\ntwo"):
        reader.type("echo one; echo two", "two\n...\n")
    with pytest.raises(AssertionError):
        reader.type("false", "")
    assert list(commands("$ a b\nc\n$ d\n")) == [("a b", "c\n"), ("d", "")]
