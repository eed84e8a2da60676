"""The contract of every problem, kept by the five of this plugin."""

from __future__ import annotations

from ttd_core.testing.contract import ProblemContract
from ttd_math.autocorrelation import FirstInequality, SecondInequality
from ttd_math.circle_packing import CirclePacking26, CirclePacking32
from ttd_math.erdos import Erdos


class TestErdos(ProblemContract):
    problem = Erdos


class TestFirstInequality(ProblemContract):
    problem = FirstInequality


class TestSecondInequality(ProblemContract):
    problem = SecondInequality


class TestCirclePacking26(ProblemContract):
    problem = CirclePacking26


class TestCirclePacking32(ProblemContract):
    problem = CirclePacking32
