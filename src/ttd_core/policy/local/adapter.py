"""The adapter's weights: float32 master weights and, in a model of another dtype, the copies it uses.

Sampling and training multiply in the model's own dtype, so an adapter in float32 would cast every layer's
input back and forth and keep a float32 copy of it for the backward pass. Instead the model holds the
adapter in its dtype, gradients are summed and steps are taken on float32 masters, and each step copies the
masters to the model. In a float32 model the two are one and the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import peft
import torch

from ttd_core.errors import EnvironmentLacksError
from ttd_core.policy.local import packed

#: Dimensions of one matrix of all experts.
_OF_ALL_EXPERTS = 3


#: What may learn: all linear layers, those of attention, or ``auto``: all, of mixtures of experts attention.
Adapt = Literal["auto", "attention", "all"]


def adapted(model: Any, adapt: Adapt, rank: int, alpha: float) -> Any:
    """The peft model around a transformers model, with new adapters in the model's dtype.

    :raises EnvironmentLacksError: when this release of peft cannot adapt experts.
    """
    with packed.standing_in(model), warnings.catch_warnings():
        # peft asks transformers by a name that transformers has since deprecated.
        warnings.simplefilter("ignore", FutureWarning)
        config = lora_config(model, adapt, rank, alpha)
        return peft.get_peft_model(model, config, autocast_adapter_dtype=False)


def lora_config(model: Any, adapt: Adapt, rank: int, alpha: float) -> peft.LoraConfig:
    """What peft is told.

    Experts are named one parameter at a time: what peft makes of them and of routers otherwise changes from
    release to release. A router is never adapted.

    :param model: a transformers model.
    :raises EnvironmentLacksError: when this release of peft cannot adapt experts.
    """
    parameters = expert_parameters(model) if adapt == "all" else []
    options: dict[str, Any] = {}
    if parameters:
        if "target_parameters" not in {field.name for field in dataclasses.fields(peft.LoraConfig)}:
            raise EnvironmentLacksError(
                "policy.options.adapt = all: this release of peft cannot adapt experts; install 0.17 or later"
            )
        options["target_parameters"] = parameters
    return peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=adapted_modules(model, "attention" if parameters else adapt),
        task_type=peft.TaskType.CAUSAL_LM,
        **options,
    )


def expert_parameters(model: Any) -> list[str]:
    """Names of the experts' matrices, as the ends of parameters' names; empty where they are modules."""
    names = {
        f"{name.rpartition('.')[0].rpartition('.')[2]}.experts.{own}"
        for name, module in model.named_modules()
        if name.endswith(".experts")
        for own, parameter in module.named_parameters(recurse=False)
        if parameter.dim() == _OF_ALL_EXPERTS
    }
    return sorted(names)


def adapted_modules(model: Any, adapt: Adapt) -> str | list[str]:
    """The linear layers that peft is told to adapt, as its ``target_modules``.

    :param model: a transformers model.
    """
    if adapt == "all" or (adapt == "auto" and not is_mixture(model)):
        return "all-linear"
    names = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and ("attn" in name or "attention" in name)
    }
    return sorted(names) or "all-linear"


def is_mixture(model: Any) -> bool:
    """Whether a model has experts."""
    return any(name.endswith(".experts") for name, _ in model.named_modules())


class Adapter:
    """The trained weights of a peft model.

    :param model: a peft model; whatever of it requires gradients is the adapter.
    """

    def __init__(self, model: Any) -> None:
        self._working = {name: p for name, p in model.named_parameters() if p.requires_grad}
        #: Float32 weights by name: what the optimiser steps and a checkpoint keeps.
        self.masters = {
            name: p if p.dtype == torch.float32 else torch.nn.Parameter(p.detach().float())
            for name, p in self._working.items()
        }

    def __iter__(self) -> Iterator[torch.nn.Parameter]:
        return iter(self.masters.values())

    def collect_gradients(self) -> None:
        """Add the gradients of the last backward pass to the masters', in float32."""
        copies = [
            (self.masters[name], working)
            for name, working in self._working.items()
            if working is not self.masters[name] and working.grad is not None
        ]
        if not copies:
            return
        wide = [torch.empty_like(master) for master, _ in copies]
        torch._foreach_copy_(wide, [working.grad for _, working in copies])
        for (master, working), gradient in zip(copies, wide, strict=True):
            master.grad = gradient if master.grad is None else master.grad.add_(gradient)
            working.grad = None

    @torch.no_grad()
    def copy_to_model(self) -> None:
        """Let the model use the masters as they are now."""
        pairs = [(working, self.masters[name]) for name, working in self._working.items()]
        copies = [(working, master) for working, master in pairs if working is not master]
        if copies:
            torch._foreach_copy_([working for working, _ in copies], [master for _, master in copies])

    def gradient_norm(self) -> float:
        """Euclidean norm of the collected gradients."""
        return global_norm([p.grad for p in self if p.grad is not None])

    def digest(self) -> str:
        """SHA-256 over names and weights, in name order: changes exactly when a weight does."""
        digest = hashlib.sha256()
        for name in sorted(self.masters):
            digest.update(name.encode())
            digest.update(self.masters[name].detach().contiguous().cpu().numpy().tobytes())
        return digest.hexdigest()


def global_norm(parts: Sequence[torch.Tensor]) -> float:
    """Euclidean norm of all parts together; the device is waited for once."""
    if not parts:
        return 0.0
    return float(torch.stack(torch._foreach_norm(list(parts))).double().square().sum().sqrt())
