"""Certify a construction of a problem, or check a certificate from scratch."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import attrs

from ttd_core.certificate import Certificate, CertificateError, read
from ttd_core.options import Options
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
    return attrs.evolve(problem.certificate(state), options=changed_options(problem))


def changed_options(problem: Problem) -> dict[str, Any]:
    """The problem's own options that differ from its defaults: what a check of a construction may depend on.

    Those of every problem (limits of programs, starts, prompts) have no say in it.
    """
    shared = {field.name for field in attrs.fields(Options)}
    defaults = attrs.asdict(type(problem.options)())
    return {
        name: value
        for name, value in attrs.asdict(problem.options).items()
        if name not in shared and value != defaults[name]
    }


def check(problem: Problem, path: pathlib.Path) -> Certificate:
    """Verify a certificate from scratch: recompute it from its arrays and compare every statement.

    :param problem: with the options under which it shall hold.
    :return: the recomputed certificate.
    :raises CertificateError: when the construction is not valid or any statement differs.
    :raises UsageError: when the file cannot be read as a certificate.
    """
    stated, state = read(path)
    fresh = certify(problem, state)
    for key, value in attrs.evolve(fresh, options={}).statement().items():
        if stated.get(key) != value:
            raise CertificateError(
                f"{path}: {key} does not hold: stated {_short(stated.get(key))}, {_short(value)} found"
            )
    return fresh


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 120 else f"{text[:117]}..."
