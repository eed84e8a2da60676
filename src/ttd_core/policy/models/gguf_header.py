"""The head of a GGUF file: its settings and its tensors, as a config and headers, without reading a weight.

The library that unpacks these files makes an object of every token of the vocabulary, which takes seconds;
what a model weighs needs a dozen numbers.
"""

from __future__ import annotations

import mmap
import pathlib
import struct
from collections.abc import Mapping
from typing import Any

from ttd_core.policy.models.files import TensorHeader, refused, require_whole

#: Formats of single values by their numbers in a file; 8 is a text, 9 a list.
_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _LIST = 8, 9
#: What a config calls a setting.
_NAMES = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "expert_feed_forward_length": "moe_intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.sliding_window": "sliding_window",
    "context_length": "max_position_embeddings",
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
}
#: What a config calls a family.
_FAMILIES = {"qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe", "gpt-oss": "gpt_oss", "gemma3": "gemma3_text"}
#: Longest list, and most tensors, that are looked through.
_MOST = 10_000_000


class _Reader:
    """Values one after the other."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = 4

    def number(self, form: str) -> Any:
        """The next value, by a format of :mod:`struct`."""
        (value,) = struct.unpack_from(f"<{form}", self._data, self._at)
        self._at += struct.calcsize(form)
        return value

    def text(self) -> str:
        """The next text."""
        start, length = self._at + 8, self.number("Q")
        if length > len(self._data) - start:
            raise ValueError("a text that ends behind the file")
        self._at = start + length
        return self._data[start : start + length].decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        """The next value; a list is passed over, and counts as ``None``."""
        if kind == _TEXT:
            return self.text()
        if kind != _LIST:
            return self.number(_FORMATS[kind])
        inner, count = self.number("I"), self.number("Q")
        if count > _MOST:
            raise ValueError("a list without end")
        if inner in _FORMATS:
            self._at += count * struct.calcsize(_FORMATS[inner])
        else:
            for _ in range(count):
                self.value(inner)
        return None

    def tensor(self) -> tuple[str, TensorHeader]:
        """The next tensor; its numbers will be bfloat16 once it is unpacked."""
        name, dimensions = self.text(), self.number("I")
        if dimensions > 8:
            raise ValueError("a tensor of too many dimensions")
        shape = tuple(self.number("Q") for _ in range(dimensions))
        self.number("I"), self.number("Q")
        return name, TensorHeader("BF16", shape)


def read_gguf(path: pathlib.Path) -> tuple[dict[str, Any], Mapping[str, TensorHeader]]:
    """What a GGUF file's model has as config, as far as sizes go, and its tensors.

    :raises ModelUnavailableError: when it is no GGUF file, or its head cannot be read.
    """
    require_whole(path)
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise refused(path, "is no GGUF file")
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                settings, tensors = _read(_Reader(data))
        except (struct.error, ValueError, KeyError, IndexError, RecursionError) as error:
            raise refused(path, "is no GGUF file: its head cannot be read") from error
    family = str(settings.get("general.architecture", ""))
    told = {name: settings.get(f"{family}.{key}") for key, name in _NAMES.items()}
    config: dict[str, Any] = {name: value for name, value in told.items() if value is not None}
    embedding = tensors.get("token_embd.weight")
    if embedding is not None and len(embedding.shape) == 2:
        # Dimensions are written the other way round.
        config["vocab_size"] = embedding.shape[1]
    tied = "output.weight" not in tensors
    return {**config, "model_type": _FAMILIES.get(family, family), "tie_word_embeddings": tied}, tensors


def _read(reader: _Reader) -> tuple[dict[str, Any], dict[str, TensorHeader]]:
    version, tensor_count, setting_count = reader.number("I"), reader.number("Q"), reader.number("Q")
    if version not in (2, 3) or max(tensor_count, setting_count) > _MOST:
        raise ValueError("a version that is not known, or counts without end")
    settings = {}
    for _ in range(setting_count):
        key = reader.text()
        settings[key] = reader.value(reader.number("I"))
    return settings, dict(reader.tensor() for _ in range(tensor_count))
