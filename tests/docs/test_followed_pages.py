"""The first run and the page on configs, followed to the letter; replies come from a file, not a model."""

from __future__ import annotations

import json
import pathlib

import pytest
from tests.docs.reader import Reader, blocks

DOCS = pathlib.Path(__file__).parents[2] / "docs"
#: What a small model might write: two changed constants, and one that does not compile.
REPLIES = [
    "More points.\n\n```python\nPOINTS = 36\n```",
    "```python\nNOISE = 0.03\n```",
    "```python\nRADIUS = \n```",
]
REPLACEMENTS = {
    "pip install": "true",
    "--model qwen2.5-coder-0.5b": "--policy scripted --set policy.options.file=replies.json",
    "--group-size 16": "--group-size 2",
    "budget_s=3": "budget_s=1",
}


@pytest.mark.parametrize("name", [pytest.param("first-run.md", marks=pytest.mark.slow), "configure.md"])
def test_the_page_works_as_it_stands(name: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "replies.json").write_text(json.dumps(REPLIES))
    reader = Reader(tmp_path, REPLACEMENTS)
    page = (DOCS / name).read_text(encoding="utf-8")
    assert len(blocks(page)) == page.count("\n```") / 2 > 0
    for block in blocks(page):
        reader.follow(block)
