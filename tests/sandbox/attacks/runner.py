"""Make every attack at one level and tell what happened."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import attrs

from attacks import control
from attacks.catalogue import ATTACKS
from attacks.model import Attack
from attacks.world import World
from ttd_core.sandbox.base import CompileJob, JobResult, Level
from ttd_core.sandbox.isolation import IsolationMethod
from ttd_core.sandbox.local import LocalExecutor
from ttd_core.sandbox.probe import probe


@attrs.frozen
class Outcome:
    """What an attack did at one level.

    :param evidence: that it succeeded; empty when it was stopped.
    :param status: of its job.
    :param message: of its job.
    :param expected: whether the documentation says so.
    """

    attack: str
    level: str
    servers: str
    user: str
    evidence: str
    status: str
    message: str
    expected: bool


def method_of(name: str) -> IsolationMethod:
    """The method called ``strong``, ``strong-by-hand`` or ``standard``.

    :raises LookupError: where it does not work.
    """
    for method in probe().methods:
        called = method.level.value + ("-by-hand" if method.by_hand else "")
        if called == name:
            return method
    raise LookupError(f"{name} cannot be formed here")


def formable() -> list[str]:
    """Names of all methods that work for this user on this machine."""
    return [method.level.value + ("-by-hand" if method.by_hand else "") for method in probe().methods]


def _make(attack: Attack, world: World, executor: LocalExecutor) -> JobResult:
    facts = world.facts()
    artifact = None
    if attack.language == "c++":
        built = executor.run(CompileJob(attack.source_for(facts), attack.command))
        assert built.ok, f"{attack.name}: {built.message}"
        artifact = built.artifact
    if attack.planted:
        planted = executor.run(attack.planted_job(facts))
        assert planted.ok, planted.message
    return executor.run(attack.job(facts, artifact))


def attack_all(name: str, servers: str, wanted: str = "") -> Iterator[Outcome]:
    """Make every attack whose name holds ``wanted``.

    :param name: of the method, see :func:`method_of`.
    :param servers: ``warm`` (servers used again) or ``cold`` (a new server for every job).
    """
    method = method_of(name)
    user = "root" if os.geteuid() == 0 else "plain"
    recycle = 1 if servers == "cold" else 1000
    os.environ["ATTACK_SECRET"] = "unset"
    with World() as world:
        os.environ["ATTACK_SECRET"] = world.secret
        with LocalExecutor(2, exactly=method, recycle_jobs=recycle) as executor:
            for attack in ATTACKS:
                if wanted not in attack.name:
                    continue
                world.repair()
                result = _make(attack, world, executor)
                evidence = attack.oracle(world, result)
                world.kill_survivors()
                if result.status.value == "infrastructure" and not evidence:
                    evidence = f"it was never made: {result.message}"
                known = method.level.value in attack.open_at
                yield Outcome(
                    attack.name,
                    name,
                    servers,
                    user,
                    evidence,
                    result.status.value,
                    result.message,
                    expected=bool(evidence) == known,
                )
    os.environ.pop("ATTACK_SECRET")


def controls(wanted: str = "") -> Iterator[tuple[str, str]]:
    """Each attack with the evidence that it works unsandboxed."""
    with World() as world:
        for attack in ATTACKS:
            if wanted in attack.name:
                yield attack.name, control.succeeds(attack, world)


def main(arguments: list[str] | None = None) -> int:
    """Print outcomes as JSON lines; exit code 1 when one is not as documented."""
    parser = argparse.ArgumentParser(prog="attacks", description=__doc__)
    parser.add_argument("--level", default="", help="strong, strong-by-hand or standard; all by default")
    parser.add_argument("--servers", default="warm", choices=["warm", "cold"])
    parser.add_argument("--only", default="", help="attacks whose name holds this")
    parser.add_argument("--controls", action="store_true", help="run the controls instead")
    given = parser.parse_args(arguments)
    wrong = 0
    if given.controls:
        for name, evidence in controls(given.only):
            print(json.dumps({"attack": name, "control": evidence}), flush=True)
            wrong += not evidence
        return int(wrong > 0)
    for level in [given.level] if given.level else formable():
        for outcome in attack_all(level, given.servers, given.only):
            print(json.dumps(_plain(outcome)), flush=True)
            wrong += not outcome.expected
    return int(wrong > 0)


def _plain(outcome: Outcome) -> dict[str, Any]:
    return attrs.asdict(outcome)


def levels() -> list[Level]:
    """Levels in order of strength."""
    return [Level.STRONG, Level.STANDARD]


if __name__ == "__main__":
    sys.exit(main())
