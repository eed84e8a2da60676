"""Replies in blocks as small models write them: applied rightly, or refused with a reason."""

from __future__ import annotations

import pytest

from ttd_core.dialogue.applying import read_edits
from ttd_core.dialogue.completing import whole_program
from ttd_core.types import Action, Status, Verdict

PACKING = """import numpy as np
from scipy.optimize import minimize

N = 26
ROUNDS = 3
STEPS = 30
NOISE = 0.05


def loss(z):
    return -z[2 * N :].sum()


def run_packing():
    rng = np.random.default_rng(0)
    best = None
    for _ in range(ROUNDS):
        p = NOISE * rng.normal(size=(N, 2))
        z = minimize(loss, p, options={"maxiter": STEPS}).x
        if best is None or loss(z) < loss(best):
            best = z
    return best
"""
APPLES = """#include <iostream>
#include <vector>
using namespace std;

int main() {
    int n, levels, turns;
    cin >> n >> levels >> turns;
    for (int t = 0; t < turns; t++) {
        double best = 1.0;
        int level = -1, kind = -1;
        for (int j = 0; j < n; j++) {
            double worth = j * (double)(turns - t);
            if (worth > best) best = worth, kind = j;
        }
        if (level < 0) {
            cout << "-1\\n";
        }
    }
}
"""


def judged(program: str, reply: str) -> Action | Verdict:
    python = program == PACKING
    found = read_edits(reply, "python" if python else "c++", "run_packing" if python else "main")
    if isinstance(found, Verdict):
        return found
    return whole_program(program, found, "edits", "run_packing" if python else "main")


