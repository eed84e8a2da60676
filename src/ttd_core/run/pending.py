"""The rollouts of the step under way, kept as they come, so that a run which is stopped goes on with them.

``pending.jsonl`` in the run's folder says in its first line which step it is of and what the policy had
learned; then each reply has a line when it is sampled and one when it is judged, appended at once. A step
that is begun again takes the replies that answer the same prompt, and their verdicts; what is missing alone
is sampled and judged. The file is removed when the step is committed, and never read for anything else: a
line that is torn or damaged, or longer than :data:`~ttd_core.run.files.LARGEST_LINE`, is a rollout that is
owed again.

Where steps overlap (``schedule = "pipelined"``) each has a file of its own, ``pending-000007.jsonl``, whose
first line also says after which committed step it was begun; a reply that another policy gave, after a
resume, says so in its line.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import threading
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import attrs

from ttd_core.policy.base import Sample, SamplingParams
from ttd_core.run.evaluate import NOT_OF_THE_PROGRAM
from ttd_core.run.files import LARGEST_LINE, LineFile, read_lines, require_plain_file, storage_errors
from ttd_core.run.pending_lines import (
    UNREADABLE,
    parsed,
    prompt_line,
    read_sample,
    read_verdict,
    reply_line,
    verdict_line,
)
from ttd_core.run.records import RolloutIndex
from ttd_core.run.row_encoding import exact_json
from ttd_core.search.archive import Node
from ttd_core.types import Message, Verdict

#: In a run's folder, while a step is under way.
PENDING = "pending.jsonl"


@attrs.frozen(eq=False)
class KeptRollout:
    """A reply from before the run was stopped.

    :param sample: the reply.
    :param verdict: on it; ``None`` where it was not judged yet.
    :param policy_step: the step that the policy had learned last, where that is not the one that its step was
        begun after.
    """

    sample: Sample
    verdict: Verdict | None
    policy_step: int | None = None


def pending_name(step: int | None) -> str:
    """The file of a step that may overlap with another; of the only one under way for ``None``."""
    return PENDING if step is None else f"pending-{step:06d}.jsonl"


def forget_pending(folder: pathlib.Path, keep: Collection[int] = ()) -> None:
    """Remove what is kept of steps under way.

    :param folder: the run's.
    :param keep: overlapping steps whose files stay.
    :raises StorageError: when a file cannot be removed.
    """
    kept = {pending_name(step) for step in keep}
    for path in [folder / PENDING, *folder.glob("pending-*.jsonl")]:
        if path.name not in kept:
            with storage_errors(path):
                path.unlink(missing_ok=True)


def prompt_key(start: Node, prompt: Sequence[Message], params: SamplingParams) -> str:
    """SHA-256 over what makes a reply one to a group's prompt: its start, its messages, how it is sampled."""
    of = [start.id, start.digest, [dict(message) for message in prompt], attrs.asdict(params)]
    return hashlib.sha256(json.dumps(of).encode()).hexdigest()


