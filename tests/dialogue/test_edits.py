"""Search-and-replace blocks: read in whatever way models write them, and applied whole or not at all."""

from __future__ import annotations

import difflib
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ttd_core.dialogue import edits
from ttd_core.dialogue.applying import apply_blocks, edited_program, read_edits
from ttd_core.dialogue.edits import EditError, block_text, longer_signs, read_blocks
from ttd_core.types import Action, Status, Verdict

CPP = """#include <iostream>
using namespace std;

const int WIDTH = 8;

int main() {
    int n;
    cin >> n;
    for (int i = 0; i < n; i++) {
        if (i % 2) cout << i << "\\n";
    }
    for (int i = 0; i < n; i++) {
        if (i % 3) cout << i << "\\n";
    }
}
"""
PYTHON = """import math

STEPS = 30


def run(seed):
    total = 0
    for step in range(STEPS):
        total += math.sin(step)
    return total
"""


def block(search: str, replacement: str, signs: int = 7) -> str:
    return block_text(search.splitlines(), replacement.splitlines(), signs)


def applied(program: str, reply: str) -> str:
    return apply_blocks(program, read_blocks(reply))


def refused(program: str, reply: str) -> EditError:
    with pytest.raises(EditError) as raised:
        applied(program, reply)
    assert "\n" not in str(raised.value)
    return raised.value


# -- reading -----------------------------------------------------------------------------------------------

WIDER = CPP.replace("WIDTH = 8", "WIDTH = 9")
OLD, NEW = "const int WIDTH = 8;", "const int WIDTH = 9;"


@pytest.mark.parametrize(
    "reply",
    [
        block(OLD, NEW),
        f"I make it wider.\n\n{block(OLD, NEW)}\n\nThat helps.",
        f"```cpp\n{block(OLD, NEW)}\n```",
        f"```diff\n{block(OLD, NEW)}\n```\nDone.",
        f"main.cpp\n```cpp\n{block(OLD, NEW)}\n```",
        block(OLD, NEW).replace("\n", "\r\n"),
        block(OLD, NEW).lower().replace("const int width", "const int WIDTH"),
        block(OLD, NEW, signs=5),
        block(OLD, NEW, signs=9),
        f"<<<<<<<< SEARCH\n{OLD}\n=====\n{NEW}\n>>>>>> REPLACE",
        f"<<<<<<<SEARCH\n{OLD}\n=======\n{NEW}\n>>>>>>>REPLACE",
        f"<<<<<<< SEARCH: main.cpp\n{OLD}\n=======\n{NEW}\n>>>>>>> REPLACE",
        f"<<<<<<< ORIGINAL\n{OLD}\n=======\n{NEW}\n>>>>>>> UPDATED",
        f"<<< SEARCH\n{OLD}\n===\n{NEW}\n>>> REPLACE",
        f"<<<<<<<\n{OLD}\n=======\n{NEW}\n>>>>>>>",
        f"<<<<<<< SEARCH\n{OLD}\n======= DIVIDER\n{NEW}\n>>>>>>> REPLACE",
        f"<<<<<<< SEARCH\n{OLD}\n------- DIVIDER -------\n{NEW}\n>>>>>>> REPLACE",
        f"<<<<<<< SEARCH\n{OLD}\nDIVIDER\n{NEW}\n>>>>>>> REPLACE",
        f"<<<<<<< SEARCH\n{OLD}\n>>>>>>> SEARCH\n<<<<<<< REPLACE\n{NEW}\n>>>>>>> REPLACE",
        f"<<<<<<< SEARCH\n```cpp\n{OLD}\n```\n=======\n```cpp\n{NEW}\n```\n>>>>>>> REPLACE",
        f"<<<<<<< SEARCH\n{OLD}\n=======\n```cpp\n{NEW}\n```\n>>>>>>> REPLACE",
        f"```cpp\n<<<<<<< SEARCH\n{OLD}\n```\n=======\n```cpp\n{NEW}\n>>>>>>> REPLACE\n```",
        f"```<<<<<<< SEARCH\n{OLD}\n=======\n{NEW}\n>>>>>>> REPLACE```",
        f"<<<<<<< SEARCH\n{OLD}\n=======\n{NEW}",
        f"```cpp\n<<<<<<< SEARCH\n{OLD}\n=======\n{NEW}\n```\nThis widens it.",
        f"<<<<<<< SEARCH\n{OLD}\n=======\n```cpp\n{NEW}\n```\nThis widens it.",
        f"  <<<<<<< SEARCH\n  {OLD}\n  =======\n  {NEW}\n  >>>>>>> REPLACE",
        f"<<<<<<< SEARCH\n\n{OLD}  \n\n=======\n\n{NEW}\n\n>>>>>>> REPLACE",
    ],
)
def test_a_block_is_read_however_it_is_written(reply: str) -> None:
    assert applied(CPP, reply) in (WIDER, WIDER.replace(NEW, f"{NEW}"))


