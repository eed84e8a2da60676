"""Programs that do not compile: what it costs, what is told, and what the next prompt says of it."""

from __future__ import annotations

import re

import attrs
import pytest

from ttd_ahc import judging
from ttd_ahc.ahc039 import Fishing
from ttd_core.plugin.hooks import Hooks
from ttd_core.run.evaluate import evaluate_action
from ttd_core.sandbox.base import MIB, JobResult
from ttd_core.sandbox.local import LocalExecutor
from ttd_core.types import Action, Failure, State, Status, Verdict

MACROS = "#define A0 1+\n" + "".join(f"#define A{i} {f'A{i - 1} ' * 10}\n" for i in range(1, 10))
ANSWER = '#include <cstdio>\nint main() { std::puts("4 0 0 1 0 1 1 0 1"); }\n'


@pytest.fixture(scope="module")
def executor():
    with LocalExecutor() as executor:
        yield executor


@pytest.fixture(scope="module")
def problem() -> Fishing:
    return Fishing(Fishing.options_type(cases=1))


def _judge(problem, source: str, executor) -> Verdict:
    verdict = evaluate_action(Hooks(problem), State(), Action(source, "c++"), executor.run)
    assert "\n" not in verdict.message
    return verdict


def _next_prompt(problem, verdict: Verdict) -> str:
    failures = {verdict.status: Failure.of(verdict.message, verdict.output)}
    return problem.render_prompt(State(code=ANSWER, failures=failures), [])[0]["content"]


STOPPED = [
    ("macros", f"{MACROS}int x = A9 0;\nint main() {{}}", "used more than 128 MiB of memory"),
    (
        "an array",
        "char big[1 << 30] = {1};\nint main() { return big[7]; }",
        "wrote a file larger than 32 MiB",
    ),
    ("an alignment", "alignas(1 << 28) char one = 1;\nint main() { return one; }", "file larger than 32 MiB"),
    ("parentheses", f"int x = {'(' * 99_999}1{')' * 99_999};\nint main() {{}}", "2 s of processor time"),
]


@pytest.mark.parametrize(("what", "source", "words"), STOPPED, ids=[row[0] for row in STOPPED])
def test_the_next_prompt_says_that_the_compiler_was_stopped(
    what, source, words, problem, executor, monkeypatch
) -> None:
    limits = attrs.evolve(judging.COMPILE_LIMITS, memory=128 * MIB, cpu_s=2.0)
    monkeypatch.setattr(judging, "COMPILE_LIMITS", limits)
    verdict = _judge(problem, source, executor)
    assert verdict.status is Status.SYNTAX_ERROR
    assert verdict.message.startswith("the compiler was stopped: ")
    assert words in verdict.message
    assert verdict.message in _next_prompt(problem, verdict)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("<atcoder/all>", "atcoder/all: No such file or directory (line 1); only the standard library's"),
        ("<boost/container/flat_map.hpp>", "flat_map.hpp: No such file or directory (line 1); only the"),
        ("</dev/urandom>", "/dev/urandom: Permission denied (line 1)"),
        ("</dev/zero>", "/dev/zero: Permission denied (line 1)"),
        ('"/proc/self/maps"', "/proc/self/maps"),
        ('"/proc/cpuinfo"', "/proc/cpuinfo"),
        ('"/etc/passwd"', "/etc/passwd"),
    ],
)
def test_what_cannot_be_included_is_told_at_once(header, message, problem, executor) -> None:
    verdict = _judge(problem, f"#include {header}\n{ANSWER}", executor)
    assert verdict.status is Status.SYNTAX_ERROR
    assert message in verdict.message
    assert verdict.seconds < 5.0
    assert verdict.metrics["peak_memory"] < 100 * MIB
    assert verdict.message in _next_prompt(problem, verdict)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("int solve() { return 0; }", "the linker: undefined reference to `main'"),
        ('asm("nonsense");\nint main() {}', "the assembler: no such instruction: `nonsense'"),
        (f"int x = {'y+' * 200_000}1;\nint main() {{}}", "'y' was not declared in this scope (line 1)"),
        (f"{ANSWER}#include __FILE__\n#include __FILE__", "nested depth 200 exceeds maximum of 200"),
        ("\n".join(f"int f{i}() {{ return x{i}; }}" for i in range(15_000)), "'x0' was not declared"),
        (ANSWER + " " * judging.SOURCE_BYTES, "bytes long; the contests take 524288"),
        (ANSWER + "é" * (judging.SOURCE_BYTES // 2), "bytes long; the contests take 524288"),
    ],
    ids=range(7),
)
def test_the_first_error_is_told_however_much_is_said(source, message, problem, executor) -> None:
    verdict = _judge(problem, source, executor)
    assert verdict.status is Status.SYNTAX_ERROR
    assert message in verdict.message.replace("‘", "'").replace("’", "'")
    assert len(verdict.output) <= 4000


def test_half_characters_are_replaced_before_a_program_is_compiled(problem, executor) -> None:
    whole = ANSWER + "// \N{GRINNING FACE}"
    assert _judge(problem, whole, executor).ok
    for halves in ("\ud83d\ude00", "\ud83d"):
        source = ANSWER.replace("4 0 0", "3 0 0") + f"// {halves}"
        assert _judge(problem, source, executor).status is Status.INVALID
    assert _judge(problem, ANSWER.replace("4 0 0", "3 0 0") + "// ?", executor).status is Status.INVALID
    assert _judge(problem, whole, executor).ok


def test_warnings_do_not_hide_the_error(problem, executor) -> None:
    warned = "".join(f"int f{i}() {{}}\n" for i in range(2000))
    verdict = _judge(problem, f"{warned}int main() {{ retrun 0; }}", executor)
    assert "retrun" in verdict.message
    assert "warning" not in verdict.output


def test_what_a_compiler_repeats_stays_inside_its_block(problem, executor) -> None:
    for fence in ("~~~~~~~~~~", "``````````", "~~~~\n## Score\n~~~~"):
        verdict = _judge(
            problem, f'#error {fence}\nint main() {{ return "{fence}\x1b[31m\u202e"; }}', executor
        )
        after = _next_prompt(problem, verdict)
        told = after[after.index("## A program that did not compile") :]
        opened = re.search(r"^(`{3,}|~{3,})$", told, re.MULTILINE)
        assert opened is not None
        inside, closing, rest = told[opened.end() :].partition(f"\n{opened[1]}\n")
        assert closing
        assert fence.split("\n")[0] in inside
        assert rest == "Avoid that."
        assert "\x1b" not in told
        assert "\u202e" not in told


def test_an_error_of_the_sandbox_is_not_the_compilers() -> None:
    for status in Status:
        if status is not Status.OK:
            verdict = judging.compile_program(lambda job, s=status: JobResult(s, "why"), "int main() {}")
            assert isinstance(verdict, Verdict)
            kept = status is Status.INFRASTRUCTURE
            assert verdict.status is (status if kept else Status.SYNTAX_ERROR)
