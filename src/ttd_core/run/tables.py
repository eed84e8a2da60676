"""The tables of ``run.db`` and how a connection to it is opened. See ``docs/run-folder.md``."""

from __future__ import annotations

import contextlib
import pathlib
import sqlite3
import time
import urllib.parse
from typing import Any

from ttd_core.errors import ResumeError, StorageError
from ttd_core.run.files import resume_command, storage_errors, writing_process
from ttd_core.search.archive import NOT_FOR_PROMPTS
from ttd_core.text import showable_line

#: Raised when a table changes its meaning; a newer one is refused, naming both.
SCHEMA_VERSION = 1

#: Ways to read: beside a writer; a database without a WAL that nobody changes; one with a WAL, without locks.
_PLAIN, _UNCHANGED, _ALONE = "mode=ro", "mode=ro&immutable=1", "mode=ro&vfs=unix-none"
#: How the names of SQLite's errors begin where the WAL's index cannot be made.
_WITHOUT_INDEX = ("SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_FULL")
#: States with their newest statistics: the view ``nodes``, which is a slower one in runs of older versions.
#: ``CROSS JOIN`` keeps SQLite from scanning all statistics, of which there are many times as many as states.
NODES = """
    SELECT states.*, last.visits, last.best_child, last.attempts, last.duplicates, last.place
    FROM states CROSS JOIN node_stats AS last ON last.node = states.id
    WHERE last.step = (SELECT max(step) FROM node_stats WHERE node = states.id)"""
#: The states that an archive knew after step ?1, held or as lineage, with their statistics then.
KNOWN_AT = """
    FROM states CROSS JOIN node_stats AS last ON last.node = states.id AND last.step =
        (SELECT max(step) FROM node_stats WHERE node = states.id AND step <= ?1)
    WHERE states.step <= ?1 AND place <> 'dropped'
"""

#: Those states, for an archive.
NODES_AT = f"""
    SELECT states.id, parent, states.step, seed, digest, reward, code, output, data,
           visits, best_child, attempts, duplicates, place
    {KNOWN_AT}
"""
# The last failed rollout of each start and status, in the order in which the archive took them in. Which ones
# they are is found from narrow columns alone; only then are their outputs read.
FAILURES_AT = f"""
    WITH known AS (SELECT states.id {KNOWN_AT}), last AS (
        SELECT start, status, max((step * 1000000 + group_index) * 1000000 + rollout_index) AS number
        FROM groups CROSS JOIN rollouts USING (step, group_index)
        WHERE step <= ?1 AND start IN known
            AND status NOT IN ({", ".join(f"'{status}'" for status in sorted(NOT_FOR_PROMPTS))})
        GROUP BY start, status
    )
    SELECT start, last.status, message, output
    FROM last JOIN rollouts ON step = number / 1000000000000
        AND group_index = number / 1000000 % 1000000 AND rollout_index = number % 1000000
    ORDER BY number
"""

