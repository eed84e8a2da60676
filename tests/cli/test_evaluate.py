"""``ttd eval``: constructions and programs judged as a rollout is."""

from __future__ import annotations

import json
import pathlib
import re

import pytest


def write(name: str, content: str) -> str:
    pathlib.Path(name).write_text(content)
    return name


def test_a_construction(ttd, summing) -> None:
    result = ttd("eval", "sum", write("good.json", "[1.0, 1.0, 0.75]"))
    assert result.exit_code == 0
    assert result.stdout == ("sum: valid; sum 2.75 (above the published 2.5 of somebody by 0.25: better)\n")


def test_json(ttd, summing) -> None:
    facts = json.loads(ttd("eval", "sum", write("good.json", "[1.0, 0.5, 0.75]"), "--json").stdout)
    assert (facts["status"], facts["score"], facts["reward"], facts["better"]) == ("ok", 2.25, 2.25, False)
    assert facts["metrics"] == {"count": 3}
    assert facts["best_published"] == {"label": "somebody", "score": 2.5, "source": "a paper"}


def test_an_invalid_construction_is_exit_code_1(ttd, summing) -> None:
    result = ttd("eval", "sum", write("bad.json", "[2.0, 0.5, 0.5]"))
    assert (result.exit_code, result.stdout) == (1, "sum: invalid: number 2.0 is not in [0, 1]\n")
    facts = json.loads(ttd("eval", "sum", "bad.json", "--json").stdout)
    assert (facts["status"], facts["score"], facts["better"]) == ("invalid", None, False)


