"""Problems with one fault each: the contract names the fault and says what to do, and nothing else fails.

Each is the generated minimal problem with a few lines changed, or with a method added.
"""

from __future__ import annotations

import pathlib

import attrs
import pytest

from ttd_core.plugin import registry
from ttd_core.testing.checkup import CHECKS, Subject, run_checks
from ttd_core.testing.subject import with_short_budget

CHECK = (
    '        return [] if np.all((points >= 0) & (points <= 1)) else ["a point is not in the unit square"]\n'
)
CONSTRUCT = '        return {"points": np.array(value, dtype=float)}\n'
REWARD = "        return Reward(value=distance, score=distance)\n"
SHAPE = "        if not isinstance(points, np.ndarray) or points.shape != (POINTS, 2):\n"
ONE_TWO = '        one, two = state.data["points"].'
POINTS = '        points = state.data.get("points")\n'


@attrs.frozen
class Broken:
    """A fault.

    :param changes: pairs of texts, each old one found exactly once.
    :param added: methods added at the end of the class.
    :param check: the check that must fail.
    :param what: what its sentence must say.
    :param fix: what its advice must say.
    :param also: other checks that the same fault makes fail.
    """

    name: str
    check: str
    what: str
    fix: str
    changes: tuple[tuple[str, str], ...] = ()
    added: str = ""
    also: tuple[str, ...] = ()


BROKEN = [
    Broken(
        "lets NaN pass",
        "strict",
        "check accepts nan at [0, 0] of data['points']",
        "NaN makes x < 0 false too",
        changes=(("np.all((points >= 0) & (points <= 1))", "not np.any((points < 0) | (points > 1))"),),
    ),
    Broken(
        "takes any number of points",
        "strict",
        "check accepts an array without entries as data['points']",
        "compare the shape",
        changes=(
            (SHAPE, "        if not isinstance(points, np.ndarray) or points.dtype.kind != 'f':\n"),
            (ONE_TWO, '        return Reward(*[float(state.data["points"].size)] * 2)\n' + ONE_TWO),
            ("[[0.5, 0.5]] * POINTS]", "grid[:5]]"),
            ("bad=[grid[:-1], ", "bad=["),
        ),
    ),
    Broken(
        "hides entries behind a mask",
        "strict",
        "a masked array with a NaN under it is accepted in the answer",
        "copy the numbers with np.array(value, dtype=float)",
        changes=(
            (CONSTRUCT, '        return {"points": np.ma.filled(np.ma.array(value, dtype=float), 0.5)}\n'),
        ),
    ),
    Broken(
        "accepts a state with nothing in it",
        "strict",
        "check accepts a state without anything in it",
        "refuse a construction without its parts",
        changes=(
            (POINTS, '        points = state.data.get("points", np.zeros((POINTS, 2)))\n'),
            (ONE_TWO, '        one, two = state.data.get("points", np.zeros((POINTS, 2))).'),
        ),
    ),
    Broken(
        "believes the reported score",
        "reports",
        "an answer that claims 0.3337 instead of 0.3333 gets score 0.3337",
        "compute the score from the construction",
        changes=(
            (
                CONSTRUCT,
                '        return {"points": np.array(value[0], dtype=float), "score": float(value[1])}\n',
            ),
            (REWARD, '        return Reward(state.data["score"], state.data["score"])\n'),
            (
                CHECK,
                CHECK.replace(
                    "return [] if", 'return [] if np.isfinite(state.data.get("score", np.nan)) and'
                ),
            ),
            ("good=[grid, [[0.5, 0.5]] * POINTS]", "good=[[grid, 1 / 3], [[[0.5, 0.5]] * POINTS, 0.0]]"),
            (
                "bad=[grid[:-1], [[2.0, 0.0], *grid[1:]]]",
                "bad=[[grid[:-1], 0.5], [[[2.0, 0.0], *grid[1:]], 0.5]]",
            ),
        ),
        also=("total",),
    ),
    Broken(
        "rewards the wrong direction",
        "reward",
        "score 0 is better than 0.333333 (direction 'min'), but its reward 0 is not larger than 0.333333",
        "say 1 / score or -score when a smaller score is better",
        changes=(('direction = "max"', 'direction = "min"'),),
    ),
    Broken(
        "trusts what a state holds",
        "total",
        "check fails on a state with nothing in it",
        "test type and shape first",
        changes=((POINTS, '        points = state.data["points"]\n'),),
        also=("strict",),
    ),
    Broken(
        "fails on what it cannot read",
        "total",
        "construct fails: on None it raises AssertionError",
        "raise ValueError",
        changes=((CONSTRUCT, "        assert isinstance(value, list)\n" + CONSTRUCT),),
        also=("transition", "examples"),
    ),
    Broken(
        "draws in its verifier",
        "repeatable",
        "the same state is judged",
        "no random numbers, no clock, no memory",
        changes=((REWARD, "        distance += 1e-3 * np.random.random()\n" + REWARD),),
        also=("stored",),
    ),
    Broken(
        "remembers earlier answers",
        "repeatable",
        "the same state is judged",
        "no random numbers, no clock, no memory",
        changes=(
            (
                REWARD,
                '        distance = self.best = max(distance, getattr(self, "best", 0.0))\n' + REWARD,
            ),
        ),
        also=("reward", "stored"),
    ),
    Broken(
        "refuses a good answer",
        "examples",
        "good example 1 is refused: a point is not in the unit square",
        "correct the example, or the rule",
        changes=(("(points <= 1)", "(points < 1)"),),
        also=("reward",),
    ),
    Broken(
        "accepts a bad answer",
        "examples",
        "bad example 2 is accepted with score 0.3333333333",
        "return a violation for the rule that it breaks",
        changes=((CHECK, "        return [] if np.isfinite(points).all() else ['a point is not finite']\n"),),
    ),
    Broken(
        "knows no answers",
        "examples",
        "no answer is known to be bad",
        "let examples() return Examples(bad=[...])",
        changes=(("    def examples(self):", "    def example(self):"),),
        also=("reward",),
    ),
    Broken(
        "has a starting program that defines another name",
        "program",
        "the starting program is no program: the program does not define run at its top level",
        "it must compile and define run",
        added="    def starting_program(self):\n        return 'def solve():\\n    return []\\n'\n",
        also=("reply",),
    ),
    Broken(
        "has a starting program that breaks a rule",
        "program",
        "the starting program fails: invalid: there must be 10 points [x, y]",
        "must have a score to improve on",
        added="    def starting_program(self):\n        return 'def run(**kwargs):\\n    return []\\n'\n",
    ),
    Broken(
        "says that verdicts repeat, and its own program draws random numbers",
        "program",
        "deterministic is set, but the starting program came to",
        "leave it out where times are measured",
        added=(
            "    deterministic = True\n\n    def starting_program(self):\n"
            "        return 'import numpy\\ndef run(**_):\\n    return numpy.random.random((10, 2))\\n'\n"
        ),
    ),
    Broken(
        "cannot be made with a part of its budget",
        "seeds",
        "with_budget(0.5) has another budget than half of it",
        "build the problem with options.with_budget(share)",
        added="    def with_budget(self, share):\n        return self\n",
    ),
    Broken(
        "starts from an answer it refuses itself",
        "seeds",
        "seed state 1 is not valid (invalid: there must be 10 points [x, y]",
        "a run cannot start from a state that its own verifier refuses",
        added=(
            "    def seed_states(self, rng, count):\n"
            "        from ttd_core import State\n"
            "        return [State(data={'points': rng.random((9, 2))}) for _ in range(count)]\n"
        ),
    ),
    Broken(
        "starts elsewhere each time",
        "seeds",
        "seed_states gives other states for the same random generator",
        "draw every random number from its rng argument",
        added=(
            "    def seed_states(self, rng, count):\n"
            "        from ttd_core import State\n"
            "        return [State(data={'points': np.random.random((10, 2))}) for _ in range(count)]\n"
        ),
    ),
    Broken(
        "never says what to define",
        "prompt",
        "the prompt never names run",
        "show self.signature",
        added=(
            "    def render_prompt(self, state, history):\n"
            "        return [{'role': 'user', 'content': 'Do better than ' + state.code + ''.join(\n"
            "            self.format_score(each.reward.score) for each in history)}]\n"
        ),
    ),
    Broken(
        "fails on a reply without a program",
        "reply",
        "parse_action fails on the reply ''",
        "return a failed Verdict for a reply without a program",
        added=(
            "    def parse_action(self, completion):\n"
            "        from ttd_core import Action\n"
            "        return Action(completion.text.split('```')[1].removeprefix('python'))\n"
        ),
    ),
    Broken(
        "makes a state of a crash",
        "transition",
        "transition makes a state of a job that ended with parse_error",
        "return Verdict.failed(result.status, result.message)",
        added=(
            "    def transition(self, state, action, execute):\n"
            "        from ttd_core import PythonJob, State\n"
            "        execute(PythonJob(action.code, self.entry))\n"
            "        return State(code=action.code, data=state.data)\n"
        ),
    ),
    Broken(
        "has no plain name",
        "declared",
        "name = 'My problem' is no plain name",
        "use lower-case letters",
        changes=(('name = "my-problem"', 'name = "My problem"'),),
    ),
]


