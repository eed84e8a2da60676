"""Load a causal language model and its tokeniser from a folder, quietly, in a sound dtype.

A folder with a GGUF file is converted once: its weights are unpacked and written beside it as bfloat16
safetensors with the tokeniser, so that later loads take a second and map the file instead of parsing it.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile
from typing import Any

import torch
import transformers

from ttd_core.errors import EnvironmentLacksError, ModelUnavailableError
from ttd_core.policy.models.quiet import quiet

_CONVERTED = "unpacked"


def choose_device(wanted: str) -> torch.device:
    """``auto`` takes the first CUDA device, else the CPU.

    :raises EnvironmentLacksError: when a CUDA device is asked for and there is none.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise EnvironmentLacksError(
            f"policy.device: '{wanted}' is not a device; use auto, cpu or cuda:N"
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise EnvironmentLacksError(
            f"policy.device: '{wanted}' was asked for, but torch finds no CUDA device here"
        )
    return device


def choose_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """``auto``: bfloat16 where the hardware multiplies it natively, else float32.

    Without native support bfloat16 on a CPU is emulated: slower than float32 and less exact.
    """
    if wanted != "auto":
        return torch.bfloat16 if wanted == "bfloat16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    capabilities = torch.backends.cpu.get_cpu_capability()
    features = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    native = (
        features.get("avx512_bf16", False) or features.get("amx_bf16", False) or features.get("bf16", False)
    )
    return torch.bfloat16 if native and capabilities != "DEFAULT" else torch.float32


def load_model(folder: pathlib.Path, dtype: torch.dtype, device: torch.device) -> tuple[Any, Any]:
    """The model (in evaluation mode) and its tokeniser.

    :raises ModelUnavailableError: when the folder holds no model that can be read.
    """
    try:
        with quiet():
            ready = _ready_folder(folder)
            tokenizer = transformers.AutoTokenizer.from_pretrained(ready)
            model = transformers.AutoModelForCausalLM.from_pretrained(ready, dtype=dtype)
            return model.to(device).eval(), tokenizer
    except (OSError, ValueError, KeyError, ImportError) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelUnavailableError(f"the model in {folder} cannot be loaded: {line}") from error


def _ready_folder(folder: pathlib.Path) -> pathlib.Path:
    """A folder that transformers reads directly: the given one, or one beside its GGUF file, made once."""
    if (folder / "config.json").is_file():
        return folder
    files = sorted(folder.glob("*.gguf"))
    if not files:
        raise ModelUnavailableError(
            f"{folder} holds neither config.json nor a .gguf file; pass a model's folder"
        )
    converted = folder / _CONVERTED
    if not (converted / "config.json").is_file():
        _convert(folder, files[0].name, converted)
    return converted


def _convert(folder: pathlib.Path, name: str, target: pathlib.Path) -> None:
    """Unpack a GGUF file to safetensors, written in a folder of its own that is renamed when complete."""
    if not os.access(folder, os.W_OK):
        raise ModelUnavailableError(f"{folder} must be writable once, to unpack {name} there")
    options: dict[str, Any] = {"gguf_file": name, "dtype": torch.bfloat16}
    if hasattr(transformers, "GgufConfig"):
        # Newer releases keep the blocks packed unless told otherwise; training needs them dense.
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, **options)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.is_quantized = False
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        complete = pathlib.Path(temporary) / _CONVERTED
        model.save_pretrained(complete)
        tokenizer.save_pretrained(complete)
        shutil.rmtree(target, ignore_errors=True)
        complete.rename(target)