@pytest.mark.parametrize(
    ("program", "reply", "changes"),
    [
        pytest.param(
            PACKING,
            "```python\n<<<<<<< SEARCH\nNOISE = 0.05\n=======\nNOISE = 0.02\n>>>>>>> REPLACE\n```",
            [("NOISE = 0.05", "NOISE = 0.02")],
            id="the example's form, copied",
        ),
        pytest.param(
            PACKING,
            "To improve the packing, I will use more rounds and more steps of the optimizer.\n\n"
            "### Change 1\n```python\n<<<<<<< SEARCH\nROUNDS = 3\n=======\nROUNDS = 8\n"
            ">>>>>>> REPLACE\n```\n\n"
            "### Change 2\n```python\n<<<<<<< SEARCH\nSTEPS = 30\n=======\nSTEPS = 200\n"
            ">>>>>>> REPLACE\n```\n\n"
            "These changes allow the optimizer to converge.",
            [("ROUNDS = 3", "ROUNDS = 8"), ("STEPS = 30", "STEPS = 200")],
            id="a block in a fence each, with headings and prose",
        ),
        pytest.param(
            PACKING,
            "<<<<<<< SEARCH\n    for _ in range(ROUNDS):\n"
            "        p = NOISE * rng.normal(size=(N, 2))\n=======\n"
            "    for k in range(ROUNDS):\n"
            "        p = NOISE / (1 + k) * rng.normal(size=(N, 2))\n>>>>>>> REPLACE\n",
            [("for _ in range", "for k in range"), ("NOISE * rng", "NOISE / (1 + k) * rng")],
            id="two lines, no fence",
        ),
        pytest.param(
            PACKING,
            "```python\n<<<<<<< SEARCH\nfor _ in range(ROUNDS):\n"
            "    p = NOISE * rng.normal(size=(N, 2))\n=======\n"
            "for _ in range(ROUNDS * 2):\n    p = NOISE * rng.uniform(size=(N, 2))\n>>>>>>> REPLACE\n```",
            [("range(ROUNDS)", "range(ROUNDS * 2)"), ("rng.normal", "rng.uniform")],
            id="lines of a function written at the margin",
        ),
        pytest.param(
            PACKING,
            "```\n<<<<<< SEARCH\nNOISE = 0.05\n======\nNOISE = 0.1\n>>>>>> REPLACE\n```",
            [("NOISE = 0.05", "NOISE = 0.1")],
            id="six signs",
        ),
        pytest.param(
            PACKING,
            "Here is the edit:\n\nprogram.py\n```python\n<<<<<<< SEARCH\nSTEPS = 30\n=======\n"
            "STEPS = 300\n```",
            [("STEPS = 30", "STEPS = 300")],
            id="a file's name above, and no last line",
        ),
        pytest.param(
            PACKING,
            "```python\n<<<<<<< SEARCH\n\n=======\ndef polish(z):\n    return z\n>>>>>>> REPLACE\n```",
            [("    return best\n", "    return best\ndef polish(z):\n    return z\n")],
            id="a function added to the end",
        ),
        pytest.param(
            PACKING,
            f"I rewrote it:\n```python\n{PACKING.replace('STEPS = 30', 'STEPS = 99')}```",
            [("STEPS = 30", "STEPS = 99")],
            id="the whole program in spite of the rule",
        ),
        pytest.param(
            APPLES,
            "```cpp\n<<<<<<< SEARCH\n        double best = 1.0;\n"
            "        int level = -1, kind = -1;\n=======\n"
            "        double best = 0.5;\n        int level = 0, kind = -1;\n>>>>>>> REPLACE\n```\n",
            [("best = 1.0", "best = 0.5"), ("level = -1", "level = 0")],
            id="C++",
        ),
        pytest.param(
            APPLES,
            "```cpp\n<<<<<<< SEARCH\n  for (int j = 0; j < n; j++) {\n"
            "    double worth = j * (double)(turns - t);\n"
            "=======\n  for (int j = n - 1; j >= 0; j--) {\n    double worth = j * 2.0;\n"
            ">>>>>>> REPLACE\n```",
            [("int j = 0; j < n; j++", "int j = n - 1; j >= 0; j--"), ("j * (double)(turns - t)", "j * 2.0")],
            id="C++ indented by two where the program has four",
        ),
        pytest.param(
            APPLES,
            '```cpp\r\n<<<<<<< SEARCH\r\n            cout << "-1\\n";\r\n=======\r\n'
            '            cout << "0 0\\n";\r\n>>>>>>> REPLACE\r\n```\r\n',
            [('"-1\\n"', '"0 0\\n"')],
            id="carriage returns",
        ),
        pytest.param(
            APPLES,
            "<<<<<<< search\n#include <vector>\n=======\n#include <vector>\n"
            "#include <algorithm>\n>>>>>>> replace",
            [("#include <vector>\n", "#include <vector>\n#include <algorithm>\n")],
            id="lower case",
        ),
        pytest.param(
            PACKING,
            "```python\n<<<<<<< SEARCH\nSTEPS = 30\n>>>>>>> REPLACE\nSTEPS = 60\n```\nThis takes more steps.",
            [("STEPS = 30", "STEPS = 60")],
            id="no divider, the new line behind the last one",
        ),
        pytest.param(
            PACKING,
            "```python\n<<<<<<< SEARCH\nROUNDS = 3\n>>>>>>> REPLACE\nROUNDS = 8\n\n"
            "<<<<<<< SEARCH\nSTEPS = 30\n>>>>>>> REPLACE\nSTEPS = 60\n",
            [("ROUNDS = 3", "ROUNDS = 8"), ("STEPS = 30", "STEPS = 60")],
            id="no divider, two blocks in a fence that never ends",
        ),
        pytest.param(
            PACKING,
            "More steps.\n<<<<<<< SEARCH\nSTEPS = 30\n>>>>>>> REPLACE\nSTEPS = 60\n>>>>>>> REPLACE\nDone.",
            [("STEPS = 30", "STEPS = 60")],
            id="no divider, one more last line, no fence",
        ),
        pytest.param(
            PACKING,
            "<<<<<<< SEARCH\nSTEPS = 30\n>>>>>>> REPLACE\n=======\nSTEPS = 60\n>>>>>>> REPLACE\n",
            [("STEPS = 30", "STEPS = 60")],
            id="a last line and a divider where the divider belongs",
        ),
        pytest.param(
            PACKING,
            "<<<<<<< SEARCH\nSTEPS = 30\n>>>>>>> SEARCH\nSTEPS = 60\n>>>>>>> REPLACE\n"
            "<<<<<<< SEARCH\nROUNDS = 3\n=======\nROUNDS = 8\n>>>>>>> REPLACE\n",
            [("STEPS = 30", "STEPS = 60"), ("ROUNDS = 3", "ROUNDS = 8")],
            id="the first word again in place of a divider, then a whole block",
        ),
        pytest.param(
            APPLES,
            "```cpp\n<<<<<<< SEARCH\ndouble best = 1.0;\n=======\ndouble best = 1.0;\n>>>>>>> REPLACE\n```",
            [],
            id="a change that changes nothing",
        ),
    ],
)
def test_replies_that_mean_a_change_make_it(program: str, reply: str, changes: list[tuple[str, str]]) -> None:
    expected = program
    for old, new in changes:
        assert old in expected
        expected = expected.replace(old, new)
    whole = judged(program, reply)
    assert isinstance(whole, Action), whole.message
    assert (whole.code, whole.edits) == (expected, False)


