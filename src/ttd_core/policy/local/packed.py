"""gpt-oss as it is published: experts in four bits, read from disk to the device and kept packed there.

transformers unpacks them to bfloat16 unless kernels from the hub are installed, which then cannot learn; so
the model is made here without memory, its experts replaced, and every tensor put in its place as it is read.
"""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import safetensors
import torch
import transformers
from torch import Tensor
from torch.nn import functional

from ttd_core.errors import ModelUnavailableError
from ttd_core.policy.local.lean.mxfp4 import GROUP, LARGEST_ARRANGED_SCALE, arranged, unpack, unpack_arranged
from ttd_core.policy.local.weights import require_all
from ttd_core.policy.models.files import reading
from ttd_core.policy.models.folder import ModelFolder
from ttd_core.policy.models.quiet import quiet
from ttd_core.policy.models.tokenizer import LOCAL

_NAMES = ("gate_up_proj", "down_proj")
#: A scale that stands for no number.
_NO_NUMBER = 255


def is_packed(folder: ModelFolder) -> bool:
    """Whether a folder holds gpt-oss with packed experts."""
    quantization = folder.config.get("quantization_config")
    return (
        folder.config.get("model_type") == "gpt_oss"
        and isinstance(quantization, dict)
        and quantization.get("quant_method") == "mxfp4"
        and any(name.endswith("_blocks") for name in folder.tensors)
    )


