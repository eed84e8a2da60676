"""Whether an output is right, and if not, what it looks like: the reason that a verdict gives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from ttd_kernels.case import Output

#: Elements compared at once: bounds the memory that a comparison takes.
_CHUNK = 1 << 27
#: What outputs are filled with before a call, so that an element never written shows: a NaN of this pattern.
POISON = 0xFF


def wrong_elements(found: torch.Tensor, expected: torch.Tensor, rtol: float, atol: float) -> int:
    """How many elements are not within tolerance; NaN and infinity never are, unless expected.

    :param found: of the same shape and dtype as ``expected``.
    """
    count = 0
    for one, two in _chunks(found, expected):
        right = torch.isclose(one, two, rtol=rtol, atol=atol)
        count += int(one.numel() - int(right.sum()))
    return count


def _chunks(found: torch.Tensor, expected: torch.Tensor) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
    one, two = found.reshape(-1), expected.reshape(-1)
    for start in range(0, max(one.numel(), 1), _CHUNK):
        yield one[start : start + _CHUNK].float(), two[start : start + _CHUNK].float()


def find_wrong(
    found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor], outputs: Sequence[Output]
) -> str:
    """The first output that is wrong, in words; empty when all are right."""
    for number, (one, two, output) in enumerate(zip(found, expected, outputs, strict=True), start=1):
        count = wrong_elements(one, two, output.rtol, output.atol)
        if count:
            which = f"output {number}" if len(outputs) > 1 else "the output"
            return f"{which} is wrong: {_described(one, two, count)}"
    return ""


def same(found: Sequence[torch.Tensor], other: Sequence[torch.Tensor], outputs: Sequence[Output]) -> bool:
    """Whether every output is within tolerance of another set."""
    return all(one.shape == two.shape for one, two in zip(found, other, strict=True)) and not find_wrong(
        found, other, outputs
    )


def _described(found: torch.Tensor, expected: torch.Tensor, count: int) -> str:
    one, two = found.reshape(-1), expected.reshape(-1)
    poisoned = int((one.view(torch.uint8).view(-1, one.element_size()) == POISON).all(1).sum())
    if poisoned == one.numel():
        return "it was never written"
    finite = torch.isfinite(one)
    bad = int(one.numel() - int(finite.sum()))
    if bad:
        return f"{bad} of {one.numel()} elements are NaN or infinite"
    error = (one.float() - two.float()).abs()
    place = int(error.argmax())
    share = 100.0 * count / one.numel()
    return (
        f"{count} of {one.numel()} elements ({share:.2g} %) are off, one by {float(error[place]):.3g} "
        f"where {float(two[place]):.4g} is expected"
    )
