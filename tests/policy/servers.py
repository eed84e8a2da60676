"""Real servers for tests: installed in environments of their own, started on a free port, and ended."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent


def environment_with(folder: pathlib.Path, packages: Sequence[str]) -> pathlib.Path:
    """A virtual environment with packages, beside what this one has; its folder.

    Skips, saying so, where they cannot be installed.
    """
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "beside.pth").write_text("\n".join(p for p in sys.path if p.endswith("site-packages")))
    constraints = ["-c", str(ROOT / "constraints.txt")]
    made = subprocess.run(
        [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", *constraints, *packages],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"{packages[0]} cannot be installed here: {made.stderr.strip().splitlines()[-1:]}")
    return folder


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextlib.contextmanager
def running(
    command: Sequence[str],
    environment: dict[str, str],
    folder: pathlib.Path,
    health: str,
    seconds: float = 120,
) -> Iterator[None]:
    """A server for the length of a ``with`` block, with all the processes that it starts."""
    log = folder / "server.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=file, stderr=file, start_new_session=True
        )
    try:
        deadline = time.monotonic() + seconds
        while not _answers(health):
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{command[0]} did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.2)
        yield
    finally:
        for signum, wait in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
            with contextlib.suppress(ProcessLookupError):  # all of it has ended
                os.killpg(process.pid, signum)
            with contextlib.suppress(subprocess.TimeoutExpired):  # the next signal is stronger
                process.wait(wait)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextlib.contextmanager
def skyrl(folder: pathlib.Path, model: pathlib.Path) -> Iterator[tuple[str, pathlib.Path]]:
    """A SkyRL server of the Tinker protocol on CPU: its address, and a folder with the client for it."""
    place = environment_with(folder / "venv", ["skyrl[jax,tinker]==0.3.0", "tinker<=0.24.1", "uv"])
    (site,) = place.glob("lib/python*/site-packages")
    # On Python 3.11 pydantic takes no TypedDict but that of typing_extensions.
    (site / "sitecustomize.py").write_text(
        "import typing\nimport typing_extensions\n\ntyping.TypedDict = typing_extensions.TypedDict\n"
    )
    client = folder / "client"
    client.mkdir()
    (client / "tinker").symlink_to(site / "tinker")
    settings = {
        "max_lora_adapters": 32,
        "max_lora_rank": 8,
        # Fixed shapes: each is compiled once.
        "train_micro_batch_size": 8,
        "sample_max_num_sequences": 8,
    }
    port = free_port()
    command = [
        *(str(place / "bin" / "uv"), "run", "--no-project", "--active", "-m", "skyrl.tinker.api"),
        *("--base-model", str(model), "--backend", "jax", "--backend-config", json.dumps(settings)),
        *("--host", "127.0.0.1", "--port", str(port), "--checkpoints-base", str(folder / "checkpoints")),
        *("--database-url", f"sqlite:///{folder / 'tinker.db'}"),
    ]
    environment = {
        **os.environ,
        "VIRTUAL_ENV": str(place),
        "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
        "JAX_PLATFORMS": "cpu",
        "HF_HUB_OFFLINE": "1",
        "UV_OFFLINE": "1",
    }
    address = f"http://127.0.0.1:{port}"
    with running(command, environment, folder, f"{address}/api/v1/healthz"):
        yield address, client


@contextlib.contextmanager
def transformers_serve(folder: pathlib.Path, model: pathlib.Path) -> Iterator[str]:
    """``transformers serve`` with one model on CPU; its address."""
    place = environment_with(folder / "venv", ["transformers[serving]"])
    port = free_port()
    command = [
        *(str(place / "bin" / "python"), "-m", "transformers.cli.transformers", "serve", str(model)),
        *("--device", "cpu", "--dtype", "float32", "--host", "127.0.0.1", "--port", str(port)),
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with running(command, environment, folder, f"http://127.0.0.1:{port}/health"):
        yield f"http://127.0.0.1:{port}/v1"
