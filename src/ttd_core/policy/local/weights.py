"""Whether a model's weights are all there, and are weights: what is missing would be drawn at random."""

from __future__ import annotations

import math
import pathlib
import re
from collections.abc import Collection, Mapping
from typing import Any

import torch

from ttd_core.errors import ModelUnavailableError
from ttd_core.policy.models.folder import ModelFolder
from ttd_core.policy.models.weight_names import cleaned

#: How names of tensors end that hold weights, packed or not.
_WEIGHT = re.compile(r"(^|[._])(weight|bias|qweight|qzeros|weight_packed|absmax|blocks)$", re.IGNORECASE)
#: How names end of what scales a quantised weight.
_SCALE = re.compile(r"[._](scale|scales|scale_inv|weight_scale|weight_scale_inv|scale_weight|SCB|absmax)$")
_FLOATS = {"F64", "F32", "F16", "BF16"}
_FLOATS_8 = {"F8_E4M3", "F8_E5M2"}
_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
#: Tensors that older releases saved and that models compute for themselves, and scales of quantised caches.
_NEEDLESS = re.compile(r"(inv_freq|masked_bias|attn\.bias|position_ids|[kvq]_scale|output_scale)$")


def require_merged(folder: ModelFolder) -> None:
    """Refuse weights among which an adapter's lie: without them the model would be another.

    :raises ModelUnavailableError: names the first of them.
    """
    lora = next((name for name in folder.tensors if ".lora_A." in name or ".lora_B." in name), None)
    if lora:
        raise ModelUnavailableError(
            f"the weights in {folder.path} hold an adapter that was not merged ('{lora}'); merge it "
            "(merge_and_unload) and save the model again"
        )


def require_plain(folder: ModelFolder) -> None:
    """Refuse weights that are quantised, for models whose config does not say how.

    Weights in eight-bit floats without scales are plain: each value is the weight.

    :raises ModelUnavailableError: names the first quantised tensor.
    """
    scaled = any(_SCALE.search(name) for name in folder.tensors)
    known = _FLOATS if scaled else _FLOATS | _FLOATS_8
    for name, tensor in folder.tensors.items():
        if tensor.dtype not in known and _WEIGHT.search(name):
            raise ModelUnavailableError(
                f"the weights in {folder.path} are quantised ('{name}' is {tensor.dtype}) and config.json "
                "does not say how, in a way that is known here; take the model in bfloat16"
            )


def require_all(
    model: Any, info: Mapping[str, Any], path: pathlib.Path, found: Collection[str] = ()
) -> list[str]:
    """Refuse a model of which a weight is missing, has another shape, or was left over.

    :param info: what ``from_pretrained`` tells with ``output_loading_info``.
    :param path: where the model lies, for the message.
    :param found: names of the tensors in its files.
    :return: names of tensors that are no part of the language model: a vision tower, a value head.
    :raises ModelUnavailableError: with how many weights are concerned and the first of them.
    """
    names = list(model.state_dict())
    order = {name: place for place, name in enumerate(names)}
    missing = sorted(info["missing_keys"], key=lambda name: order.get(name, len(order)))
    if missing:
        other = next((name for name in found if name in info["unexpected_keys"]), None)
        seen = f" (there is '{other}', which is none of the model's)" if other else ""
        raise ModelUnavailableError(
            f"the model in {path} is not whole: {len(missing)} of its {len(names)} weights are not in its "
            f"files, '{missing[0]}' the first{seen}; download it again, or save the bare "
            "model with save_pretrained"
        )
    for name, stored, expected in sorted(info["mismatched_keys"], key=lambda entry: order.get(entry[0], 0)):
        raise ModelUnavailableError(
            f"the model in {path} does not fit its config.json: '{name}' is {_shape(stored)} in its files "
            f"and {_shape(expected)} by the config; download both again"
        )
    left_over = sorted(name for name in info["unexpected_keys"] if not _NEEDLESS.search(name))
    inside = [name for name in left_over if _is_inside(model, cleaned(name, text_only=False))]
    if inside:
        raise ModelUnavailableError(
            f"the model in {path} does not fit its config.json: {len(inside)} weights have no place in the "
            f"model that it describes, '{inside[0]}' the first; download both again"
        )
    return left_over


def _shape(lengths: Any) -> str:
    return "x".join(str(length) for length in lengths) or "a number"


def _is_inside(model: Any, name: str) -> bool:
    """Whether a tensor belongs to a layer, or to a module, that the model has, so that it would change it."""
    modules = dict(model.named_modules())
    for start in ("", f"{model.base_model_prefix}."):
        parts = (start + name).split(".")
        if parts[:-1] and ".".join(parts[:-1]) in modules:
            return True
        for end in range(1, len(parts)):
            if isinstance(modules.get(".".join(parts[:end])), torch.nn.ModuleList):
                return True
    return False


def require_finite(model: Any, path: pathlib.Path) -> list[str]:
    """Refuse weights that are not numbers: such a model writes noise.

    :return: names of matrices that are zero throughout, as what was never downloaded is.
    :raises ModelUnavailableError: names the first.
    """
    weights = {name: p.detach() for name, p in model.named_parameters() if p.dtype in _DTYPES and p.numel()}
    greatest = torch.stack(
        [norm.float() for norm in torch._foreach_norm(list(weights.values()), float("inf"))]
    )
    zero = []
    for name, value in zip(weights, greatest.tolist(), strict=True):
        if value == 0 and weights[name].dim() > 1:
            zero.append(name)
        if not math.isfinite(value):
            raise ModelUnavailableError(
                f"the model in {path} is damaged: '{name}' holds values that are no finite numbers"
            )
    return zero
