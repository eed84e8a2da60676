"""The stream and the base model: Python's own documentation, and a table of byte pairs.

The text is the part of Python's reference that ships as ``pydoc_data.topics``. It differs a little from one
version of Python to the next, so scores compare within one version.
"""

from __future__ import annotations

import functools
import importlib
import math

import numpy as np
import numpy.typing as npt

from ttd_core import EnvironmentLacksError

#: Bytes that the base model is trained on; the stream begins right after them.
TRAINED = 200_000

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


@functools.cache
def documentation() -> bytes:
    """The topics of Python's reference, in alphabetical order.

    :raises EnvironmentLacksError: when this Python comes without them.
    """
    try:
        topics = importlib.import_module("pydoc_data.topics").topics
    except ImportError as error:
        raise EnvironmentLacksError(
            "this Python has no pydoc_data.topics, the text of ngram-eval; install its whole standard library"
        ) from error
    return "\n".join(topics[name] for name in sorted(topics)).encode("ascii", "replace")


def stream(lanes: int, length: int) -> Bytes:
    """Consecutive pieces of the text, one a lane.

    :return: uint8 [lanes, length].
    :raises EnvironmentLacksError: when the text is not that long.
    """
    text = documentation()[TRAINED : TRAINED + lanes * length]
    if len(text) < lanes * length:
        raise EnvironmentLacksError(
            f"the text has {len(text)} bytes after the first {TRAINED}; lanes * length = {lanes * length}"
        )
    return np.frombuffer(text, np.uint8).reshape(lanes, length)


@functools.cache
def base_table() -> Floats:
    """Probability of each byte after each byte; row 256 is for the start of a lane.

    Pair counts, interpolated with single counts, and those with the uniform distribution, each in the measure
    in which a context was seen with few different bytes (Witten and Bell 1991, method C).

    :return: float64 [257, 256], every entry positive, rows sum to 1.
    """
    text = np.frombuffer(documentation()[:TRAINED], np.uint8)
    single = _interpolated(np.bincount(text, minlength=256)[None, :], np.full((1, 256), 1 / 256))
    pairs = np.bincount(text[:-1].astype(np.int64) * 256 + text[1:], minlength=256 * 256)
    return np.concatenate([_interpolated(pairs.reshape(256, 256), single), single])


def base_probabilities(scored: Bytes) -> Floats:
    """What the base model says of each lane's next byte, from the bytes scored so far.

    :param scored: uint8 [lanes, step].
    :return: float64 [lanes, 256].
    """
    lanes, step = scored.shape
    last = scored[:, -1].astype(np.int64) if step else np.full(lanes, 256)
    table: Floats = base_table()[last]
    return table


def base_bits_per_byte(text: Bytes) -> float:
    """Bits per byte of the base model alone.

    :param text: uint8 [lanes, length].
    """
    lanes, length = text.shape
    bits = [
        -np.log2(base_probabilities(text[:, :step])[np.arange(lanes), text[:, step]]).sum()
        for step in range(length)
    ]
    return math.fsum(bits) / text.size


def _interpolated(counts: npt.NDArray[np.int64], lower: Floats) -> Floats:
    total = counts.sum(axis=1, keepdims=True)
    kinds = np.maximum((counts > 0).sum(axis=1, keepdims=True), 1)
    probabilities: Floats = (counts + kinds * lower) / (total + kinds)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return probabilities
