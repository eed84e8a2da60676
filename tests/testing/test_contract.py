"""The contract as a pytest class: a fault fails the test of its name, what cannot be tested is skipped."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import numpy as np
from hypothesis import given

from ttd_core.frozen import freeze
from ttd_core.testing.strategies import wire_values

TESTS = """
from ttd_core import EnvironmentLacksError, Examples
from ttd_core.testing.contract import ProblemContract
from problem import MyProblem


class Careless(MyProblem):
    def check(self, state):
        return super().check(state) if len(state.data["points"]) else []


class Lacking(MyProblem):
    def starting_program(self):
        raise EnvironmentLacksError("no GPU here")


class TestCareless(ProblemContract):
    problem = Careless


class TestLacking(ProblemContract):
    problem = Lacking


class TestOtherExamples(ProblemContract):
    problem = MyProblem
    options = {"timeout_s": 5.0}
    examples = Examples(good=[], bad=[[[0.5, 0.5]] * 10])
"""


def test_each_fault_fails_the_test_of_its_name(minimal_source: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "problem.py").write_text(minimal_source)
    (tmp_path / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-rfs", "-W", "error", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    lines = done.stdout.splitlines()
    failed = {line.split()[1].removeprefix("test_it.py::") for line in lines if line.startswith("FAILED")}
    assert failed == {
        "TestCareless::test_contract[transition]",
        "TestCareless::test_contract[total]",
        "TestCareless::test_contract[strict]",
        "TestCareless::test_no_returned_value_crashes_the_verifier",
        "TestOtherExamples::test_contract[examples]",
        "TestOtherExamples::test_contract[reward]",
    }, done.stdout
    assert "check fails on a state with nothing in it: KeyError: 'points'" in done.stdout
    assert "bad example 1 is accepted with score 0" in done.stdout
    assert any(line.startswith("SKIPPED") and line.endswith("no GPU here") for line in lines)


@given(wire_values())
def test_wire_values_are_such_as_a_state_may_hold(value) -> None:
    frozen = freeze(value)
    if isinstance(value, np.ndarray):
        assert frozen.shape == value.shape