# Wide columns come last, so that a scan over the narrow ones does not read them. With a page for each row or
# two, only an index of the narrow columns makes a scan over all rollouts quick: it takes a hundredth of them.
TABLES = f"""
CREATE TABLE IF NOT EXISTS meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS steps (
    step INTEGER PRIMARY KEY,
    finished REAL NOT NULL,
    rollouts INTEGER NOT NULL,
    valid INTEGER NOT NULL,
    mean_value REAL NOT NULL,
    best_value REAL,
    best_score REAL,
    expansions INTEGER NOT NULL,
    next_node INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS states (
    id INTEGER PRIMARY KEY,
    parent INTEGER REFERENCES states(id),
    step INTEGER NOT NULL,
    seed INTEGER NOT NULL,
    value REAL,
    score REAL,
    digest TEXT NOT NULL,
    reward TEXT,
    code TEXT NOT NULL,
    output TEXT NOT NULL,
    data TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS node_stats (
    node INTEGER NOT NULL REFERENCES states(id),
    step INTEGER NOT NULL,
    visits INTEGER NOT NULL,
    best_child REAL,
    attempts INTEGER NOT NULL,
    duplicates INTEGER NOT NULL,
    place TEXT NOT NULL CHECK (place IN ('held', 'lineage', 'dropped')),
    PRIMARY KEY (node, step)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS groups (
    step INTEGER NOT NULL REFERENCES steps(step),
    group_index INTEGER NOT NULL,
    start INTEGER NOT NULL REFERENCES states(id),
    prompt_tokens INTEGER NOT NULL,
    prompt TEXT NOT NULL,
    PRIMARY KEY (step, group_index)
);
CREATE TABLE IF NOT EXISTS rollouts (
    step INTEGER NOT NULL,
    group_index INTEGER NOT NULL,
    rollout_index INTEGER NOT NULL,
    status TEXT NOT NULL,
    fate TEXT NOT NULL,
    node INTEGER REFERENCES states(id),
    value REAL,
    score REAL,
    advantage REAL,
    tokens INTEGER NOT NULL,
    trained_tokens INTEGER NOT NULL,
    stop TEXT NOT NULL,
    seconds REAL NOT NULL,
    level TEXT NOT NULL,
    digest TEXT,
    message TEXT NOT NULL,
    metrics TEXT NOT NULL,
    code TEXT NOT NULL,
    output TEXT NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (step, group_index, rollout_index),
    FOREIGN KEY (step, group_index) REFERENCES groups(step, group_index)
);
CREATE TABLE IF NOT EXISTS metrics (
    step INTEGER NOT NULL REFERENCES steps(step),
    name TEXT NOT NULL,
    value REAL,
    PRIMARY KEY (step, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    time REAL NOT NULL,
    kind TEXT NOT NULL,
    step INTEGER,
    body TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS hints (
    number INTEGER NOT NULL,
    written REAL NOT NULL,
    began INTEGER NOT NULL,
    ended INTEGER,
    text TEXT NOT NULL,
    PRIMARY KEY (number, written)
);
CREATE TABLE IF NOT EXISTS tokens (
    step INTEGER PRIMARY KEY REFERENCES steps(step),
    data TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS late (
    step INTEGER NOT NULL,
    group_index INTEGER NOT NULL,
    rollout_index INTEGER NOT NULL,
    joined INTEGER,
    policy_step INTEGER NOT NULL,
    others TEXT NOT NULL,
    prompt_line TEXT NOT NULL,
    reply_line TEXT NOT NULL,
    PRIMARY KEY (step, group_index, rollout_index)
);
CREATE TABLE IF NOT EXISTS vocabulary (
    token INTEGER PRIMARY KEY,
    text TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS states_by_value ON states(value DESC, id);
CREATE INDEX IF NOT EXISTS rollouts_in_short
    ON rollouts(step, group_index, rollout_index, status, value, score, advantage, tokens, seconds);
CREATE VIEW IF NOT EXISTS nodes AS {NODES};
"""


def make_tables(connection: sqlite3.Connection) -> None:
    """Make the tables that a database lacks: all of a new one, or what an older version did not know."""
    for statement in TABLES.split(";\n"):
        connection.execute(statement)


def has_table(connection: sqlite3.Connection, name: str) -> bool:
    """Whether a database has a table; an older version's may lack some."""
    rows = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,))
    return rows.fetchone() is not None


def connect_writer(path: pathlib.Path) -> sqlite3.Connection:
    """Open for writing, made if missing: WAL, every commit synced (``synchronous = FULL``).

    ``NORMAL`` would lose committed steps to a power cut; the one sync it saves is a few milliseconds in a
    step of minutes.

    :raises StorageError: when it cannot be written, is no database, or lies on a disk without WAL.
    """
    with storage_errors(path):
        connection = sqlite3.connect(path, timeout=30.0, isolation_level=None, check_same_thread=False)
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise StorageError(
                    f"{path} cannot be written: this disk does not support SQLite's WAL (a network share?). "
                    "Put the run folder on a local disk"
                )
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA journal_size_limit = 67108864")
        except BaseException:
            connection.close()
            raise
    return connection


