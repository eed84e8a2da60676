"""Replies as models write them, and as somebody might craft them: read rightly, or refused in a line."""

from __future__ import annotations

import ast
import re
import resource
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ttd_core.dialogue import syntax
from ttd_core.dialogue.parsing import checked_program, fenced_blocks, parse_program
from ttd_core.sandbox.base import MIB, Limits, PythonJob
from ttd_core.sandbox.local import LocalExecutor
from ttd_core.types import Action, Status, Verdict

PROGRAM = """import math


def run(seed):
    sides = [(i + 0.5) / 6 for i in range(6)]
    return sides, math.pi
"""
IN_DOCSTRING = '''def run(seed):
    """A grid.

    ```python
    run(0)
    ```
    """
    return seed
'''
AT_THE_MARGIN = 'HELP = """\n```\nrun(0) -> grid\n```\n"""\n\n\ndef run(seed):\n    return HELP\n'
RAW = "HELP = r'''\n~~~\n\\' \"\"\"\n```\n'''  # it's \"\"\"\n\n\ndef run(seed):\n    return HELP\n"
FENCED = f"```python\n{PROGRAM}```"
CONTINUED = "TEXT = 'a\\\n```\\\n'\n\n\ndef run(seed):\n    return TEXT\n"
CPP = '/*\n```\nmake\n```\n*/\n#include <cstdio>\nint main() { puts(R"x(\n```\n)x"); return 0; }\n'


def indented(text: str, blanks: str) -> str:
    return "".join(blanks + line if line.strip() else line for line in text.splitlines(keepends=True))


def quoted(text: str) -> str:
    return "".join(f"> {line}" for line in text.splitlines(keepends=True))


def source(reply: str, language: str = "python", entry: str = "run") -> str:
    found = parse_program(reply, language, entry)
    assert isinstance(found, Action), found
    return found.code


def refused(reply: str, language: str = "python", entry: str = "run") -> Verdict:
    found = parse_program(reply, language, entry)
    assert isinstance(found, Verdict), found
    assert "\n" not in found.message
    return found


@pytest.mark.parametrize("program", [IN_DOCSTRING, AT_THE_MARGIN, RAW, CONTINUED], ids=range(4))
@pytest.mark.parametrize("fence", ["```", "````", "~~~"])
@pytest.mark.parametrize(
    "closing", ["\n{}", "{}", "", '\n{}\n\nIt\'s a """grid""" of ```code```.', "\n{} Done."]
)
def test_fences_inside_strings_belong_to_the_program(program: str, fence: str, closing: str) -> None:
    assert source(f"Here:\n\n{fence}python\n{program.rstrip()}{closing.format(fence)}") == program


@pytest.mark.parametrize(
    "reply",
    [
        f"1. Try this:\n\n{indented(FENCED, '   ')}\n",
        f"- Try this:\n\n{indented(FENCED, chr(9))}\n",
        f"- ```python\n{indented(PROGRAM, '  ')}  ```\n",
        f"1) ```\n{indented(PROGRAM, '   ')}   ```\n",
        f"```python\n{indented(PROGRAM, '    ')}```\n",
        f"```python\n{PROGRAM.rstrip()}```",
        f"~~~python\n{PROGRAM.rstrip()}~~~\nDone.",
        f"```python {PROGRAM}```",
        f"   ```python {indented(PROGRAM, '   ').lstrip()}   ```",
        f"```py {PROGRAM}```",
        f"```pythonimport math\n{PROGRAM.partition(chr(10))[2]}```",
        f"```import math\n{PROGRAM.partition(chr(10))[2]}```",
        f"\ufeff```python\n{PROGRAM}```",
        f"```python\n\ufeff{PROGRAM}```",
        f"```python\n{PROGRAM.replace('def run', chr(0xFEFF) + 'def run')}```",
        f"```python title=\"grid.py\" linenums='1'\n{PROGRAM}```",
        f"```python {{linenos=true}}\n{PROGRAM}```",
        f"```python for the grid\n{PROGRAM}```",
        f"```{{.python .numberLines}}\n{PROGRAM}```",
        f"```{{python, echo=TRUE}}\n{PROGRAM}```",
        f"```{{python}}\n{PROGRAM}```",
        f"```language-python\n{PROGRAM}```",
        f"```Python3.11\n{PROGRAM}```",
        f"```PY\n{PROGRAM}```",
        f"```packing.py\n{PROGRAM}```",
        f"```text\n{PROGRAM}```",
        f"```javascript\n{PROGRAM}```",
        f"```python\n{PROGRAM}```".replace("\n", "\r\n"),
        f"```python\n{PROGRAM}```".replace("\n", "\r"),
        quoted(f"```python\n{PROGRAM}```\n") + "\nDone.",
        f">> ```python\n{quoted(quoted(PROGRAM))}> > ```",
        f"| step | what |\n|---|---|\n| 1 | `x` or ```y``` |\n\n```python\n{PROGRAM}```",
        f'<pre><code class="language-python">{PROGRAM}</code></pre>',
        f"I give\n<code>\n{PROGRAM}</code>",
        f"<answer>\n{PROGRAM}</answer>",
        PROGRAM,
        f"\n\n{PROGRAM}\n",
        f"```python\n{PROGRAM}```\n\nUse it:\n```python\nfrom grid import run\nprint(run(0))\n```",
        f"```python\n{PROGRAM}```\n```python\n{PROGRAM}```",
    ],
    ids=range(39),
)
def test_the_program_is_found_however_it_is_set(reply: str) -> None:
    assert source(reply) == PROGRAM


