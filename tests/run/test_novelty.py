"""Which programs count as the same."""

from __future__ import annotations

import numpy as np
import pytest

from ttd_core.run.novelty import Repeats, same_program
from ttd_core.types import Completion, Group, Rollout, Status, Verdict

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


def test_a_rollout_repeats_its_own_start_or_a_starting_program() -> None:
    codes = [PROGRAM, PROGRAM.replace("3", "4") + "# again\n", PROGRAM.replace("3", "5"), ""]
    rollouts = [Rollout(Completion("x"), Verdict.failed(Status.CRASH, "no", code=code)) for code in codes]
    group = Group(0, [], np.zeros(0, np.int64), rollouts)
    repeats = Repeats([PROGRAM])
    assert repeats.among(group, PROGRAM.replace("3", "4")).tolist() == [True, True, False, False]
    assert repeats.among(group, "").tolist() == [True, False, False, False]
