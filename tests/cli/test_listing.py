"""``ttd list-problems``."""

from __future__ import annotations

import json


def row(ttd, name: str, *flags: str) -> dict:
    result = ttd("list-problems", "--json", *flags)
    assert result.exit_code == 0
    return {each["name"]: each for each in json.loads(result.stdout)}[name]


def test_json_and_table_agree(ttd, summing) -> None:
    expected = {"name": "sum", "distribution": "ttd-sum", "version": "2.1", "class": "sum_problem:Sum"}
    assert row(ttd, "sum") == expected | {"title": "Make a sum large"}
    lines = ttd("list-problems").stdout.splitlines()
    assert lines[0].split() == ["NAME", "DISTRIBUTION", "VERSION", "TITLE"]
    assert ["sum", "ttd-sum", "2.1", "Make", "a", "sum", "large"] in [line.split() for line in lines]


def test_titles_are_read_from_sources_that_are_never_imported(ttd, install) -> None:
    sources = {
        "told": "raise OSError('imported')\nclass Told:\n    title: str = 'Told, not run'\n",
        "computed": "raise OSError('imported')\nclass Computed:\n    title = 'a' + 'b'\n",
        "torn": "class Torn(\n",
    }
    references = {"told": "told:Told", "computed": "computed:Computed", "torn": "torn:Torn"}
    install("ttd-titles", sources, problems=references | {"gone": "no_such_module.inner:Gone"})
    rows = {each["name"]: each["title"] for each in json.loads(ttd("list-problems", "--json").stdout)}
    assert [rows[name] for name in ("told", "computed", "torn", "gone")] == ["Told, not run", "", "", ""]


def test_the_titles_of_a_package_are_those_that_its_classes_have(ttd) -> None:
    listed = {each["name"]: each["title"] for each in json.loads(ttd("list-problems", "--json").stdout)}
    loaded = json.loads(ttd("list-problems", "--load", "--json").stdout)
    assert listed == {each["name"]: each["title"] for each in loaded if "error" not in each}


def test_load_tells_more(ttd, summing) -> None:
    loaded = row(ttd, "sum", "--load")
    assert (loaded["title"], loaded["metric"], loaded["direction"]) == ("Make a sum large", "sum", "max")
    assert loaded["best_published"] == 2.5
    lines = [line.split() for line in ttd("list-problems", "--load").stdout.splitlines()]
    assert any(line[:2] == ["sum", "ttd-sum"] for line in lines)


def test_load_reports_what_fails_on_its_own_line(ttd, summing, install) -> None:
    install("broken", {"broken_listing": "raise ValueError('no')"}, problems={"bad": "broken_listing:Bad"})
    result = ttd("list-problems", "--load")
    assert result.exit_code == 0
    assert "Make a sum large" in result.stdout
    assert result.stderr.splitlines() == [
        "error: plugin bad (broken 1.0): import: ValueError: no (broken_listing.py:1)"
    ]
    assert row(ttd, "bad", "--load")["error"].startswith("plugin bad (broken 1.0)")
    assert "bad" in ttd("list-problems").stdout


def test_a_clash_names_both(ttd, summing, install, problem_source) -> None:
    install("other-sum", {"other_sum": problem_source}, problems={"sum": "other_sum:Sum"})
    result = ttd("list-problems")
    assert result.exit_code == 3
    assert "error: 'sum' is claimed by other-sum 1.0 and ttd-sum 2.1; uninstall all but one" in result.stderr


def test_nothing_installed(ttd, monkeypatch) -> None:
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: [])
    assert ttd("list-problems").stdout == "no problem is installed; try: pip install ttd-math\n"
    assert json.loads(ttd("list-problems", "--json").stdout) == []


def test_the_published_result_listed_is_of_what_the_defaults_measure(ttd, install, problem_source) -> None:
    measured = problem_source.replace(
        'Baseline("nobody", 1.0)', 'Baseline("nobody", 1.0, on="a"), Baseline("far", 9.0, on="b")'
    ).replace('Baseline("somebody", 2.5, "a paper")', 'Baseline("somebody", 2.5, "a paper", on="a")')
    measured += "    def measured_on(self):\n        return 'a'\n"
    install("ttd-measured", {"measured": measured}, problems={"sum": "measured:Sum"})
    (row,) = [
        row for row in json.loads(ttd("list-problems", "--load", "--json").stdout) if row["name"] == "sum"
    ]
    assert row["best_published"] == 2.5
