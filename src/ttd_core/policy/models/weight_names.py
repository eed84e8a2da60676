"""Weights saved under other names than the model's: what wraps a model leaves its name in front, or within.

``torch.compile`` saves ``_orig_mod.model.layers.0...``, data-parallel training ``module.model...``, a merged
peft model ``base_model.model.model...``, a vision model its text part as ``model.language_model.layers...``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

#: Names that wrappers put anywhere: around the model, or around each of its layers.
_WRAPPERS = (
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "_forward_module",
    "base_layer",
)
#: What stands in front of all names of a model that was saved from within another.
_OUTER = ("module", "base_model.model", "pretrained_model")
#: What stands in front of the text part of a model that reads images too, and what a text model says instead.
_LANGUAGE = {
    "language_model.lm_head.": "lm_head.",
    "model.language_model.lm_head.": "lm_head.",
    "model.language_model.model.": "model.",
    "language_model.model.": "model.",
    "model.language_model.": "model.",
    "language_model.": "model.",
}
_WRAPPER = re.compile(rf"(?:^|(?<=\.))(?:{'|'.join(_WRAPPERS)})\.")
_PREFIX = re.compile(rf"^(?:(?:{'|'.join(re.escape(name) for name in _OUTER)})\.)+")


def cleaned(name: str, text_only: bool) -> str:
    """The name without what wrappers added.

    :param text_only: whether the model has no part called ``language_model`` of its own.
    """
    name = _PREFIX.sub("", _WRAPPER.sub("", name))
    if text_only:
        for prefix, own in _LANGUAGE.items():
            if name.startswith(prefix):
                return own + name[len(prefix) :]
    return name


def key_mapping(names: Collection[str], text_only: bool) -> dict[str, str]:
    """Regular expressions of what to replace in the names, and by what, in the order they apply.

    It is what ``from_pretrained`` takes as ``key_mapping``; empty where nothing needs to be replaced.

    :param names: of the tensors.
    :param text_only: see :func:`cleaned`.
    """
    mapping: dict[str, str] = {}
    for name in names:
        found = [match[0] for match in _WRAPPER.finditer(name)]
        # An expression replaces once a name; "(?:)" changes nothing but makes it another, which acts again.
        mapping |= {re.escape(part) + "(?:)" * found[:n].count(part): "" for n, part in enumerate(found)}
    unwrapped = [_WRAPPER.sub("", name) for name in names]
    mapping |= {"^" + re.escape(prefix[0]): "" for name in unwrapped if (prefix := _PREFIX.match(name))}
    if text_only:
        inner = [_PREFIX.sub("", name) for name in unwrapped]
        mapping |= {
            "^" + re.escape(prefix): own
            for prefix, own in _LANGUAGE.items()
            if any(name.startswith(prefix) for name in inner)
        }
    return mapping


def removed_parts(mapping: Mapping[str, str]) -> list[str]:
    """What a mapping takes out of the names, for people, each once."""
    parts = [re.sub(r"\\(.)", r"\1", pattern.replace("(?:)", "").removeprefix("^")) for pattern in mapping]
    return list(dict.fromkeys(parts))
