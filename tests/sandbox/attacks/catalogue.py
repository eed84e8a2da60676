"""All attacks, in the order of the table."""

from __future__ import annotations

from attacks import channel, files, memory, native, network, processes
from attacks.model import Attack

ATTACKS: list[Attack] = [
    *files.ATTACKS,
    *processes.ATTACKS,
    *network.ATTACKS,
    *memory.ATTACKS,
    *channel.ATTACKS,
    *native.ATTACKS,
]
