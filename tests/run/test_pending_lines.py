"""What a reply takes in the file of the step under way, and that older lines are read."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest

from ttd_core.policy.base import Sample
from ttd_core.run.pending_lines import (
    UNREADABLE,
    parsed,
    prompt_line,
    read_sample,
    read_verdict,
    reply_line,
    verdict_line,
)
from ttd_core.run.row_encoding import exact_json
from ttd_core.types import Completion, Reward, State, Status, StopReason, Verdict


def sample(length: int, answer: str | None = None, largest: int = 150_000) -> Sample:
    rng = np.random.default_rng(0)
    text = "abcd" * length
    completion = Completion(
        *(text, rng.integers(0, largest, length), rng.normal(size=length).astype(np.float32)),
        np.arange(length) > 0,
        StopReason.LENGTH,
        **({} if answer is None else {"answer": answer}),
    )
    return Sample(1, 3, completion, rng.integers(0, largest, 50))


def read_again(of: Sample, change: Any = None) -> Sample:
    lines = [json.loads(exact_json(each)) for each in (reply_line("key", of), prompt_line("key", of))]
    for line in lines:
        if change is not None:
            change(line)
    return read_sample(*(parsed(json.dumps(line).encode()) for line in lines))


def as_older_versions_wrote(line: dict[str, Any]) -> None:
    """Tokens of eight bytes, and the answer in any case."""
    for name in {"tokens", "prompt_tokens"} & line.keys():
        older = sample(5)
        array = older.completion.tokens if name == "tokens" else older.prompt_tokens
        line[name] = ["<i8", list(array.shape), base64.b64encode(array.tobytes()).decode()]
    if "text" in line:
        line.setdefault("answer", line["text"])


@pytest.mark.parametrize("answer", [None, "", "the end"])
@pytest.mark.parametrize("largest", [2**31, 2**40])
@pytest.mark.parametrize("change", [None, as_older_versions_wrote])
def test_a_reply_comes_back_as_it_was(answer: str | None, largest: int, change: Any) -> None:
    of = sample(5, answer, 150_000 if change else largest)
    again = read_again(of, change)
    assert (again.prompt, again.index) == (1, 3)
    first, second = of.completion, again.completion
    assert (second.text, second.answer, second.stop) == (first.text, first.answer, first.stop)
    pairs = [(getattr(first, name), getattr(second, name)) for name in ("tokens", "logprobs", "trained")]
    for one, other in [*pairs, (of.prompt_tokens, again.prompt_tokens)]:
        assert (one.dtype, one.tobytes()) == (other.dtype, other.tobytes())


@pytest.mark.parametrize(
    "value", [None, 5, -1, "x", "", [], {}, [1], True, ["<i4", [2, 2], "AAAA"], float("nan")]
)
@pytest.mark.parametrize(
    "name", [*("text", "stop", "answer", "tokens", "logprobs", "trained", "group", "index"), "prompt_tokens"]
)
def test_a_reply_of_other_values_is_refused_or_one(name: str, value: Any) -> None:
    of = sample(2)

    def put(line: dict[str, Any]) -> None:
        if name in line or (name == "answer" and "text" in line):
            line[name] = value

    try:
        again = read_again(of, put)
    except UNREADABLE:
        return
    # What is read is of the kinds that a reply is of.
    assert type(value) is {"text": str, "answer": str}.get(name, int)
    assert {type(again.completion.text), type(again.completion.answer)} == {str}


@pytest.mark.parametrize("value", [None, 5, "x", "", [], {}, [1], True, {"a": ["O", [1], ""]}, float("nan")])
@pytest.mark.parametrize(
    "name",
    [
        *("status", "message", "state", "arrays", "reward", "code", "output", "seconds", "level", "metrics"),
        "stages",
    ],
)
def test_a_verdict_of_other_values_is_refused_or_one(name: str, value: Any) -> None:
    state = State("code", {"numbers": np.array([1.5])}, "said")
    of = Verdict(Status.OK, "", state, Reward(1.0, 2.0), "code", "said", 0.5, "strong")
    line = json.loads(exact_json(verdict_line("key", (0, 1), of)))
    assert read_verdict(line) == of
    try:
        again = read_verdict({**line, name: value})
    except UNREADABLE:
        return
    kinds = {"seconds": (int,), "metrics": (dict,), "stages": (list, dict, str), "arrays": (dict,)}
    assert type(value) in kinds.get(name, (str,))
    assert (type(again.seconds), type(again.metrics), type(again.stages)) == (float, dict, tuple)


@pytest.mark.parametrize("dtype", ["|O", "O", "f8,f8", "(2,)f8", "f8,(", {"names": ["a"]}, 7])
def test_arrays_of_other_dtypes_are_refused(dtype: Any) -> None:
    with pytest.raises(UNREADABLE):
        read_again(sample(2), lambda line: line.update(tokens=[dtype, [0], ""]))


def test_the_answer_is_not_written_twice_and_tokens_in_half_the_bytes() -> None:
    of = sample(8000)
    size = len(exact_json(reply_line("k" * 64, of)))
    # Text of 4 bytes a token, and in base 64 log-probabilities, tokens and which are trained.
    assert size < 8000 * (4 + (4 + 4 + 1) * 4 / 3) + 500
