"""What programs print and files hold, of any bytes: read rightly, or refused in a line, at a bounded cost."""

from __future__ import annotations

import gzip
import xml.etree.ElementTree

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from ttd_ahc.ahc039 import Fishing, read_polygon
from ttd_ahc.ahc058 import Apples
from ttd_ahc.apples import TURNS, read_plan
from ttd_ahc.reading import MAX_ANSWER_BYTES, integers
from ttd_core.cli import main
from ttd_core.plugin.hooks import Hooks
from ttd_core.run.evaluate import evaluate_action, evaluate_state
from ttd_core.sandbox.local import LocalExecutor
from ttd_core.testing import hostile
from ttd_core.types import Action, State, Status

SQUARE = b"4\n0 0\n100 0\n100 100\n0 100\n"
CORNERS = [[0, 0], [100, 0], [100, 100], [0, 100]]
IDLE = b"-1\n" * TURNS
CONTESTS = [Fishing, Apples]
each_contest = pytest.mark.parametrize("kind", CONTESTS, ids=lambda each: each.name)

#: Words and blanks of which outputs are made that come close to answers.
WORDS = (
    *(b"4", b"0", b"1", b"3", b"9", b"-1", b"100", b"+5", b"-0", b"007", b"100000", b"100001", b"2147483648"),
    *(b"1e5", b"1_000", b"0x1f", b"5.0", b"#", b"# 1", b"-", b"+", b"--1", b"1-1", b"\0", b"\x1a", b"nan"),
    *(b"\xef\xbb\xbf4", "٥".encode(), "\xb2".encode(), b"\xff\xfe4\0", b"\xed\xa0\xbd"),
    *(b"9" * 30, b"0" * 5000),
)
BLANKS = (
    *(b" ", b"\n", b"\r\n", b"\r", b"\t", b"\v", b"\f"),
    *(b"\x1c", b"\x1f", b"\x85", b"\xc2\xa0", b"\xe2\x80\xa8"),
)
close_outputs = st.lists(st.sampled_from(WORDS) | st.sampled_from(BLANKS), max_size=40).map(b"".join)
beginnings = st.sampled_from([b"", SQUARE, IDLE[3:], b"0 0\n" + IDLE[6:]])
whole_outputs = st.tuples(beginnings, close_outputs, st.sampled_from([b"", SQUARE, IDLE])).map(b"".join)
outputs = st.binary(max_size=300) | close_outputs | whole_outputs


def refusal(judge, *arguments) -> str:
    """The message of the one error that may be raised; empty where there is none."""
    try:
        judge(*arguments)
    except ValueError as error:
        return str(error)
    return ""


@each_contest
def test_any_bytes_are_an_answer_or_refused_in_a_line(kind) -> None:
    problem = kind(kind.options_type(cases=1))

    @given(output=outputs)
    @settings(max_examples=500, deadline=None, database=None)
    def judge(output: bytes) -> None:
        refused = refusal(problem.judge_output, 0, output)
        assert refused.isprintable()
        assert len(refused) < 300
        if not refused:
            answer, score = problem.judge_output(0, output)
            assert answer.dtype == np.int32
            assert answer.shape[1:] == (problem.width,)
            assert score >= 0

    judge()


@each_contest
def test_any_text_of_a_file_is_an_answer_or_refused_in_a_line(kind) -> None:
    problem = kind(kind.options_type(cases=1))

    @given(text=st.text(max_size=100) | outputs.map(lambda data: data.decode(errors="surrogateescape")))
    @settings(max_examples=300, deadline=None, database=None)
    def read(text: str) -> None:
        refused = refusal(problem.construct, [text])
        assert refused.isprintable()
        if refused:
            return
        state = State(data=problem.construct([text]))
        assert evaluate_state(Hooks(problem), state).status in (Status.OK, Status.INVALID)

    read()


@each_contest
def test_any_integers_are_scored_and_drawn_or_refused(kind) -> None:
    problem = kind(kind.options_type(cases=1))
    pools = st.sampled_from(
        [
            [-1, 0],
            [0, 1, 100],
            [-1, 0, 39, 40],
            [0, 100_000, 100_001],
            [2**31 - 1, -(2**31), -1, 0, 1],
            list(range(-3, 45)),
        ]
    )
    sizes = st.sampled_from([0, 1, 3, 4, 5, 8, TURNS - 1, TURNS, TURNS + 1, 1000, 1001])

    @given(pool=pools, size=sizes, seed=st.integers(0, 2**32))
    @settings(max_examples=60, deadline=None, database=None)
    def judge(pool: list[int], size: int, seed: int) -> None:
        values = np.random.default_rng(seed).choice(np.array(pool), (size, problem.width))
        answer = values.astype(np.int32)
        refused = refusal(problem.score_answer, problem.case(0), answer)
        assert refused.isprintable()
        rows = np.array([len(answer)], np.int64)
        state = State(data={"seeds": np.zeros(1, np.uint64), "rows": rows, "answers": answer})
        verdict = evaluate_state(Hooks(problem), state)
        drawn = problem.plot(state)
        assert (drawn is not None) == verdict.ok == (not refused)
        if drawn is not None:
            xml.etree.ElementTree.fromstring(drawn)

    judge()


