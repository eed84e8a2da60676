"""`ngram-eval`: the contract, causality, honest scores, every cheat refused."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from ttd_golf import text
from ttd_golf.problem import CHEATS, ONLY_BASE, GolfOptions, NgramEval, bits_of, read_answer

from ttd_core import Action, JobResult, PythonJob, State, Status, Verdict
from ttd_core.sandbox.local import LocalExecutor
from ttd_core.testing.contract import ProblemContract

SMALL = {"lanes": 128, "length": 16}


class TestNgramEval(ProblemContract):
    problem = NgramEval
    options = SMALL


@pytest.fixture(scope="module")
def executor() -> Iterator[LocalExecutor]:
    with LocalExecutor(workers=1) as executor:
        yield executor


@pytest.fixture
def problem() -> NgramEval:
    return NgramEval(GolfOptions(**SMALL, timeout_s=60.0))


def run(problem: NgramEval, executor: LocalExecutor, program: str) -> State | Verdict:
    return problem.transition(State(), Action(program), executor.run)


def test_the_starting_program_beats_the_base_model(problem, executor) -> None:
    state = run(problem, executor, problem.starting_program())
    assert isinstance(state, State), state
    started = problem.reward(state)
    assert started.score < problem.base_alone - 0.03
    assert started.value == pytest.approx(1 / started.score)
    alone = run(problem, executor, ONLY_BASE)
    assert isinstance(alone, State)
    assert problem.reward(alone).score == pytest.approx(problem.base_alone, rel=1e-12)


@pytest.mark.parametrize(
    ("cheat", "status", "message"),
    [
        ("finds the text among Python's own files", Status.FORBIDDEN, "block 1: programs open no files"),
        ("reads the next column", Status.CRASH, "block 1: IndexError"),
        ("is sure of every byte", Status.INVALID, "block 1: probabilities of a lane sum to 1 + 255"),
        ("reports a score of its own", Status.INVALID, "block 1: probabilities must be an array"),
    ],
)
def test_cheats_are_refused(problem, executor, cheat, status, message) -> None:
    verdict = run(problem, executor, CHEATS[cheat])
    assert isinstance(verdict, Verdict)
    assert (verdict.status, verdict.message.startswith(message)) == (status, True), verdict.message


def test_the_cheat_that_looks_the_text_up_would_win_if_it_could(problem) -> None:
    """The refusal above is not for want of a cheat that works."""
    namespace: dict = {}
    whole = NgramEval(GolfOptions(lanes=4, length=256))
    exec(CHEATS["finds the text among Python's own files"], namespace)
    seen = whole.text[:, :10]
    rows, _ = namespace["predict"](None, seen, text.base_probabilities(seen))
    assert bits_of(rows, whole.text[:, 10]) < 0.001


@pytest.mark.parametrize(
    "way",
    [
        "open('/proc/self/maps')",
        "np.fromfile('/etc/hostname', np.uint8)",
        "__import__('os').listdir('/')",
        "__import__('importlib').import_module('pydoc_data.topics')",
        "__import__('os').memfd_create('x')",
        "__import__('resource').setrlimit(7, (64, 64))",
    ],
)
def test_no_file_is_opened_in_any_way(problem, executor, way) -> None:
    program = f"import numpy as np\ndef predict(memory, seen, base):\n    {way}\n    return base, None\n"
    verdict = run(problem, executor, program)
    assert isinstance(verdict, Verdict)
    assert verdict.status in (Status.FORBIDDEN, Status.CRASH)


class Recorder:
    """Runs nothing: answers with the base probabilities and keeps the jobs."""

    def __init__(self) -> None:
        self.jobs: list[PythonJob] = []

    def __call__(self, job: PythonJob) -> JobResult:
        self.jobs.append(job)
        return JobResult(Status.OK, value=[job.args[2], {"step": len(self.jobs)}])


def test_no_job_depends_on_a_byte_that_is_not_scored_yet() -> None:
    """Two texts that agree up to block 20 and nowhere after: the jobs for blocks 1 to 21 are the same."""
    rng = np.random.default_rng(0)
    jobs = []
    for _ in range(2):
        problem = NgramEval(GolfOptions(lanes=16, length=40))
        other = problem.text.copy()
        other[:, 20:] = rng.integers(0, 256, other[:, 20:].shape)
        problem.__dict__["text"] = other
        recorder = Recorder()
        problem.transition(State(), Action(ONLY_BASE), recorder)
        jobs.append(recorder.jobs)
    assert len(jobs[0]) == len(jobs[1]) == 40
    for block, (one, two) in enumerate(zip(*jobs, strict=True), start=1):
        same = _content(one) == _content(two)
        assert same == (block <= 21), block


def _content(job: PythonJob) -> tuple:
    memory, seen, base = job.args
    return (
        job.source,
        job.helpers,
        repr(memory),
        seen.shape,
        seen.tobytes(),
        base.tobytes(),
        repr(job.inject),
    )


def test_memory_is_all_that_passes_from_block_to_block(problem, executor) -> None:
    program = """
