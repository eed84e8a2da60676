"""The contract every problem keeps, as a list of checks; needs no pytest, so that `ttd check-problem` has it.

The same checks run under pytest by subclassing :class:`ttd_core.testing.contract.ProblemContract`.
"""

from __future__ import annotations

from collections.abc import Iterator

from ttd_core.testing import behaviour, verifier
from ttd_core.testing.subject import Check, CheckResult, Finding, Subject

__all__ = ["CHECKS", "Check", "CheckResult", "Finding", "Subject", "run_checks"]

CHECKS: tuple[Check, ...] = (
    Check("declared", "name, words and options are whole", behaviour.find_in_declaration),
    Check("seeds", "seed states are valid, scored and repeatable", behaviour.find_in_seeds),
    Check("program", "the starting program runs and scores", behaviour.find_in_program),
    Check("prompt", "the prompt shows what a reply needs, and never changes", behaviour.find_in_prompts),
    Check("reply", "programs are read out of replies, and no reply crashes it", behaviour.find_in_parsing),
    Check(
        "transition", "whatever the sandbox gives back is a state or a verdict", behaviour.find_in_transition
    ),
    Check("examples", "known good answers pass, known bad ones are refused", verifier.find_in_examples),
    Check("stored", "states survive storage", verifier.find_lost_in_storage),
    Check("repeatable", "the same state always gets the same verdict", verifier.find_unrepeatable),
    Check("total", "nothing crashes the verifier", verifier.find_crashes),
    Check(
        "strict", "NaN, nothing, wrong shapes, hidden entries are refused", verifier.find_accepted_nonsense
    ),
    Check("reports", "scores that answers report are never believed", verifier.find_believed_reports),
    Check("reward", "the reward grows with the score", verifier.find_unordered_rewards),
)


def run_checks(subject: Subject) -> Iterator[tuple[Check, CheckResult]]:
    """Make every check, in order; each as it is done."""
    for check in CHECKS:
        yield check, check.run(subject)
