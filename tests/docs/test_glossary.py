"""The glossary: one meaning a word, and each stands where the page says."""

from __future__ import annotations

import pathlib
import re

import pytest
from tests.docs.code_names import exists

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "glossary.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith(("| term |", "| --- |"))
]


def test_a_word_has_one_meaning() -> None:
    terms = [row[0].lower() for row in ROWS]
    assert len(terms) > 60
    assert sorted(terms) == sorted(set(terms))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_word_lives_where_the_page_says(row: list[str]) -> None:
    _, meaning, where = row
    assert meaning.endswith(".")
    place = re.fullmatch(r"`([\w.]+)`", where)
    assert place is not None, where
    assert exists(place[1]), f"{place[1]} is not there any more"


def test_a_name_that_is_not_there_would_be_noticed() -> None:
    assert exists("ttd_core.types.State.digest")
    assert exists("ttd_core.search.archive.Archive.expansions")
    assert exists("ttd_core.run.events")
    assert not exists("ttd_core.types.State.digests")
    assert not exists("ttd_core.type.State")
    assert not exists("ttd_core.types.Tree")