def broken_source(minimal_source: str, broken: Broken) -> str:
    source = minimal_source
    for old, new in broken.changes:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source + ("\n" + broken.added if broken.added else "")


def faults(source: str, path: pathlib.Path, executor) -> dict[str, list[str]]:
    """Sentences by check."""
    path.write_text(source)
    problem = with_short_budget(registry.load(f"{path}:MyProblem"), {})
    outcomes = run_checks(Subject(problem, executor.run))
    return {check.name: [str(each) for each in outcome.findings] for check, outcome in outcomes}


def test_the_problem_they_are_made_of_has_no_fault(minimal_source, tmp_path, executor) -> None:
    found = faults(minimal_source, tmp_path / "problem.py", executor)
    assert found == {check.name: [] for check in CHECKS}


def test_there_are_a_dozen_and_every_check_has_one() -> None:
    assert len(BROKEN) >= 12
    caught = {broken.check for broken in BROKEN}
    assert {check.name for check in CHECKS} - caught == {"stored"}  # see test_states_that_cannot_be_stored


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_a_fault_is_told_in_the_right_sentence(broken, minimal_source, tmp_path, executor) -> None:
    found = faults(broken_source(minimal_source, broken), tmp_path / "problem.py", executor)
    said = [sentence for sentence in found[broken.check] if broken.what in sentence]
    assert said, found
    assert broken.fix in said[0]
    assert said[0].endswith(".")
    assert "\n" not in said[0]
    failing = {name for name, sentences in found.items() if sentences}
    assert failing <= {broken.check, *broken.also}, found
