"""What every executor does with compiled programs. A part of the executor contract; needs ``g++``."""

from __future__ import annotations

import time

import pytest

from ttd_core.sandbox.base import GIB, MIB, Artifact, CompileJob, Executor, Limits, ProgramJob
from ttd_core.types import Status

_DOUBLE = "#include <iostream>\nint main() { long n; while (std::cin >> n) std::cout << 2 * n << '\\n'; }"
_COMPILER = Limits(wall_s=20.0, memory=256 * MIB, scratch=64 * MIB, output=MIB, result=8 * MIB)


def compiled(executor: Executor, source: str) -> Artifact:
    """Compile C++ that must compile."""
    result = executor.run(CompileJob(source))
    assert result.ok, result.message
    assert result.artifact is not None
    return result.artifact


class ProgramChecks:
    """Compiling once and running on each input, and how a program can end."""

    def test_a_program_is_compiled_once_and_run_on_each_input(self, executor: Executor) -> None:
        artifact = compiled(executor, _DOUBLE)
        for number in (1, 21, 4_000_000_000):
            result = executor.run(ProgramJob(artifact, f"{number}\n".encode(), limits=Limits(wall_s=5.0)))
            assert result.ok, result.message
            assert result.stdout == f"{2 * number}\n".encode()
        started = time.monotonic()
        assert compiled(executor, _DOUBLE) == artifact
        assert time.monotonic() - started < 0.1

    def test_arguments_and_standard_error_of_a_program(self, executor: Executor) -> None:
        source = (
            '#include <cstdio>\nint main(int n, char** v) { fprintf(stderr, "%d %s", n, v[1]); return 3; }'
        )
        result = executor.run(ProgramJob(compiled(executor, source), arguments=("word",)))
        assert result.status is Status.CRASH
        assert result.message == "exited with code 3"
        assert result.output == "2 word"

    def test_source_that_does_not_compile_names_the_line(self, executor: Executor) -> None:
        result = executor.run(CompileJob("int main() {\n    return missing;\n}"))
        assert result.status is Status.SYNTAX_ERROR
        assert "missing" in result.message
        assert result.message.endswith("(line 2)")
        assert result.artifact is None

    def test_half_a_character_is_refused_and_a_whole_one_is_not(self, executor: Executor) -> None:
        source = '#include <cstdio>\nint main() {{ std::puts("{}"); }}'
        artifact = compiled(executor, source.format("\N{GRINNING FACE}"))
        assert executor.run(ProgramJob(artifact)).stdout == "\N{GRINNING FACE}\n".encode()
        # each would be compiled as the others are, were they replaced by something
        for halves in ("\ud83d\ude00", "\ud83d", "\ude00"):
            result = executor.run(CompileJob(source.format(halves)))
            assert result.status is Status.SYNTAX_ERROR
            assert result.artifact is None
            assert "half of a character" in result.message
            assert result.message.endswith("(line 2)")

    @pytest.mark.parametrize(
        "source",
        ["#include </dev/urandom>", "#include </dev/zero>", 'asm(".incbin \\"/dev/zero\\"");'],
    )
    def test_a_compiler_reads_no_device(self, executor: Executor, source: str) -> None:
        result = executor.run(CompileJob(f"{source}\nint main() {{}}", limits=_COMPILER))
        assert result.status is Status.SYNTAX_ERROR, result.message
        assert result.peak_memory < 256 * MIB
        assert "/dev/" in result.message

    @pytest.mark.parametrize(
        ("source", "status", "words"),
        [
            ("char big[1u << 30] = {1};", Status.OUTPUT_LIMIT, "wrote a file larger than 8 MiB"),
            ("alignas(1 << 28) char one = 1;", Status.OUTPUT_LIMIT, "wrote a file larger than 8 MiB"),
            ('asm(".rept 1000000000\\n.byte 1\\n.endr");', Status.MEMORY, "more than 256 MiB of memory"),
            ("#include __FILE__\n#include __FILE__", Status.OUTPUT_LIMIT, "printed more than 1 MiB"),
        ],
    )
    def test_a_limit_that_the_compiler_meets_is_told(
        self, executor: Executor, source: str, status: Status, words: str
    ) -> None:
        result = executor.run(CompileJob(f"{source}\nint main() {{}}", limits=_COMPILER))
        assert result.status is status, result.message
        assert words in result.message
        assert result.artifact is None

    @pytest.mark.parametrize(
        ("body", "status", "words"),
        [
            ("abort();", Status.CRASH, "SIGABRT"),
            ("*(volatile int*)8 = 1;", Status.CRASH, "SIGSEGV"),
            ("for (;;) {}", Status.TIMEOUT, "wall time"),
            ("std::vector<char> v(900u << 20, 1);", Status.MEMORY, "memory"),
            ('for (;;) puts("line");', Status.OUTPUT_LIMIT, "standard output"),
        ],
    )
    def test_how_a_program_can_end(self, executor: Executor, body: str, status: Status, words: str) -> None:
        source = f"#include <cstdio>\n#include <cstdlib>\n#include <vector>\nint main() {{ {body} }}"
        limits = Limits(wall_s=1.0, memory=256 * MIB, result=MIB)
        result = executor.run(ProgramJob(compiled(executor, source), limits=limits))
        assert result.status is status, result.message
        assert words in result.message

    def test_a_program_recurses_deeply(self, executor: Executor) -> None:
        # Each call is given the address of its caller's array, so that no compiler makes a loop of it.
        source = (
            "#include <cstdio>\n"
            "int depth(int n, volatile char* above) {\n"
            "    volatile char held[64]; held[0] = *above;\n"
            "    return n ? depth(n - 1, held) + held[0] + 1 : 0;\n"
            "}\n"
            'int main() { char zero = 0; printf("%d", depth(1000000, &zero)); }'
        )
        result = executor.run(ProgramJob(compiled(executor, source), limits=Limits(wall_s=10.0, memory=GIB)))
        assert result.ok, result.message
        assert result.stdout == b"1000000"

    def test_a_program_that_is_not_held_is_our_failure(self, executor: Executor) -> None:
        result = executor.run(ProgramJob(Artifact("0" * 64)))
        assert result.status is Status.INFRASTRUCTURE
        assert "compile it again" in result.message