def test_html_entities_are_read_where_they_must_be() -> None:
    program = "def run(seed):\n    return seed < 3 and seed > 1\n"
    assert source(f"<pre>{program.replace('<', '&lt;').replace('>', '&gt;')}</pre>") == program


@pytest.mark.parametrize(
    ("opening", "first"),
    [
        ("```python N = 26", "N = 26"),
        ("```python N=26", "N=26"),
        ("```python # a grid", "# a grid"),
        ('```python """A grid."""', '"""A grid."""'),
        ("```python @cache", "@cache"),
        ("```python a, b = 1, 2", "a, b = 1, 2"),
        ("```python N: int = 2", "N: int = 2"),
    ],
)
def test_a_first_statement_on_the_opening_line(opening: str, first: str) -> None:
    assert (
        source(f"{opening}\ndef run(seed):\n    return 1\n```") == f"{first}\ndef run(seed):\n    return 1\n"
    )


def test_a_program_on_one_line() -> None:
    assert source("```python def run(seed): return 1```") == "def run(seed): return 1\n"
    assert source("```python SIZE = 3```", entry="") == "SIZE = 3\n"


def test_a_string_that_a_broken_draft_leaves_open_swallows_no_later_block() -> None:
    draft = 'def run(seed):\n    """A grid\n    return 1\n'
    for later in (PROGRAM, IN_DOCSTRING.replace("```", "~~~"), '"""Doc."""\n' + PROGRAM):
        assert source(f"```python\n{draft}```\nNo, this:\n```python\n{later}```") == later


def test_a_broken_program_with_a_fence_inside_tells_its_own_line() -> None:
    broken = IN_DOCSTRING + "x = = 1\n"
    verdict = refused(f"```python\n{broken}```")
    assert (verdict.status, verdict.message) == (Status.SYNTAX_ERROR, "invalid syntax (line 9)")
    assert verdict.code == broken


@pytest.mark.parametrize(
    "reply",
    [
        "I would change run(seed) to use math.",
        "<code>run(seed)</code> should use math.",
        "```text\nrun: slow\n```",
        '```json\n{"run": 1}\n```',
        "<<<<<<< SEARCH\nold\n=======\n" + PROGRAM + ">>>>>>> REPLACE\n",
    ],
)
def test_what_only_speaks_of_programs_is_none(reply: str) -> None:
    assert refused(reply).status is Status.PARSE_ERROR
    assert refused(reply, "c++", "main").status is Status.PARSE_ERROR


@pytest.mark.parametrize("label", ["cpp", "c++20", "C++", "gnu++17", "cc", "main.cpp", "", "text"])
def test_cpp_is_found_with_the_fences_in_its_comments_and_strings(label: str) -> None:
    assert source(f"```{label}\n{CPP}```\nDone.", "c++", "main") == CPP


