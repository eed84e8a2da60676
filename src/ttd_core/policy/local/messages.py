"""Messages between the processes of one policy: JSON and arrays, never code.

On the socket a message is two lengths, a JSON header and a safetensors body, so reading one runs nothing and
what arrives has the dtype and shape that was sent.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
from safetensors.numpy import load, save

from ttd_core.policy.base import Sample, Sequences
from ttd_core.types import Completion, StopReason

Arrays = dict[str, npt.NDArray[Any]]
_LENGTHS = struct.Struct("!QQ")


@attrs.frozen(eq=False)
class RankMessage:
    """One message between rank 0 and another rank.

    :param kind: what is asked or answered; see :mod:`.worker`.
    :param header: anything JSON holds.
    :param arrays: NumPy arrays by name.
    """

    kind: str
    header: Any = None
    arrays: Arrays = attrs.field(factory=dict)


def send(channel: socket.socket, message: RankMessage) -> None:
    """Write one message.

    :raises OSError: when the other side is gone.
    """
    header = json.dumps([message.kind, message.header]).encode()
    body = save({name: np.ascontiguousarray(array) for name, array in message.arrays.items()})
    channel.sendall(_LENGTHS.pack(len(header), len(body)) + header + body)


def receive(channel: socket.socket) -> RankMessage | None:
    """Read one message; ``None`` when the other side is gone."""
    lengths = _read(channel, _LENGTHS.size)
    if lengths is None:
        return None
    header_length, body_length = _LENGTHS.unpack(lengths)
    header, body = _read(channel, header_length), _read(channel, body_length)
    if header is None or body is None:
        return None
    kind, value = json.loads(header)
    return RankMessage(kind, value, load(body))


def _read(channel: socket.socket, count: int) -> bytes | None:
    data = bytearray()
    while len(data) < count:
        piece = channel.recv(min(count - len(data), 1 << 20))
        if not piece:
            return None
        data += piece
    return bytes(data)


def encode_completions(completions: Sequence[Completion]) -> tuple[list[dict[str, str]], Arrays]:
    """Completions as JSON and arrays."""
    arrays: Arrays = {}
    texts = []
    for index, completion in enumerate(completions):
        texts.append({"text": completion.text, "stop": completion.stop.value, "answer": completion.answer})
        for name in ("tokens", "logprobs", "trained"):
            arrays[f"{index}.{name}"] = getattr(completion, name)
    return texts, arrays


def decode_completions(texts: Sequence[Mapping[str, str]], arrays: Arrays) -> list[Completion]:
    """Inverse of :func:`encode_completions`."""
    return [
        Completion(
            text=entry["text"],
            tokens=arrays[f"{index}.tokens"],
            logprobs=arrays[f"{index}.logprobs"],
            trained=arrays[f"{index}.trained"],
            stop=StopReason(entry["stop"]),
            answer=entry["answer"],
        )
        for index, entry in enumerate(texts)
    ]


def sample_message(sample: Sample) -> RankMessage:
    """One reply on its way back."""
    texts, arrays = encode_completions([sample.completion])
    header = {"prompt": sample.prompt, "index": sample.index, "texts": texts}
    return RankMessage("sample", header, arrays | {"prompt": sample.prompt_tokens})


def read_sample(message: RankMessage) -> Sample:
    """Inverse of :func:`sample_message`."""
    completion = decode_completions(message.header["texts"], message.arrays)[0]
    return Sample(message.header["prompt"], message.header["index"], completion, message.arrays["prompt"])


def batch_message(batch: Sequence[Sequences], temperature: float) -> RankMessage:
    """What a rank shall accumulate gradients of."""
    groups, arrays = [], Arrays()
    for number, group in enumerate(batch):
        texts, group_arrays = encode_completions(group.completions)
        group_arrays |= {"prompt": group.prompt_tokens}
        group_arrays |= {f"{index}.advantages": value for index, value in enumerate(group.advantages)}
        groups.append(texts)
        arrays |= {f"{number}/{name}": array for name, array in group_arrays.items()}
    recompute = any(group.recomputed is not None for group in batch)
    header = {"groups": groups, "temperature": temperature, "recompute": recompute}
    return RankMessage("accumulate", header, arrays)


def read_batch(message: RankMessage) -> tuple[list[Sequences], float]:
    """Inverse of :func:`batch_message`."""
    batch = []
    for number, texts in enumerate(message.header["groups"]):
        prefix = f"{number}/"
        arrays = {n.removeprefix(prefix): a for n, a in message.arrays.items() if n.startswith(prefix)}
        advantages = [arrays[f"{index}.advantages"] for index in range(len(texts))]
        unknown = [np.full(len(each), np.nan, np.float32) for each in advantages]
        recomputed = unknown if message.header["recompute"] else None
        completions = decode_completions(texts, arrays)
        batch.append(Sequences(arrays["prompt"], completions, advantages, recomputed))
    return batch, message.header["temperature"]


def recomputed_arrays(batch: Sequence[Sequences]) -> Arrays:
    """The log-probabilities that a rank recomputed, on their way back."""
    return {
        f"{number}/{index}": array
        for number, group in enumerate(batch)
        for index, array in enumerate(group.recomputed or ())
    }


def fill_recomputed(batch: Sequence[Sequences], arrays: Arrays) -> None:
    """Inverse of :func:`recomputed_arrays`, into the batch that the rank was sent."""
    for name, array in recomputed_arrays(batch).items():
        array[:] = arrays[name]
