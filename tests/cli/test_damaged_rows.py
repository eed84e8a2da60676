"""Rows of ``run.db`` that hold what no run writes: every command reads them, or says so in one line."""

from __future__ import annotations

import pathlib
import shutil
import sqlite3
from collections.abc import Iterator, Sequence

import pytest

#: What people, or a damaged disk, may put in the place of a value.
VALUES = ["a text", None, b"\xff\x00", -1, 2**62, 9e999, "", "[]", "{}", '{"value": "x"}']
#: Commands that read a run ``kept``.
COMMANDS = [
    "compare kept kept",
    "best kept",
    "best kept --top 3 --json",
    "report kept",
    "rollouts kept --json",
    "rollouts kept --show 1/0/0",
    "rollouts kept --show 1/0/0 --tokens",
    "list-runs",
    "watch kept --once",
]


def columns(database: pathlib.Path) -> Iterator[tuple[str, str]]:
    """The tables of a run, with their columns."""
    connection = sqlite3.connect(database)
    names = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    for (table,) in connection.execute(names).fetchall():
        for _, column, *_ in connection.execute(f"PRAGMA table_info({table})").fetchall():
            yield table, column
    connection.close()


def edited(database: pathlib.Path, table: str, column: str, value: object) -> bool:
    """Put a value into every row of a column; whether SQLite takes it."""
    connection = sqlite3.connect(database)
    try:
        with connection:
            connection.execute(f"UPDATE {table} SET {column} = ?", (value,))
            return bool(connection.execute("SELECT changes()").fetchone()[0])
    except sqlite3.IntegrityError:
        return False
    finally:
        connection.close()


@pytest.fixture
def kept(ttd, summing, scripted) -> pathlib.Path:
    """The folder of a run of two steps; a copy of it lies in ``whole``."""
    made = ttd(*scripted, "--steps", 2, "--name", "kept", "--quiet", "--set", "keep_tokens=10000")
    assert made.exit_code == 0
    shutil.copytree("runs/kept", "whole")
    return pathlib.Path("runs/kept")


def require_one_line(ttd, kept: pathlib.Path, values: Sequence[object], commands: Sequence[str]) -> None:
    """Each command reads the run with each value in each column, or ends with one line on stderr."""
    for table, column in list(columns(pathlib.Path("whole/run.db"))):
        for value in values:
            shutil.rmtree(kept)
            shutil.copytree("whole", kept)
            if not edited(kept / "run.db", table, column, value):
                continue
            for command in commands:
                # An exception that is not meant for a person is raised here.
                result = ttd(*command.split())
                said = result.stderr.strip().splitlines()
                assert result.exit_code in (0, 1, 2, 3), (table, column, value, command)
                assert not result.exit_code or len(said) == 1, (table, column, value, command, said)


def test_a_value_of_another_type_is_read_or_refused_in_one_line(ttd, kept) -> None:
    require_one_line(
        ttd, kept, ["a text", b"\xff\x00"], ["compare kept kept", "best kept", "rollouts kept --json"]
    )


@pytest.mark.slow
def test_any_value_is_read_or_refused_in_one_line(ttd, kept) -> None:
    require_one_line(ttd, kept, VALUES, COMMANDS)


@pytest.mark.slow
def test_a_resume_refuses_a_value_of_another_type_in_one_line(ttd, kept) -> None:
    require_one_line(ttd, kept, ["a text"], ["resume kept --steps 3 --quiet"])


@pytest.mark.parametrize(
    ("change", "command", "message"),
    [
        (
            "UPDATE rollouts SET seconds = 'soon' WHERE rollout_index = 2",
            "rollouts kept --json",
            "the column seconds holds 'soon' where a finite number belongs (step 1, group_index 0, "
            "rollout_index 2). Restore the run folder from a copy",
        ),
        (
            "UPDATE rollouts SET tokens = x'00' WHERE step = 2",
            "compare kept kept",
            "the column tokens holds 0.0 where a whole number from 0 belongs (step 2)",
        ),
        (
            'UPDATE states SET reward = \'{"value": "x", "score": 1}\' WHERE id = 2',
            "best kept",
            "a StateRecord cannot be read (ValueError: value must be a finite number, not 'x'",
        ),
        ("UPDATE steps SET best_score = NULL", "compare kept kept", "of which one is missing"),
        (
            "UPDATE steps SET mean_value = 9e999",
            "compare kept kept",
            "holds inf where a finite number belongs",
        ),
        (
            "UPDATE rollouts SET score = NULL, value = NULL",
            "rollouts kept --json",
            "it is ok and has no reward",
        ),
        (
            "UPDATE states SET parent = id WHERE id = 3",
            "report kept",
            "state 3 came from state 3, which is no older one",
        ),
        (
            "UPDATE states SET parent = 77 WHERE id = 3",
            "resume kept --steps 3",
            "came from state 77, which is no older one",
        ),
        (
            "UPDATE states SET data = '5'",
            "resume kept --steps 3",
            "the archive cannot be read (ValueError: 5 is no JSON object",
        ),
        (
            "UPDATE node_stats SET visits = -1",
            "resume kept --steps 3",
            "holds -1 where a whole number from 0 belongs (id ",
        ),
        ("DELETE FROM meta WHERE key = 'config'", "list-runs", ""),
        ("UPDATE meta SET value = 'now' WHERE key = 'created'", "list-runs", ""),
        ("UPDATE meta SET value = 'one' WHERE key = 'schema'", "best kept", "has schema one, this version"),
        (
            "UPDATE metrics SET value = 'x'",
            "compare kept kept",
            "where a finite number belongs (step 1, metric ",
        ),
        ("UPDATE groups SET prompt = '[1]'", "rollouts kept --show 1/0/0", "1 is no message of a prompt"),
        ("UPDATE events SET body = '{}'", "report kept", "an event cannot be read"),
    ],
)
def test_the_line_says_what_is_wrong_and_where(ttd, kept, change: str, command: str, message: str) -> None:
    connection = sqlite3.connect(kept / "run.db")
    with connection:
        connection.execute(change)
    connection.close()
    result = ttd(*command.split())
    if message:
        assert result.exit_code in (2, 3), result.stdout
        (said,) = result.stderr.strip().splitlines()
        assert "run.db" in said
        assert message in said
    else:
        assert result.exit_code == 0
        assert "is damaged" in result.stdout + result.stderr
