"""GGUF files: unpacked once, to safetensors in a folder beside them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import gguf
import torch
import transformers

from ttd_core.errors import ModelUnavailableError
from ttd_core.policy.local.weights import require_all
from ttd_core.policy.models.files import brief, read_object, reading, refused, require_whole
from ttd_core.policy.models.folder import CONFIG
from ttd_core.policy.models.quiet import quiet

_UNPACKED = "unpacked"
#: In a folder of unpacked weights: of which file they are.
_SOURCE = "unpacked_from.json"
_SPLIT = re.compile(r".+-\d{5}-of-(\d{5})\.gguf")


def ready_folder(path: pathlib.Path) -> pathlib.Path:
    """A folder of config and safetensors: the given one, or one beside its GGUF file, made once.

    :param path: a model's folder, or a GGUF file.
    :raises ModelUnavailableError: when there is neither, or the GGUF file cannot be told or read.
    """
    if path.is_file():
        several = len(_gguf_files(path.parent)) > 1
        return _unpacked(path, path.parent / (f"{_UNPACKED}-{path.stem}" if several else _UNPACKED))
    has_config = os.path.lexists(path / CONFIG)
    if has_config and any(path.glob("*.safetensors*")):
        return path
    files = _gguf_files(path)
    if not files:
        if has_config:
            return path
        found = (
            "weights without a config.json"
            if any(path.glob("*.safetensors"))
            else "neither config.json nor a .gguf file"
        )
        raise ModelUnavailableError(f"{path} holds {found}; pass a model's folder")
    if len(files) > 1 and not _SPLIT.fullmatch(files[0].name):
        names = ", ".join(file.name for file in files[:4]) + (", ..." if len(files) > 4 else "")
        raise ModelUnavailableError(
            f"{path} holds {len(files)} GGUF files ({names}); pass the path of the one to use as the model"
        )
    return _unpacked(files[0], path / _UNPACKED)


def _gguf_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The GGUF files of a folder; projectors of vision models, which lie beside them, are left out."""
    return sorted(file for file in folder.glob("*.gguf") if not file.name.lower().startswith("mmproj"))


def _unpacked(file: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
    """The folder with a file's weights, made if it is not there or of another file."""
    source = {"file": file.name, "bytes": file.stat().st_size if file.exists() else 0}
    if _is_unpacked(target, source):
        return target
    split = _SPLIT.fullmatch(file.name)
    if split and int(split[1]) > 1:
        raise refused(
            file,
            f"is one of {int(split[1])} parts of a model, which are not read apart",
            "join them (llama-gguf-split --merge) and pass the result",
        )
    _require_readable(file)
    if not os.access(file.parent, os.W_OK):
        raise ModelUnavailableError(f"{file.parent} must be writable once, to unpack {file.name} there")
    with _alone(file.parent), tempfile.TemporaryDirectory(dir=file.parent) as temporary:
        # Another process may have done it meanwhile; what it reads already must not be replaced.
        if not _is_unpacked(target, source):
            complete = pathlib.Path(temporary) / _UNPACKED
            _convert(file, complete)
            (complete / _SOURCE).write_text(json.dumps(source))
            shutil.rmtree(target, ignore_errors=True)
            complete.rename(target)
    return target


def _is_unpacked(target: pathlib.Path, source: dict[str, Any]) -> bool:
    """Whether a folder holds the weights of a file, or of one that an older version did not note."""
    written = (target / CONFIG).is_file()
    return written and (not (target / _SOURCE).is_file() or read_object(target / _SOURCE) == source)


@contextlib.contextmanager
def _alone(folder: pathlib.Path) -> Iterator[None]:
    """Until it ends, no other process is in here with the same folder; waits for one that is."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Some network shares lock no folders; there two processes may both do the work.
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _require_readable(file: pathlib.Path) -> None:
    """Refuse a file that is no GGUF file, or not whole."""
    require_whole(file)
    with file.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise refused(file, "is no GGUF file")
    try:
        gguf.GGUFReader(file)
    except Exception as error:
        raise refused(file, f"is incomplete or damaged ({brief(error)})") from error


def _convert(file: pathlib.Path, target: pathlib.Path) -> None:
    """Write a file's weights as bfloat16 safetensors, with config and tokeniser."""
    options: dict[str, Any] = {"gguf_file": file.name, "dtype": torch.bfloat16}
    if hasattr(transformers, "GgufConfig"):
        # Newer releases keep the blocks packed unless told otherwise; training needs them dense.
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    with tempfile.TemporaryDirectory(prefix="ttd-model-") as shown, reading(file, "model"), quiet():
        (pathlib.Path(shown) / file.name).symlink_to(file.absolute())
        tokenizer = transformers.AutoTokenizer.from_pretrained(shown, gguf_file=file.name)
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            shown, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
        require_all(model, dict(info, unexpected_keys=()), file)
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.is_quantized = False
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
