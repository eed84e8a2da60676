"""``ttd check-problem``: does a problem keep the contract that every run relies on?"""

from __future__ import annotations

from typing import Any

import click

from ttd_core import config as configs
from ttd_core.cli.flags import ProblemCommand
from ttd_core.cli.output import json_option, print_json, table
from ttd_core.cli.parameters import option_option, problem_options, sandbox_option
from ttd_core.plugin import registry
from ttd_core.plugin.hooks import Hooks
from ttd_core.run.backends import open_executor
from ttd_core.testing.checkup import Check, Outcome, Subject, run_checks
from ttd_core.testing.subject import prepared


@click.command("check-problem", cls=ProblemCommand)
@click.argument("problem_name", metavar="PROBLEM")
@option_option
@sandbox_option
@json_option
def check_problem(problem_name: str, options: tuple[str, ...], sandbox: str | None, as_json: bool) -> int:
    """Check that a problem keeps the contract.

    PROBLEM is a name from `ttd list-problems`, or FILE.py:Class. Known answers come from its examples().
    Unless set by -o, its starting program gets a budget of 2 s, and 60 s to end. Exit code 0 when every check
    passes, 1 when one fails; each fault is told in a sentence, with what to do.

    \b
    Example:
      ttd check-problem ./my_problem.py:MyProblem
      ttd check-problem erdos -o budget_s=10 --json
    """
    given = problem_options(options)
    problem = prepared(registry.load(problem_name, given), given)
    config = configs.load(problem_name, overrides={"sandbox.level": sandbox} if sandbox else {})
    with open_executor(Hooks(problem), config) as executor:
        outcomes = list(run_checks(Subject(problem, executor.run)))
    if as_json:
        print_json(
            {
                "problem": problem.name,
                "ok": not any(outcome.findings for _, outcome in outcomes),
                "checks": [_facts(check, outcome) for check, outcome in outcomes],
            }
        )
    else:
        click.echo(_text(problem.name, outcomes))
    return 1 if any(outcome.findings for _, outcome in outcomes) else 0


def _word(outcome: Outcome) -> str:
    if outcome.findings:
        return "FAILS"
    return "skipped" if outcome.skipped else "ok"


def _facts(check: Check, outcome: Outcome) -> dict[str, Any]:
    return {
        "check": check.name,
        "title": check.title,
        "outcome": _word(outcome).lower(),
        "findings": [{"what": each.what, "fix": each.fix} for each in outcome.findings],
        "skipped": outcome.skipped,
    }


def _text(name: str, outcomes: list[tuple[Check, Outcome]]) -> str:
    rows = [(check.name, _word(outcome), outcome.skipped or check.title) for check, outcome in outcomes]
    lines = [table(["check", "outcome", "what it holds"], rows), ""]
    faults = [(check, finding) for check, outcome in outcomes for finding in outcome.findings]
    lines += [f"{check.name}: {finding}" for check, finding in faults]
    failed = sum(bool(outcome.findings) for _, outcome in outcomes)
    skipped = sum(bool(outcome.skipped) for _, outcome in outcomes)
    kept = len(outcomes) - failed - skipped
    total = f"{name}: {kept} of {len(outcomes)} checks pass"
    lines.append(total + (f", {skipped} could not be made here" if skipped else ""))
    return "\n".join(lines)
