"""How a reply and its verdict become lines of ``pending.jsonl``, and are read back: JSON, never a pickle."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from ttd_core.policy.base import Sample
from ttd_core.run.records import decode_reward
from ttd_core.run.row_encoding import encode_reward
from ttd_core.stages import Stage
from ttd_core.types import Completion, State, Status, StopReason, Verdict


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
    :raises KeyError: when a line lacks something.
    :raises TypeError: or :class:`ValueError`, when it holds something else.
    """
    completion = Completion(
        text=line["text"],
        stop=StopReason(line["stop"]),
        answer=line.get("answer", line["text"]),
        tokens=_decode_array(line["tokens"]).astype(np.int64, copy=False),
        logprobs=_decode_array(line["logprobs"]),
        trained=_decode_array(line["trained"]),
    )
    prompt_tokens = _decode_array(prompt["prompt_tokens"]).astype(np.int64, copy=False)
    return Sample(line["group"], line["index"], completion, prompt_tokens)


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

    :raises KeyError: when the line lacks something.
    :raises TypeError: or :class:`ValueError`, when it holds something else.
    """
    arrays = {digest: _decode_array(text) for digest, text in line["arrays"].items()}
    return Verdict(
        status=Status(line["status"]),
        message=line["message"],
        state=None if line["state"] is None else State.from_json(line["state"], arrays),
        reward=decode_reward(line["reward"]),
        code=line["code"],
        output=line["output"],
        seconds=line["seconds"],
        level=line["level"],
        metrics=line["metrics"],
        # Lines of older versions have none.
        stages=tuple(Stage(**stage) for stage in line.get("stages", ())),
    )


def _encode_array(array: npt.NDArray[Any]) -> list[Any]:
    """An array as JSON: its dtype, its shape and its bytes in base 64."""
    return [array.dtype.str, list(array.shape), base64.b64encode(array.tobytes()).decode()]


def _encode_tokens(tokens: npt.NDArray[np.int64]) -> list[Any]:
    """Tokens, of which models have so few that half the bytes hold them; older versions wrote all eight."""
    short = tokens.astype(np.int32)
    return _encode_array(short if np.array_equal(short, tokens) else tokens)


def _decode_array(value: Any) -> npt.NDArray[Any]:
    dtype, shape, text = value
    return np.frombuffer(base64.b64decode(text, validate=True), np.dtype(dtype)).reshape(shape).copy()
