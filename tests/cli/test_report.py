"""``ttd report`` and ``ttd compare`` on real runs with scripted replies."""

from __future__ import annotations

import json
import pathlib
import re
import sys

import pytest

from ttd_core.cli.report import write_page


@pytest.fixture
def two_runs(ttd, summing, scripted) -> None:
    """Runs ``a`` and ``b``, of two seeds."""
    for seed, name in enumerate("ab"):
        result = ttd(*scripted, "--steps", 2, "--name", name, "--seed", seed, "--quiet")
        assert result.exit_code == 0, result.stderr


def test_report_writes_one_page_into_the_run(ttd, two_runs) -> None:
    result = ttd("report", "a")
    assert result.exit_code == 0, result.stderr
    page = pathlib.Path("runs/a/report.html")
    assert result.stdout == f"runs/a/report.html ({page.stat().st_size / 1e3:.0f} kB)\n"
    text = page.read_text(encoding="utf-8")
    assert "<h1>Make a sum large</h1>" in text
    assert page.stat().st_size < 300_000


def test_report_of_several_runs(ttd, two_runs) -> None:
    result = ttd("report", "runs/a", "b", "runs/a", "--json")
    facts = json.loads(result.stdout)
    assert facts["page"] == "runs/report.html"
    assert facts["bytes"] == pathlib.Path("runs/report.html").stat().st_size
    assert facts["runs"][0]["runs"] == ["a", "b"]
    assert "<h1>2 runs</h1>" in pathlib.Path("runs/report.html").read_text(encoding="utf-8")
    assert ttd("report", "a", "-w", "deep/er/page.html").exit_code == 0
    assert pathlib.Path("deep/er/page.html").is_file()


def test_compare_pools_seeds(ttd, two_runs) -> None:
    result = ttd("compare", "a", "b")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "sum: sum, larger is better, published 2.5 by somebody"
    assert lines[2].split() == [
        *("RUNS", "SEEDS", "STEPS", "ROLLOUTS", "VALID", "REPEATS"),
        *("BEST", "MEAN", "BEST", "SPREAD", "TOKENS", "TIME"),
    ]
    assert re.split("  +", lines[3])[:5] == ["a and b", "2", "2", "32", "50%"]
    assert re.split("  +", lines[3])[6:9] == ["2.25", "2.25", "0"]
    assert not pathlib.Path("compare.html").exists()


def test_a_seed_that_comes_twice_is_said_and_not_pooled(ttd, two_runs, scripted) -> None:
    assert ttd(*scripted, "--steps", 2, "--name", "c", "--seed", 1, "--quiet").exit_code == 0
    lines = ttd("compare", "a", "b", "c", "-w", "compare.html").stdout.splitlines()
    assert re.split("  +", lines[3])[:2] == ["a and b", "2"]
    assert re.split("  +", lines[4])[:2] == ["c, seed 1 again", "1"]
    assert re.split("  +", lines[4])[8] == "-"
    assert lines[6].startswith("seed 1 twice: a second run of the same config and seed is no second seed")
    lines = ttd("compare", "a", "b", "--figures", "pictures").stdout.splitlines()
    assert lines[-1] == "curves in pictures"
    assert "best-score-by-rollouts.svg" in [each.name for each in pathlib.Path("pictures").iterdir()]
    assert "Seed 1 twice: a second run" in pathlib.Path("compare.html").read_text(encoding="utf-8")
    arms = json.loads(ttd("compare", "a", "b", "c", "--json").stdout)["arms"]
    assert [(arm["seeds"], arm["again"]) for arm in arms] == [([0, 1], False), ([1], True)]
    # The same folder named twice is one run.
    (same,) = json.loads(ttd("compare", "a", "runs/a", "--json").stdout)["arms"]
    assert (same["seeds"], same["spread"]) == ([0], None)
    assert "twice" not in ttd("compare", "a", "b").stdout


def test_figures_that_cannot_be_written_are_one_line(ttd, summing, scripted) -> None:
    assert ttd(*scripted, "--steps", 0, "--name", "none", "--quiet").exit_code == 0
    assert ttd("compare", "none", "--figures", "p").stdout.splitlines()[-1] == (
        "no curves to write: no step was finished"
    )
    assert ttd(*scripted, "--steps", 1, "--name", "a", "--quiet").exit_code == 0
    assert ttd("compare", "a", "--figures", "line\nfeed").stdout.splitlines()[-1] == "curves in line feed"
    pathlib.Path("file").touch()
    pathlib.Path("full", "best-score-by-step.svg").mkdir(parents=True)
    for folder, reason in {
        "file/pictures": "a file is in the place of a folder. Move that away",
        "full": "a folder is in its place. Move that away",
        "/proc/pictures": "it is missing, or its folder cannot be written",
    }.items():
        result = ttd("compare", "a", "--figures", folder)
        message = f"error: {folder}/best-score-by-step.svg cannot be written: {reason}\n"
        assert (result.exit_code, result.stderr) == (3, message)


def test_compare_as_json_and_as_a_page(ttd, two_runs) -> None:
    result = ttd("compare", "a", "b", "--json", "-w", "compare.html")
    facts = json.loads(result.stdout)
    assert facts["page"] == "compare.html"
    (arm,) = facts["arms"]
    assert (arm["best_score"], arm["seeds"], arm["rollouts"]) == (2.25, [0, 1], 32)
    assert (arm["best_published"], arm["beats_published"], arm["spread"]) == (2.5, False, 0.0)
    assert "<h1>sum: 2 runs compared</h1>" in pathlib.Path("compare.html").read_text(encoding="utf-8")
    assert "curves in compare.html" in ttd("compare", "a", "b", "-w", "compare.html").stdout


def test_what_is_wrong_is_said_in_one_line(ttd, two_runs, monkeypatch) -> None:
    missing = ttd("report", "nosuch")
    assert (missing.exit_code, missing.stderr) == (2, "error: no run at nosuch or runs/nosuch\n")
    assert ttd("compare").exit_code == 2
    pathlib.Path("file").write_text("")
    blocked = ttd("report", "a", "-w", "file/page.html")
    assert blocked.exit_code == 3
    assert blocked.stderr.startswith("error: file/page.html cannot be written")
    for name in ("ttd_core.report.page", "ttd_core.report.code"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.delattr("ttd_core.report.page", raising=False)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    lacking = ttd("report", "a")
    assert lacking.exit_code == 3
    assert lacking.stderr == (
        "error: pages need the package jinja2; install it with: pip install 'ttd-core[report]'\n"
    )
    assert ttd("compare", "a", "b").exit_code == 0


def test_halves_of_characters_do_not_stop_a_page(tmp_path) -> None:
    assert write_page(tmp_path / "page.html", "a\ud800b") == 3
    assert (tmp_path / "page.html").read_bytes() == b"a?b"
