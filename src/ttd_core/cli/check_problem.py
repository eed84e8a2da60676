"""``ttd check-problem``: does a problem keep the contract that every run relies on?"""

from __future__ import annotations

from typing import Any

import click

from ttd_core import config as configs
from ttd_core.cli.flags import ProblemCommand
from ttd_core.cli.output import json_option, print_json, say, table
from ttd_core.cli.parameters import option_option, problem_options, sandbox_option
from ttd_core.plugin import registry
from ttd_core.plugin.hooks import Hooks
from ttd_core.run.backends import open_executor
from ttd_core.testing.checkup import Check, CheckResult, Subject, run_checks
from ttd_core.testing.subject import with_short_budget
from ttd_core.text import showable_line


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
    problem = with_short_budget(registry.load(problem_name, given), given)
    config = configs.load(problem_name, overrides={"sandbox.level": sandbox} if sandbox else {})
    with open_executor(Hooks(problem), config) as executor:
        results = list(run_checks(Subject(problem, executor.run)))
    if as_json:
        print_json(
            {
                "problem": problem.name,
                "ok": not any(result.findings for _, result in results),
                "checks": [_facts(check, result) for check, result in results],
            }
        )
    else:
        say(_text(problem.name, results))
    return 1 if any(result.findings for _, result in results) else 0


def _outcome(result: CheckResult) -> str:
    if result.findings:
        return "FAILS"
    return "skipped" if result.skipped else "ok"


def _facts(check: Check, result: CheckResult) -> dict[str, Any]:
    return {
        "check": check.name,
        "title": check.title,
        "outcome": _outcome(result).lower(),
        "findings": [{"what": each.what, "fix": each.fix} for each in result.findings],
        "skipped": result.skipped,
    }


def _text(name: str, results: list[tuple[Check, CheckResult]]) -> str:
    rows = [(check.name, _outcome(result), result.skipped or check.title) for check, result in results]
    lines = [table(["check", "outcome", "what it holds"], rows), ""]
    faults = [(check, finding) for check, result in results for finding in result.findings]
    lines += [f"{check.name}: {showable_line(str(finding))}" for check, finding in faults]
    failed = sum(bool(result.findings) for _, result in results)
    skipped = sum(bool(result.skipped) for _, result in results)
    kept = len(results) - failed - skipped
    total = f"{name}: {kept} of {len(results)} checks pass"
    lines.append(total + (f", {skipped} could not be made here" if skipped else ""))
    return "\n".join(lines)
