"""How a C++ program is judged: compiled once, then one sandboxed run per case, each on a core of its own.

Solutions use up their whole time limit, so two that share a core halve each other's score. A case is judged
by processor time; the wall clock only ends programs that sleep.
"""

from __future__ import annotations

import concurrent.futures
import functools
import logging
import os
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import attrs
import numpy as np
import numpy.typing as npt

from ttd_core.errors import EnvironmentLacksError
from ttd_core.problem import Execute
from ttd_core.sandbox.base import MIB, Artifact, CompileJob, Limits, ProgramJob
from ttd_core.types import Status, Verdict

if TYPE_CHECKING:
    from ttd_ahc.contest import ContestOptions

#: Compiler and flags of the contests.
COMMAND = ("g++", "-std=gnu++20", "-O2")
#: Standard output read of one case, and error output at which it is stopped, in bytes.
OUTPUT_BYTES = 16 * MIB
#: A busy machine stretches the wall clock; a program that computes is ended by its processor time.
_PATIENCE = 5.0
#: Evaluations expected to take longer than this many seconds are announced.
_LONG_S = 30.0
#: Lowest scores told in a summary.
_LOWEST = 3
_ERROR_CHARS = 300

_log = logging.getLogger("ttd_ahc")


class Bench(Protocol):
    """The cases a program is run on, and their judge."""

    def seeds(self) -> list[int]:
        """The seeds, in the order they are run."""
        ...

    def stdin(self, seed: int) -> bytes:
        """The input of a case."""
        ...

    def judge(self, seed: int, output: str) -> tuple[npt.NDArray[np.int32], int]:
        """The answer and the score of a case; raises ValueError when it is not valid."""
        ...


@attrs.frozen(eq=False)
class CaseRun:
    """One case that went well.

    :param cpu_s: processor seconds used.
    :param output: the tail of its standard error.
    """

    answer: npt.NDArray[np.int32]
    score: int
    cpu_s: float
    output: str


def case_limits(options: ContestOptions) -> Limits:
    """The limits of one case."""
    return options.limits(
        wall_s=_PATIENCE * options.timeout_s,
        cpu_s=options.timeout_s,
        output=OUTPUT_BYTES,
        result=OUTPUT_BYTES,
        exclusive_core=True,
    )


def available_cores(cores: int = 0) -> int:
    """Cases run at once: as asked, never more than the cores this process may use."""
    present = len(os.sched_getaffinity(0))
    return min(cores, present) if cores else present


def expected_seconds(options: ContestOptions) -> float:
    """How long judging one program takes that uses its whole time limit, in seconds."""
    rounds = -(-options.cases // available_cores(options.cores))
    return rounds * options.timeout_s


@functools.lru_cache(maxsize=64)
def _told(text: str) -> None:
    _log.warning(text)


def tell_duration(name: str, options: ContestOptions) -> None:
    """Say once, on a machine where it takes long, how long one program's judgement takes."""
    seconds = expected_seconds(options)
    if seconds > _LONG_S:
        cores = available_cores(options.cores)
        _told(
            f"{name}: {options.cases} cases of {options.timeout_s:g} s on {cores} "
            f"core{'s' if cores > 1 else ''}: judging one program takes about {seconds:.0f} s"
        )


def compile_program(execute: Execute, source: str) -> Artifact | Verdict:
    """Compile a candidate, or find it compiled.

    :raises EnvironmentLacksError: when this machine has no compiler.
    """
    if shutil.which(COMMAND[0]) is None:
        raise EnvironmentLacksError(
            f"{COMMAND[0]} is needed to judge C++ programs: install it (apt install g++)"
        )
    result = execute(CompileJob(source, COMMAND))
    if not result.ok:
        return Verdict.failed(result.status, result.message, code=source, output=result.output)
    if result.artifact is None:
        return Verdict.failed(Status.CRASH, "the compiler left no program", code=source)
    return result.artifact


def run_cases(
    execute: Execute, program: Artifact, bench: Bench, limits: Limits, cores: int
) -> dict[int, CaseRun] | Verdict:
    """Run all cases, ``cores`` at once; after one fails no other is started.

    :return: the runs by seed, or the verdict on the earliest case that failed.
    """
    runner = functools.partial(_run_case, execute, program, bench, limits)
    runs: dict[int, CaseRun] = {}
    failures: dict[int, Verdict] = {}
    waiting = iter(enumerate(bench.seeds()))
    count = available_cores(cores)
    with concurrent.futures.ThreadPoolExecutor(count, "ahc-case") as pool:
        going: dict[concurrent.futures.Future[CaseRun | Verdict], tuple[int, int]] = {}
        while True:
            while not failures and len(going) < count and (each := next(waiting, None)) is not None:
                going[pool.submit(runner, each[1])] = each
            if not going:
                break
            done, _ = concurrent.futures.wait(going, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in done:
                number, seed = going.pop(future)
                outcome = future.result()
                if isinstance(outcome, Verdict):
                    failures[number] = outcome
                else:
                    runs[seed] = outcome
    return failures[min(failures)] if failures else runs


def _run_case(
    execute: Execute, program: Artifact, bench: Bench, limits: Limits, seed: int
) -> CaseRun | Verdict:
    result = execute(ProgramJob(program, stdin=bench.stdin(seed), limits=limits))
    tail = result.output[-_ERROR_CHARS:]
    if not result.ok:
        return Verdict.failed(result.status, f"seed {seed}: {result.message}", output=tail)
    if limits.cpu_s is not None and result.cpu_s > limits.cpu_s:
        message = f"seed {seed}: used {result.cpu_s:.2f} s of processor time; {limits.cpu_s:g} s are allowed"
        return Verdict.failed(Status.TIMEOUT, message, output=tail)
    try:
        # Bytes that are no text become a character that no answer may hold.
        answer, score = bench.judge(seed, result.stdout.decode(errors="replace"))
    except ValueError as error:
        return Verdict.failed(Status.INVALID, f"seed {seed}: {error}", output=tail)
    return CaseRun(answer, score, result.cpu_s, tail)


def summary(seeds: list[int], runs: Mapping[int, CaseRun], options: Any) -> str:
    """What a person, and the next prompt, is told of a run over all cases."""
    scores = {seed: runs[seed].score for seed in seeds}
    lowest = sorted(seeds, key=lambda seed: scores[seed])[:_LOWEST]
    cpu = [runs[seed].cpu_s for seed in seeds]
    cores = available_cores(options.cores)
    lines = [
        f"{len(seeds)} cases, {cores} at once: mean {sum(scores.values()) / len(seeds):.10g}, "
        f"max {max(scores.values())}; lowest "
        + ", ".join(f"{scores[seed]} (seed {seed})" for seed in lowest),
        f"processor time: mean {sum(cpu) / len(cpu):.2f} s, max {max(cpu):.2f} s of {options.timeout_s:g} s",
    ]
    tail = runs[seeds[0]].output.strip()
    if tail:
        lines.append(f"error output of seed {seeds[0]}:\n{tail}")
    return "\n".join(lines)
