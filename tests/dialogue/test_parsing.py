"""Reading programs out of replies and values out of files."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable

import pytest

from ttd_core.dialogue import parsing
from ttd_core.dialogue.parsing import FencedBlock, fenced_blocks, parse_program
from ttd_core.types import Action, Status, Verdict

PROGRAM = "def run(seed):\n    return seed\n"


def parsed(text: str, language: str = "python", entry: str = "run") -> Action | Verdict:
    return parse_program(text, language, entry)


def program(text: str, **kwargs: str) -> str:
    found = parsed(text, **kwargs)
    assert isinstance(found, Action), found
    return found.code


def failure(text: str, **kwargs: str) -> Verdict:
    found = parsed(text, **kwargs)
    assert isinstance(found, Verdict), found
    return found


@pytest.mark.parametrize(
    "reply",
    [
        f"```python\n{PROGRAM}```",
        f"Some words.\n\n```python\n{PROGRAM}```\nMore words.",
        f"```\n{PROGRAM}```",
        f"```Python3\r\n{PROGRAM}```\r\n".replace("\n", "\r\n").replace("\r\r", "\r"),
        f"~~~py\n{PROGRAM}~~~",
        f"````python\n{PROGRAM}````",
        f"```python\n{PROGRAM}",
        f"Here it is: ```python\n{PROGRAM}```",
        f"```python:solution.py\n{PROGRAM}```",
        f"```{{.python}}\n{PROGRAM}```",
        f"```python\nx = 1\n```python\n{PROGRAM}```",
        f"   ```python\n{PROGRAM}   ```",
        f"```python\n{PROGRAM}``` that is all",
    ],
    ids=range(13),
)
def test_finds_the_program_whatever_the_fence(reply: str) -> None:
    assert program(reply) == PROGRAM


def test_takes_the_last_block_that_defines_the_entry() -> None:
    later = PROGRAM.replace("return seed", "return seed + 1")
    reply = f"```python\n{PROGRAM}```\n```python\n{later}```\n```python\nprint(run(1))\n```\n```bash\nls\n```"
    assert program(reply) == later


def test_a_broken_last_draft_is_not_replaced_by_an_earlier_one() -> None:
    verdict = failure(f"```python\n{PROGRAM}```\n```python\ndef run(seed):\n    return (\n```")
    assert verdict.status is Status.SYNTAX_ERROR


def test_code_inside_a_longer_fence_may_hold_fences() -> None:
    source = 'def run():\n    return """\n```\n"""\n'
    assert program(f"````python\n{source}````") == source


@pytest.mark.parametrize("reply", ["", "I would use gradient descent.", "```\n\n```", "```bash\nls\n```"])
def test_no_block_is_a_parse_error(reply: str) -> None:
    verdict = failure(reply)
    assert verdict.status is Status.PARSE_ERROR
    assert verdict.message == "the reply has no fenced python code block"


def test_a_missing_entry_is_named() -> None:
    verdict = failure("```python\ndef walk(seed):\n    return 1\n```")
    assert (verdict.status, verdict.message) == (Status.PARSE_ERROR, "no code block defines run")
    assert "def walk" in verdict.code


def test_an_entry_inside_another_function_is_missing() -> None:
    verdict = failure("```python\ndef outer():\n    def run(seed):\n        return 1\n```")
    assert (verdict.status, verdict.message) == (
        Status.PARSE_ERROR,
        "the program does not define run at its top level",
    )


@pytest.mark.parametrize(
    "source",
    [
        "from solver import run",
        "import solver as run",
        "run = lambda seed: 1",
        "run: object = print",
        "class run: pass",
        "if True:\n    def run(): pass\n",
        "try:\n    import run\nexcept ImportError:\n    run = None\n",
    ],
)
def test_every_way_to_bind_the_entry_counts(source: str) -> None:
    assert program(f"```python\n{source}\n```").strip() == source.strip()


def test_a_syntax_error_tells_the_line_and_keeps_the_code() -> None:
    verdict = failure("```python\nx = 1\ndef run(:\n    pass\n```")
    assert verdict.status is Status.SYNTAX_ERROR
    assert verdict.message == "invalid syntax (line 2)"
    assert "def run(:" in verdict.code


def test_a_syntax_error_without_entry_is_a_syntax_error() -> None:
    assert failure("```python\nwhile :\n```").status is Status.SYNTAX_ERROR


@pytest.mark.parametrize(
    "crafted",
    [
        "-" * 150_000 + "1",
        "(" * 90_000,
        "a" + ".b" * 90_000,
        "1" + "+1" * 90_000,
        "9" * 100_000,
        "x = '\0'",
        "x = '\ud800'",
        "lambda: " * 20_000 + "1",
        "if x:\n pass\n" + "elif x:\n pass\n" * 10_000,
        "x" * (parsing.MAX_PROGRAM_CHARS + 1),
    ],
    ids=range(10),
)
def test_sources_crafted_against_the_compiler_are_verdicts(crafted: str) -> None:
    results = []
    # On a thread, whose stack is where a deep parser would overflow first.
    thread = threading.Thread(target=lambda: results.append(failure(f"```python\n{PROGRAM}{crafted}\n```")))
    thread.start()
    thread.join()
    assert results[0].status in (Status.SYNTAX_ERROR, Status.PARSE_ERROR)
    assert "\n" not in results[0].message


@pytest.mark.parametrize(
    "crafted", ["~" * 20_000 + "`", "\n" * 50_000, "```python " * 5_000, "import " * 20_000]
)
def test_crafted_replies_take_linear_time(crafted: str, cpu_clock: Callable[[], float]) -> None:
    start = cpu_clock()
    parsed(f"```python\n{crafted}\n```")
    parsed(crafted)
    assert cpu_clock() - start < 2.0


def test_a_dubious_program_warns_nobody() -> None:
    source = "def run():\n    return '\\d' is 1\n"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert program(f"```python\n{source}```") == source


def test_nothing_is_executed(tmp_path) -> None:
    target = tmp_path / "ran"
    parsed(f"```python\nopen({str(target)!r}, 'w').close()\n{PROGRAM}```")
    assert not target.exists()


def test_cpp_is_left_to_its_compiler() -> None:
    source = "int main() { return 0; }\n"
    assert program(f"```cpp\n{source}```", language="c++", entry="main") == source
    assert failure(f"```python\n{source}```", language="c++", entry="main").status is Status.PARSE_ERROR
    assert (
        failure("```cpp\nint f();\n```", language="c++", entry="main").message == "no code block defines main"
    )


def test_blocks_keep_their_labels() -> None:
    assert fenced_blocks("```a\n1\n```\ntext\n~~~\n2\n```\n~~~") == [
        FencedBlock("a", "1"),
        FencedBlock("", "2\n```"),
    ]
