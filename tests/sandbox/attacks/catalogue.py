"""All attacks, in the order of the table."""

from __future__ import annotations

from attacks import channel, files, marks, memory, native, network, processes
from attacks.model import Attack

ATTACKS: list[Attack] = [
    *files.ATTACKS,
    *processes.ATTACKS,
    *network.ATTACKS,
    *memory.ATTACKS,
    *marks.ATTACKS,
    *channel.ATTACKS,
    *native.ATTACKS,
]