class PackedExperts(torch.nn.Module):
    """Experts of one layer, packed, under the names they are published with.

    The lean engine reads the tensors, and may have them arranged first. :meth:`forward`, which unpacks each
    expert when it is needed, is for models that cannot run lean.

    :param experts: transformers' module that it takes the place of.
    """

    #: How :func:`standing_in` lays matrices: [experts, inputs, outputs].
    is_transposed = True

    def __init__(self, experts: Any) -> None:
        super().__init__()
        self.alpha, self.limit = experts.alpha, experts.limit
        self._arranged: set[str] = set()
        for name in _NAMES:
            count, inputs, outputs = getattr(experts, name).shape
            shape = (count, outputs, inputs // GROUP)
            blocks = torch.empty(*shape, GROUP // 2, dtype=torch.uint8)
            self.register_buffer(f"{name}_blocks", blocks)
            self.register_buffer(f"{name}_scales", torch.empty(shape, dtype=torch.uint8))
            setattr(self, f"{name}_bias", getattr(experts, f"{name}_bias"))

    def forward(self, x: Tensor, router_indices: Tensor, routing_weights: Tensor) -> Tensor:
        """The experts' weighted sum [tokens, hidden size], as transformers' module has it."""
        result = torch.zeros_like(x)
        for expert in sorted(set(router_indices.flatten().tolist())):
            tokens, choices = torch.where(router_indices == expert)
            both = self._product(x[tokens], "gate_up_proj", expert)
            gate, up = both[:, ::2].clamp(max=self.limit), both[:, 1::2].clamp(-self.limit, self.limit)
            gated = (up + 1) * gate * torch.sigmoid(self.alpha * gate)
            part = self._product(gated, "down_proj", expert) * routing_weights[tokens, choices, None]
            result = result.index_add(0, tokens, part.to(x.dtype))
        return result

    @torch.no_grad()
    def arrange(self, name: str) -> bool:
        """Lay one matrix's codes as the kernels read them fastest (:mod:`.lean.mxfp4`), in the same memory.

        They stay as they are published where a scale is too large for that. Again, it changes nothing.

        :param name: ``gate_up_proj`` or ``down_proj``.
        :return: whether they are arranged now.
        """
        blocks, scales = getattr(self, f"{name}_blocks"), getattr(self, f"{name}_scales")
        if self.is_arranged(name):
            return True
        if bool((scales > LARGEST_ARRANGED_SCALE).any()):
            return False
        found = []
        for one in blocks, scales:
            found.append(one.contiguous().view(len(one), -1))
        for expert in range(len(blocks)):
            # What is copied from is new: nothing is written before it was read.
            new = arranged(blocks[expert], scales[expert])
            for lying, one in zip(found, new, strict=True):
                lying[expert] = one.flatten()
        for part, lying, one in zip(("blocks", "scales"), found, new, strict=True):
            self.register_buffer(f"{name}_{part}", lying.view(len(lying), *one.shape))
        self._arranged.add(name)
        return True

    def is_arranged(self, name: str) -> bool:
        """Whether a matrix's codes lie so."""
        return name in self._arranged

    def _product(self, x: Tensor, name: str, expert: int) -> Tensor:
        blocks, scales, bias = (
            getattr(self, f"{name}_{part}")[expert] for part in ("blocks", "scales", "bias")
        )
        unpacked = (unpack_arranged if self.is_arranged(name) else unpack)(blocks, scales, x.dtype)
        return functional.linear(x, unpacked, bias)


@contextlib.contextmanager
def standing_in(model: Any) -> Iterator[None]:
    """For a ``with`` block, packed experts have parameters of the shapes of unpacked ones, without memory.

    peft looks at such a parameter when it adapts it; afterwards nothing reads it.
    """
    experts = [module for module in model.modules() if isinstance(module, PackedExperts)]
    for module in experts:
        for name in _NAMES:
            bias = getattr(module, f"{name}_bias")
            count, outputs = bias.shape
            groups = getattr(module, f"{name}_scales")[0].numel() // outputs
            empty = torch.empty((), dtype=bias.dtype, device=bias.device)
            shape = (count, groups * GROUP, outputs)
            module.register_parameter(name, torch.nn.Parameter(empty.expand(shape), requires_grad=False))
    try:
        yield
    finally:
        for module in experts:
            for name in _NAMES:
                delattr(module, name)


def has_adapted(model: Any) -> bool:
    """Whether packed experts of a model are adapted."""
    return any(
        isinstance(getattr(module, "base_layer", None), PackedExperts)
        for module in model.modules()
        if not isinstance(module, PackedExperts)
    )


def load(folder: ModelFolder, shown: pathlib.Path, dtype: torch.dtype, device: torch.device) -> Any:
    """The model on its device; tensors of other floats than ``dtype`` are converted one by one.

    :param shown: the folder for libraries to read.
    :raises ModelUnavailableError: when a weight is missing, has another shape, or is no number.
    """
    with reading(folder.path, "config", shown), quiet():
        config = transformers.AutoConfig.from_pretrained(shown, **LOCAL)
        del config.quantization_config
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)
            for layer in model.model.layers:
                layer.mlp.experts = PackedExperts(layer.mlp.experts)
        # What is computed and not read must not stay without memory.
        model.model.rotary_emb = type(model.model.rotary_emb)(config).to(device)
        if (shown / "generation_config.json").exists():
            model.generation_config = transformers.GenerationConfig.from_pretrained(shown, **LOCAL)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if config.tie_word_embeddings:
        del expected["lm_head.weight"]
    found = {name: tuple(tensor.shape) for name, tensor in folder.tensors.items()}
    info = {
        "missing_keys": expected.keys() - found.keys(),
        "unexpected_keys": found.keys() - expected.keys(),
        "mismatched_keys": [
            (name, found[name], shape)
            for name, shape in expected.items()
            if name in found and found[name] != shape
        ],
    }
    require_all(model, info, folder.path, found)
    _fill(model, folder, set(expected), dtype, device)
    model.tie_weights()
    return model


def _fill(model: Any, folder: ModelFolder, names: set[str], dtype: torch.dtype, device: torch.device) -> None:
    """Read the tensors in their files' order, a progress bar shown, and put each in its place."""
    # Not shown where nobody looks at a terminal.
    progress = transformers.utils.logging.tqdm(total=len(names), desc="weights", leave=False, disable=None)
    with progress:
        for file in folder.weights:
            with reading(file, "weights"), safetensors.safe_open(file, "pt", device=str(device)) as tensors:
                state = {}
                for name in [name for name in tensors.keys() if name in names]:  # noqa: SIM118 - no mapping
                    tensor = tensors.get_tensor(name)
                    if name.endswith("_scales") and bool((tensor == _NO_NUMBER).any()):
                        raise ModelUnavailableError(
                            f"the model in {folder.path} is damaged: '{name}' holds scales that are no "
                            "numbers; download it again"
                        )
                    state[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
                    progress.update()
                model.load_state_dict(state, strict=False, assign=True)