@pytest.mark.parametrize(
    "reply",
    [
        "```cpp #include <cstdio>\nint main() { return 0; }\n```",
        "#include <cstdio>\nint main() { return 0; }\n",
        "<code>#include &lt;cstdio&gt;\nint main() { return 0; }\n</code>",
    ],
)
def test_cpp_without_a_proper_fence(reply: str) -> None:
    found = source(reply, "c++", "main")
    assert re.match(r"#include (<|&lt;)cstdio", found)
    assert found.endswith("int main() { return 0; }\n")


def test_lone_halves_of_surrogate_pairs_leave_no_program_that_cannot_be_written() -> None:
    assert source('```cpp\nint main() { "\ud800"; }\n```', "c++", "main") == 'int main() { "\ufffd"; }\n'
    assert refused("```python\ndef run(): return '\ud800'\n```").status is Status.SYNTAX_ERROR


def test_parts_in_several_blocks_are_taken_together() -> None:
    reply = "First:\n```python\nSIZE = 3\n```\nand\n```python\ndef run(seed):\n    return SIZE\n```\n"
    assert source(reply, entry="") == "SIZE = 3\n\n\ndef run(seed):\n    return SIZE\n"
    assert source(f"```python\nSIZE = = 3\n```\n{reply}", entry="") == source(reply, entry="")
    assert refused(f"{reply}```python\ndef f(:\n```", entry="").status is Status.SYNTAX_ERROR


BODIES = st.text(st.sampled_from("`~\\\n \t#'\"ab{}"), max_size=60)
FENCES = st.builds(lambda mark, count: mark * count, st.sampled_from("`~"), st.integers(3, 9))


@st.composite
def programs(draw: st.DrawFn) -> str:
    """Programs whose strings and comments hold fences, quotes and backslashes in any order."""
    lines = []
    for number in range(draw(st.integers(0, 4))):
        quote = draw(st.sampled_from(['"""', "'''"]))
        prefix = draw(st.sampled_from(["", "r", "b", "Rb"]))
        body = draw(BODIES) + draw(
            st.sampled_from(["", "\n```\n", "\n~~~~\nx\n~~~~\n", "\n```python\nx\n```\n"])
        )
        lines.append(f"s{number} = {prefix}{quote}{body}{quote}  # {draw(BODIES).replace(chr(10), ' ')}")
    text = "\n".join([*lines, "def run(seed):", "    return seed"]) + "\n"
    try:
        ast.parse(text)
    except (SyntaxError, ValueError):
        return PROGRAM
    return text


@given(programs(), FENCES, st.sampled_from(["", "Words, it's so.\n\n", "```bash\nls\n```\n"]), st.booleans())
@example(f's = """\n```\n"""\n{PROGRAM}', "```", "", True)
def test_what_is_wrapped_in_a_fence_is_read_back(program: str, fence: str, before: str, closed: bool) -> None:
    reply = f"{before}{fence}python\n{program}" + (f"{fence}\n\nIt's done.\n" if closed else "")
    assert source(reply) == program


FENCE_PIECES = [
    "```",
    "~~~",
    "python",
    "> ",
    "- ",
    "<code>",
    "</code>",
    "\n",
    "\r",
    "def run():",
    "import run",
]
TEXT_PIECES = [
    '"""',
    "'",
    "#",
    "\ud800",
    "\ufeff",
    "\0",
    "\\",
    "{",
    "f'",
    'R"a(',
    "/*",
    "x",
    " = 1",
    "\x0c",
    "\u2028",
]
PIECES = st.sampled_from([*FENCE_PIECES, *TEXT_PIECES])
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=200), st.lists(PIECES, max_size=40).map("".join)
)


@given(TEXTS)
def test_any_text_is_an_action_or_a_verdict(text: str) -> None:
    fenced_blocks(text)
    for language, entry in (("python", "run"), ("python", ""), ("c++", "main")):
        found = parse_program(text, language, entry)
        if isinstance(found, Action):
            assert found.code.strip()
        else:
            assert "\n" not in found.message


