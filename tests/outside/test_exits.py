"""What candidates write, on its way in, and out to prompts, terminals, pages and files."""

from __future__ import annotations

import json
import os
import pathlib
import pty
import re
import subprocess
import sys
import textwrap
import unicodedata

import numpy as np
import pytest
from click.testing import CliRunner, Result
from tests.terminal import shown_on

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


#: Colours, the window's title, a link, the cursor, direction marks, ends of lines, halves, markup.
HOSTILE = (
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b]8;;http://example.com\x1b\\link\x9b2J back\rover \x08\x08\x7f"
    " \u202edrawkcab\u2066\u200f \ufeff\xad\u2028echo: valid; length 999\u2029 \x85 [red]markup[/red]"
    " <script>alert(1)</script>&amp; \x00 \U000e0041"
)
FAKE = "error: all is well\necho: valid; length 999 (better)\nstep 9/9  valid 9/9"


def is_safe(text: str) -> bool:
    """Whether a terminal shows a text as it is: nothing in it moves, colours, hides or turns round."""
    unsafe = {
        character for character in text if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    }
    return unsafe <= {"\n", "\t"}


@pytest.fixture
def hostile(work: pathlib.Path) -> pathlib.Path:
    """A run whose programs, outputs, messages and constructions are all hostile; of each kind one."""
    shout = f"import sys; sys.stdout.buffer.write({f'{HOSTILE}{FAKE}'!r}.encode('utf-8', 'replace'))"
    replies = [
        program(f"# {HOSTILE.replace(chr(13), '').replace(chr(0), '')}", shout, f"return {HOSTILE[:90]!r}"),
        program(shout, "return 'b' * 30"),
        program(shout, f"raise ValueError({HOSTILE!r})"),
        program(shout, f"return {HOSTILE * 3!r}"),
        program(shout, "return (lambda: 0)"),
        f"no program {HOSTILE}",
        f"```python\ndef run(:\n    {HOSTILE}\n```",
        program("return 'c' * 99", f"# {HOSTILE}\ud800".replace("\r", "").replace("\0", "")),
    ]
    return run(replies, "--steps", 2)


def commands(folder: pathlib.Path) -> dict[str, list[object]]:
    """One call of every command that shows something of a run, a candidate or a file."""
    (folder.parent.parent / "bad.py").write_text(
        f"import sys\ndef run(seed, budget_s, **kwargs):\n"
        f"    sys.stdout.buffer.write({f'{HOSTILE}{FAKE}'!r}.encode())\n    raise ValueError({HOSTILE!r})\n"
    )
    pathlib.Path("long.json").write_text(json.dumps(HOSTILE * 3 + "\ud800"))
    pathlib.Path("text.json").write_text(json.dumps(HOSTILE[:50] + "\ud800"))
    return {
        "best": ["best", folder],
        "best again": ["best", folder, "--recheck", "3x1"],
        "watch": ["watch", folder, "--once"],
        "compare": ["compare", folder],
        "report": ["report", folder],
        "eval program": ["eval", "echo.py:Echo", "bad.py"],
        "eval refused": ["eval", "echo.py:Echo", "long.json"],
        "eval valid": ["eval", "echo.py:Echo", "text.json"],
        "eval missing": ["eval", "echo.py:Echo", f"{HOSTILE.replace(chr(0), '')}.py"],
        "show state": ["show", "echo.py:Echo", "text.json"],
        "show": ["show", "echo.py:Echo"],
        "certify": ["certify", "echo.py:Echo", "text.json"],
        "resume": ["resume", folder, "--steps", 3],
        "doctor": ["doctor"],
        "unknown command": [HOSTILE],
        "unknown problem": ["show", HOSTILE],
        "unknown run": ["best", HOSTILE.replace("\0", "")],
        "unknown option": ["eval", "echo.py:Echo", "bad.py", "-o", f"{HOSTILE}=1"],
        "check": ["check-problem", "echo.py:Echo"],
        "list": ["list-problems"],
        "new": ["new-problem", HOSTILE.replace("\0", "")],
    }


JSON = ["best", "best again", "watch", "compare", "eval program", "eval refused", "show state", "show"]