@each_contest
def test_a_stored_state_of_any_content_is_judged_or_refused(kind) -> None:
    problem = kind(kind.options_type(cases=3))
    hooks = Hooks(problem)
    data = dict(problem.construct(problem.examples().good[0]))
    assert evaluate_state(hooks, State(data=data)).ok
    several = [
        *hostile.values(),
        *(np.array(rows, np.int64) for rows in ([-1, 1, 1], [2**62] * 3, [2**63 - 1, 1, 0], [0, 0, 0])),
        *(np.array(seeds, np.uint64) for seeds in ([0, 0, 0], [2, 1, 0], [2**64 - 1] * 3)),
        *(
            np.zeros((0, 1, 2), np.int32),
            np.zeros((2**20, 0), np.int32),
            np.full((12, 2), -(2**31), np.int32),
        ),
    ]
    for key in data:
        for value in several:
            verdict = evaluate_state(hooks, State(data={**data, key: value}))
            assert verdict.status is Status.INVALID
            assert "\n" not in verdict.message
            assert problem.plot(State(data={**data, key: value})) is None


RIGHT = [
    b"4 0 0 100 0 100 100 0 100",
    b"\r\n\t4\r\n0 0 \r\n100\t0\v100\f100\r\n0 100",
    b"4\r0 0\r100 0\r100 100\r0 100\r",
    b"+4 -0 +0 0100 00 000100 +100 0 100",
    b"4 0 0 " + b"0" * 100_000 + b"100 0 100 100 0 100",
    b"4 0 0 9 0 9 9 0 9\n" * 5000 + SQUARE,
    b" " * (MAX_ANSWER_BYTES - len(SQUARE)) + SQUARE,
]


@pytest.mark.parametrize("output", RIGHT, ids=range(len(RIGHT)))
def test_every_form_of_an_integer_that_the_contests_take_is_read(output) -> None:
    assert read_polygon(output).tolist() == CORNERS
    answer, score = Fishing().judge_output(0, output)
    assert answer.tolist() == CORNERS
    assert score >= 0


WRONG = [
    *((b"1e2", "1e2"), (b"1_00", "1_00"), (b"0x64", "0x64"), (b"100.", "100."), (b"1,", "1,")),
    *((b"+", r"\+"), (b"-", "-"), (b"+-1", r"\+-1"), (b"1+", r"1\+"), (b"nan", "nan"), (b"\0", r"\\x00")),
    *((b"1\x1c0", r"1\\x1c0"), (b"1\xc2\xa00", r"1\\xa00"), (b"\xef\xbb\xbf1", r"\\ufeff1")),
    *((b"1\x1a", r"1\\x1a"), (b"\xff", "\ufffd"), ("٥".encode(), "٥"), ("\uff11".encode(), "\uff11")),
    *((b"\xed\xa0\xbd", "\ufffd"), (b"9" * 19, "it has 19 digits")),
    (b"-" + b"9" * 1_000_000, "it has 1000000 digits"),
]


@pytest.mark.parametrize(("word", "message"), WRONG, ids=range(len(WRONG)))
def test_every_other_form_is_quoted(word, message, cpu_clock) -> None:
    started = cpu_clock()
    with pytest.raises(ValueError, match=message):
        Fishing().judge_output(0, b"4 0 0 " + word + b" 0 100 100 0 100")
    with pytest.raises(ValueError, match=message):
        Apples().judge_output(0, b"0 " + word + b"\n" + IDLE)
    assert cpu_clock() - started < 2.0


@given(number=st.integers(-(10**18) + 1, 10**18 - 1), zeros=st.integers(0, 30))
def test_a_number_is_what_it_says(number, zeros) -> None:
    sign = b"-" if number < 0 else b"+" if zeros % 2 else b""
    assert integers([sign + b"0" * zeros + str(abs(number)).encode()]) == [number]