class PendingRollouts:
    """The rollouts of a step under way of one run, for the process that writes it. Thread-safe.

    :param folder: the run's.
    :param enabled: whether any are kept; where not, what is there is removed.
    :param overlapping: the step, where it may overlap with another.
    """

    def __init__(self, folder: pathlib.Path, enabled: bool = True, overlapping: int | None = None) -> None:
        self._path = folder / pending_name(overlapping)
        self._enabled = enabled
        self._file: LineFile | None = None
        self._lock = threading.Lock()
        #: Of the prompts of the step under way.
        self._keys: list[str] = []
        #: By index the lines of a reply and of its verdict, from before this process.
        self._read: dict[RolloutIndex, tuple[dict[str, Any], dict[str, Any] | None]] = {}
        #: The lines of prompts that are in the file, by key.
        self._prompts: dict[str, dict[str, Any]] = {}

    def begun(self, step: int) -> tuple[int, str] | None:
        """After which committed step an overlapping step was begun, and the digest of the policy then.

        :return: ``None`` where nothing is kept of it.
        :raises StorageError: when the file cannot be read.
        """
        if not (self._enabled and self._path.exists()):
            return None
        require_plain_file(self._path)
        with storage_errors(self._path, "read"), open(self._path, "rb") as file:
            header = parsed(next(read_lines(file, LARGEST_LINE), b""))
        after, policy = header.get("after"), header.get("policy")
        if header.get("step") != step or type(after) is not int or type(policy) is not str:
            return None
        return after, policy

    def begin(self, step: int, policy: str, keys: Sequence[str], after: int | None = None) -> None:
        """Begin a step, with what the file has of it.

        :param policy: digest of what the policy has learned; replies of another are dropped.
        :param keys: of the groups' prompts (:func:`prompt_key`).
        :param after: the committed step that an overlapping one is begun after.
        :raises StorageError: when the disk is full or read-only.
        """
        self.close()
        self._keys = list(keys)
        header: dict[str, Any] = {"step": step, "policy": policy}
        if after is not None:
            header["after"] = after
        self._read, self._prompts = {}, {}
        if self._enabled:
            self._read_file(header)
        if not self._read:
            self.clear()
        if self._enabled:
            self._file = LineFile(self._path)
            if not self._read:
                self._append(header)

    def kept(self, count: int) -> dict[RolloutIndex, KeptRollout]:
        """The rollouts of the step that are there already.

        :param count: rollouts a group.
        """
        keys = self._keys
        found: dict[RolloutIndex, KeptRollout] = {}
        for (group, index), (reply, verdict) in self._read.items():
            if group < len(keys) and reply["key"] == keys[group] and index < count:
                try:
                    sample = read_sample(reply, self._prompts[keys[group]])
                    judged = None if verdict is None else read_verdict(verdict)
                    found[group, index] = KeptRollout(sample, judged, _step_of(reply))
                except UNREADABLE:
                    continue  # damaged: owed again
        return found

    def sampled(self, sample: Sample, policy_step: int | None = None) -> None:
        """Keep a reply.

        :param policy_step: the step that the policy had learned last, where that is not the one that the step
            was begun after.
        :raises StorageError: when the disk is full or read-only.
        """
        if self._file is None:
            return
        key = self._keys[sample.prompt]
        if key not in self._prompts:
            self._prompts[key] = prompt_line(key, sample)
            self._append(self._prompts[key])
        line = reply_line(key, sample)
        self._append(line if policy_step is None else {**line, "after": policy_step})

    def judged(self, rollout: RolloutIndex, verdict: Verdict) -> None:
        """Keep a verdict, unless the reply had no part in it: it is judged again then.

        :raises StorageError: when the disk is full or read-only.
        """
        if self._file is not None and verdict.status not in NOT_OF_THE_PROGRAM:
            self._append(verdict_line(self._keys[rollout[0]], rollout, verdict))

    def close(self) -> None:
        """Keep nothing more of the step; what is in the file stays."""
        with self._lock:
            file, self._file = self._file, None
            if file is not None:
                file.close()

    def clear(self) -> None:
        """Forget all: the step was committed, or its rollouts count no more.

        :raises StorageError: when the file cannot be removed.
        """
        self.close()
        self._read, self._prompts = {}, {}
        with storage_errors(self._path):
            self._path.unlink(missing_ok=True)

    def _append(self, line: Mapping[str, Any]) -> None:
        text = exact_json(line)
        with self._lock:
            if self._file is not None:
                self._file.append(text)

    def _read_file(self, header: Mapping[str, Any]) -> None:
        """Read the replies of a step, each with its verdict; none where the file is of another step."""
        if not self._path.exists():
            return
        require_plain_file(self._path)
        with storage_errors(self._path, "read"), open(self._path, "rb") as file:
            lines = map(parsed, read_lines(file, LARGEST_LINE))
            if next(lines, {}) != header:
                return
            for line in lines:
                self._take(line)

    def _take(self, line: dict[str, Any]) -> None:
        """Take one line in; what is no line of ours is passed over."""
        key, group, index = (line.get(name) for name in ("key", "group", "index"))
        if type(key) is not str or type(group) is not int:
            return
        if "prompt_tokens" in line:
            self._prompts[key] = line
        elif type(index) is int and group >= 0 and index >= 0:
            reply, _ = self._read.get((group, index), (None, None))
            if "status" not in line:
                self._read[group, index] = (line, None)
            elif reply is not None and reply["key"] == key:
                self._read[group, index] = (reply, line)


def _step_of(reply: Mapping[str, Any]) -> int | None:
    """The step that the policy of a reply had learned last, where its line says so."""
    after = reply.get("after")
    if after is not None and type(after) is not int:
        raise TypeError("after must be a whole number")
    return after
