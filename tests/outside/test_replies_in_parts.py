"""Replies that give parts of a program: what they change is in force, or refused by the statement's name."""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import Phase, given, reject, settings
from hypothesis import strategies as st

from ttd_core.dialogue.merging import MergeError, complete_program, merge_parts
from ttd_core.dialogue.parts import split_parts
from ttd_core.types import Action, Status, Verdict

PROGRAM = '''"""A grid."""
import numpy as np

N = 26
TABLE = [1]
ROOT = N**0.5


def helper(n):
    return n + N


def run(seed):
    return helper(seed), TABLE, ROOT
'''
BUILD = "def build(n):\n    return [n] * 2\n\n\n"
FAST = "try:\n    import no_such_module as fast\nexcept ImportError:\n    fast = None\n"
STARS = "from math import *\nfrom itertools import *\n\n\n"


def result(program: str) -> Any:
    names: dict[str, Any] = {"__name__": "candidate"}
    exec(compile(program, "<program>", "exec", dont_inherit=True), names)
    return names["run"](1)


def completed(reply: str, program: str = PROGRAM) -> str:
    whole = complete_program(program, Action(reply), "run")
    assert isinstance(whole, Action), whole.message
    return whole.code


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("N = 4\n", (5, [1], 2.0)),
        ("TABLE += [2]\n", (27, [1, 2], 26**0.5)),
        ("TABLE.append(2)\n", (27, [1, 2], 26**0.5)),
        ("TABLE[0] = 7\n", (27, [7], 26**0.5)),
        ("TABLE[0] += 7\n", (27, [8], 26**0.5)),
        ("for i in range(2):\n    TABLE.append(i)\n", (27, [1, 0, 1], 26**0.5)),
        ("while len(TABLE) < 3:\n    TABLE.append(0)\n", (27, [1, 0, 0], 26**0.5)),
        ("[TABLE.append(i) for i in range(2)]\n", (27, [1, 0, 1], 26**0.5)),
        ("def fill(t):\n    t.append(5)\n\n\nfill(TABLE)\n", (27, [1, 5], 26**0.5)),
        ("def fill():\n    TABLE.append(5)\n\n\nfill()\n", (27, [1, 5], 26**0.5)),
        ("def fill():\n    global N\n    N = 9\n\n\nfill()\n", (10, [1], 3.0)),
        ("import bisect\nbisect.insort(TABLE, 0)\n", (27, [0, 1], 26**0.5)),
        ("del TABLE[0]\n", (27, [], 26**0.5)),
        ("globals()['TABLE'] = 3\n", (27, 3, 26**0.5)),
        ("TABLE = []\nfor i in range(2):\n    TABLE.append(i)\n", (27, [0, 1], 26**0.5)),
        (f"{BUILD}TABLE = build(3)\n", (27, [3, 3], 26**0.5)),
        (f"{BUILD}EXTRA = build(3)\n\n\ndef helper(n):\n    return EXTRA\n", ([3, 3], [1], 26**0.5)),
        ("def four():\n    return 4\n\n\nN = four()\n", (5, [1], 2.0)),
        ("EXTRA = helper(0)\n\n\ndef run(seed):\n    return EXTRA\n", 26),
        ("if hasattr(np, 'no'):\n    N = 1\nelse:\n    N = 4\n", (5, [1], 2.0)),
        ("if True:\n    N = 4\n", (5, [1], 2.0)),
        (f"{FAST}\n\ndef run(seed):\n    return fast\n", None),
        ("with open('/dev/null') as sink:\n    N = 4\n", (5, [1], 2.0)),
        ("match N:\n    case 26:\n        TABLE = [2]\n", (27, [2], 26**0.5)),
        ("N, EXTRA = 4, 5\n", (5, [1], 2.0)),
        ("N: int = 4\n", (5, [1], 2.0)),
        ("(N := 4)\n", (5, [1], 2.0)),
        ("from __future__ import annotations\ndef helper(n: Undefined):\n    return 1\n", (1, [1], 26**0.5)),
        (f"{STARS}def helper(n):\n    return next(count(5)) + floor(pi)\n", (8, [1], 26**0.5)),
        ("# caf\u0085\nN = 4\n", (5, [1], 2.0)),
        ("# a\x0c\x0bb\x1c\x1d\x1e\nNOTE = 'one\u2028two\u2029'\nN = 4\n", (5, [1], 2.0)),
        ("\ufeffN = 4\r\n", (5, [1], 2.0)),
        ("def run(seed):\n    return helper(seed)\n\n\nN = 4\n", 5),
        ("N = 4\nprint(run(0))\nrun(1)\nassert N\nif __name__ == '__main__':\n    0 / 0\n", (5, [1], 2.0)),
        ("def main():\n    print(run(0))\nmain()\nfor n in [1]:\n    print(run(n))\n", (27, [1], 26**0.5)),
        ("N = 4; TABLE = [2]\n", (5, [2], 2.0)),
        ("import numpy\n\n\ndef helper(n):\n    return numpy.pi > 3 and np.pi > 3\n", (True, [1], 26**0.5)),
        ("@staticmethod\ndef helper(n):\n    return 0\n", (0, [1], 26**0.5)),
        ("class Table(list):\n    pass\n\n\nTABLE = Table([N])\n", (27, [26], 26**0.5)),
    ],
    ids=range(39),
)  # fmt: skip
def test_what_a_part_changes_is_in_force(reply: str, expected: object) -> None:
    assert result(completed(reply)) == expected


