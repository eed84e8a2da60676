"""A task's files with their digests: what a run notes, so that a change is seen when it goes on."""

from __future__ import annotations

import hashlib
import os

from ttd_core.adopting.folder import files_below
from ttd_core.adopting.task import Task
from ttd_core.input_files import read_bytes
from ttd_core.text import decode_text

#: Files that are listed, and bytes of one whose digest is taken; of a larger one it is its size.
_MOST_FILES = 2000
_MOST_BYTES = 64 << 20
#: Bytes of a text that is kept whole, for people and for saying which line was changed.
_TEXT_BYTES = 256 << 10
#: Folders that tools leave behind, or that hold what others wrote for a task's users.
_SKIPPED = frozenset(
    {"__pycache__", ".git", ".venv", "venv", "node_modules", "openevolve_output", "outputs", "results"}
)
#: Files that say how a program is scored; their text is kept.
_KEPT = frozenset({".py", ".sh", ".yaml", ".yml", ".toml"})


def digests_of(task: Task) -> str:
    """Every file of a task that its evaluator may read, with its digest, and the text of those that score.

    :raises UsageError: when one cannot be read.
    """
    folders = dict.fromkeys([task.folder, task.evaluator.path.parent])
    files = dict.fromkeys(
        [*(file for folder in folders for file in files_below(folder, _SKIPPED)), task.evaluator.path]
    )
    files |= dict.fromkeys(path for _, path in task.evaluator.files)
    listed, texts = [], []
    for path in sorted(files)[:_MOST_FILES]:
        size = path.stat().st_size
        data = read_bytes(path, _MOST_BYTES) if size <= _MOST_BYTES else b""
        name = os.path.relpath(path, task.folder)
        digest = hashlib.sha256(data).hexdigest() if size <= _MOST_BYTES else f"{size} bytes"
        listed.append(f"{digest}  {name}")
        if path.suffix in _KEPT and size <= _TEXT_BYTES:
            texts.append(f"==== {name}\n{_text(data)}\n")
    return "".join(texts) + "\n".join(listed) + "\n"


def _text(data: bytes) -> str:
    try:
        return decode_text(data)
    except ValueError:
        return "(no text)"
