"""A reader who does what a page says: writes its files, types its commands, compares what comes.

A block with a title is a file: whole; ``NAME, at the end of the class`` appended; ``NAME, in part`` already
there and holding that text. A ``console`` block holds commands after ``$`` and what they print, in which
``...`` stands for anything.
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping

import attrs

_BLOCK = re.compile(r"^```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@attrs.frozen
class Block:
    """One fenced block of a page."""

    language: str
    title: str
    text: str


def blocks(page: str) -> list[Block]:
    """Every fenced block, in order."""
    return [Block(language, title, text) for language, title, text in _BLOCK.findall(page)]


@attrs.frozen
class Reader:
    """Someone in a folder of their own.

    :param folder: where they work.
    :param replacements: what is typed in place of a part of a command.
    """

    folder: pathlib.Path
    replacements: Mapping[str, str] = attrs.field(factory=dict)

    def follow(self, block: Block) -> None:
        """Do what one block says; fails where the page is wrong."""
        if block.title:
            self.write(block)
        elif block.language == "console":
            for command, expected in commands(block.text):
                self.type(command, expected)
        else:
            raise AssertionError(f"a block that nobody can follow:\n{block.text}")

    def write(self, block: Block) -> None:
        """A file of the page."""
        name, _, how = block.title.partition(", ")
        path = self.folder / name
        if how == "in part":
            assert block.text in path.read_text()
        elif how == "at the end of the class":
            path.write_text(path.read_text() + "\n" + block.text)
        else:
            assert not how, block.title
            path.write_text(block.text)

    def type(self, command: str, expected: str) -> None:
        """A command of the page."""
        for old, new in self.replacements.items():
            command = command.replace(old, new)
        site = str(self.folder / "site")
        environment = {
            **os.environ,
            "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": site,
            "OMP_NUM_THREADS": "1",
            "PIP_NO_INDEX": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        command = command.replace("PYTHONPATH=.", f"PYTHONPATH=.:{site}")
        done = subprocess.run(
            command,
            shell=True,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        assert done.returncode == exit_code(expected), f"$ {command}\n{done.stdout}"
        assert matches(expected, done.stdout), f"$ {command}\n{done.stdout}"


def exit_code(expected: str) -> int:
    """What a command must end with, by what it is said to print."""
    if expected.startswith("error: "):
        return 2
    return 1 if "FAILS" in expected else 0


def matches(expected: str, printed: str) -> bool:
    """Whether a command printed what a page says; ``...`` stands for anything, white space counts once."""
    parts = (re.escape(" ".join(part.split())) for part in expected.split("..."))
    return re.fullmatch(".*".join(parts), " ".join(printed.split())) is not None


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Each command of a console block, with what it is said to print."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        yield command, expected
