"""The contract as a pytest class: subclass it, name the problem, done.

::

    from ttd_core.testing.contract import ProblemContract

    class TestMine(ProblemContract):
        problem = MyProblem
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttd_core.config.settings import fill
from ttd_core.problem import Examples, Problem
from ttd_core.sandbox.local import LocalExecutor
from ttd_core.testing.checkup import CHECKS, Check
from ttd_core.testing.strategies import spoiled_answers, wire_values
from ttd_core.testing.subject import Subject, with_short_budget, without_warnings
from ttd_core.types import Action, State

__all__ = ["ProblemContract"]


class ProblemContract:
    """Every check of :mod:`ttd_core.testing.checkup` as a test, and random values on top.

    :cvar problem: the class under test.
    :cvar options: its options by name, those that differ from the defaults. Unless set here, ``timeout_s``
        is at most 60 s and ``budget_s`` 2 s, so that the starting program is quick.
    :cvar examples: known answers; those of the problem's own ``examples()`` when left out.
    """

    problem: ClassVar[type[Problem]]
    options: ClassVar[Mapping[str, Any]] = {}
    examples: ClassVar[Examples | None] = None

    _executor: ClassVar[LocalExecutor]
    _subject: ClassVar[Subject]

    @classmethod
    def setup_class(cls) -> None:
        """Build the problem once for all checks, with a sandbox."""
        options = fill(cls.problem.options_type, cls.options)
        problem = with_short_budget(cls.problem(options), cls.options)
        cls._executor = LocalExecutor(workers=1)
        cls._subject = Subject(problem, cls._executor.run, cls.examples)

    @classmethod
    def teardown_class(cls) -> None:
        """End the sandbox."""
        cls._executor.close()

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
    def test_contract(self, check: Check) -> None:
        """One clause of the contract."""
        result = check.run(self._subject)
        if result.skipped:
            pytest.skip(result.skipped)
        assert not result.findings, "\n".join(map(str, result.findings))

    def test_no_returned_value_crashes_the_verifier(self) -> None:
        """Random values, as they can come out of the sandbox, and good answers with numbers of any size."""
        answers = [answer for answer in self._subject.examples.good if not isinstance(answer, State | Action)]

        # Decorated here, not as a method: several subclasses in one process would share its state.
        @given(value=st.one_of(wire_values(), spoiled_answers(answers)))
        @settings(deadline=None, max_examples=50, database=None, report_multiple_bugs=False)
        def judge(value: Any) -> None:
            with without_warnings():
                self._subject.evaluate(value)

        judge()