def test_a_seed_is_set_before_what_draws() -> None:
    drawing = "import random\n\nX = random.random()\n\n\ndef run(seed):\n    return X\n"
    assert result(completed("random.seed(1)\n", drawing)) == random.Random(1).random()
    seeded = drawing.replace("X =", "random.seed(0)\nX =")
    assert result(completed("random.seed(1)\n", seeded)) == random.Random(1).random()


FILLED = """SIDE = []
for i in range(3):
    SIDE.append(i)
SEEN = {}


def note(key):
    SEEN[key] = True


note("a")
WIDTH = len(SIDE)
AREA = WIDTH * WIDTH


def run(seed):
    return SIDE, SEEN, AREA
"""


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("SIDE = [7]\n", ([7], {"a": True}, 1)),
        ("SIDE = []\nfor k in range(2):\n    SIDE.append(k)\n", ([0, 1], {"a": True}, 4)),
        ("SIDE = []\nfor i in range(3):\n    SIDE.append(i)\n", ([0, 1, 2], {"a": True}, 9)),
        ("SIDE.append(9)\n", ([0, 1, 2, 9], {"a": True}, 16)),
        ("for i in range(3):\n    SIDE.append(i)\n", ([0, 1, 2], {"a": True}, 9)),
        ("note('b')\n", ([0, 1, 2], {"a": True, "b": True}, 9)),
        ("note('a')\n", ([0, 1, 2], {"a": True}, 9)),
        ("SEEN = {}\n", ([0, 1, 2], {}, 9)),
        ("def note(key):\n    SEEN[key] = 5\n", ([0, 1, 2], {"a": 5}, 9)),
        ("SIDE = None\n\n\ndef run(seed):\n    return SIDE\n", None),
        ("WIDTH = 5\n", ([0, 1, 2], {"a": True}, 25)),
    ],
    ids=range(11),
)
def test_what_filled_a_value_goes_with_it(reply: str, expected: object) -> None:
    assert result(completed(reply, FILLED)) == expected


def test_form_feeds_in_a_comment_shift_no_line() -> None:
    program = f"# a\x0c\x0c page\u2028 of\x85 notes\n{PROGRAM}"
    merged = completed("def run(seed):\n    return 'new'\n", program)
    assert result(merged) == "new"
    assert merged == program.replace("return helper(seed), TABLE, ROOT", "return 'new'")


def test_a_part_without_a_place_is_refused_by_name() -> None:
    program = "A = 1\nB = A + 1\ndef last(n):\n    return n\nC = last(B)\ndef run(seed):\n    return C\n"
    verdict = complete_program(program, Action("A = C + 1\n"), "run")
    assert isinstance(verdict, Verdict)
    assert verdict.status is Status.PARSE_ERROR
    assert verdict.message.startswith(
        "`A = C + 1` (line 1 of the reply) has no place in the program: it must"
    )
    assert verdict.message.endswith("after `C = last(B)` and before `B = A + 1`; give these parts as well")


def test_parts_without_a_program_must_be_one() -> None:
    first = "from __future__ import annotations\nN = 1\n\n\ndef run(seed):\n    return N\n"
    assert completed(first, "") == first
    assert result(completed(f"N = 1\n{first}", "")) == 1


STATEMENTS = {
    "constant": "{new} = {number}",
    "copy": "{new} = [{old}, {number}]",
    "table": "{new} = []\nfor i in range({number}):\n    {new}.append((i, {old}))",
    "dictionary": "{new} = {{}}\n{new}[{number}] = {old}\n{new}.update(x={number})",
    "sum": "{new} = [{number}]\n{new} += [{old}]",
    "choice": "if {number} > 2:\n    {new} = {number}\nelse:\n    {new} = [{old}]",
    "import": "try:\n    import no_such_module as {new}\nexcept ImportError:\n    {new} = {number}",
    "module": "from math import floor as {new}\n{new} = {new}({number})",
    "function": "def {function}():\n    return [{old}, {number}]\n\n\n{new} = {function}()",
    "filler": "{new} = []\n\n\ndef {function}():\n    {new}.append({old})\n\n\n{function}()\n{function}()",
    "shared": "def {function}():\n    global {new}\n    {new} = [{number}, {old}]\n\n\n{function}()",
    "pair": "{new}, {other} = {number}, [{old}]",
    "loop": "for {new} in [{old}, {number}]:\n    pass",
    "deferred": "def {function}():\n    return {old}\n\n\n{new} = {number}",
}
NAMES = ["a", "b", "c", "d"]
FUNCTIONS = ["f", "g", "h"]


