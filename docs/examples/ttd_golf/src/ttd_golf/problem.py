"""`ngram-eval`: mix a base model with an n-gram cache that is filled while it predicts.

Score: bits per byte. The text lies in lanes, consecutive pieces of equal length. A block is one byte of
every lane. For each block the program is run in a process of its own that has never held anything but the
bytes of earlier blocks: it gives a distribution for each lane's next byte, and only then are the bytes looked
up, here, and scored. No rule forbids reading ahead; there is nothing ahead to read:

- within a block no byte is the context of another, so the base model's probabilities tell nothing of them;
- what a program remembers is what it returned, and it returned that before the next bytes were sent;
- the job cannot open any file, so it cannot find the text where Python keeps it;
- a program is too short to carry the text.
"""

from __future__ import annotations

import functools
import importlib.resources
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NoReturn

import attrs
import numpy as np

from ttd_core import (
    Action,
    Examples,
    Execute,
    JobResult,
    Options,
    Problem,
    PythonJob,
    Reward,
    State,
    Status,
    Verdict,
    option,
)
from ttd_golf import text
from ttd_golf.text import Bytes, Floats

#: Runs before the candidate, in its process. A limit of no open files cannot be raised again without
#: privileges, which jobs have not; what is imported by then stays usable.
NO_FILES = """\
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
del resource
"""
#: How far from 1 the probabilities of a lane may sum; they are divided by their sum before they count.
SUM_TOLERANCE = 1e-6
#: Levels of lists and dicts in a memory, and its bytes. What comes back goes in again, so it must be well
#: within what a job may hold.
MEMORY_DEPTH = 16
MEMORY_BYTES = 32 << 20


@attrs.frozen
class GolfOptions(Options):
    """Options of `ngram-eval`."""

    lanes: int = option(256, "pieces of the text predicted side by side", validator=attrs.validators.ge(1))
    length: int = option(256, "bytes in each piece", validator=attrs.validators.ge(1))
    program_chars: int = option(8000, "characters a program may have", validator=attrs.validators.ge(100))


class NgramEval(Problem):
    """Bits per byte of a causal cache; a state is ``{"bits": float64 [length]}``, the bits of each block."""

    name = "ngram-eval"
    title = "Score-first n-gram cache for a byte stream"
    metric = "bits per byte"
    direction = "min"
    entry = "predict"
    signature = "predict(memory, seen, base) -> (probabilities, memory)"
    deterministic = True
    preload: ClassVar[tuple[str, ...]] = (
        "numpy",
        "numpy.random",
        "collections",
        "heapq",
        "itertools",
        "math",
    )
    options_type = GolfOptions
    options: GolfOptions

    @functools.cached_property
    def text(self) -> Bytes:
        """The stream, uint8 [lanes, length]."""
        return text.stream(self.options.lanes, self.options.length)

    @functools.cached_property
    def base_alone(self) -> float:
        """Bits per byte of the base model."""
        return text.base_bits_per_byte(self.text)

    def task(self) -> str:
        """The protocol, the arguments, the score."""
        lanes, length = self.options.lanes, self.options.length
        return (
            f"A text is cut into {lanes} consecutive pieces of {length} bytes, predicted side by side: "
            f"`predict` is called {length} times, each time for the next byte of every piece.\n\n"
            f"- `seen`: uint8 [{lanes}, t], the bytes so far; all of them are scored.\n"
            f"- `base`: float64 [{lanes}, 256], what a small model of byte pairs says of each next byte.\n"
            "- `memory`: what the last call returned as its second value (JSON or up to 12 arrays); "
            "None at first. Nothing else is kept between calls: each runs in a new process.\n\n"
            f"Return `(probabilities, memory)`; probabilities is [{lanes}, 256], finite, not negative, each "
            "row sums to 1. The score is the mean of -log2 p(byte that came), lower is better; the base "
            f"model alone scores {self.base_alone:.6g}. Learn from `seen`: contexts come again.\n\n"
            f"A program has at most {self.options.program_chars} characters and opens no files. "
            "numpy, math, itertools, collections and heapq are loaded; nothing else can be imported."
        )

    def starting_program(self) -> str:
        """Orders 2 to 7 with back-off, hashed buckets, weight 0.05 + 0.55 sigmoid(2 (H - 4))."""
        folder = importlib.resources.files("ttd_golf").joinpath("programs", "start.py")
        return folder.read_text(encoding="utf-8")

    def arguments(self, state: State) -> Mapping[str, Any]:
        """None beyond those of the protocol."""
        return {}

    def construct(self, value: Any) -> NoReturn:
        """Refuse: what a program returns for one block is no solution, and figures in a file prove nothing.

        :raises ValueError: always.
        """
        raise ValueError("a solution of ngram-eval is a program; give ttd eval a .py file")

    def transition(self, state: State, action: Action, execute: Execute) -> State | Verdict:
        """Feed the program block by block; each block is scored before the next one is sent."""
        whole = self.complete(state, action)
        if isinstance(whole, Verdict):
            return whole
        if len(whole.code) > self.options.program_chars:
            message = (
                f"the program has {len(whole.code)} characters; {self.options.program_chars} are allowed"
            )
            return Verdict.failed(Status.INVALID, message, code=whole.code)
        bits, memory, seconds, output = [], None, 0.0, ""
        for step in range(self.options.length):
            job = self._job(whole.code, memory, step, self.options.timeout_s - seconds)
            result = execute(job)
            seconds += result.wall_s
            if result.ok and seconds >= self.options.timeout_s:
                result = attrs.evolve(result, status=Status.TIMEOUT, message="")
            if not result.ok:
                return self._failed(result, step, whole.code)
            output = result.output or output
            try:
                probabilities, memory = read_answer(result.value, self.options.lanes)
                bits.append(bits_of(probabilities, self.text[:, step]))
            except ValueError as error:
                message = f"block {step + 1}: {error}"
                return Verdict.failed(Status.INVALID, message, code=whole.code, output=result.output)
        return State(code=whole.code, data={"bits": np.array(bits)}, output=output)

    def _job(self, program: str, memory: Any, step: int, seconds_left: float) -> PythonJob:
        """The job for one block: bytes of earlier blocks, and nothing that depends on later ones."""
        scored = self.text[:, :step]
        return PythonJob(
            source=program,
            entry=self.entry,
            args=[memory, scored, text.base_probabilities(scored)],
            helpers=NO_FILES,
            preload=self.preload,
            limits=self.options.limits(wall_s=seconds_left, result=MEMORY_BYTES),
        )

    def _failed(self, result: JobResult, step: int, code: str) -> Verdict:
        status, message = result.status, result.message or result.status.sentence
        if status is Status.CRASH and "Too many open files" in message:
            status, message = Status.FORBIDDEN, f"programs open no files ({message})"
        return Verdict.failed(status, f"block {step + 1}: {message}", code=code, output=result.output)

    def check(self, state: State) -> Sequence[str]:
        """The bits of a whole run: one finite positive sum a block."""
        bits = state.data.get("bits")
        if not isinstance(bits, np.ndarray) or bits.shape != (self.options.length,):
            return [f"bits must be one number for each of {self.options.length} blocks"]
        # The least probability that is not 0 costs 1074 bits, the largest below 1 more than 2^-53.
        if not ((bits >= 0) & (bits <= 1074 * self.options.lanes)).all() or bits.max() < 2.0**-53:
            return ["bits must be finite, not negative, and not all zero"]
        return []

    def reward(self, state: State) -> Reward:
        """1 / bits per byte."""
        score = math.fsum(state.data["bits"].astype(float)) / (self.options.lanes * self.options.length)
        return Reward(1.0 / score, score, {"base_model_alone": self.base_alone})

    def examples(self) -> Examples:
        """The starting program and the base model alone; programs that look for what is to come, and lie."""
        return Examples(
            good=[Action(self.starting_program()), Action(ONLY_BASE)],
            bad=[Action(source) for source in CHEATS.values()],
        )


