"""How a reply and its verdict become lines of ``pending.jsonl``, and are read back: JSON, never a pickle."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import attrs
import numpy as np
import numpy.typing as npt

from ttd_core.policy.base import Sample
from ttd_core.run.records import decode_reward
from ttd_core.run.row_encoding import encode_reward
from ttd_core.stages import Stage
from ttd_core.types import Completion, State, Status, StopReason, Verdict

T = TypeVar("T")

_DTYPE = re.compile(r"[<>|=][a-zA-Z][0-9]{1,9}(\[[0-9a-zA-Z]{1,9}\])?")
#: What reading a line may raise that holds something else than this module wrote.
UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)


def parsed(line: bytes) -> dict[str, Any]:
    """A line of the file; empty for one that is torn or damaged."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def prompt_line(key: str, sample: Sample) -> dict[str, Any]:
    """The prompt of a group, of which each reply has the same.

    :param key: of the prompt.
    :param sample: any of its replies.
    """
    return {"group": sample.prompt, "key": key, "prompt_tokens": _encode_tokens(sample.prompt_tokens)}


def reply_line(key: str, sample: Sample) -> dict[str, Any]:
    """A reply.

    :param key: of its prompt.
    """
    completion = sample.completion
    return {
        "group": sample.prompt,
        "index": sample.index,
        "key": key,
        "text": completion.text,
        # Most often all of the text is the answer: not written a second time.
        **({} if completion.answer == completion.text else {"answer": completion.answer}),
        "stop": completion.stop.value,
        "tokens": _encode_tokens(completion.tokens),
        "logprobs": _encode_array(completion.logprobs),
        "trained": _encode_array(completion.trained),
    }


def read_sample(line: Mapping[str, Any], prompt: Mapping[str, Any]) -> Sample:
    """Inverse of :func:`reply_line`.

    :param prompt: the line of its prompt.
    :raises Exception: one of :data:`UNREADABLE`, when a line lacks something or holds something else.
    """
    completion = Completion(
        text=_of(line["text"], str),
        stop=StopReason(line["stop"]),
        answer=_of(line.get("answer", line["text"]), str),
        tokens=_decode_row(line["tokens"], "i").astype(np.int64, copy=False),
        logprobs=_decode_row(line["logprobs"], "f"),
        trained=_decode_row(line["trained"], "b"),
    )
    prompt_tokens = _decode_row(prompt["prompt_tokens"], "i").astype(np.int64, copy=False)
    return Sample(_of(line["group"], int), _of(line["index"], int), completion, prompt_tokens)


def verdict_line(key: str, rollout: tuple[int, int], verdict: Verdict) -> dict[str, Any]:
    """A verdict.

    :param key: of the prompt.
    :param rollout: index of its group, and in that group.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    state = None if verdict.state is None else verdict.state.to_json(arrays)
    return {
        "group": rollout[0],
        "index": rollout[1],
        "key": key,
        "status": verdict.status.value,
        "message": verdict.message,
        "state": state,
        "arrays": {digest: _encode_array(array) for digest, array in arrays.items()},
        "reward": encode_reward(verdict.reward),
        "code": verdict.code,
        "output": verdict.output,
        "seconds": verdict.seconds,
        "level": verdict.level,
        "metrics": verdict.metrics,
        "stages": [attrs.asdict(stage) for stage in verdict.stages],
    }


def read_verdict(line: Mapping[str, Any]) -> Verdict:
    """Inverse of :func:`verdict_line`.

    :raises Exception: one of :data:`UNREADABLE`, when the line lacks something or holds something else.
    """
    arrays = {digest: _decode_array(text) for digest, text in line["arrays"].items()}
    reward = decode_reward(line["reward"])
    if reward is not None:
        _of(reward.metrics, dict)
    return Verdict(
        status=Status(line["status"]),
        message=_of(line["message"], str),
        state=None if line["state"] is None else _read_state(line["state"], arrays),
        reward=reward,
        code=_of(line["code"], str),
        output=_of(line["output"], str),
        seconds=finite_number(line["seconds"]),
        level=_of(line["level"], str),
        metrics=_of(line["metrics"], dict),
        # Lines of older versions have none.
        stages=tuple(map(_read_stage, line.get("stages", ()))),
    )


def _read_state(value: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> State:
    for name, kind in (("code", str), ("output", str), ("data", dict)):
        _of(value[name], kind)
    return State.from_json(value, arrays)


def _read_stage(value: Mapping[str, Any]) -> Stage:
    stage = Stage(**value)
    for number in (stage.share, stage.budget_s, stage.seconds):
        finite_number(number)
    for told in (stage.value, stage.score):
        if told is not None:
            finite_number(told)
    return attrs.evolve(stage, status=Status(stage.status).value)


def _of(value: Any, kind: type[T]) -> T:
    """The value, which must be of that type and no other."""
    if type(value) is not kind:
        raise TypeError(f"{value!r:.40} is no {kind.__name__}")
    return value


def finite_number(value: Any) -> float:
    """The value, which must be a finite number.

    :raises TypeError: when it is none.
    """
    if type(value) not in (int, float) or not math.isfinite(value):
        raise TypeError(f"{value!r:.40} is no finite number")
    return float(value)


def _encode_array(array: npt.NDArray[Any]) -> list[Any]:
    """An array as JSON: its dtype, its shape and its bytes in base 64."""
    return [array.dtype.str, list(array.shape), base64.b64encode(array.tobytes()).decode()]


def _encode_tokens(tokens: npt.NDArray[np.int64]) -> list[Any]:
    """Tokens, of which models have so few that half the bytes hold them; older versions wrote all eight."""
    short = tokens.astype(np.int32)
    return _encode_array(short if np.array_equal(short, tokens) else tokens)


def _decode_array(value: Any) -> npt.NDArray[Any]:
    dtype, shape, text = value
    # A dtype of one kind of value, as the writer has it: of others numpy evaluates what is written.
    if not _DTYPE.fullmatch(dtype):
        raise ValueError(f"{dtype!r:.40} is no dtype of an array of ours")
    return np.frombuffer(base64.b64decode(text, validate=True), np.dtype(dtype)).reshape(shape).copy()


def _decode_row(value: Any, kind: str) -> npt.NDArray[Any]:
    """An array of one axis.

    :param kind: of its dtype, as numpy has it.
    """
    row = _decode_array(value)
    if row.ndim != 1 or row.dtype.kind != kind:
        raise ValueError(f"{row.dtype.str} {list(row.shape)} is no row of tokens")
    return row