def require_database(path: pathlib.Path) -> None:
    """Refuse a folder without a run's database.

    :raises ResumeError: in one line.
    """
    if not path.is_file():
        raise ResumeError(f"{path.parent} holds no run: {path.name} is missing")


def connect_reader(path: pathlib.Path) -> sqlite3.Connection:
    """Open for reading only; safe beside a writer in another process.

    SQLite keeps an index of the WAL beside the database, even to read it. Where that file cannot be made (a
    full disk, a folder or a disk that is read-only) and no process writes the run, it is read without.

    :raises ResumeError: when there is no database.
    :raises StorageError: when it cannot be read.
    """
    require_database(path)
    with storage_errors(path, "read"):
        try:
            return _connected(path, _PLAIN)
        except sqlite3.OperationalError as error:
            name = getattr(error, "sqlite_errorname", "") or ""
            if not name.startswith(_WITHOUT_INDEX) or writing_process(path.parent) is not None:
                raise
        wal = path.with_name(f"{path.name}-wal")
        if not wal.exists() or not wal.stat().st_size:
            return _connected(path, _UNCHANGED)
        # Steps that a killed run committed may be in the WAL alone. Without locks and in exclusive mode
        # SQLite keeps its index in memory.
        return _connected(path, _ALONE)


def _connected(path: pathlib.Path, query: str) -> sqlite3.Connection:
    """A connection that was tried: SQLite looks at its files only when something is read.

    :param query: of the database's URI.
    :raises sqlite3.Error: when nothing can be read.
    """
    location = f"file:{urllib.parse.quote(str(path.resolve()))}?{query}"
    connection = sqlite3.connect(
        location, uri=True, timeout=30.0, isolation_level=None, check_same_thread=False
    )
    try:
        if query != _PLAIN:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            # What is sorted would else go to a disk that may be the full one.
            connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def check_version(connection: sqlite3.Connection, path: pathlib.Path) -> None:
    """Refuse a database that this version does not understand.

    :raises ResumeError: when it never became a run, or its schema is newer.
    :raises StorageError: when it cannot be read.
    """
    row = _schema_row(connection, path)
    if not row:
        raise ResumeError(
            f"{path.parent} holds no run: it was stopped before its first write; remove the folder and "
            "start again"
        )
    if str(row[0]) != str(SCHEMA_VERSION):
        schema = showable_line(str(row[0]))[:40]
        raise ResumeError(
            f"{path} has schema {schema}, this version of ttd reads {SCHEMA_VERSION}; "
            "use the version of ttd that wrote it"
        )


def _schema_row(connection: sqlite3.Connection, path: pathlib.Path) -> Any:
    with storage_errors(path, "read"):
        has_meta = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone()
        return has_meta and connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()


def was_begun(path: pathlib.Path) -> bool:
    """Whether a database is a run's; it is none before its first write.

    :raises StorageError: when it cannot be read.
    """
    if not path.exists():
        return False
    with contextlib.closing(connect_reader(path)) as connection:
        return bool(_schema_row(connection, path))


def make_run(connection: sqlite3.Connection, folder: pathlib.Path, config: str) -> None:
    """All tables and the run's ``meta`` entries in one transaction: a run exists whole or not at all.

    :param folder: the run's, for messages.
    :param config: the resolved config as text.
    :raises ResumeError: when the database holds a run already.
    """
    connection.execute("BEGIN IMMEDIATE")
    make_tables(connection)
    if connection.execute("SELECT 1 FROM meta").fetchone():
        connection.execute("ROLLBACK")
        raise ResumeError(f"{folder} holds a run already; `{resume_command(folder)}` continues it")
    entries = [("schema", str(SCHEMA_VERSION)), ("config", config), ("created", repr(time.time()))]
    connection.executemany("INSERT INTO meta (key, value) VALUES (?, ?)", entries)
    connection.execute("COMMIT")