UNITS = (
    *(b"4 0 0 1 0 1 1 0 1 ", b"1 ", b"0", b"9", b"\n", b" \n", b"-1 ", b"-1\n", b"#\n", b"1 " * 500 + b"\n"),
    *(b"\0", b"1-", b"x ", b"\xff", b"\xc2\xa0"),
)
LONGEST = [
    *(unit * (MAX_ANSWER_BYTES // len(unit)) for unit in UNITS),
    b"1 " * (MAX_ANSWER_BYTES // 2 - 1) + b"x",
    b"0 " * (MAX_ANSWER_BYTES // 2 - 20) + b"0" * 30,
]


@each_contest
@pytest.mark.parametrize("output", LONGEST, ids=range(len(LONGEST)))
def test_the_longest_output_costs_little(kind, output, cpu_clock) -> None:
    problem = kind()
    problem.case(0)
    assert len(output) <= MAX_ANSWER_BYTES
    started = cpu_clock()
    refusal(problem.judge_output, 0, output)
    assert cpu_clock() - started < 1.5


@each_contest
def test_a_longer_output_is_not_read(kind) -> None:
    problem = kind(kind.options_type(cases=1))
    with pytest.raises(ValueError, match=r"the answer is 1048577 bytes; at most 1048576 are read"):
        problem.judge_output(0, b" " * (MAX_ANSWER_BYTES + 1))
    with pytest.raises(ValueError, match=r"seed 0: the answer is 2097152 bytes"):
        problem.construct(["\xa0" * MAX_ANSWER_BYTES])


def test_a_plan_ends_with_its_last_turn_whatever_follows() -> None:
    for rest in (b"", b"\xff\xfe\0", b"\xc2\xa0", b"9" * 10_000, b"0 0 0"):
        assert read_plan(IDLE + rest).tolist() == [[-1]] * TURNS
    assert read_plan(b"# \xff\xfe \xc2\xa0\0\n" + IDLE[:-1]).tolist() == [[-1]] * TURNS
    with pytest.raises(ValueError, match=r"^line 3: '\\ufeff-1' is not an integer"):
        read_plan(b"\n\n\xef\xbb\xbf-1\n" + IDLE)


@pytest.fixture(scope="module")
def executor():
    with LocalExecutor() as executor:
        yield executor


NO_BLANKS = (b"\x1c", b"\x1f", b"\x85", b"\xc2\xa0", b"\xe2\x80\xa8", b"\x1a", b"\0")


@pytest.mark.parametrize("blank", NO_BLANKS, ids=repr)
def test_a_blank_that_is_none_costs_one_rollout(blank, executor) -> None:
    hooks = Hooks(Fishing(Fishing.options_type(cases=1)))
    for printed in (SQUARE + blank, SQUARE.replace(b"0 0", b"0" + blank + b"0")):
        code = (
            f"#include <cstdio>\nunsigned char printed[] = {{{', '.join(map(str, printed))}}};\n"
            "int main() { std::fwrite(printed, 1, sizeof printed, stdout); }"
        )
        verdict = evaluate_action(hooks, State(), Action(code, "c++"), executor.run)
        assert verdict.status is Status.INVALID, verdict.message
        assert "is not an integer" in verdict.message


def test_an_answer_packed_by_gzip_is_read(tmp_path) -> None:
    path = tmp_path / "answer.out.gz"
    path.write_bytes(gzip.compress(SQUARE))
    state = Fishing(Fishing.options_type(cases=1)).read_construction(path)
    assert state.data["answers"].tolist() == CORNERS


def _eval(path, *options: str):
    arguments = ["eval", "ahc039", str(path), "--cases", "1", *options]
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


READ = {
    "plain.out": SQUARE,
    "bom.out": b"\xef\xbb\xbf" + SQUARE,
    "utf16.txt": SQUARE.decode().encode("utf-16"),
    "crlf.out": SQUARE.replace(b"\n", b"\r\n"),
    "cr.OUT": SQUARE.replace(b"\n", b"\r"),
    "no_newline.txt": SQUARE[:-1],
    "packed.out": gzip.compress(SQUARE),
}
REFUSED = {
    "ctrl_z.out": (SQUARE + b"\x1a", r"'\x1a' is not an integer"),
    "nbsp.out": (SQUARE.replace(b" ", b"\xc2\xa0"), r"'0\xa00' is not an integer"),
    "arabic.out": ("٤ ٠ ٠".encode(), "is not an integer"),
    "latin1.out": (b"4\n0\xa00", "not a text file"),
    "empty.out": (b"", "nothing was printed"),
    "binary.out": (b"\0\0\0\0", "not a text file"),
    "cut.out": (gzip.compress(SQUARE)[:-9], "damaged gzip file"),
    "huge.out": (b" " * (MAX_ANSWER_BYTES + 1), "at most 1048576 are read"),
    "digits.out": (b"4" * 100_000, "it has 100000 digits"),
}


@pytest.mark.parametrize("name", READ)
def test_an_answer_is_read_whatever_editor_saved_it(name, tmp_path) -> None:
    (tmp_path / name).write_bytes(READ[name])
    result = _eval(tmp_path / name)
    assert result.exit_code == 0, result.output
    assert "ahc039: valid" in result.stdout


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_answer_is_refused_in_a_line(name, tmp_path) -> None:
    data, message = REFUSED[name]
    (tmp_path / name).write_bytes(data)
    result = _eval(tmp_path / name)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(("first", "cases"), [(2**64 - 1, 2), (2**64, 1), (-1, 1), (10**30, 150)])
def test_seeds_beyond_the_last_one_are_refused_in_a_line(first, cases, tmp_path) -> None:
    (tmp_path / "plain.out").write_bytes(SQUARE)
    result = _eval(tmp_path / "plain.out", "--first-seed", str(first), "--cases", str(cases))
    assert result.exit_code == 2
    assert "'first_seed' must be at least 0" in result.stderr
    assert result.stderr.count("\n") == 1
