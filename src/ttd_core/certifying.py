"""Certify a construction of a problem, or check a certificate from scratch."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from ttd_core.certificate import Certificate, CertificateError, read
from ttd_core.problem import Problem
from ttd_core.types import State


def certify(problem: Problem, state: State) -> Certificate:
    """Check a construction and score it in exact arithmetic.

    :raises CertificateError: when it breaks a rule of the problem.
    :raises UsageError: when the problem has no exact form.
    """
    violations = problem.check(state)
    if violations:
        raise CertificateError(f"not a valid construction of {problem.name}: {'; '.join(violations)}")
    return problem.certificate(state)


def check(problem: Problem, path: pathlib.Path) -> Certificate:
    """Verify a certificate from scratch: recompute it from its arrays and compare every statement.

    :return: the recomputed certificate.
    :raises CertificateError: when the construction is not valid or any statement differs.
    :raises UsageError: when the file cannot be read as a certificate.
    """
    stated, state = read(path)
    fresh = certify(problem, state)
    for key, value in fresh.statement().items():
        if stated.get(key) != value:
            raise CertificateError(
                f"{path}: {key} does not hold: stated {_short(stated.get(key))}, {_short(value)} found"
            )
    return fresh


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 120 else f"{text[:117]}..."
