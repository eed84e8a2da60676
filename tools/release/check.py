"""What a check of a release says: a sentence when it passes, an exception when it does not."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs


class CheckFailed(Exception):
    """Something does not hold; the message says what, and what to do."""


class CheckSkipped(Exception):
    """Something cannot be checked on this machine; the message says why."""


@attrs.frozen
class Check:
    """One thing that must hold.

    :param name: a word or two, for the line that is printed.
    :param run: returns what was found to hold, raises :class:`CheckFailed` or :class:`CheckSkipped`.
    """

    name: str
    run: Callable[[], str]


@attrs.frozen
class CheckResult:
    """How a check went.

    :param word: ``ok``, ``skip`` or ``FAIL``.
    """

    name: str
    word: str
    sentence: str

    @property
    def failed(self) -> bool:
        """Whether the release must wait."""
        return self.word == "FAIL"

    def __str__(self) -> str:
        return f"{self.word:4}  {self.name:22}  {self.sentence}"


def carry_out(check: Check) -> CheckResult:
    """Run one check."""
    try:
        return CheckResult(check.name, "ok", check.run())
    except CheckSkipped as reason:
        return CheckResult(check.name, "skip", str(reason))
    except CheckFailed as reason:
        return CheckResult(check.name, "FAIL", str(reason))


def run_program(
    command: Sequence[str | Path],
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 900,
    status: int = 0,
) -> str:
    """What a program prints.

    :param status: the exit status that it should have.
    :raises CheckFailed: it exits with another, with the end of what it printed, or takes longer.
    """
    words = [str(word) for word in command]
    shown = " ".join(words[:6])
    try:
        done = subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout_s
        )
    except subprocess.TimeoutExpired as error:
        raise CheckFailed(f"{shown} ... took more than {timeout_s:.0f} s") from error
    if done.returncode != status:
        last = "\n      ".join((done.stdout + done.stderr).strip().splitlines()[-12:])
        raise CheckFailed(f"{shown} ... exits with {done.returncode}:\n      {last}")
    return done.stdout
