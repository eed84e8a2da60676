"""Merging parts of a reply into the last program: what is replaced, what is kept, what never breaks."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttd_core.dialogue.merging import complete_program, merge_parts, split_parts
from ttd_core.types import Action, Status, Verdict

PROGRAM = '''"""Doc."""
import math
import numpy as np

SIZE = 3
LOW, HIGH = 0, 1  # bounds


def helper(x):
    return x + SIZE


@staticmethod
def decorated():
    return 1


def run(seed):
    return helper(seed) * HIGH
'''


def value(program: str, seed: int = 1) -> object:
    names: dict[str, object] = {}
    exec(program, names)
    run = names["run"]
    assert callable(run)
    return run(seed)


def test_a_constant_alone() -> None:
    merged = merge_parts(PROGRAM, "SIZE = 10")
    assert merged == PROGRAM.replace("SIZE = 3", "SIZE = 10")
    assert value(merged) == 11


def test_a_function_and_a_new_constant_it_uses() -> None:
    merged = merge_parts(PROGRAM, "FACTOR = 2\n\ndef helper(x):\n    return FACTOR * x\n")
    assert value(merged) == 2
    assert merged.count("def helper") == 1
    assert merged.index("FACTOR = 2") < merged.index("def helper")


def test_new_imports_and_new_functions() -> None:
    merged = merge_parts(
        PROGRAM, "import cmath\n\ndef other():\n    return 5\n\ndef run(seed):\n    return other()\n"
    )
    assert value(merged) == 5
    assert merged.index("import cmath") < merged.index("def helper")


def test_decorators_belong_to_their_function() -> None:
    merged = merge_parts(PROGRAM, "def decorated():\n    return 2\n")
    assert "@staticmethod" not in merged
    assert value(merged) == 4


def test_bare_statements_are_left_out() -> None:
    assert merge_parts(PROGRAM, "print(run(0))\nSIZE = 4\n") == PROGRAM.replace("= 3", "= 4")


def test_a_condition_that_binds_a_name_is_a_part() -> None:
    assert value(merge_parts(PROGRAM, "SIZE = 4\nif True:\n    SIZE = 9\n")) == 10


def test_the_whole_program_given_again_is_the_program() -> None:
    assert ast.dump(ast.parse(merge_parts(PROGRAM, PROGRAM))) == ast.dump(ast.parse(PROGRAM))


def test_the_last_of_two_versions_wins() -> None:
    assert value(merge_parts(PROGRAM, "SIZE = 4\nSIZE = 5")) == 6


def test_statements_on_one_line_stay_together() -> None:
    merged = merge_parts("a = 1; b = 2\n\ndef run(seed):\n    return a + b\n", "a = 5; b = 6")
    assert value(merged) == 11


def test_completion_needs_the_entry() -> None:
    whole = complete_program(PROGRAM, Action("SIZE = 4\n"), "run")
    assert isinstance(whole, Action)
    assert value(whole.code) == 5
    lost = complete_program("", Action("SIZE = 4\n"), "run")
    assert isinstance(lost, Verdict)
    assert lost.status is Status.PARSE_ERROR
    assert lost.code == "SIZE = 4\n"


NAMES = st.sampled_from(["a", "b", "c", "run"])
PARTS = st.one_of(
    st.builds("{} = {}".format, NAMES, st.integers(0, 9)),
    st.builds("def {}(x=1):\n    return {}".format, NAMES, st.integers(0, 9)),
    st.builds("import math as {}".format, NAMES),
    st.just("# a comment"),
    st.just("print('x')"),
)
PROGRAMS = st.lists(PARTS, max_size=6).map(lambda parts: "\n\n".join(parts) + "\n")


@given(PROGRAMS, PROGRAMS)
def test_every_part_of_the_reply_is_in_force(program: str, reply: str) -> None:
    merged = merge_parts(program, reply)
    last = {part.names: part.text for part in split_parts(reply) if part.names}
    found = {part.names: part.text for part in split_parts(merged) if part.names}
    for names, text in last.items():
        assert found[names] == text
    for part in split_parts(program):
        if part.names:
            assert part.names in found


@pytest.mark.parametrize("reply", ["", "# nothing\n", "1 + 1\n"])
def test_a_reply_without_parts_changes_nothing(reply: str) -> None:
    assert merge_parts(PROGRAM, reply) == PROGRAM
