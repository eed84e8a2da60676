"""What candidates write, on its way in, and out to prompts, terminals, pages and files."""

from __future__ import annotations

import json
import pathlib
import textwrap

import numpy as np
import pytest
from click.testing import CliRunner

from ttd_core import certificate
from ttd_core.cli import main
from ttd_core.types import Action, Completion, Failure, State, Status, Verdict

PROBLEM = '''
    from ttd_core import Problem, Reward


    class Echo(Problem):
        """Any text is valid; its length is its score."""

        name = "echo"
        title = "A long text"
        metric = "length"
        direction = "max"
        preload = ()

        def task(self):
            return "Return a text."

        def construct(self, value):
            return {"text": str(value)}

        def check(self, state):
            text = state.data.get("text", "")
            return [f"the text {text} is too long"] if len(text) > 100 else []

        def reward(self, state):
            return Reward(len(state.data["text"]), len(state.data["text"]))

        def starting_program(self):
            return "def run(seed, budget_s, **kwargs):\\n    return 'a'\\n"
'''


@pytest.fixture
def work(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """An empty folder to work in, with the problem in ``echo.py``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "echo.py").write_text(textwrap.dedent(PROBLEM))
    return tmp_path


def run(replies: list[str], *more: object, name: str = "one") -> pathlib.Path:
    """Make a run of scripted replies; its folder."""
    pathlib.Path("replies.json").write_text(json.dumps(replies))
    arguments: list[object] = ["run", "echo.py:Echo", "--name", name, "--quiet", "--policy", "scripted"]
    arguments += ["--set", "policy.options.file=replies.json", "--groups", 1, "--group-size", len(replies)]
    arguments += ["-o", "timeout_s=20", "-o", "start=program", *more]
    result = CliRunner().invoke(main, [str(each) for each in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return pathlib.Path("runs") / name


def program(*lines: str) -> str:
    """A reply with a program of these lines."""
    body = "\n".join(f"    {line}" for line in lines)
    return f"```python\ndef run(seed, budget_s, **kwargs):\n{body}\n```"


def test_text_that_models_and_programs_wrote_holds_characters_only() -> None:
    half = "x\ud83d"
    for text in (
        Completion(half).text,
        Completion("t", answer=half).answer,
        Action(half).code,
        State(code=half).code,
        State(output=half).output,
        Failure(half).message,
        Failure.of("m", half).output,
        Verdict.failed(Status.CRASH, half).message,
        Verdict.failed(Status.CRASH, "", output=half, code=half).output,
    ):
        assert text == "x\ufffd"
    assert Completion("\ud83d\ude00").text == "😀"


def test_a_program_with_half_a_character_is_kept_and_the_run_goes_on(work: pathlib.Path) -> None:
    reply = program("# \ud83d", r"import os; os.write(1, b'\xed\xa0\x80')", "return 'a' * 9")
    folder = run([reply], "--steps", 2)
    assert "# \ufffd" in (folder / "best" / "program.py").read_text(encoding="utf-8")
    assert json.loads((folder / "best" / "best.json").read_text())["score"] == 9


def test_a_key_that_a_candidate_chose_names_no_file_elsewhere(work: pathlib.Path) -> None:
    (work / "inner").mkdir()
    keys = ["../up", "/etc/x", "a/b", "", "..", "\ud800", "x\0y", "good"]
    state = State(data={key: np.arange(3) + number for number, key in enumerate(keys)} | {"note": "\udc00é"})
    proof = certificate.Certificate("echo", certificate.Fraction(1), True, "x < {decimal}", state)
    path = work / "inner" / "p.cert.json"
    written = certificate.write(proof, path)
    assert {file.parent for file in written} == {path.parent}
    assert len(list(path.parent.iterdir())) == len(keys) + 1
    assert path.with_name("p.cert.good.npy") in written
    _, read = certificate.read(path)
    assert read == state