def test_no_command_prints_what_a_terminal_obeys(hostile: pathlib.Path) -> None:
    def ttd(*arguments: object) -> Result:
        return CliRunner().invoke(main, [str(each) for each in arguments], catch_exceptions=False)

    for name, arguments in commands(hostile).items():
        result = ttd(*arguments)
        assert is_safe(result.stdout), (name, result.stdout)
        assert is_safe(result.stderr), (name, result.stderr)
        for line in f"{result.stdout}{result.stderr}".split("\n"):
            assert not line.startswith(("error: all is well", "echo: valid; length 999", "step 9/9")), name
        if name in JSON:
            result = ttd(*arguments, "--json")
            assert is_safe(result.stdout), name
            json.loads(result.stdout)
            assert is_safe(result.stderr), name


def test_the_output_of_a_refused_program_is_quoted(work: pathlib.Path) -> None:
    (work / "bad.py").write_text(
        f"def run(seed, budget_s, **kwargs):\n    print({FAKE!r})\n    return 0 / 0\n"
    )
    result = CliRunner().invoke(main, ["eval", "echo.py:Echo", "bad.py"])
    first, second, *quoted = result.stdout.rstrip().split("\n")
    assert first.startswith("echo: crash: ZeroDivisionError")
    assert second.startswith("in the sandbox (")
    assert quoted[: FAKE.count("\n") + 1] == [f"  | {line}" for line in FAKE.split("\n")]
    assert all(line.startswith("  | ") for line in quoted)


def test_json_holds_what_was_written_and_nothing_is_lost(hostile: pathlib.Path) -> None:
    result = CliRunner().invoke(main, ["best", str(hostile), "--json"], catch_exceptions=False)
    codes = [each["code"] for each in json.loads(result.stdout)]
    assert any("\x1b[31mred" in code and "\u202e" in code for code in codes)


def test_a_page_shows_no_mark_that_turns_or_hides(hostile: pathlib.Path) -> None:
    for arguments in (["report", str(hostile)], ["compare", str(hostile), "-w", "compare.html"]):
        assert CliRunner().invoke(main, arguments, catch_exceptions=False).exit_code == 0
    for page in (hostile / "report.html", pathlib.Path("compare.html")):
        text = page.read_text(encoding="utf-8")
        assert is_safe(text)
        assert "<script>" not in text
    assert "\\x1b[31mred" in (hostile / "report.html").read_text(encoding="utf-8")


def on_a_terminal(*arguments: object) -> str:
    """What a command writes when its standard output is a terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "ttd_core.cli", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    os.close(theirs)
    shown = shown_on(ours)
    assert process.wait() == 0
    return shown.replace("\r\n", "\n")


def test_a_program_is_itself_in_a_pipe_and_safe_on_a_terminal(work: pathlib.Path) -> None:
    source = work / "echo.py"
    source.write_text(source.read_text().replace("'a'", "'\x1b[31m\u202e'"))
    piped = CliRunner().invoke(main, ["show", "echo.py:Echo", "--program"])
    assert "'\x1b[31m\u202e'" in piped.stdout
    shown = on_a_terminal("show", "echo.py:Echo", "--program")
    assert is_safe(shown)
    assert r"'\x1b[31m\u202e'" in shown


def test_the_live_view_interprets_nothing(work: pathlib.Path) -> None:
    name = "a [red]b :warning:"
    pathlib.Path("replies.json").write_text(json.dumps([program("print('\\x1b]0;t')", "return 'b'")]))
    given = ["run", "echo.py:Echo", "--name", name, "--policy", "scripted", "-o", "start=program"]
    given += ["--set", "policy.options.file=replies.json", "--steps", "1"]
    given += ["--groups", "1", "--group-size", "1"]
    shown = on_a_terminal(*given)
    assert f"runs/{name}: echo" in shown
    assert "\x1b]" not in re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown)


def test_commands_print_through_one_module() -> None:
    folder = pathlib.Path(main.callback.__code__.co_filename).parent
    for file in folder.glob("*.py"):
        if file.name != "output.py":
            assert "click.echo" not in file.read_text(), file.name


def test_the_traceback_of_a_bug_is_safe_too(work: pathlib.Path) -> None:
    code = (
        "import sys; from ttd_core.cli import group, main\n"
        f"def fail(*a, **k): raise RuntimeError({HOSTILE!r})\n"
        "group.TtdGroup.get_command = fail\nmain(['best', 'x'])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert "Traceback (most recent call last)" in result.stderr
    assert "RuntimeError: \\x1b[31mred" in result.stderr
    assert is_safe(result.stderr)


def test_a_message_that_quotes_a_whole_construction_is_cut() -> None:
    verdict = Verdict.failed(Status.INVALID, "x" * 10_000_000)
    assert len(verdict.message) == 2000
    assert verdict.message.endswith("x...")