CRAFTED = {
    "empty": "```\n",
    "assignments": "```\nx=1\n",
    "open strings": '```\n"""\n',
    "two quotes": "```\n'''\n```\n\"\"\"\n",
    "programs": "```python\ndef run():pass\n```\n",
    "quotations": "> ```x```\n",
    "tags": "<code>",
    "tags and programs": "<pre>def run",
    "escapes": '"\\"',
    "raw strings": '```\nR"{}(\n',
    "comments": "/*",
    "marks": ">",
    "bullets": "- ",
    "commas": "a, ",
    "byte order marks": "\ufeff",
    "imports": "import run ",
}


@pytest.mark.parametrize("unit", CRAFTED.values(), ids=CRAFTED)
def test_any_reply_is_read_in_linear_time(unit: str, cpu_clock: Callable[[], float]) -> None:
    def seconds(length: int) -> float:
        text = "".join(unit.replace("{}", str(number)) for number in range(length // len(unit)))
        started = cpu_clock()
        for reply in (text, f"```python {text}", f"```python\n{text}\n```", f"def run(): pass\n{text}"):
            parse_program(reply, "python", "run")
            parse_program(reply, "c++", "main")
        return cpu_clock() - started

    # Four times the text takes four times as long, and would take sixteen if its square counted; a machine
    # with other work may double what it takes.
    assert seconds(40_000) < 10 * seconds(10_000) + 0.5


def nested_finally(depth: int) -> str:
    """A program whose bytecode doubles with each level."""
    levels = "".join(f"{' ' * level}try: a()\n{' ' * level}finally:\n" for level in range(depth))
    return f"{levels}{' ' * depth}b()\n"


FIELDS = "{a}" * 60_000


def test_what_only_the_compiler_finds_is_the_sandbox_s_verdict(cpu_clock: Callable[[], float]) -> None:
    """Nothing of these is compiled here; there it is, under the limits."""
    whole = {
        f"return 1\n{PROGRAM}": (Status.SYNTAX_ERROR, "SyntaxError: 'return' outside function (line 1)"),
        f"def f(a, a): pass\n{PROGRAM}": (Status.SYNTAX_ERROR, "SyntaxError: duplicate argument 'a' in"),
        f"{PROGRAM}{nested_finally(30)}": (Status.MEMORY, "memory"),
    }
    with LocalExecutor(1) as executor:
        for program, (status, words) in whole.items():
            started = cpu_clock()
            assert source(f"```python\n{program}```") == program
            assert cpu_clock() - started < 1.0
            limits = Limits(wall_s=5.0, memory=512 * MIB)
            result = executor.run(PythonJob(source=program, entry="run", kwargs={"seed": 0}, limits=limits))
            assert result.status in (status, Status.TIMEOUT)
            assert result.status is Status.TIMEOUT or words in result.message


@pytest.mark.parametrize(
    "crafted",
    [
        nested_finally(60),
        f'x = f"{FIELDS}"',
        'x = f"' + "😀{a}" * 45_000 + '"',
        'x = rF"""' + "{a}\n" * 45_000 + '"""',
        f'x = f"{{a:{FIELDS}}}"',
        "x = (" * 60_000,
        "x = [" + "[" * 90 + "]" * 90 + "]",
        "x = " + "9" * 190_000,
        "x = 10 ** 10 ** 10",
        "a\n" * 90_000,
        "if a:\n pass\n" + "elif a:\n pass\n" * 10_000,
    ],
    ids=range(11),
)
def test_crafted_programs_cost_the_trusted_process_little(
    crafted: str, cpu_clock: Callable[[], float]
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = cpu_clock()
    checked_program(f"{crafted}\n{PROGRAM}"[: syntax.MAX_PROGRAM_CHARS], "run")
    assert cpu_clock() - started < 2.0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 * 1024


def test_an_f_string_of_many_fields_is_refused_in_a_line_and_a_long_table_of_short_ones_read() -> None:
    verdict = refused(f"```python\nx = f'{FIELDS}'\n{PROGRAM}```")
    assert verdict.status is Status.SYNTAX_ERROR
    assert verdict.message == "the program's f-strings have too many fields to be read; write shorter ones"
    table = "x = [\n" + "    f'{a} and {b:.3f}',\n" * 5_000 + "]\n" + PROGRAM
    assert source(f"```python\n{table}```") == table