def test_options_count(ttd, summing) -> None:
    assert ttd("eval", "sum", write("two.json", "[0.5, 0.5]"), "-o", "size=2").exit_code == 0
    assert ttd("eval", "sum", "two.json").exit_code == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.json", None, "none.json: cannot be read: No such file or directory"),
        ("none.py", None, "none.py: cannot be read: No such file or directory"),
        ("torn.json", "[1.0,", "torn.json"),
        ("text.json", '["a"]', "text.json: not a construction of sum"),
    ],
)
def test_files_that_cannot_be_read(ttd, summing, name, content, message) -> None:
    if content is not None:
        write(name, content)
    result = ttd("eval", "sum", name)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("encoding", "cookie"),
    [
        ("utf-8", ""),
        ("utf-8-sig", ""),
        ("utf-16", ""),
        ("latin-1", "# -*- coding: latin-1 -*-\n"),
        ("cp1252", "#!/usr/bin/env python3\n# vim: set fileencoding=cp1252 :\n"),
        ("utf-8", "# coding: utf-8\n"),
        ("utf-8", "# coding: no-such-encoding\n"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_program_in_the_encoding_that_it_names(ttd, summing, encoding, cookie, end) -> None:
    source = (
        f"{cookie}# naïve\ndef run(seed, budget_s, **kwargs):\n\treturn [1.0, 1.0, 0.75] * ('é' == '\\xe9')\n"
    )
    pathlib.Path("program.py").write_bytes(source.replace("\n", end).encode(encoding))
    result = ttd("eval", "sum", "program.py")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("sum: valid; sum 2.75")


def test_a_program_that_is_not_text(ttd, summing) -> None:
    pathlib.Path("binary.py").write_bytes(b"\x89PNG")
    result = ttd("eval", "sum", "binary.py")
    assert (result.exit_code, result.stderr) == (
        2,
        "error: binary.py: not a text file: not UTF-8 text: byte 0 cannot be read (invalid start byte)\n",
    )


def test_programs_run_in_the_sandbox(ttd, summing) -> None:
    program = write("good.py", "def run(seed, budget_s, **kwargs):\n    return [1.0, 1.0, 1.0]\n")
    facts = json.loads(ttd("eval", "sum", program, "--json").stdout)
    assert (facts["status"], facts["score"], facts["better"]) == ("ok", 3.0, True)
    assert facts["level"] in ("strong", "standard")
    assert facts["seconds"] > 0
    result = ttd(
        "eval", "sum", write("crash.py", "def run(**kwargs):\n    print('so far')\n    return 1 / 0\n")
    )
    assert result.exit_code == 1
    assert "sum: crash: ZeroDivisionError" in result.stdout
    assert "so far" in result.stdout


def test_a_picture(ttd, install, problem_source) -> None:
    drawing = "    def plot(self, state):\n        return '<svg/>' if state.data['numbers'][0] else None\n"
    install("ttd-drawn", {"drawn": problem_source + drawing}, problems={"sum": "drawn:Sum"})
    good, none, bad = (write(f"{n}.json", f"[{n}, 1.0, 0.75]") for n in ("1.0", "0", "2.0"))
    assert ttd("eval", "sum", good, "--picture", "good.svg").exit_code == 0
    assert pathlib.Path("good.svg").read_text() == "<svg/>"
    result = ttd("eval", "sum", none, "--picture", "none.svg")
    assert (result.exit_code, result.stderr) == (2, "error: problem sum has no picture of this state\n")
    assert ttd("eval", "sum", bad, "--picture", "bad.svg").exit_code == 1
    assert ttd("eval", "sum", good, "--picture", "nowhere/good.svg").exit_code == 3
    assert [path.name for path in pathlib.Path().glob("*.svg")] == ["good.svg"]


RUN = "def run(seed, budget_s, **kwargs):\n    return [1.0, 1.0, 0.75]\n"


@pytest.mark.parametrize("name", ["reply.md", "reply.py", "reply"])
@pytest.mark.parametrize(
    "reply", [f"```python\n{RUN}```\n", f"\n~~~py\n{RUN}~~~\nThat is all.\n", f"```\n{RUN}"]
)
def test_the_program_of_a_saved_reply_is_taken(ttd, summing, name, reply) -> None:
    result = ttd("eval", "sum", write(name, reply))
    assert result.stdout.startswith("sum: valid; sum 2.75"), result.output


def test_a_saved_reply_without_the_function_is_refused_and_not_run(ttd, summing) -> None:
    result = ttd("eval", "sum", write("reply.py", "```python\nprint('run me')\n```\n"))
    assert (result.exit_code, result.stdout) == (1, "sum: parse_error: no code block defines run\n")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("My notes on the problem.\n", "invalid syntax (line 1)"),
        ("hello\n", "the program does not define run at its top level"),
        ("print('I ran')\n", "the program does not define run at its top level"),
        ("", "the program does not define run at its top level"),
    ],
)
def test_a_file_that_is_no_program_is_never_run_as_one(ttd, summing, content, reason) -> None:
    result = ttd("eval", "sum", write("notes", content))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: notes: neither data ")
    assert result.stderr.endswith(f"{reason}\n")
    result = ttd("eval", "sum", write("notes.py", content))
    assert result.exit_code == 1
    assert result.stdout.count("\n") == 1
    assert result.stdout.endswith(f"{reason}\n")


def test_what_a_program_used_is_always_told(ttd, summing) -> None:
    line = r"in the sandbox \((strong|standard)\): \d+\.\d\d s, peak memory \d+ MiB"
    good = ttd("eval", "sum", write("good.py", RUN)).stdout.splitlines()
    assert re.fullmatch(line, good[1])
    crash = ttd("eval", "sum", write("crash.py", "def run(**kwargs):\n    return 1 / 0\n")).stdout
    assert re.fullmatch(line, crash.splitlines()[1])
    facts = json.loads(ttd("eval", "sum", "good.py", "--json").stdout)
    assert facts["peak_memory"] > 1 << 20
    assert (
        json.loads(ttd("eval", "sum", write("c.json", "[1, 1, 1]"), "--json").stdout)["peak_memory"] is None
    )


def test_a_problem_without_a_repair_says_so(ttd, summing) -> None:
    assert ttd("eval", "sum", write("good.json", "[1.0, 1.0, 0.75]"), "--project").exit_code == 0
    result = ttd("eval", "sum", write("bad.json", "[2.0, 1.0, 0.75]"), "--project")
    assert (result.exit_code, "sum has no repair to offer" in result.stderr) == (2, True)
