"""A model's folder as it lies on disk: its config, its weights by their headers, an adapter beside them.

:func:`read_folder` looks at everything that a library would read and refuses what is broken. :func:`view`
gives the libraries a folder with nothing in it but what they may read: no pickles, no code, no adapter.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import pathlib
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from ttd_core.errors import ModelUnavailableError
from ttd_core.policy.models.files import (
    TensorHeader,
    read_header,
    read_object,
    refused,
    require_text,
    require_whole,
)
from ttd_core.text import decode_text

CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
#: Files that hold a JSON object.
_OBJECTS = (
    CONFIG,
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "chat_template.json",
)
_TEXTS = ("merges.txt", "vocab.txt", "chat_template.jinja")
#: What a tokeniser's vocabulary may lie in.
_VOCABULARIES = (
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "tokenizer.model",
    "tekken.json",
    "*.tiktoken",
    "*.spm",
)
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.safetensors")
#: What is never given to a library: pickles, code, archives, weights of other frameworks, an adapter.
_WITHHELD = re.compile(
    r".*\.(bin|pt|pth|pkl|pickle|ckpt|py|msgpack|h5|onnx|gguf|safetensors|distcp|metadata)|"
    r"\.metadata|adapter_.*|model\.safetensors\.index\.json"
)
_TEMPLATES = "additional_chat_templates"
_AGAIN = "download the model again"


@attrs.frozen
class ModelFolder:
    """What a model's folder holds.

    :param path: the folder.
    :param config: of the model.
    :param weights: its safetensors files.
    :param tensors: every tensor of theirs, by name.
    :param index: file of each tensor, by name, where there are several files.
    """

    path: pathlib.Path
    config: Mapping[str, Any]
    weights: Sequence[pathlib.Path]
    tensors: Mapping[str, TensorHeader]
    index: Mapping[str, str]


def read_folder(path: pathlib.Path) -> ModelFolder:
    """Look at a model's folder.

    :raises ModelUnavailableError: names the first file that is missing or broken, and what to do.
    """
    config = read_object(path / CONFIG)
    check_tokenizer_files(path)
    weights = _weight_files(path)
    headers = {file.name: read_header(file) for file in weights}
    tensors = {name: tensor for header in headers.values() for name, tensor in header.items()}
    index = {name: file for file, header in headers.items() for name in header}
    listed = _listed(path) if weights[0].name != _WEIGHTS else {}
    lacking = [name for name, file in listed.items() if name not in headers[file]]
    if lacking:
        raise refused(
            path / listed[lacking[0]],
            f"lacks {len(lacking)} tensors that {_INDEX} lists there, '{lacking[0]}' the first",
        )
    return ModelFolder(path, config, weights, tensors, index if len(weights) > 1 else {})


def check_tokenizer_files(path: pathlib.Path) -> None:
    """Look at the files of a tokeniser and of its chat template, as far as they are there.

    :raises ModelUnavailableError: names the one that is broken, or what is missing where there is none.
    """
    for name in _OBJECTS:
        if (path / name).exists() or (path / name).is_symlink():
            read_object(path / name)
    for name in _TEXTS:
        if (path / name).exists() or (path / name).is_symlink():
            require_text(path / name)
    for file in (found for kind in _VOCABULARIES for found in path.glob(kind)):
        require_whole(file)
    if not has_tokenizer(path):
        raise ModelUnavailableError(
            f"{path} holds no tokeniser ({', '.join(_VOCABULARIES[:4])}); copy that of the model it was made "
            "from"
        )


def has_tokenizer(path: pathlib.Path) -> bool:
    """Whether a folder holds a vocabulary, of whatever kind."""
    return any(file.exists() for kind in _VOCABULARIES for file in path.glob(kind))


def _weight_files(path: pathlib.Path) -> list[pathlib.Path]:
    """The safetensors files that make the model."""
    if (path / _WEIGHTS).exists() or (path / _WEIGHTS).is_symlink():
        return [path / _WEIGHTS]
    if (path / _INDEX).exists() or (path / _INDEX).is_symlink():
        return [path / name for name in sorted(set(_listed(path).values()))]
    found = sorted(f for f in path.glob("*.safetensors") if not f.name.startswith("adapter_"))
    shards = [match for match in (_SHARD.fullmatch(file.name) for file in found) if match]
    if shards:
        stem, total = shards[0][1], int(shards[0][3])
        return [path / f"{stem}-{number:05}-of-{total:05}.safetensors" for number in range(1, total + 1)]
    if len(found) == 1:
        return found
    if found:
        raise ModelUnavailableError(
            f"{path} holds {len(found)} safetensors files and no {_INDEX} that says which to read; {_AGAIN}"
        )
    pickled = sorted(f.name for kind in ("*.bin", "*.pt", "*.pth", "*.ckpt") for f in path.glob(kind))
    if pickled:
        raise ModelUnavailableError(
            f"{path} holds its weights pickled only ({pickled[0]}), and pickles are never read: they can "
            "run code; take a revision with safetensors, or convert it where you trust it"
        )
    raise ModelUnavailableError(f"{path} holds no weights ({_WEIGHTS}); {_AGAIN}")


def _listed(path: pathlib.Path) -> dict[str, str]:
    """The file of each tensor by the index; empty where there is none."""
    if not (path / _INDEX).exists() and not (path / _INDEX).is_symlink():
        return {}
    listed = read_object(path / _INDEX).get("weight_map")
    if (
        not isinstance(listed, dict)
        or not listed
        or not all(isinstance(file, str) for file in listed.values())
    ):
        raise refused(path / _INDEX, "has no weight_map of tensors and files")
    for file in listed.values():
        if pathlib.Path(file).name != file or not file.endswith(".safetensors"):
            raise refused(path / _INDEX, f"names '{file}', which is no safetensors file of its folder")
    return listed


def _begins_with_mark(file: pathlib.Path) -> bool:
    """Whether a text file begins with a byte order mark, over which libraries stumble."""
    with file.open("rb") as stream:
        return stream.read(4).startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))


@contextlib.contextmanager
def view(
    path: pathlib.Path, weights: Sequence[pathlib.Path] = (), index: Mapping[str, str] | None = None
) -> Iterator[pathlib.Path]:
    """A folder for libraries to read: links to what they may see, JSON files and templates as plain UTF-8.

    :param path: the model's folder.
    :param weights: its safetensors files; a single one is shown under the usual name.
    :param index: file of each tensor, by name; empty for a single file.
    """
    with tempfile.TemporaryDirectory(prefix="ttd-model-") as temporary:
        shown = pathlib.Path(temporary)
        for file in path.iterdir():
            if _WITHHELD.fullmatch(file.name) or (file.is_dir() and file.name != _TEMPLATES):
                continue
            if file.name in (*_OBJECTS, *_TEXTS) and _begins_with_mark(file):
                (shown / file.name).write_text(decode_text(file.read_bytes()), encoding="utf-8")
            else:
                (shown / file.name).symlink_to(file.absolute())
        for file in weights:
            (shown / (file.name if index else _WEIGHTS)).symlink_to(file.absolute())
        if index:
            (shown / _INDEX).write_text(json.dumps({"metadata": {}, "weight_map": dict(index)}))
        yield shown