@st.composite
def programs(draw: st.DrawFn) -> str:
    """Programs that run alone: each statement reads what is bound before it."""
    bound: list[str] = []
    functions: list[str] = []
    blocks = []
    for _ in range(draw(st.integers(1, 6))):
        form = draw(st.sampled_from(sorted(STATEMENTS)))
        new, other = draw(st.permutations(NAMES))[:2]
        usable = [*bound, "1"]
        function = draw(st.sampled_from(FUNCTIONS))
        text = STATEMENTS[form].format(
            new=new,
            other=other,
            old=draw(st.sampled_from(usable)),
            number=draw(st.integers(0, 5)),
            function=function,
        )
        blocks.append(text)
        bound += [new] if form != "pair" else [new, other]
        functions += [function] if f"def {function}" in text else []
    shown = ", ".join([*sorted(set(bound)), *(f"{name}()" for name in sorted(set(functions)))])
    entry = f"def run(seed):\n    return repr(({shown},))"
    place = draw(st.integers(0, len(blocks)))
    return "\n\n\n".join([*blocks[:place], entry, *blocks[place:]]) + "\n"


@settings(max_examples=100, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(programs(), programs())
def test_a_reply_that_needs_nothing_of_the_program_runs_as_it_does_alone(program: str, reply: str) -> None:
    try:
        alone = result(reply)
    except (AttributeError, NameError, TypeError):
        reject()
    assert result(completed(reply, program)) == alone


def names_read(program: str) -> set[str]:
    """Names whose value a program takes somewhere."""
    nodes = list(ast.walk(ast.parse(program)))
    changed = [node.target for node in nodes if isinstance(node, ast.AugAssign)]
    read = [node for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)]
    return {node.id for node in [*changed, *read] if isinstance(node, ast.Name)}


@given(programs(), programs(), st.data())
def test_some_parts_of_a_reply_are_carried_over_or_refused_by_name(
    program: str, reply: str, data: st.DataObject
) -> None:
    parts = split_parts(reply)
    chosen = data.draw(st.lists(st.sampled_from(parts), min_size=1, max_size=3, unique_by=id))
    given = "\n\n\n".join(part.text for part in chosen) + "\n"
    try:
        merged = merge_parts(program, given, "run")
    except MergeError:
        return
    kept = {part.text for part in split_parts(merged)}
    for part in chosen:
        pure = part.text.removesuffix("()") in FUNCTIONS
        # A loop that does nothing but bind a name that nobody reads changes nothing.
        loop = re.match(r"for (\w) in .*:\n    pass$", part.text)
        unread = loop is not None and loop[1] not in names_read(merged)
        assert part.text in kept or pure or unread


@given(st.text(st.characters(exclude_categories=()), max_size=80), st.text(max_size=80))
def test_any_text_is_merged_or_refused(program: str, reply: str) -> None:
    for first, second in ((program, reply), (PROGRAM, reply), (program, "N = 4\n"), (PROGRAM, program)):
        found = complete_program(first, Action(second), "run")
        assert isinstance(found, Action) or "\n" not in found.message


@pytest.mark.parametrize(
    "reply",
    [
        "x = 1\n" * 10_000,
        "\n".join(f"x{n} = y{n - 1}" for n in range(1_900)),
        "\n".join(f"def f{n}():\n    return f{n - 1}()\nx{n} = f{n}()" for n in range(900)),
        "def f(): return " + ", ".join(f"f{n}" for n in range(8_000)) + "\n" + "f()\n" * 1_900,
        "".join(" " * n + "if x:\n" for n in range(90)) + " " * 90 + "N = " + "+1" * 20_000,
        "".join(" " * n + "def f():\n" for n in range(90)) + " " * 90 + "N = [" + "x," * 20_000 + "]",
        "x = " + "-" * 2_000 + "1",
        "x = f(" + "lambda: " * 90 + "1)",
    ],
    ids=range(8),
)
def test_crafted_parts_are_merged_or_refused_in_bounded_time(
    reply: str, cpu_clock: Callable[[], float]
) -> None:
    started = cpu_clock()
    found = complete_program(PROGRAM, Action(reply), "run")
    complete_program(f"{reply}\n{PROGRAM}", Action("N = 4\n"), "run")
    assert cpu_clock() - started < 5.0
    assert isinstance(found, Action) or "\n" not in found.message