def read_answer(value: Any, lanes: int) -> tuple[Floats, Any]:
    """Distributions and memory out of what ``predict`` returned.

    :return: float64 [lanes, 256], rows divided by their sums; and the memory, as it came.
    :raises ValueError: naming the rule that is broken.
    """
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError("predict must return (probabilities, memory)")
    given, memory = value
    if not isinstance(given, np.ndarray) or given.shape != (lanes, 256) or given.dtype.kind != "f":
        raise ValueError(f"probabilities must be an array of floats [{lanes}, 256]")
    probabilities: Floats = given.astype(np.float64)
    if not (np.isfinite(probabilities).all() and (probabilities >= 0).all()):
        raise ValueError("probabilities must be finite and not negative")
    total = probabilities.sum(axis=1, keepdims=True)
    worst = float(np.abs(total - 1.0).max())
    if worst > SUM_TOLERANCE:
        raise ValueError(f"probabilities of a lane sum to 1 {'+' if total.max() > 1 else '-'} {worst:.3g}")
    if _depth(memory) > MEMORY_DEPTH:
        raise ValueError(f"memory is nested deeper than {MEMORY_DEPTH} levels")
    return probabilities / total, memory


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)


def bits_of(probabilities: Floats, came: Bytes) -> float:
    """Bits that the bytes of a block cost: the sum of -log2 of the probabilities that they were given.

    :param probabilities: float64 [lanes, 256].
    :param came: the bytes, uint8 [lanes].
    :raises ValueError: when one of them was ruled out.
    """
    given = probabilities[np.arange(len(came)), came]
    if not (given > 0).all():
        raise ValueError("a byte that was given probability 0 came")
    return math.fsum(-np.log2(given))


ONLY_BASE = "def predict(memory, seen, base):\n    return base, None\n"

#: Programs that try to know a byte before it is scored, or to be scored on something else.
CHEATS = {
    "finds the text among Python's own files": """\
import numpy as np


def predict(memory, seen, base):
    import pydoc_data.topics

    topics = pydoc_data.topics.topics
    text = "\\n".join(topics[name] for name in sorted(topics)).encode("ascii", "replace")
    rows = np.full(base.shape, 1e-9)
    for lane in range(len(base)):
        at = 200_000 + lane * 256 + seen.shape[1]
        rows[lane, text[at]] = 1.0
    return rows / rows.sum(axis=1, keepdims=True), None
""",
    "reads the next column": """\
import numpy as np


def predict(memory, seen, base):
    sure = np.full(base.shape, 1e-9)
    sure[np.arange(len(base)), seen[:, seen.shape[1]]] = 1.0
    return sure / sure.sum(axis=1, keepdims=True), None
""",
    "is sure of every byte": """\
import numpy as np


def predict(memory, seen, base):
    return np.ones_like(base), None
""",
    "reports a score of its own": """\
def predict(memory, seen, base):
    return {"bits": 1e-6, "probabilities": base}, None
""",
}
