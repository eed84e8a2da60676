"""Adapter and optimiser on disk: safetensors only, so that loading a checkpoint runs no code.

No state of a random generator is kept: sampling draws from the seed that it is given for each step.
"""

from __future__ import annotations

import json
import pathlib
from typing import Any

import peft
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ttd_core.errors import UsageError
from ttd_core.policy.local.adapter import Adapter

_ADAPTER = "adapter_model.safetensors"
_OPTIMISER = "optimiser.safetensors"
_PEFT_CONFIG = "adapter_config.json"


def save(
    folder: pathlib.Path,
    model: Any,
    adapter: Adapter,
    optimiser: torch.optim.Optimizer,
) -> None:
    """Write the adapter as peft loads it, and the optimiser's state beside it."""
    # Embeddings are never adapted; left to itself, peft asks the hub whether the vocabulary changed.
    state = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    weights = {name: value.contiguous().cpu() for name, value in state.items()}
    save_file(weights, folder / _ADAPTER)
    settings = {
        key: sorted(value) if isinstance(value, set) else value
        for key, value in model.peft_config["default"].to_dict().items()
    }
    (folder / _PEFT_CONFIG).write_text(json.dumps(settings, indent=1, sort_keys=True, default=str))
    tensors: dict[str, torch.Tensor] = {}
    for name, parameter in adapter.masters.items():
        # float32 exactly as held: get_peft_model_state_dict renames keys, these keep their own.
        tensors[f"weight/{name}"] = parameter.detach().contiguous().cpu()
        for key, value in optimiser.state.get(parameter, {}).items():
            tensors[f"{key}/{name}"] = value.detach().contiguous().cpu()
    save_file(tensors, folder / _OPTIMISER)


def load(
    folder: pathlib.Path,
    adapter: Adapter,
    optimiser: torch.optim.Optimizer,
) -> None:
    """Restore what :func:`save` wrote, to the bit.

    :raises UsageError: when the file is unreadable or belongs to another model or rank.
    """
    path = folder / _OPTIMISER
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UsageError(f"checkpoint {path} cannot be read: {error}") from error
    expected = {f"weight/{name}": tuple(p.shape) for name, p in adapter.masters.items()}
    shapes = {key: tuple(t.shape) for key, t in tensors.items() if key.startswith("weight/")}
    if expected != shapes:
        raise UsageError(
            f"checkpoint {folder} belongs to another model or adapter rank; resume with its own config"
        )
    with torch.no_grad():
        for name, parameter in adapter.masters.items():
            parameter.copy_(tensors[f"weight/{name}"])
    adapter.copy_to_model()
    optimiser.state.clear()
    for name, parameter in adapter.masters.items():
        state = {
            key: tensors[f"{key}/{name}"]
            for key in ("step", "exp_avg", "exp_avg_sq")
            if f"{key}/{name}" in tensors
        }
        if state:
            optimiser.state[parameter] = {
                # Adam keeps its step count on the CPU.
                key: value.clone() if key == "step" else value.to(parameter.device, copy=True)
                for key, value in state.items()
            }