def test_blocks_that_are_never_closed_end_where_the_next_begins() -> None:
    first = f"<<<<<<< SEARCH\n{OLD}\n=======\n{NEW}\n"
    second = "<<<<<<< SEARCH\n    cin >> n;\n=======\n    cin >> n, n += 1;\n"
    both = WIDER.replace("cin >> n;", "cin >> n, n += 1;")
    assert applied(CPP, first + second) == both
    assert applied(CPP, f"```\n{first}```\nThen:\n```\n{second}```\n") == both


def test_a_program_may_hold_marker_lines() -> None:
    program = f'TEXT = """\n{block("a", "b")}\nTitle\n=======\n"""\nSIZE = 1\n'
    signs = longer_signs(program)
    assert signs == 8
    changed = program.replace("\nb\n", "\nc\n")
    assert applied(program, block(program, changed, signs)) == changed
    assert applied(program, block("SIZE = 1", "SIZE = 2")) == program.replace("= 1", "= 2")
    # As many signs as a heading of the program's own has: divided where it fits.
    heading = "Title\n=======\nold\n"
    assert applied(heading, block("Title\n=======\nold", "Title\n=======\nnew")) == "Title\n=======\nnew\n"
    assert applied("old\n", block("old", "Title\n=======\nnew")) == "Title\n=======\nnew\n"
    conflict = "<<<<<<< HEAD\na\n=======\nb\n>>>>>>> branch\n"
    assert applied(conflict, block("b\n>>>>>>> branch", "c")) == "<<<<<<< HEAD\na\n=======\nc\n"


def test_a_whole_program_counts_and_its_strings_are_its_own() -> None:
    found = read_edits(f"```cpp\n{CPP}```", "c++", "main")
    assert isinstance(found, Action)
    assert (found.code, found.edits) == (CPP, False)
    program = f'TEXT = """\n{block("a", "b")}\n"""\n\n\ndef run(seed):\n    return TEXT\n'
    found = read_edits(f"```python\n{program}```", "python", "run")
    assert isinstance(found, Action)
    assert (found.code, found.edits) == (program, False)
    found = read_edits(f"```python\n{block('STEPS = 30', 'STEPS = 60')}\n```", "python", "run")
    assert isinstance(found, Action)
    assert found.edits
    lost = read_edits("I would change STEPS.", "python", "run")
    assert isinstance(lost, Verdict)
    assert lost.status is Status.PARSE_ERROR


def test_a_whole_program_in_a_block_that_seeks_nothing_is_not_added_to_another() -> None:
    whole = edited_program(CPP, Action(block("", WIDER), "c++", edits=True), "main")
    assert whole == Action(WIDER, "c++")
    more = edited_program(CPP, Action(block("", "int more;"), "c++", edits=True), "main")
    assert more == Action(f"{CPP}int more;\n", "c++")
    again = edited_program(PYTHON, Action(block("", "def run(seed):\n    return 1"), edits=True), "run")
    assert again == Action(f"{PYTHON}def run(seed):\n    return 1\n")


