"""What stands outside ``EVOLVE-BLOCK`` lines stays, whatever form a reply has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttd_core.dialogue.completing import whole_program
from ttd_core.dialogue.edits import block_text
from ttd_core.dialogue.protection import has_markers, protected
from ttd_core.types import Action, Status, Verdict

PROGRAM = """import math

# EVOLVE-BLOCK-START
STEPS = 30


def grow(x):
    return x + 1
# EVOLVE-BLOCK-END


def run(seed):
    return grow(STEPS)


# EVOLVE-BLOCK-START tuning
RATE = 0.5
# EVOLVE-BLOCK-END
"""
BARE = "".join(line for line in PROGRAM.splitlines(keepends=True) if "EVOLVE" not in line)


def edited(search: str, replacement: str) -> Action | Verdict:
    code = block_text(search.splitlines(), replacement.splitlines())
    return whole_program(PROGRAM, Action(code, edits=True), "edits", "run")


@pytest.mark.parametrize(
    ("search", "replacement"),
    [
        ("STEPS = 30", "STEPS = 60"),
        ("# EVOLVE-BLOCK-START\nSTEPS = 30", "# EVOLVE-BLOCK-START\nSTEPS = 60\n\n# more"),
        ("    return x + 1\n# EVOLVE-BLOCK-END", "    return x + 2\n# EVOLVE-BLOCK-END"),
        ("RATE = 0.5", ""),
    ],
)
def test_an_edit_inside_is_made(search: str, replacement: str) -> None:
    whole = edited(search, replacement)
    assert isinstance(whole, Action), whole
    assert whole.code == PROGRAM.replace(search + "\n", replacement + "\n" if replacement else "")


def test_what_is_added_stands_inside_the_last_block() -> None:
    whole = edited("", "MORE = 1")
    assert isinstance(whole, Action)
    assert whole.code.endswith("RATE = 0.5\nMORE = 1\n# EVOLVE-BLOCK-END\n")


@pytest.mark.parametrize(
    ("search", "replacement", "words"),
    [
        ("import math", "import random", "`import math` stands outside and must stay"),
        ("    return grow(STEPS)", "    return 10**9", "`return grow(STEPS)` stands outside"),
        ("# EVOLVE-BLOCK-START\nSTEPS = 30", "STEPS = 30", "lines with these must stay"),
        ("# EVOLVE-BLOCK-END\n\n\ndef run(seed):", "\n\ndef run(seed):", "must stay"),
        ("STEPS = 30", "STEPS = 30\n# EVOLVE-BLOCK-END\nimport os\n# EVOLVE-BLOCK-START", "none be added"),
        ("import math", "import math\n\n", "lines outside would be moved"),
        ("import math", "import math\nimport os", "`import os` would be added outside"),
    ],
)
def test_an_edit_outside_is_refused_in_a_line(search: str, replacement: str, words: str) -> None:
    verdict = edited(search, replacement)
    assert isinstance(verdict, Verdict)
    assert verdict.status is Status.EDIT_ERROR
    between = "only what stands between EVOLVE-BLOCK-START and EVOLVE-BLOCK-END may change"
    assert verdict.message.startswith(between)
    assert words in verdict.message
    assert "\n" not in verdict.message


@pytest.mark.parametrize("reply", ["program", "parts", "edits"])
def test_whole_programs_are_held_to_it_too(reply: str) -> None:
    form = "program" if reply == "parts" else reply
    inside = Action(PROGRAM.replace("30", "60"))
    assert whole_program(PROGRAM, inside, form, "run") == inside
    cheat = whole_program(PROGRAM, Action(PROGRAM.replace("grow(STEPS)", "10**9")), reply, "run")
    assert isinstance(cheat, Verdict)
    assert cheat.status is Status.EDIT_ERROR
    # Without any marker: those of the last program are put back, where all that they keep is there.
    restored = whole_program(PROGRAM, Action(BARE.replace("30", "60")), form, "run")
    assert isinstance(restored, Action)
    assert [line for line in restored.code.splitlines() if line] == [
        line for line in PROGRAM.replace("30", "60").splitlines() if line
    ]
    lost = whole_program(PROGRAM, Action(BARE.replace("def run(seed)", "def run(s)")), form, "run")
    assert isinstance(lost, Verdict)
    assert lost.status is Status.EDIT_ERROR


def test_parts_are_held_to_it() -> None:
    inside = whole_program(PROGRAM, Action("STEPS = 60\n"), "parts", "run")
    assert isinstance(inside, Action)
    assert inside.code == PROGRAM.replace("30", "60")
    outside = whole_program(PROGRAM, Action("def run(seed):\n    return 10**9\n"), "parts", "run")
    assert isinstance(outside, Verdict)
    assert outside.status is Status.EDIT_ERROR


@pytest.mark.parametrize(
    "comment",
    ["# {}", "// {}", "/* {} */", "-- {}", "% {}", "; {}", "<!-- {} -->", "REM {}", "(* {} *)"],
)
def test_markers_stand_in_comments_of_any_language(comment: str) -> None:
    start, end = comment.format("EVOLVE-BLOCK-START"), comment.format("EVOLVE-BLOCK-END")
    program = f"first\n  {start}\nsecond\n  {end}\nthird\n"
    assert has_markers(program)
    assert isinstance(protected(program, Action(program.replace("second", "2"), "c++")), Action)
    assert isinstance(protected(program, Action(program.replace("first", "1"), "c++")), Verdict)


def test_programs_without_markers_may_change_everywhere() -> None:
    for program in [
        "",
        "x = 1\n",
        'print("EVOLVE-BLOCK-START")\n',
        "# EVOLVE-BLOCK-STARTS\n",
        "# EVOLVE-BLOCK-END\n",
    ]:
        assert not has_markers(program)
        assert protected(program, Action("y = 2\n")) == Action("y = 2\n")
    # One that is never closed goes to the end.
    assert isinstance(
        protected("a\n# EVOLVE-BLOCK-START\nb\n", Action("a\n# EVOLVE-BLOCK-START\nc\n")), Action
    )


texts = st.lists(
    st.sampled_from(["# EVOLVE-BLOCK-START", "# EVOLVE-BLOCK-END", "a", "b", "", " c "]), max_size=12
).map("\n".join)


@given(texts, texts)
def test_no_two_texts_raise_and_what_is_allowed_keeps_what_stands_outside(old: str, new: str) -> None:
    whole = protected(old, Action(new))
    assert protected(old, Action(old)) == Action(old)
    if isinstance(whole, Action):
        # What was allowed is allowed again.
        assert protected(old, whole) == whole
    else:
        assert has_markers(old)
        assert "\n" not in whole.message