calls = 0
def predict(memory, seen, base):
    global calls
    calls += 1
    assert calls == 1
    assert memory is None if seen.shape[1] == 0 else memory == seen.shape[1] - 1
    return base, seen.shape[1]
"""
    assert isinstance(run(problem, executor, program), State)


@pytest.mark.parametrize("depth", [15, 16, 17, 29, 31, 200])
def test_a_deep_memory_is_refused_before_it_would_break_the_next_job(problem, executor, depth) -> None:
    program = f"""
def predict(memory, seen, base):
    memory = 0
    for _ in range({depth}):
        memory = [memory]
    return base, memory
"""
    outcome = run(problem, executor, program)
    assert isinstance(outcome, State) == (depth <= 16)
    if isinstance(outcome, Verdict):
        assert outcome.status is Status.INVALID
        assert "deeper than" in outcome.message


def test_a_long_program_is_refused(problem, executor) -> None:
    verdict = run(problem, executor, ONLY_BASE + "#" * 8000)
    assert isinstance(verdict, Verdict)
    assert "8000 are allowed" in verdict.message


def test_time_is_counted_over_all_blocks(executor) -> None:
    problem = NgramEval(GolfOptions(lanes=4, length=16, timeout_s=1.0))
    slow = "import time\ndef predict(memory, seen, base):\n    time.sleep(0.2)\n    return base, None\n"
    verdict = run(problem, executor, slow)
    assert isinstance(verdict, Verdict)
    assert verdict.status is Status.TIMEOUT


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "must return"),
        ([1], "must return"),
        ([np.full((2, 255), 1 / 255), None], "array of floats"),
        ([np.ones((2, 256), np.int64), None], "array of floats"),
        ([np.full((2, 256), np.nan), None], "finite"),
        ([np.eye(2, 256) * 2 - np.eye(2, 256, 1), None], "not negative"),
        ([np.full((2, 256), 1 / 256 + 1e-8), None], r"sum to 1 \+ 2.56e-06"),
        ([np.full((2, 256), 0.9 / 256), None], r"sum to 1 - 0.1"),
    ],
)
def test_answers_that_break_a_rule(value, message) -> None:
    with pytest.raises(ValueError, match=message):
        read_answer(value, 2)


def test_a_sum_within_the_tolerance_gains_nothing() -> None:
    given = np.full((2, 256), (1 + 9e-7) / 256)
    probabilities, memory = read_answer([given, "kept"], 2)
    assert memory == "kept"
    assert bits_of(probabilities, np.array([0, 255], np.uint8)) == pytest.approx(16.0, rel=1e-14)


def test_bits_of_a_block() -> None:
    probabilities = np.zeros((2, 256))
    probabilities[0, 7], probabilities[1, 9] = 0.5, 0.25
    assert bits_of(probabilities, np.array([7, 9], np.uint8)) == 3.0
    with pytest.raises(ValueError, match="probability 0 came"):
        bits_of(probabilities, np.array([7, 7], np.uint8))


def test_the_base_model_is_a_distribution_and_knows_the_counts() -> None:
    table = text.base_table()
    assert table.shape == (257, 256)
    assert (table > 0).all()
    assert np.allclose(table.sum(axis=1), 1.0, rtol=1e-12)
    trained = text.documentation()[: text.TRAINED]
    # Worked out from the counts by hand for one context: "q", nearly always followed by "u".
    after = [trained[at + 1] for at in range(len(trained) - 1) if trained[at] == ord("q")]
    kinds, total = len(set(after)), len(after)
    singles = (trained.count(b"u") + len(set(trained)) / 256) / (len(trained) + len(set(trained)))
    expected = (after.count(ord("u")) + kinds * singles) / (total + kinds)
    assert table[ord("q"), ord("u")] == pytest.approx(expected, rel=1e-9)


def test_the_score_of_the_base_model_adds_up() -> None:
    lanes = text.stream(8, 16)
    table = text.base_table()
    bits = sum(
        -math.log2(table[lane[step - 1] if step else 256, lane[step]]) for lane in lanes for step in range(16)
    )
    assert text.base_bits_per_byte(lanes) == pytest.approx(bits / 128, rel=1e-12)
