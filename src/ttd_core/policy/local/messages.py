"""Messages between the processes of one policy: JSON and arrays, never code.

A frame is two lengths, a JSON header and a safetensors body, so reading one runs nothing and what arrives has
the dtype and shape that was sent.
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
class Frame:
    """One message.

    :param kind: what it is.
    :param header: anything JSON holds.
    """

    kind: str
    header: Any = None
    arrays: Arrays = attrs.field(factory=dict)


def send(channel: socket.socket, frame: Frame) -> None:
    """Write one frame.

    :raises OSError: when the other side is gone.
    """
    header = json.dumps([frame.kind, frame.header]).encode()
    body = save({name: np.ascontiguousarray(array) for name, array in frame.arrays.items()})
    channel.sendall(_LENGTHS.pack(len(header), len(body)) + header + body)


def receive(channel: socket.socket) -> Frame | None:
    """Read one frame; ``None`` when the other side is gone."""
    lengths = _read(channel, _LENGTHS.size)
    if lengths is None:
        return None
    first, second = _LENGTHS.unpack(lengths)
    header, body = _read(channel, first), _read(channel, second)
    if header is None or body is None:
        return None
    kind, value = json.loads(header)
    return Frame(kind, value, load(body))


def _read(channel: socket.socket, count: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < count:
        part = channel.recv(min(count - len(parts), 1 << 20))
        if not part:
            return None
        parts += part
    return bytes(parts)


def pack_completions(completions: Sequence[Completion]) -> tuple[list[dict[str, str]], Arrays]:
    """Completions as JSON and arrays."""
    arrays: Arrays = {}
    texts = []
    for place, one in enumerate(completions):
        texts.append({"text": one.text, "stop": one.stop.value, "answer": one.answer})
        for name in ("tokens", "logprobs", "trained"):
            arrays[f"{place}.{name}"] = getattr(one, name)
    return texts, arrays


def unpack_completions(texts: Sequence[Mapping[str, str]], arrays: Arrays) -> list[Completion]:
    """Inverse of :func:`pack_completions`."""
    return [
        Completion(
            text=one["text"],
            tokens=arrays[f"{place}.tokens"],
            logprobs=arrays[f"{place}.logprobs"],
            trained=arrays[f"{place}.trained"],
            stop=StopReason(one["stop"]),
            answer=one["answer"],
        )
        for place, one in enumerate(texts)
    ]


def sample_frame(sample: Sample) -> Frame:
    """One reply on its way back."""
    texts, arrays = pack_completions([sample.completion])
    header = {"prompt": sample.prompt, "index": sample.index, "texts": texts}
    return Frame("sample", header, arrays | {"prompt": sample.prompt_tokens})


def sample_of(frame: Frame) -> Sample:
    """Inverse of :func:`sample_frame`."""
    completion = unpack_completions(frame.header["texts"], frame.arrays)[0]
    return Sample(frame.header["prompt"], frame.header["index"], completion, frame.arrays["prompt"])


def batch_frame(batch: Sequence[Sequences], temperature: float) -> Frame:
    """What a process shall learn from."""
    items, arrays = [], Arrays()
    for place, item in enumerate(batch):
        texts, own = pack_completions(item.completions)
        own |= {"prompt": item.prompt_tokens}
        own |= {f"{index}.advantages": value for index, value in enumerate(item.advantages)}
        items.append(texts)
        arrays |= {f"{place}/{name}": array for name, array in own.items()}
    return Frame("learn", {"items": items, "temperature": temperature}, arrays)


def batch_of(frame: Frame) -> tuple[list[Sequences], float]:
    """Inverse of :func:`batch_frame`."""
    batch = []
    for place, texts in enumerate(frame.header["items"]):
        prefix = f"{place}/"
        own = {n.removeprefix(prefix): a for n, a in frame.arrays.items() if n.startswith(prefix)}
        advantages = [own[f"{index}.advantages"] for index in range(len(texts))]
        batch.append(Sequences(own["prompt"], unpack_completions(texts, own), advantages))
    return batch, frame.header["temperature"]
