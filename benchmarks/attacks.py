"""Every attack of the suite at every level this machine forms, with its control: one table.

Columns: whether the attack succeeds unsandboxed (it must), then each level, as the user who runs this and,
from root, as an unprivileged user too. ``stopped`` and ``open`` are outcomes; an ``!`` marks one that differs
from docs/security.md, and makes the exit code 1.

    python benchmarks/attacks.py [--cold] [--only TEXT]
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys

from command_line import run_benchmark

SUITE = pathlib.Path(__file__).resolve().parents[1] / "tests" / "sandbox"


def _lines(prefix: list[str], *arguments: str) -> list[dict[str, object]]:
    run = subprocess.run(
        [*prefix, sys.executable, "-m", "attacks", *arguments],
        cwd=SUITE,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    return [json.loads(line) for line in run.stdout.splitlines()]


def main() -> int:
    """Print the table; 1 when an outcome is not as documented or a control failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cold", action="store_true", help="a new server for every job")
    parser.add_argument("--only", default="", help="attacks whose name holds this")
    chosen = parser.parse_args()
    servers = "cold" if chosen.cold else "warm"
    only = ["--only", chosen.only]
    users: dict[str, list[str]] = {"root" if os.geteuid() == 0 else "user": []}
    if os.geteuid() == 0:
        users["plain"] = [sys.executable, str(SUITE / "as_user.py")]
    controls = {str(line["attack"]): bool(line["control"]) for line in _lines([], "--controls", *only)}
    table: dict[str, dict[str, str]] = {name: {} for name in controls}
    wrong = sum(not worked for worked in controls.values())
    for user, prefix in users.items():
        for line in _lines(prefix, "--servers", servers, *only):
            outcome = "open" if line["evidence"] else "stopped"
            wrong += not line["expected"]
            table[str(line["attack"])][f"{user} {line['level']}"] = outcome + (
                "" if line["expected"] else "!"
            )
    columns = list(dict.fromkeys(name for row in table.values() for name in row))
    width = max(map(len, table), default=10)
    print(f"{'attack':{width}}  {'unsandboxed':12}" + "".join(f"{column:>22}" for column in columns))
    for name, row in table.items():
        control = "succeeds" if controls[name] else "FAILS!"
        print(f"{name:{width}}  {control:12}" + "".join(f"{row.get(column, '-'):>22}" for column in columns))
    print(f"{len(table)} attacks, servers {servers}; {wrong} outcomes not as documented")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(run_benchmark(main))
