"""How a C++ program is judged: compiled once, then one sandboxed run per case, each on a core of its own.

Solutions use up their whole time limit, so two that share a core halve each other's score. A case is judged
by processor time; the wall clock only ends programs that sleep.
"""

from __future__ import annotations

import concurrent.futures
import functools
import logging
import os
import re
import shutil
from collections.abc import Mapping
from typing import Protocol

import attrs

from ttd_ahc.cases import Answer
from ttd_ahc.options import ContestOptions
from ttd_ahc.reading import MAX_ANSWER_BYTES
from ttd_core.errors import EnvironmentLacksError
from ttd_core.problem import Execute
from ttd_core.sandbox.base import GIB, KIB, MIB, Artifact, CompileJob, Limits, ProgramJob
from ttd_core.text import quoted_lines
from ttd_core.types import Status, Verdict

#: Compiler and flags of the contests.
COMMAND = ("g++", "-std=gnu++20", "-O2")
#: Beside them: few errors, no warnings. What they leave out is never shown, and can be millions of lines.
_TERSE = ("-w", "-fmax-errors=5")
#: What compiling one program may use: our largest takes 2 s and 160 MiB, and makes 60 KB.
COMPILE_LIMITS = Limits(
    wall_s=60.0,
    cpu_s=20.0,
    memory=GIB,
    processes=16,
    scratch=128 * MIB,
    # An error repeats its line, which may be the whole program; all is kept, since the first error is told.
    output=8 * MIB,
    output_kept=8 * MIB,
    result=32 * MIB,
)
#: Bytes of source that the contests take.
SOURCE_BYTES = 512 * KIB
#: Bytes at which a case is stopped, of standard output and of error output each.
OUTPUT_BYTES = MAX_ANSWER_BYTES
#: Wall seconds that a case has for each second of processor time: a busy machine stretches the wall clock,
#: and a program that computes is ended by its processor time long before.
_WALL_PER_CPU_SECOND = 5.0
#: Judgements expected to take longer than this many seconds are announced.
_ANNOUNCED_FROM_S = 30.0
#: Of how many of the worst cases a summary gives the scores.
_LOWEST_SHOWN = 3
#: Of how many of the failed cases the seeds are told.
_FAILED_SHOWN = 10
#: Characters kept of what the compiler said, from its beginning.
_COMPILER_CHARS = 4000
#: Characters kept of the end of a program's error output.
_STDERR_CHARS = 300

_MISSING_HEADER = re.compile(r"error: [^:]*: No such file or directory")

_log = logging.getLogger("ttd_ahc")


class CaseJudge(Protocol):
    """What is asked of a contest while a program is judged: seeds, their inputs, what outputs score."""

    def seeds(self) -> list[int]:
        """The seeds of the cases, in the order in which they are run."""
        ...

    def stdin(self, seed: int) -> bytes:
        """What a program reads from standard input in the case of a seed."""
        ...

    def judge_output(self, seed: int, output: bytes) -> tuple[Answer, int]:
        """The answer that a program printed for the case of a seed, and its score.

        :raises ValueError: when it is no answer, or breaks a rule; the message goes into the verdict.
        """
        ...


@attrs.frozen(eq=False)
class CaseRun:
    """One case whose answer is valid.

    :param answer: int32 [rows, width].
    :param score: at least 0.
    :param cpu_s: processor seconds used.
    :param stderr_tail: the end of the program's error output.
    """

    answer: Answer
    score: int
    cpu_s: float
    stderr_tail: str


def case_limits(options: ContestOptions) -> Limits:
    """The sandbox limits of one case."""
    return options.limits(
        wall_s=_WALL_PER_CPU_SECOND * options.timeout_s,
        cpu_s=options.timeout_s,
        output=OUTPUT_BYTES,
        result=OUTPUT_BYTES,
        exclusive_core=True,
    )


def available_cores(cores: int = 0) -> int:
    """How many cases run at once.

    :param cores: as many as asked for, 0 for all; never more than this process may use.
    """
    present = len(os.sched_getaffinity(0))
    return min(cores, present) if cores else present


