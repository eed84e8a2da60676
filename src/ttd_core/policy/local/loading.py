"""Load a causal language model and its tokeniser from a folder, quietly, in a sound dtype.

What the folder holds is looked at first (:mod:`~ttd_core.policy.models.folder`); a model of which any weight
is missing is refused: it would be drawn at random. A GGUF file is converted once (:mod:`.unpacking`): its
weights are written beside it as bfloat16 safetensors with the tokeniser, so that later loads take
a second and map the file instead of parsing it.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable
from typing import Any, Literal

import torch
import transformers

from ttd_core.errors import ModelUnavailableError
from ttd_core.policy.local import base_adapter, packed, unpacking
from ttd_core.policy.local.memory import require_room
from ttd_core.policy.local.weights import require_all, require_finite, require_merged, require_plain
from ttd_core.policy.models import fetch
from ttd_core.policy.models.files import reading
from ttd_core.policy.models.folder import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    CONFIG,
    ModelFolder,
    has_tokenizer,
    read_folder,
    view,
)
from ttd_core.policy.models.quiet import quiet
from ttd_core.policy.models.tokenizer import LOCAL, load_tokenizer
from ttd_core.policy.models.weight_names import key_mapping, removed_parts
from ttd_core.text import showable_line

#: What to do with an adapter that lies beside a model, or in place of one.
AdapterChoice = Literal["refuse", "merge", "ignore"]
Say = Callable[[str], None]


def say(line: str) -> None:
    """Tell a person, on standard error."""
    print(line, file=sys.stderr)


def load_model(
    path: pathlib.Path,
    dtype: torch.dtype,
    device: torch.device,
    adapter: AdapterChoice = "refuse",
    say: Say = say,
    keep_packed: bool = False,
    context: int = 0,
) -> tuple[Any, Any]:
    """The model (in evaluation mode) and its tokeniser.

    :param path: the model's folder, a GGUF file, or the folder of an adapter that names its model.
    :param adapter: what to do with an adapter there: merge it into the weights, or load the model without it.
    :param say: is told, in a line each, what was read otherwise than it is written.
    :param keep_packed: leave experts in four bits that are published so (:mod:`.packed`).
    :param context: tokens of one prompt and reply, for which the device must have room beside the model.
    :raises ModelUnavailableError: when there is no model that can be read whole.
    :raises EnvironmentLacksError: when the device has no room for it.
    """
    if path.is_dir() and not (path / CONFIG).exists() and (path / ADAPTER_CONFIG).exists():
        return _load_on_base(path, dtype, device, adapter, say)
    beside = path if path.is_dir() else path.parent
    has_adapter = any((beside / name).exists() for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS))
    if has_adapter and adapter == "refuse":
        raise ModelUnavailableError(
            f"{beside} holds an adapter beside the model; set policy.options.adapter=merge to start from "
            "both, or =ignore to start from the model alone"
        )
    folder = read_folder(unpacking.ready_folder(path))
    keep_packed = keep_packed and packed.is_packed(folder)
    require_room(folder, dtype, device, keep_packed, context)
    if keep_packed:
        model, tokenizer = _load_packed(folder, dtype, device)
    else:
        model, tokenizer = _load(folder, dtype, say)
    if has_adapter and adapter == "merge":
        model = base_adapter.merged(model, beside)
        say(f"{beside}: the adapter beside the model is merged into its weights")
    return _finished(model, path, device, say), tokenizer


def _load_packed(folder: ModelFolder, dtype: torch.dtype, device: torch.device) -> tuple[Any, Any]:
    """A model of packed experts on its device, and its tokeniser."""
    require_merged(folder)
    tokenizer = load_tokenizer(folder.path)
    with view(folder.path) as shown:
        model = packed.load(folder, shown, dtype, device)
    for named in (model, model.config):
        named.name_or_path = str(folder.path)
    return model, tokenizer


def _load_on_base(
    folder: pathlib.Path, dtype: torch.dtype, device: torch.device, adapter: AdapterChoice, say: Say
) -> tuple[Any, Any]:
    """The model that an adapter's folder names, with the adapter merged into it."""
    base = base_adapter.base_of(folder)
    if adapter != "merge":
        raise ModelUnavailableError(
            f"{folder} holds an adapter, not a model: it belongs to '{base}'. Pass that as the model, or set "
            "policy.options.adapter=merge to start from it with this adapter merged into its weights"
        )
    path = fetch.resolve(base)
    if path.is_dir() and not (path / CONFIG).exists() and (path / ADAPTER_CONFIG).exists():
        raise ModelUnavailableError(
            f"the adapter in {folder} belongs to '{base}', which is an adapter itself"
        )
    model, tokenizer = load_model(path, dtype, torch.device("cpu"), "refuse", say)
    if has_tokenizer(folder):
        # Adapters for chats are often saved with the tokeniser and the template of their training.
        tokenizer = load_tokenizer(folder)
    model = base_adapter.merged(model, folder)
    say(f"{folder}: an adapter, merged into the weights of its base model '{base}'")
    return _finished(model, folder, device, say), tokenizer


def _finished(model: Any, path: pathlib.Path, device: torch.device, say: Say) -> Any:
    """The model on its device."""
    with reading(path, "model"):
        model = model.to(device).eval()
    if zero := require_finite(model, path):
        say(
            f"{path}: {len(zero)} matrices of the weights are zero throughout, '{zero[0]}' the first; "
            "an unfinished download leaves such"
        )
    return model


def _load(folder: ModelFolder, dtype: torch.dtype, say: Say) -> tuple[Any, Any]:
    """The model on the CPU and its tokeniser, whole or refused."""
    path = folder.path
    require_merged(folder)
    if folder.config.get("quantization_config") is None:
        require_plain(folder)
    with view(path, folder.weights, folder.index) as shown, quiet():
        with reading(path, "config", shown):
            config = transformers.AutoConfig.from_pretrained(shown, **LOCAL)
        if type(config) not in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
            raise ModelUnavailableError(
                f"the model in {path} is of type '{showable_line(str(config.model_type))}', which writes no "
                "text; choose a causal language model"
            )
        mapping = key_mapping(list(folder.tensors), text_only=config.get_text_config() is config)
        # The files were chosen above, whatever the config says of them.
        config.transformers_weights = None
        tokenizer = load_tokenizer(path)
        with reading(path, "model", shown):
            model, info = transformers.AutoModelForCausalLM.from_pretrained(
                shown,
                config=config,
                dtype=dtype,
                # The weights' own types and shapes are judged below, in words.
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                key_mapping=mapping or None,
                **LOCAL,
            )
    if packed.is_packed(folder):
        # Some releases unpack experts to bfloat16 whatever is asked for.
        model = model.to(dtype)
    elif getattr(model, "hf_quantizer", None) is None:
        require_plain(folder)
    left_out = require_all(model, info, path, folder.tensors)
    if mapping:
        parts = "', '".join(removed_parts(mapping))
        say(f"{path}: the weights are saved under longer names than the model's; left out: '{parts}'")
    if left_out:
        say(
            f"{path}: {len(left_out)} weights are no part of the language model and not used, "
            f"'{left_out[0]}' the first"
        )
    for named in (model, model.config):
        named.name_or_path = str(path)
    return model, tokenizer
