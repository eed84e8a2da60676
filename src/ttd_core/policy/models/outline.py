"""A model told before it is fetched or loaded: its config, and the headers of its tensors that lie here."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import attrs

from ttd_core.errors import ModelUnavailableError
from ttd_core.fetching import cache_folder
from ttd_core.policy.models import fetch
from ttd_core.policy.models.catalogue import CATALOGUE
from ttd_core.policy.models.files import TensorHeader, read_object
from ttd_core.policy.models.folder import ADAPTER_CONFIG, CONFIG, read_folder
from ttd_core.policy.models.gguf_header import read_gguf
from ttd_core.policy.models.published import published

#: Where a GGUF file's weights are unpacked, beside it.
_UNPACKED = "unpacked"


@attrs.frozen
class ModelOutline:
    """What is known of a model without its weights.

    :param config: as ``config.json`` has it.
    :param tensors: by name, by the headers of its files; empty where they are not here.
    :param source: where both come from, for people.
    """

    config: Mapping[str, Any]
    tensors: Mapping[str, TensorHeader]
    source: str


def outline_of(name: str) -> ModelOutline:
    """What is known of a model; at most its config is fetched.

    :param name: a folder, a GGUF file, a catalogue name, a hub id, or the last part of a published model's.
    :raises ModelUnavailableError: when nothing is known of it, or a file of it is broken.
    """
    known = published(CATALOGUE[name].hub_id if name in CATALOGUE else name)
    if known is not None and "/" not in name and not pathlib.Path(name).exists() and name not in CATALOGUE:
        return ModelOutline(known[1], {}, f"the published sizes of {known[0]}")
    path = fetch.local_path(name)
    if path is None and name in CATALOGUE:
        cached = cache_folder() / "models" / name
        path = cached if cached.is_dir() else None
    path = path or fetch.cached_snapshot(CATALOGUE[name].hub_id if name in CATALOGUE else name)
    if path is not None:
        return _of_path(path)
    if known is not None:
        return ModelOutline(known[1], {}, f"the published sizes of {known[0]}")
    try:
        return ModelOutline(read_object(fetch.config_file(name)), {}, f"{name}'s {CONFIG} from the hub")
    except (OSError, ValueError) as error:
        raise ModelUnavailableError(
            f"model '{name}' is not here and the hub did not give its {CONFIG} ({fetch.brief_of(error)}); "
            "pass a folder that holds it"
        ) from error


def _of_path(path: pathlib.Path) -> ModelOutline:
    """Of a folder or a GGUF file here."""
    if path.is_file():
        return _of_gguf(path)
    if (path / CONFIG).exists():
        if any(path.glob("*.safetensors")):
            folder = read_folder(path)
            return ModelOutline(folder.config, folder.tensors, f"the files in {path}")
        return ModelOutline(read_object(path / CONFIG), {}, str(path / CONFIG))
    if (path / _UNPACKED / CONFIG).is_file():
        return _of_path(path / _UNPACKED)
    files = sorted(file for file in path.glob("*.gguf") if not file.name.lower().startswith("mmproj"))
    if len(files) == 1:
        return _of_gguf(files[0])
    if files:
        raise ModelUnavailableError(f"{path} holds {len(files)} GGUF files; pass the path of the one to use")
    if (path / ADAPTER_CONFIG).exists():
        raise ModelUnavailableError(f"{path} holds an adapter alone; pass the model that it belongs to")
    raise ModelUnavailableError(f"{path} holds neither {CONFIG} nor a .gguf file; pass a model's folder")


def _of_gguf(file: pathlib.Path) -> ModelOutline:
    config, tensors = read_gguf(file)
    return ModelOutline(config, tensors, f"the head of {file}")
