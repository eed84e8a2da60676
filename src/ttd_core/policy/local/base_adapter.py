"""An adapter that comes with a model, merged into its weights before one of ours is trained on them."""

from __future__ import annotations

import pathlib
import warnings
from typing import Any

import peft

from ttd_core.errors import ModelUnavailableError
from ttd_core.policy.models.files import read_header, read_object, reading, refused
from ttd_core.policy.models.folder import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from ttd_core.policy.models.quiet import quiet


def base_of(folder: pathlib.Path) -> str:
    """The model that an adapter says it belongs to: a folder or a hub id.

    :raises ModelUnavailableError: when it says none.
    """
    base = read_object(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise refused(
            folder / ADAPTER_CONFIG,
            "names no base model",
            "put the model's folder or hub id there as base_model_name_or_path",
        )
    beside = folder / base
    return str(beside) if not pathlib.Path(base).exists() and beside.is_dir() else base


def merged(model: Any, folder: pathlib.Path) -> Any:
    """The model with an adapter merged into its weights.

    :param model: a transformers model on the CPU.
    :param folder: holds the adapter, as peft saves it.
    :raises ModelUnavailableError: when it is damaged, of a kind that cannot be merged, or of another model.
    """
    settings = read_object(folder / ADAPTER_CONFIG)
    if not (folder / ADAPTER_WEIGHTS).exists() and (folder / "adapter_model.bin").exists():
        raise refused(
            folder / "adapter_model.bin",
            "is pickled, and pickles are never read, since they can run code",
            f"save the adapter again as {ADAPTER_WEIGHTS}",
        )
    stored = set(read_header(folder / ADAPTER_WEIGHTS))
    with reading(folder, "adapter"), quiet(), warnings.catch_warnings():
        # What peft warns of, such as weights that were not there, is refused below.
        warnings.simplefilter("ignore")
        config = peft.PeftConfig.from_pretrained(str(folder))
        if config.is_prompt_learning or not _is_mergeable(config):
            kind = settings.get("peft_type")
            raise ModelUnavailableError(f"the adapter in {folder} is of type {kind}, which cannot be merged")
        adapted = peft.PeftModel.from_pretrained(model, str(folder), config=config)
        expected = set(peft.get_peft_model_state_dict(adapted, save_embedding_layers=False))
        # Embeddings that were trained too are stored whole, under the model's own names.
        wrong = sorted(expected - stored) + sorted(stored - expected - set(adapted.state_dict()))
        if wrong:
            raise ModelUnavailableError(
                f"the adapter in {folder} does not fit the model: {len(wrong)} of its weights "
                f"are missing or of another model, '{wrong[0]}' the first"
            )
        whole = adapted.merge_and_unload(safe_merge=True)
    if hasattr(whole, "peft_config"):
        del whole.peft_config
    # An adapter of ours belongs to the model with this one merged, not to the bare one.
    whole.name_or_path = whole.config.name_or_path = str(folder)
    return whole


def _is_mergeable(config: Any) -> bool:
    """Whether peft can merge adapters of a config's type."""
    tuner = peft.PEFT_TYPE_TO_TUNER_MAPPING.get(config.peft_type)
    return hasattr(tuner, "merge_and_unload")