def expected_seconds(options: ContestOptions) -> float:
    """Wall seconds that judging one program takes when every case uses its whole time limit."""
    rounds = -(-options.cases // available_cores(options.cores))
    return rounds * options.timeout_s


@functools.lru_cache(maxsize=64)
def _warn_once(text: str) -> None:
    _log.warning(text)


def announce_duration(name: str, options: ContestOptions) -> None:
    """Log once how long judging one program takes, on a machine where that is over half a minute.

    :param name: the contest's.
    """
    seconds = expected_seconds(options)
    if seconds > _ANNOUNCED_FROM_S:
        cores = available_cores(options.cores)
        _warn_once(
            f"{name}: {options.cases} cases of {options.timeout_s:g} s on {cores} "
            f"core{'s' if cores > 1 else ''}: judging one program takes about {seconds:.0f} s"
        )


def compile_program(execute: Execute, source: str) -> Artifact | Verdict:
    """Compile a candidate, or take the program compiled before from the same source.

    :return: the program, or the verdict that it does not compile.
    :raises EnvironmentLacksError: when this machine has no compiler.
    """
    if shutil.which(COMMAND[0]) is None:
        raise EnvironmentLacksError(
            f"{COMMAND[0]} is needed to judge C++ programs: install it (apt install g++)"
        )
    size = len(source.encode(errors="surrogatepass"))
    if size > SOURCE_BYTES:
        message = f"the program is {size} bytes long; the contests take {SOURCE_BYTES}"
        return Verdict.failed(Status.SYNTAX_ERROR, message, code=source)
    result = execute(CompileJob(source, COMMAND + _TERSE, limits=COMPILE_LIMITS))
    if result.artifact is not None:
        return result.artifact
    if result.status in (Status.INFRASTRUCTURE, Status.SYNTAX_ERROR):
        status, message = result.status, result.message + _hint(result.message)
    else:
        # Whatever limit it met: what failed is the compiling, and the next prompt says so.
        status, message = Status.SYNTAX_ERROR, f"the compiler was stopped: {result.message}"
    return Verdict.failed(status, message, code=source, output=result.output[:_COMPILER_CHARS])


def _hint(message: str) -> str:
    """What to do about an error of the compiler, where it is not plain."""
    if _MISSING_HEADER.search(message):
        return "; only the standard library's headers are here"
    return ""


def run_cases(
    execute: Execute,
    program: Artifact,
    judge: CaseJudge,
    limits: Limits,
    cores: int,
    keep_going: bool = False,
) -> dict[int, CaseRun] | Verdict:
    """Run all cases, ``cores`` at once; after one fails no other is started, unless asked for.

    :param limits: of each case.
    :param cores: as in :func:`available_cores`.
    :param keep_going: run the others too after a failure.
    :return: the runs by seed, or the verdict on the earliest case that failed; having kept going it says
        which others failed and what the rest score.
    """
    run_case = functools.partial(_run_case, execute, program, judge, limits)
    runs: dict[int, CaseRun] = {}
    failures: dict[int, Verdict] = {}
    waiting = iter(enumerate(judge.seeds()))
    count = available_cores(cores)
    with concurrent.futures.ThreadPoolExecutor(count, "ahc-case") as pool:
        running: dict[concurrent.futures.Future[CaseRun | Verdict], tuple[int, int]] = {}
        while True:
            goes_on = keep_going or not failures
            while goes_on and len(running) < count and (case := next(waiting, None)) is not None:
                running[pool.submit(run_case, case[1])] = case
            if not running:
                break
            done, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in done:
                number, seed = running.pop(future)
                outcome = future.result()
                if isinstance(outcome, Verdict):
                    failures[number] = outcome
                else:
                    runs[seed] = outcome
    if not failures:
        return runs
    first = failures[min(failures)]
    return attrs.evolve(first, message=_with_the_rest(first, judge, failures, runs)) if keep_going else first


def _with_the_rest(
    first: Verdict, judge: CaseJudge, failures: Mapping[int, Verdict], runs: Mapping[int, CaseRun]
) -> str:
    """The message of the first failure, with which cases failed beside it and what the others score.

    :param failures: by the case's number among the seeds.
    :param runs: of the cases that passed, by seed.
    """
    seeds = judge.seeds()
    failed = [str(seeds[number]) for number in sorted(failures)]
    more = f" and {len(failed) - _FAILED_SHOWN} more" if len(failed) > _FAILED_SHOWN else ""
    word = "seed" if len(failed) == 1 else "seeds"
    told = f"{len(failed)} of {len(seeds)} cases failed ({word} {', '.join(failed[:_FAILED_SHOWN])}{more})"
    if not runs:
        return f"{first.message}; {told}"
    total = sum(run.score for run in runs.values())
    return f"{first.message}; {told}, the other {len(runs)}: sum {total}, mean {total / len(runs):.10g}"


def _run_case(
    execute: Execute, program: Artifact, judge: CaseJudge, limits: Limits, seed: int
) -> CaseRun | Verdict:
    result = execute(ProgramJob(program, stdin=judge.stdin(seed), limits=limits))
    stderr_tail = result.output[-_STDERR_CHARS:]
    # Twice the time, since a machine that is not the contest's may be slower by half.
    hint = f" (-o timeout_s={2 * limits.cpu_s:g} allows more)" if limits.cpu_s is not None else ""
    if not result.ok:
        more = hint if result.status is Status.TIMEOUT else ""
        return Verdict.failed(result.status, f"seed {seed}: {result.message}{more}", output=stderr_tail)
    if limits.cpu_s is not None and result.cpu_s > limits.cpu_s:
        used = f"used {result.cpu_s:.2f} s of processor time; {limits.cpu_s:g} s are allowed"
        message = f"seed {seed}: {used}{hint}"
        return Verdict.failed(Status.TIMEOUT, message, output=stderr_tail)
    try:
        answer, score = judge.judge_output(seed, result.stdout)
    except ValueError as error:
        return Verdict.failed(Status.INVALID, f"seed {seed}: {error}", output=stderr_tail)
    return CaseRun(answer, score, result.cpu_s, stderr_tail)


def summary(seeds: list[int], runs: Mapping[int, CaseRun], options: ContestOptions) -> str:
    """The output of a program that passed all its cases, as a person and the next prompt see it.

    Mean, best and worst scores, processor time, and the error output of the first case.

    :param runs: by seed, one for each of ``seeds``.
    """
    scores = {seed: runs[seed].score for seed in seeds}
    lowest = sorted(seeds, key=lambda seed: scores[seed])[:_LOWEST_SHOWN]
    cpu = [runs[seed].cpu_s for seed in seeds]
    cores = available_cores(options.cores)
    lines = [
        f"{len(seeds)} cases, {cores} at once: mean {sum(scores.values()) / len(seeds):.10g}, "
        f"max {max(scores.values())}; lowest "
        + ", ".join(f"{scores[seed]} (seed {seed})" for seed in lowest),
        f"processor time: mean {sum(cpu) / len(cpu):.2f} s, max {max(cpu):.2f} s of {options.timeout_s:g} s",
    ]
    stderr_tail = runs[seeds[0]].stderr_tail.strip()
    if stderr_tail:
        # quoted, so that no line of it passes for one of those above
        lines.append(f"error output of seed {seeds[0]}:\n{quoted_lines(stderr_tail)}")
    return "\n".join(lines)
