"""Bad candidates and their verdicts, in the real sandbox. The README shows this table."""

from __future__ import annotations

import pytest

from ttd_ahc.ahc039 import Fishing, FishingOptions
from ttd_ahc.ahc058 import Apples
from ttd_core.plugin.hooks import Hooks
from ttd_core.run.evaluate import evaluate_action
from ttd_core.sandbox.local import LocalExecutor
from ttd_core.types import Action, State, Status, Verdict

HEAD = "#include <cstdio>\n#include <cstdlib>\n#include <cstring>\n#include <vector>\n"


def printing(text: str) -> str:
    return f'{HEAD}int main() {{ std::fputs("{text}", stdout); }}'


#: What it does, its source, the verdict, and words of the message.
FISHING = [
    ("a syntax error", "int main() { return 0 }", Status.SYNTAX_ERROR, "expected ';'"),
    (
        "a missing include",
        "int main() { std::vector<int> v; }",
        Status.SYNTAX_ERROR,
        "'vector' is not a member",
    ),
    (
        "a header that is not there",
        '#include "atcoder/all"\nint main() {}',
        Status.SYNTAX_ERROR,
        "No such file",
    ),
    ("no main", "int solve() { return 0; }", Status.SYNTAX_ERROR, ""),
    (
        "a constexpr bomb",
        "constexpr long f(long n) { long s = 0; for (long i = 0; i < n; i++) s += i % 7; return s; }\n"
        "constexpr long big = f(1L << 40);\nint main() { return big; }",
        Status.SYNTAX_ERROR,
        "constexpr",
    ),
    ("a segmentation fault", f"{HEAD}int main() {{ *(volatile int*)0 = 1; }}", Status.CRASH, "SIGSEGV"),
    ("an exit code", "int main() { return 3; }", Status.CRASH, "exited with code 3"),
    ("an abort", f"{HEAD}int main() {{ std::abort(); }}", Status.CRASH, "SIGABRT"),
    (
        "an infinite loop",
        "int main() { for (volatile int i = 0;; i = i + 1) {} }",
        Status.TIMEOUT,
        "seed 0: stopped after 2 s of processor time",
    ),
    (
        "2 GiB of memory",
        f"{HEAD}int main() {{ size_t n = 2ul << 30; char* p = (char*)std::malloc(n); "
        "if (!p) std::abort(); std::memset(p, 1, n); return p[n / 2]; }",
        (Status.MEMORY, Status.CRASH),
        "seed 0",
    ),
    (
        "1 GiB of output",
        f"{HEAD}int main() {{ std::vector<char> b(1 << 20, '1'); "
        "for (int i = 0; i < 1024; i++) std::fwrite(b.data(), 1, b.size(), stdout); }",
        Status.OUTPUT_LIMIT,
        "more than 1 MiB to standard output",
    ),
    (
        "1 GiB of error output",
        f"{HEAD}int main() {{ std::vector<char> b(1 << 20, '1'); "
        "for (int i = 0; i < 1024; i++) std::fwrite(b.data(), 1, b.size(), stderr); }",
        Status.OUTPUT_LIMIT,
        "more than 1 MiB to standard error",
    ),
    (
        "reading a file outside",
        f'{HEAD}int main() {{ std::FILE* f = std::fopen("/etc/passwd", "r"); return f ? 0 : 7; }}',
        (Status.CRASH, Status.FORBIDDEN),
        "seed 0",
    ),
    (
        "a fork",
        "#include <unistd.h>\nint main() { return fork() < 0 ? 9 : 0; }",
        (Status.CRASH, Status.FORBIDDEN),
        "seed 0",
    ),
    ("nothing printed", "int main() {}", Status.INVALID, "seed 0: nothing was printed"),
    ("no text", printing("\\xff\\xfe"), Status.INVALID, "is not an integer"),
    ("too few vertices", printing("3 0 0 1 0 1 1"), Status.INVALID, "3 vertices"),
    ("a vertex outside", printing("4 0 0 100001 0 100001 1 0 1"), Status.INVALID, "a coordinate is 100001"),
    ("no integer", printing("4 0 0 1.5 0 1.5 1 0 1"), Status.INVALID, "'1.5' is not an integer"),
    ("a token missing", printing("4 0 0 1 0 1 1 0"), Status.INVALID, "7 coordinates follow"),
    (
        "a token too many",
        printing("4 0 0 1 0 1 1 0 1 8"),
        Status.INVALID,
        "0 coordinates follow a count of 8",
    ),
    ("an edge of no length", printing("4 0 0 0 0 1 0 1 1"), Status.INVALID, "has no length"),
    ("an oblique edge", printing("4 0 0 2 1 2 2 0 2"), Status.INVALID, "not parallel"),
    ("an edge that folds back", printing("6 0 0 9 0 4 0 4 4 2 4 0 4"), Status.INVALID, "folds back"),
    ("edges that touch", printing("8 0 0 4 0 4 4 2 4 2 0 1 0 1 4 0 4"), Status.INVALID, "touch at"),
    (
        "edges too long",
        printing("8 0 0 100000 0 100000 100000 60000 100000 60000 50000 50000 50000 50000 100000 0 100000"),
        Status.INVALID,
        "500000 long",
    ),
]
APPLES = [
    ("too few turns", printing("-1\\n-1\\n"), Status.INVALID, "2 actions were printed; 500 are needed"),
    ("an unknown machine", printing("4 0\\n"), Status.INVALID, "no machine of level 4"),
    ("too many tokens", printing("0 0 0\\n"), Status.INVALID, "line 1: 3 numbers"),
    (
        "a purchase that cannot be paid",
        f'{HEAD}int main() {{ for (int i = 0; i < 500; i++) std::puts("3 9"); }}',
        Status.INVALID,
        "turn 0: level 3 kind 9 costs",
    ),
]


@pytest.fixture(scope="module")
def executor():
    with LocalExecutor() as executor:
        yield executor


def _judge(problem, source: str, executor) -> Verdict:
    return evaluate_action(Hooks(problem), State(), Action(source, "c++"), executor.run)


def _check(verdict: Verdict, expected, words: str) -> None:
    allowed = expected if isinstance(expected, tuple) else (expected,)
    assert verdict.status in allowed, verdict.message
    assert words in verdict.message.replace("‘", "'").replace("’", "'")
    assert verdict.reward is None
    assert verdict.code


@pytest.mark.parametrize(("what", "source", "expected", "words"), FISHING, ids=[row[0] for row in FISHING])
def test_fishing_refuses(what, source, expected, words, executor) -> None:
    _check(_judge(Fishing(FishingOptions(cases=3, cores=1)), source, executor), expected, words)


@pytest.mark.parametrize(("what", "source", "expected", "words"), APPLES, ids=[row[0] for row in APPLES])
def test_apples_refuses(what, source, expected, words, executor) -> None:
    _check(_judge(Apples(Apples.options_type(cases=3, cores=1)), source, executor), expected, words)


def test_a_program_that_fails_one_case_in_the_middle_fails_altogether(executor) -> None:
    problem = Fishing(FishingOptions(cases=3, cores=1))
    third = problem.case(2).text.split()[1]
    source = (
        '#include <cstdio>\nint main() { int n, x; std::scanf("%d%d", &n, &x); '
        f'if (x == {third}) return 5; std::puts("4 0 0 1 0 1 1 0 1"); }}'
    )
    verdict = _judge(problem, source, executor)
    assert verdict.status is Status.CRASH
    assert verdict.message == "seed 2: exited with code 5"
