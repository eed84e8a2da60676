"""Talking to anything outside."""

from __future__ import annotations

import time

from attacks.model import Attack
from attacks.world import World
from ttd_core.sandbox.base import JobResult


def _heard(world: World, result: JobResult) -> str:
    time.sleep(0.1)
    return f"the listener heard {world.heard}" if world.heard else ""


def _attack(name: str, body: str) -> Attack:
    return Attack(name, f"import socket\ndef run(w):\n    {body}\n    return 1", _heard)


ATTACKS = [
    _attack("TCP to a listener", "socket.create_connection(('127.0.0.1', w['tcp']), 2).close()"),
    _attack(
        "UDP to a listener",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', w['udp']))",
    ),
    _attack("unix socket by path", "socket.socket(socket.AF_UNIX).connect(w['socket'])"),
    _attack("abstract unix socket", "socket.socket(socket.AF_UNIX).connect('\\0' + w['mark'])"),
]