def test_a_doctest_and_a_stream_are_no_markers() -> None:
    lines = [
        ">>> new = 3",
        ">>> replace",
        "<< SEARCH_DEPTH",
        "cout << before;",
        "a ======= b",
        "<<<<<<< HEAD",
    ]
    assert [edits.holds_blocks(line) for line in lines] == [False] * 6
    text = block("STEPS = 30", 'STEPS = 60\n"""\n>>> new = 3\n>>> replaced = 1\n"""')
    assert ">>> new = 3\n" in applied(PYTHON, text)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (f"<<<<<<< SEARCH\n{OLD}\n>>>>>>> REPLACE", "block 1 has no line ======="),
        (f"{block(OLD, NEW)}\n<<<<<<< SEARCH\nint n;", "block 2 has no line ======= .*and is cut off"),
        ("\n".join([block(OLD, NEW)] * (edits.MAX_BLOCKS + 1)), "more than 64 blocks"),
        (block(OLD, "x" * 200_001), "more than 200000 characters"),
    ],
)
def test_blocks_that_cannot_be_read_are_refused_in_a_line(reply: str, words: str) -> None:
    with pytest.raises(EditError, match=words):
        read_blocks(reply)
    verdict = read_edits(reply, "c++", "main")
    assert isinstance(verdict, Verdict)
    assert verdict.status is Status.EDIT_ERROR


# -- applying ----------------------------------------------------------------------------------------------


def test_several_blocks_apply_in_order_and_an_empty_one_adds() -> None:
    reply = "\n".join(
        [
            block(OLD, NEW),
            block(NEW, "const int WIDTH = 10;"),
            block("", "// end"),
            block("    int n;", ""),
        ]
    )
    assert applied(CPP, reply) == CPP.replace("= 8", "= 10").replace("    int n;\n", "") + "// end\n"


def test_the_replacement_is_indented_as_the_program_is() -> None:
    flat = "for step in range(STEPS):\n    total += math.sin(step)"
    new = "for step in range(STEPS):\n    if step % 2:\n        total += math.cos(step)\nprint(total)"
    expected = "\n".join("    " + line for line in new.splitlines())
    assert applied(PYTHON, block(flat, new)) == PYTHON.replace(
        "\n".join("    " + line for line in flat.splitlines()), expected
    )
    # Tabs in the reply, and a line further out than those sought.
    tabs = block("\t\ttotal += math.sin(step)", "\t\ttotal += 1\n\treturn total")
    assert "        total += 1\n    return total\n    return total" in applied(PYTHON, tabs)
    deeper = block("            total += math.sin(step)", "            total += 2\n        x = 1")
    assert "        total += 2\n    x = 1\n" in applied(PYTHON, deeper)
    # How deep a line is cannot be known where two depths were written as one.
    assert "does not have" in str(
        refused(PYTHON, block("for step in range(STEPS):\ntotal += math.sin(step)", ""))
    )


@pytest.mark.parametrize(
    ("program", "search", "replacement"),
    [(" " * 90_000 + "x\n", "\tx", "\t" * 90_000 + "y"), (" " * 90_000 + "x\n", " x", " y\n" * 20_000)],
    ids=["tabs that stand for many blanks", "many lines as deep as one"],
)
def test_an_indentation_longer_than_a_program_is_refused_before_it_is_made(
    program: str, search: str, replacement: str
) -> None:
    action = Action(block_text([search], [replacement]), "text", edits=True)
    tracemalloc.start()
    failed = edited_program(program, action, "")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(failed, Verdict)
    assert failed.status is Status.EDIT_ERROR
    assert "at most 200000 are read" in failed.message
    assert peak < 16 << 20, "8 GB for the first, 1.8 GB for the second"


def test_a_line_in_other_capitals_is_named_as_the_program_has_it() -> None:
    program = "ROWS = 1\nWARPS = 4\n"
    error = refused(program, block_text(["rows = 1"], ["rows = 2"]))
    assert "the first `rows = 1`, which it has as `ROWS = 1`; the nearest begin at line 1" in str(error)
    # The first line is there as it is sought, and the second is not.
    error = refused(program, block_text(["ROWS = 1", "TILES = 2"], ["ROWS = 2"]))
    assert "the first `ROWS = 1`; the nearest begin at line 1" in str(error)


