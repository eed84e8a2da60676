"""``ttd show``."""

from __future__ import annotations

import json
import pathlib

import pytest


def test_text(ttd, summing) -> None:
    result = ttd("show", "sum", "-o", "size=5")
    assert result.exit_code == 0
    text = result.stdout
    assert text.startswith("sum: Make a sum large\nfrom ttd-sum 2.1\n")
    assert "sum, larger is better" in text
    assert "run(seed, budget_s, **kwargs)" in text
    assert text.index("somebody") < text.index("nobody")
    options = {line.split()[0]: line.split()[1] for line in text.split("\nNAME", 1)[1].splitlines()[1:]}
    assert (options["size"], options["label"], options["timeout_s"]) == ("5", "none", "1100.0")
    assert "how many numbers" in text


def test_json(ttd, summing) -> None:
    facts = json.loads(ttd("show", "sum", "--json").stdout)
    assert facts["name"] == "sum"
    assert facts["target"] == 2.5
    assert [each["score"] for each in facts["baselines"]] == [2.5, 1.0]
    size = next(each for each in facts["options"] if each["name"] == "size")
    assert size == {
        "name": "size",
        "fits": "a whole number",
        "default": 3,
        "help": "how many numbers",
        "value": 3,
    }


def test_prompt_and_program(ttd, summing) -> None:
    prompt = ttd("show", "sum", "--prompt").stdout
    assert "Return numbers in [0, 1] whose sum is large." in prompt
    messages = json.loads(ttd("show", "sum", "--prompt", "--json").stdout)
    assert messages[-1]["role"] == "user"
    assert ttd("show", "sum", "--program").stdout.startswith("def run(")
    assert json.loads(ttd("show", "sum", "--program", "--json").stdout)["program"].startswith("def run(")


def test_a_file(ttd, problem_source, tmp_path) -> None:
    (tmp_path / "mine.py").write_text(problem_source)
    result = ttd("show", f"{tmp_path}/mine.py:Sum")
    assert result.exit_code == 0
    assert f"from {tmp_path}/mine.py:Sum" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nosuch-problem"], "no installed plugin registers problem 'nosuch-problem'."),
        (["sum", "-o", "sise=3"], "problem sum: unknown option 'sise'. Did you mean 'size'?"),
        (["sum", "-o", "size"], "-o size: write -o KEY=VALUE"),
        (["./none.py:Sum"], "./none.py: no such file"),
    ],
)
def test_mistakes_are_one_line(ttd, summing, arguments, message) -> None:
    result = ttd("show", *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1


def test_no_starting_program(ttd, install, problem_source) -> None:
    source = problem_source.replace("def starting_program", "def former_program")
    install("bare", {"bare_problem": source}, problems={"sum": "bare_problem:Sum"})
    result = ttd("show", "sum", "--program")
    assert (result.exit_code, result.stderr) == (2, "error: problem sum has no starting program\n")


def test_a_state(ttd, summing) -> None:
    pathlib.Path("good.json").write_text("[1.0, 1.0, 0.75]")
    result = ttd("show", "sum", "good.json")
    assert result.exit_code == 0
    assert "sum: valid; sum 2.75" in result.stdout
    assert "numbers: a list of 3" in result.stdout
    facts = json.loads(ttd("show", "sum", "good.json", "--json").stdout)
    assert facts["score"] == 2.75
    assert list(facts["holds"].values()) == ["a list of 3"]


def test_a_state_that_is_not_valid(ttd, summing) -> None:
    pathlib.Path("bad.json").write_text("[2.0, 0.5, 0.5]")
    result = ttd("show", "sum", "bad.json", "--output", "bad.svg")
    assert (result.exit_code, result.stdout) == (1, "sum: invalid: number 2.0 is not in [0, 1]\n")
    assert not pathlib.Path("bad.svg").exists()


def test_a_picture_of_a_state(ttd) -> None:
    pytest.importorskip("ttd_math")
    pathlib.Path("h.json").write_text("[0.25, 0.75, 0.75, 0.25]")
    assert ttd("show", "erdos", "h.json", "--picture", "h.svg").exit_code == 0
    assert pathlib.Path("h.svg").read_text().startswith("<svg")
    assert "h: float64 [4], 0.25 to 0.75" in ttd("show", "erdos", "h.json").stdout
    assert (
        ttd("show", "erdos", "--picture", "start.svg", "--start", "program", "--timeout-s=30").exit_code == 0
    )
    assert pathlib.Path("start.svg").read_text().startswith("<svg")


def test_the_former_name_of_the_option_still_draws(ttd) -> None:
    pytest.importorskip("ttd_math")
    pathlib.Path("h.json").write_text("[0.25, 0.75, 0.75, 0.25]")
    assert ttd("show", "erdos", "h.json", "--output", "old.svg").exit_code == 0
    assert pathlib.Path("old.svg").read_text().startswith("<svg")
    assert "--output" not in ttd("show", "--help").stdout
