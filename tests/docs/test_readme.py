"""The README's walk, command by command in its order: with replies from a file, and as it stands."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import time

import pytest
from tests.docs.reader import Reader, blocks

from ttd_core.policy.models import fetch

ROOT = pathlib.Path(__file__).parents[2]
#: What a small model might write: two changed constants, and one that does not compile.
REPLIES = ["```python\nPOINTS = 36\n```", "```python\nNOISE = 0.03\n```", "```python\nRADIUS = \n```"]
#: Seconds for a command that states no time.
SHORT = 60


def walk() -> list[tuple[str, float]]:
    """Each command of the walk, with the seconds that it may take."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("## A walk\n")[2]
    commands = []
    for line in blocks(text)[0].text.splitlines():
        command, _, remark = line.removeprefix("$ ").partition("#")
        stated = re.search(r"(\d+) minutes?\b", remark)
        commands.append((command.strip(), float(stated[1]) * 60 if stated else SHORT))
    return commands


def test_the_walk_has_its_commands_and_their_times() -> None:
    words = [command.split()[1] for command, _ in walk()]
    assert words[:3] == ["list-problems", "show", "run"]
    assert len(words) > 10
    assert sum(limit > SHORT for _, limit in walk()) == 2


def test_every_command_of_the_walk_works_in_its_order(tmp_path: pathlib.Path) -> None:
    (tmp_path / "replies.json").write_text(json.dumps(REPLIES))
    scripted = "--policy scripted --set policy.options.file=replies.json --group-size 2"
    reader = Reader(tmp_path, {"--preset laptop": f"--preset laptop {scripted}", "budget_s=3": "budget_s=1"})
    for command, _ in walk():
        reader.type(command, "...")
    assert (tmp_path / "picture.svg").read_text(encoding="utf-8").startswith("<svg")
    assert (tmp_path / "runs/first/report.html").is_file()
    assert (tmp_path / "construction.cert.json").is_file()
    assert (tmp_path / "mine.py").is_file()


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.skipif(
    not os.environ.get("TTD_WALK"), reason="a quarter of an hour of an idle machine: TTD_WALK=1"
)
def test_the_walk_takes_the_time_it_states(tmp_path: pathlib.Path) -> None:
    program = pathlib.Path(sys.executable).parent / "ttd"
    # The walk begins with the model on the machine.
    fetch.resolve("qwen2.5-coder-0.5b")
    for command, limit in walk():
        started = time.monotonic()
        done = subprocess.run(
            [str(program), *shlex.split(command)[1:]],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=limit,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}\n{done.stderr}"
        print(f"{time.monotonic() - started:7.1f} s of {limit:.0f}: {command}")
