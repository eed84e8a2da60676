"""Whether an output is right, and if not, what it looks like: the reason that a verdict gives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from ttd_kernels.harness.kernel_io import OutputSpec

#: Elements compared at once: bounds the memory that a comparison takes.
_CHUNK = 1 << 27
#: The byte that outputs are filled with before a call, so that an element never written shows: in every
#: floating-point type here a value of these bytes is NaN.
POISON = 0xFF


def count_mismatches(output: torch.Tensor, expected: torch.Tensor, rtol: float, atol: float) -> int:
    """How many elements are not within tolerance; NaN and infinity never are, unless expected.

    :param output: of the same shape and dtype as ``expected``.
    :param rtol: relative tolerance, see :class:`~ttd_kernels.harness.kernel_io.OutputSpec`.
    :param atol: absolute tolerance.
    """
    mismatches = 0
    for output_chunk, expected_chunk in _chunks(output, expected):
        close = torch.isclose(output_chunk, expected_chunk, rtol=rtol, atol=atol)
        mismatches += int(output_chunk.numel() - int(close.sum()))
    return mismatches


def _chunks(output: torch.Tensor, expected: torch.Tensor) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
    flat_output, flat_expected = output.reshape(-1), expected.reshape(-1)
    for start in range(0, max(flat_output.numel(), 1), _CHUNK):
        yield flat_output[start : start + _CHUNK].float(), flat_expected[start : start + _CHUNK].float()


def describe_mismatch(
    outputs: Sequence[torch.Tensor], expected: Sequence[torch.Tensor], specs: Sequence[OutputSpec]
) -> str:
    """The first output that is wrong, in words; empty when all are right.

    :param outputs: what a kernel returned, of the shapes and dtypes of ``specs``.
    :param expected: what it should have.
    """
    for number, (output, right, spec) in enumerate(zip(outputs, expected, specs, strict=True), start=1):
        mismatches = count_mismatches(output, right, spec.rtol, spec.atol)
        if mismatches:
            which = f"output {number}" if len(specs) > 1 else "the output"
            return f"{which} is wrong: {_description(output, right, mismatches)}"
    return ""


def all_close(
    outputs: Sequence[torch.Tensor], others: Sequence[torch.Tensor], specs: Sequence[OutputSpec]
) -> bool:
    """Whether every output is within tolerance of another set of outputs."""
    same_shapes = all(output.shape == other.shape for output, other in zip(outputs, others, strict=True))
    return same_shapes and not describe_mismatch(outputs, others, specs)


def _description(output: torch.Tensor, expected: torch.Tensor, mismatches: int) -> str:
    flat_output, flat_expected = output.reshape(-1), expected.reshape(-1)
    element_bytes = flat_output.view(torch.uint8).view(-1, flat_output.element_size())
    if int((element_bytes == POISON).all(1).sum()) == flat_output.numel():
        return "it was never written"
    finite = torch.isfinite(flat_output)
    not_finite = int(flat_output.numel() - int(finite.sum()))
    if not_finite:
        return f"{not_finite} of {flat_output.numel()} elements are NaN or infinite"
    error = (flat_output.float() - flat_expected.float()).abs()
    worst = int(error.argmax())
    share = 100.0 * mismatches / flat_output.numel()
    return (
        f"{mismatches} of {flat_output.numel()} elements ({share:.2g} %) are off, one by "
        f"{float(error[worst]):.3g} where {float(flat_expected[worst]):.4g} is expected"
    )