def test_what_is_missing_or_stands_twice_says_which_block_and_shows_the_program() -> None:
    error = refused(CPP, f"{block(OLD, NEW)}\n{block('        if (i % 4) cout << i;', '')}")
    assert (
        "block 2 of 2 seeks lines that the program does not have, the first `if (i % 4) cout << i;`"
        in str(error)
    )
    assert error.excerpt.strip().startswith("if (i % ")
    error = refused(CPP, block("for (int i = 0; i < n; i++) {", ""))
    assert "the block seeks `for (int i" in str(error)
    assert "twice at least, at lines 9 and 12; quote more" in str(error)
    assert error.excerpt.count("for (int i = 0;") == 2
    assert "i % 2" in error.excerpt
    assert "i % 3" in error.excerpt
    assert refused(CPP, block("zzz yyy", "")).excerpt == ""
    assert "there is no program yet" in str(refused("", block("a", "b")))
    assert "leave nothing" in str(refused("a\n", block("a", "")))
    assert "would have" in str(refused("a\n" + "b" * 199_990, block("a", "c" * 99)))
    # Long lines and many of them are shown cut.
    long = "".join(f"{'word ' * 1000}{number}\n" for number in range(100))
    assert len(refused(long, block("\n".join(["word 1"] * 90), "")).excerpt) < 2000


def test_a_completed_program_is_whole_or_a_verdict() -> None:
    whole = edited_program(PYTHON, Action(block("STEPS = 30", "STEPS = 60"), edits=True), "run")
    assert isinstance(whole, Action)
    assert (whole.code, whole.edits) == (PYTHON.replace("30", "60"), False)
    for replacement, status in [("STEPS = (", Status.SYNTAX_ERROR), ("STEPS = 1", Status.OK)]:
        reply = Action(block("STEPS = 30", replacement), edits=True)
        found = edited_program(PYTHON, reply, "run")
        assert isinstance(found, Verdict) == (status is not Status.OK)
        assert not isinstance(found, Verdict) or found.status is status
    lost = edited_program(PYTHON, Action(block("def run(seed):", "def other(seed):"), edits=True), "run")
    assert isinstance(lost, Verdict)
    assert lost.status is Status.PARSE_ERROR
    failed = edited_program(PYTHON, Action(block("STEPS = 31", ""), edits=True), "run")
    assert isinstance(failed, Verdict)
    assert (failed.status, failed.output) == (Status.EDIT_ERROR, "STEPS = 30")
    assert failed.code.startswith("<<<<<<< SEARCH")


# -- properties --------------------------------------------------------------------------------------------


def lines_of(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n") if text else []


def difference(old: Sequence[str], new: Sequence[str]) -> list[tuple[list[str], list[str]]]:
    """Edits that make ``new`` of ``old`` one after the other, each seeking lines that stand once then."""
    whole = [(list(old), list(new))]
    current, pairs, shift = list(old), [], 0
    if not any(line.strip() for line in old):
        return [([], list(new))]
    for tag, i, end, j, stop in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        before, after = i + shift, end + shift
        first, last = before, after
        while not stands_once(current, current[first:last]):
            if (first, last) == (0, len(current)):
                return whole
            first, last = max(0, first - 1), min(len(current), last + 1)
        replacement = [*current[first:before], *new[j:stop], *current[after:last]]
        pairs.append((current[first:last], replacement))
        current[before:after] = new[j:stop]
        shift += (stop - j) - (end - i)
    return pairs


def stands_once(lines: Sequence[str], sought: Sequence[str]) -> bool:
    places = range(len(lines) - len(sought) + 1)
    return any(map(str.strip, sought)) and sum(lines[i : i + len(sought)] == sought for i in places) == 1


texts = st.lists(
    st.sampled_from(
        ["", "a", "    a", "b = 1", "  b = 1", "\tc", "}", "=======", "```", "<<<<<<< HEAD", "é  "]
    )
    | st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=6),
    max_size=12,
).map("\n".join)


