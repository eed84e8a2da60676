"""Which programs count as the same."""

from __future__ import annotations

import pytest

from ttd_core.run.novelty import same_program

PROGRAM = 'SIZE = 3\n\n\ndef run(seed):\n    """Doc."""\n    return "a" * SIZE  # why\n'


@pytest.mark.parametrize(
    "other",
    [
        PROGRAM.replace("  # why", ""),
        PROGRAM.replace('"a"', "'a'"),
        PROGRAM.replace('    """Doc."""\n', ""),
        PROGRAM.replace("\n\n\n", "\n\n# a note\n"),
    ],
)
def test_layout_does_not_make_a_program_new(other: str) -> None:
    assert same_program(PROGRAM, other)


@pytest.mark.parametrize("other", [PROGRAM.replace("3", "4"), PROGRAM.replace("seed", "s"), "", "def run(:"])
def test_anything_else_does(other: str) -> None:
    assert not same_program(PROGRAM, other)


def test_other_languages_compare_by_text() -> None:
    assert same_program("int main() {\n  return 0;\n}\n", "int main() {\n\n return 0;\n}")
    assert not same_program("int main() { return 0; }", "int main() { return 1; }")
