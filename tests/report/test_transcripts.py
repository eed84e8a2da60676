"""Pages of rollouts beside a report: every one once, bounded, as text, and each link leads somewhere."""

from __future__ import annotations

import html
import pathlib
import re
import urllib.parse

import attrs
import pytest
from click.testing import CliRunner

from ttd_core.cli import main
from ttd_core.report import transcripts
from ttd_core.report.facts import read_facts
from ttd_core.report.page import report_page, rollout_page
from ttd_core.report.transcripts import Links, anchor, transcript_pages
from ttd_core.run.reading import RunReader
from ttd_core.run.records import HintRecord


def test_every_rollout_is_on_one_page_and_pages_are_bounded(first, monkeypatch) -> None:
    monkeypatch.setattr(transcripts, "PAGE_CHARS", 20_000)
    links = Links("report")
    pages = list(transcript_pages(first, links))
    assert [page.number for page in pages] == list(range(1, len(pages) + 1))
    assert len(pages) > 2
    assert [page.last for page in pages] == [False] * (len(pages) - 1) + [True]
    texts = [rollout_page(first, page, links, "report.html") for page in pages]
    assert max(map(len, texts)) < 20_000 + 20_000  # the style is part of each
    with RunReader.open(first.folder) as run:
        expected = [anchor(each) for each in run.rollouts(text=False)]
    assert [name for text in texts for name in re.findall(r'id="(r\d+-\d+-\d+)"', text)] == expected
    assert set(links.steps) == {record.step for record in first.steps}
    # A group that goes on on the next page has its prompt there too.
    assert all("Its prompt" in text for text in texts)


def test_what_candidates_wrote_is_text(first) -> None:
    [page] = transcript_pages(first, links := Links("x"))
    text = rollout_page(first, page, links, "x.html")
    for number in (2, 3, 4, 5):
        assert f"<script>alert({number})" not in text
        assert f"&lt;script&gt;alert({number})" in text
    assert "<script" not in text


def test_a_long_text_loses_its_middle(first, monkeypatch) -> None:
    monkeypatch.setattr(transcripts, "TEXT_CHARS", 40)
    [page] = transcript_pages(first, Links("x"))
    assert any("characters are left out here" in entry.text for entry in page.entries)
    assert max(len(entry.text) for entry in page.entries) < 130


@pytest.mark.parametrize("name", ["report.html", "odd #1 ?&.html"])
def test_every_link_leads_to_what_is_there(runs, tmp_path, monkeypatch, name) -> None:
    monkeypatch.setattr(transcripts, "PAGE_CHARS", 20_000)
    path = tmp_path / name
    stale = tmp_path / f"{path.stem}-rollouts-9.html"
    stale.write_text("of an earlier report")
    for number in range(4, 9):
        (tmp_path / f"{path.stem}-rollouts-{number}.html").write_text("of an earlier report")
    result = CliRunner().invoke(
        main, ["report", str(runs.first), "--full", "-w", str(path)], catch_exceptions=False
    )
    assert result.exit_code == 0
    assert f"{path.stem}-rollouts-1.html" in result.stdout
    files = {each.name: each.read_text(encoding="utf-8") for each in tmp_path.iterdir()}
    assert not any(text == "of an earlier report" for text in files.values())
    followed = 0
    for text in files.values():
        for target in re.findall(r'href="([^"#:]*)(?:#([^"]*))?"', text):
            file, place = (urllib.parse.unquote(html.unescape(part)) for part in target)
            if file:
                followed += 1
                assert file in files
                assert not place or f'id="{place}"' in files[file]
    assert followed > 12
    assert "its reply" in files[name]


def test_several_runs_have_pages_each(runs, tmp_path) -> None:
    names = [str(runs.first), str(runs.other)]
    result = CliRunner().invoke(
        main,
        ["report", *names, "--full", "--json", "-w", str(tmp_path / "both.html")],
        catch_exceptions=False,
    )
    assert result.exit_code == 0
    pages = {path.name for path in tmp_path.iterdir()}
    assert pages == {"both.html", "both-1-rollouts-1.html", "both-2-rollouts-1.html"}


def test_a_run_without_a_step_has_no_page_of_rollouts(runs, tmp_path) -> None:
    result = CliRunner().invoke(
        main, ["report", str(runs.empty), "--full", "-w", str(tmp_path / "e.html")], catch_exceptions=False
    )
    assert result.stdout.splitlines()[1] == "there are no rollouts yet"
    assert [path.name for path in tmp_path.iterdir()] == ["e.html"]


def test_hints_stand_on_the_report_as_text(first) -> None:
    hints = [
        HintRecord(1, 0.0, 3, 4, "one\n<script>alert(1)</script>"),
        HintRecord(2, 0.0, 3, 9, "two \u202e"),
        HintRecord(3, 0.0, 5, None, "three"),
    ]
    text = report_page([attrs.evolve(first, hints=hints)])
    assert "hint 1, step 3<" in text
    assert "hint 2, steps 3 to 8<" in text
    assert "hint 3, from step 5 on<" in text
    assert "<blockquote>one\n&lt;script&gt;alert(1)&lt;/script&gt;</blockquote>" in text
    assert "two \\u202e" in text
    assert ", hint 1 begins, hint 2 begins</title>" in text
    assert ", hint 1 has ended</title>" in text
    # Where they begin and end, once each, on the wide drawing and on the narrow one.
    assert text.count('class="mark"') == 2 * len({3, 4, 9, 5}) * text.count("a hint begins or ends")
    assert "Hints</h" not in report_page([first])
    assert read_facts(pathlib.Path(first.folder)).hints == []
