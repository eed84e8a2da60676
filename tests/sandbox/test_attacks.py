"""The attack suite: every attack at every level this machine forms, and the control of each.

By default as the user who runs the tests, on warm servers. Marked slow: at every level, on warm and on cold
servers, and, when the tests run as root, by an unprivileged user at the same time.
"""

from __future__ import annotations

import concurrent.futures
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


def test_every_attack_ends_as_documented() -> None:
    _skip_unless_formed("strong")
    _checked(list(attack_all("strong", "warm")))


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
def test_every_attack_ends_as_documented_for_every_user(way: str, servers: str) -> None:
    _skip_unless_formed(way)
    with concurrent.futures.ThreadPoolExecutor(1) as beside:
        others = None
        if os.geteuid() == 0:
            others = beside.submit(as_plain_user, "--level", way, "--servers", servers)
        _checked(list(attack_all(way, servers)))
        if others is not None:
            _checked(others.result())


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