@pytest.mark.parametrize(
    ("program", "reply", "status", "words"),
    [
        pytest.param(
            APPLES,
            "```cpp\n<<<<<<< SEARCH\n        }\n=======\n        } // end\n>>>>>>> REPLACE\n```",
            Status.EDIT_ERROR,
            r"seeks `}`, which stands in the program twice at least, at lines 14 and 17",
            id="a line that stands everywhere",
        ),
        pytest.param(
            APPLES,
            "<<<<<<< SEARCH\nint best = 0;\n=======\nint best = 5;\n>>>>>>> REPLACE",
            Status.EDIT_ERROR,
            "does not have, the first `int best = 0;`; the nearest begin at line 9",
            id="a line remembered wrongly",
        ),
        pytest.param(
            APPLES,
            "<<<<<<< SEARCH\n// existing code\n=======\n// better code\n>>>>>>> REPLACE",
            Status.EDIT_ERROR,
            "does not have, the first `// existing code`",
            id="words in place of code",
        ),
        pytest.param(
            PACKING,
            "<<<<<<< SEARCH\nSTEPS = 30\n=======\nSTEPS = 99\n>>>>>>> REPLACE\n"
            "<<<<<<< SEARCH\nSTEPS = 30\n=======\nSTEPS = 100\n>>>>>>> REPLACE\n",
            Status.EDIT_ERROR,
            "block 2 of 2 seeks lines that the program does not have",
            id="a change made twice",
        ),
        pytest.param(
            PACKING, "```python\n<<<<<<< SEARCH\nSTEPS = 30\n", Status.EDIT_ERROR, "cut off", id="cut off"
        ),
        *(
            pytest.param(
                PACKING,
                reply,
                Status.EDIT_ERROR,
                "block 1 has no line ======= between what it seeks and what replaces it",
                id=name,
            )
            for name, reply in {
                "nothing replaces it": "```\n<<<<<<< SEARCH\nSTEPS = 30\n>>>>>>> REPLACE\n```",
                "code or prose": "<<<<<<< SEARCH\nSTEPS = 30\n>>>>>>> REPLACE\nSTEPS = 60\nIt is better.",
                "the program in a fence of its own": "<<<<<<< SEARCH\nSTEPS = 30\n>>>>>>> REPLACE\n"
                "```python\nSTEPS = 60\n```",
                "nothing is sought": "```\n<<<<<<< SEARCH\n\n>>>>>>> REPLACE\nSTEPS = 60\n```",
                "two first words": "<<<<<<< SEARCH\nSTEPS = 30\n>>>>>>> SEARCH\nSTEPS = 60\n"
                ">>>>>>> SEARCH\nSTEPS = 90\n>>>>>>> REPLACE",
                "eight signs": "```\n<<<<<<<< SEARCH\nSTEPS = 30\n>>>>>>>> REPLACE\nSTEPS = 60\n```",
                "on the line itself": "<<<<<<< SEARCH\nSTEPS = 30\n>>>>>>> REPLACE STEPS = 60\n",
            }.items()
        ),
        pytest.param(
            PACKING,
            "Increase STEPS to 100.",
            Status.PARSE_ERROR,
            "no fenced python code block",
            id="prose alone",
        ),
        pytest.param(
            PACKING,
            "```python\n=======\nROUNDS = 30\n=======\nROUNDS = 35\n>>>>>>> REPLACE\n```",
            Status.EDIT_ERROR,
            "no block begins with a line <<<<<<< SEARCH",
            id="a block without its first line",
        ),
        pytest.param(
            PACKING,
            "```diff\n-STEPS = 30\n+STEPS = 90\n```",
            Status.PARSE_ERROR,
            "no fenced python code block",
            id="a diff of another form",
        ),
        pytest.param(
            PACKING,
            "```python\n<<<<<<< SEARCH\nSTEPS = 30\n=======\nSTEPS = ...30\n>>>>>>> REPLACE\n```",
            Status.SYNTAX_ERROR,
            "line 6",
            id="a change that does not parse",
        ),
    ],
)
def test_replies_that_cannot_be_applied_say_why(program: str, reply: str, status: Status, words: str) -> None:
    verdict = judged(program, reply)
    assert isinstance(verdict, Verdict)
    assert verdict.status is status
    assert words in verdict.message
    assert "\n" not in verdict.message
