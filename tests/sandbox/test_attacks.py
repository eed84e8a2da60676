"""The attack suite: every attack at every level this machine forms, and the control of each.

By default as the user who runs the tests, on warm servers. Marked slow: as an unprivileged user (when the
tests run as root), on cold servers, and with namespaces made by hand.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest
from attacks import control
from attacks.catalogue import ATTACKS
from attacks.runner import Outcome, attack_all, formable
from attacks.world import World

HERE = pathlib.Path(__file__).parent
WAYS = ["strong", "strong-by-hand", "standard"]


def _told(outcomes: list[Outcome]) -> str:
    wrong = [
        f"{each.attack}: {each.evidence or 'stopped'} ({each.message})"
        for each in outcomes
        if not each.expected
    ]
    return "\n".join(wrong)


def _checked(outcomes: list[Outcome]) -> None:
    assert [each.attack for each in outcomes] == [attack.name for attack in ATTACKS], "none is left out"
    assert not _told(outcomes)


def _skip_unless_formed(way: str) -> None:
    if way not in formable():
        pytest.skip(f"{way} cannot be formed on this machine; `ttd doctor` says what is missing")


@pytest.mark.parametrize("way", ["strong", pytest.param("standard", marks=pytest.mark.slow)])
def test_every_attack_ends_as_documented(way: str) -> None:
    _skip_unless_formed(way)
    _checked(list(attack_all(way, "warm")))


@pytest.fixture(scope="module")
def unguarded() -> World:
    """A world for the controls."""
    with World() as world:
        yield world


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_every_attack_succeeds_without_a_sandbox(attack, unguarded: World) -> None:
    assert control.succeeds(attack, unguarded)


@pytest.mark.slow
@pytest.mark.parametrize("servers", ["warm", "cold"])
@pytest.mark.parametrize("way", WAYS)
def test_every_attack_ends_as_documented_warm_and_cold(way: str, servers: str) -> None:
    _skip_unless_formed(way)
    _checked(list(attack_all(way, servers)))


@pytest.mark.slow
@pytest.mark.parametrize("servers", ["warm", "cold"])
@pytest.mark.parametrize("way", WAYS)
def test_every_attack_ends_as_documented_for_an_unprivileged_user(way: str, servers: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("the tests run as an unprivileged user already")
    _checked(as_plain_user("--level", way, "--servers", servers))


def as_plain_user(*arguments: str) -> list[Outcome]:
    """Make the attacks as a user without any rights."""
    run = subprocess.run(
        [sys.executable, str(HERE / "as_user.py"), sys.executable, "-m", "attacks", *arguments],
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout, run.stderr
    return [Outcome(**json.loads(line)) for line in run.stdout.splitlines()]
