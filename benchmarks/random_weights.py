"""The random weights that benchmarks measure with: one rule, by name and shape, for every engine.

The weights decide what routers choose, and what they choose is what a mixture's step costs. So ours and its
peers draw the same tensors, each from a generator of its own, seeded by its name, on the device it is for.
Names are those of published checkpoints, except that all experts of Qwen3 lie in one tensor a matrix, as
transformers has them in memory; :func:`as_published` gives them apart.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

#: Standard deviation of matrices: keeps the size of what passes through those of 2,000 to 4,000 inputs.
STD = 0.02
#: Standard deviation of a mixture's embeddings. With 0.02 what a layer adds outweighs the token itself:
#: attention reads the same prompt for all rows of a group, the rows become alike, and routers send them all
#: to the same few experts. A layer adds numbers of 0.1 to 0.4. Beside 6 that is too little for a group to
#: become alike in 48 layers; beside 4 it is not. Beside more, bfloat16 would round off more of it. As it is,
#: wrong queries in all of 12 layers moved log-probabilities by ten times what rounding did, and missing
#: experts in all of them by three times. Logits are those of a normed stream, whatever its size.
MIXTURE_EMBEDDING_STD = 6.0


@torch.no_grad()
def fill(name: str, tensor: Tensor, mixture: bool) -> None:
    """Draw one tensor in place. Norms are 1; biases are 0, for all rows would choose by those of a router.

    :param name: as the module's docstring says; it seeds the tensor's generator.
    :param tensor: of floats, or of bytes: packed codes and their scales.
    :param mixture: of experts; a dense model's embeddings, which may be its head, are drawn as all else.
    """
    generator = torch.Generator(tensor.device).manual_seed(zlib.crc32(name.encode()))
    if "norm" in name:
        tensor.fill_(1.0)
    elif name.endswith("bias"):
        tensor.zero_()
    elif name.endswith("_blocks"):
        tensor.random_(0, 256, generator=generator)
    elif name.endswith("_scales"):
        # Codes are about 3 in size: weights of about 0.02.
        tensor.random_(119, 121, generator=generator)
    else:
        is_embedding = name.endswith("embed_tokens.weight")
        tensor.normal_(std=MIXTURE_EMBEDDING_STD if mixture and is_embedding else STD, generator=generator)


def drawn(tensors: Mapping[str, Tensor], mixture: bool, device: torch.device) -> Iterator[tuple[str, Tensor]]:
    """The same tensors on a device, one after another, each made when it is asked for.

    :param tensors: names, shapes and types; may be without memory.
    """
    for name, like in tensors.items():
        tensor = torch.empty(like.shape, dtype=like.dtype, device=device)
        fill(name, tensor, mixture)
        yield name, tensor


def as_published(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """A tensor under the name that a checkpoint has for it; of Qwen3's experts, every matrix by itself."""
    stem, _, kind = name.rpartition(".")
    if not stem.endswith(".experts") or kind not in ("gate_up_proj", "down_proj"):
        yield name, tensor
        return
    for number, matrix in enumerate(tensor):
        if kind == "down_proj":
            yield f"{stem}.{number}.down_proj.weight", matrix
            continue
        # All gates lie before all ups.
        for part, half in zip(("gate_proj", "up_proj"), matrix.chunk(2), strict=True):
            yield f"{stem}.{number}.{part}.weight", half