@given(texts, texts, st.booleans())
@example("a\na\n", "a\nb\na\n", True)
@example("", "a", False)
def test_edits_computed_from_two_texts_give_the_second(old: str, new: str, fenced: bool) -> None:
    signs = max(longer_signs(old), longer_signs(new))
    pairs = difference(lines_of(old), lines_of(new))
    reply = "\n".join(block_text(search, replacement, signs) for search, replacement in pairs)
    if fenced:
        reply = f"Some words.\n`````\n{reply}\n`````\nMore."
    expected = "\n".join(lines_of(new)) + "\n"
    if not pairs:
        assert lines_of(old) == lines_of(new)
    elif not new.strip():
        assert "leave nothing" in str(refused(old, reply))
    else:
        assert applied(old.removeprefix("\ufeff"), reply) == expected


pieces = st.lists(
    st.sampled_from(
        [
            *(
                "<<<<<<< SEARCH",
                "=======",
                ">>>>>>> REPLACE",
                "```cpp",
                "```",
                "STEPS = 30",
                "STEPS = 60",
                "",
            ),
            *("<<<<<<<<< SEARCH", ">>>>>>>>> REPLACE", "=========", ">>>", "<<< search", "    total = 0"),
            *("<<<<<<< REPLACE", ">>>>>>> SEARCH", "\r", "\ud800", "no such line", "import math", "DIVIDER"),
        ]
    )
    | st.text(max_size=5),
    max_size=14,
).map("\n".join)


@given(pieces, st.sampled_from(["python", "c++", "rust"]))
def test_no_text_raises_and_nothing_is_applied_in_part(text: str, language: str) -> None:
    found = read_edits(text, language, "run")
    if isinstance(found, Action) and found.edits:
        blocks = read_blocks(found.code)
        found = edited_program(PYTHON, found, "run")
        # A failing block at the end undoes all before it.
        missing = read_blocks(block("no line of any program", "x"))
        with pytest.raises(EditError):
            apply_blocks(PYTHON, [*blocks[: edits.MAX_BLOCKS - 1], *missing])
    assert isinstance(found, Action | Verdict)
    if isinstance(found, Verdict):
        assert "\n" not in found.message


def steps(work: Callable[[], Any]) -> int:
    """Lines of Python that some work runs, each turn of a comprehension one."""
    count = 0

    def trace(*_: Any) -> Any:
        nonlocal count
        count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except EditError:
        pass
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize(
    "crafted",
    [
        lambda n: (block("a", "b"), "x\n" * n),
        lambda n: (block("a\n" * n + "b", "c"), "a\n" * (2 * n)),
        lambda n: ("<<<<<<< SEARCH\n" + "=======\n" * n + ">>>>>>> REPLACE", "x\n" * n),
        lambda n: ("".join(f"<<<<<<< SEARCH\nx{i}\n=======\n" for i in range(n)), "x\n" * n),
        lambda n: ("<<<<<<<<< SEARCH\n=======\n" + ">>>>>>> REPLACE\n" * n, "x\n" * n),
        lambda n: ("<<<<<<< SEARCH\n" + "```\n" * n + "=======\n" + "```\n" * n, "x\n" * n),
        lambda n: (block("  a\n" * n, "b\n" * n), "a\n" * n),
        lambda n: ("=" * n + " x\n" + "<" * n + "\n" + "`" * n + "\n" + "> " * n, "x\n" * n),
    ],
)
def test_the_time_is_linear_in_the_text(crafted: Callable[[int], tuple[str, str]]) -> None:
    def work(size: int) -> int:
        reply, program = crafted(size)
        return steps(lambda: apply_blocks(program, read_blocks(reply)))

    small, large = work(60), work(240)
    assert large <= 4.5 * small + 200
