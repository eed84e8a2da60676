"""MSE and Poisson loss of denoised counts against held-out molecules, as OpenProblems defines them.

OpenProblems' denoising task (Luecken et al., Nature Biotechnology 2025) scores a method by molecular
cross-validation (Batson et al., bioRxiv 2019): what the method makes of the train molecules is compared with
the test molecules of the same cells.

Both losses are sums over all cells and genes that fall apart into a part over the denoised counts alone and a
part over the few entries where test has molecules. So test stays sparse, and the denoised counts are read
once, in blocks of cells that stay in the processor's cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

#: Library size that each cell is normalised to before the logarithm.
TARGET_SUM = 10_000.0
#: Added inside the Poisson loss' logarithm.
EPSILON = 1e-6
#: Largest mean of squared differences between normalised log1p counts, with room for rounding.
MAX_MSE = 1.001 * math.log1p(TARGET_SUM) ** 2
#: Entries of the denoised counts that are looked at together.
_BLOCK_ENTRIES = 1 << 18
#: Sums of a cell below which it is lifted before it is scaled, and by what: up to 10,000 / 5e-324 overflows.
_SMALL_SUM, _LIFT = 2.0**-960, 2.0**512

Floats = npt.NDArray[np.floating[Any]]


class InvalidResult(ValueError):
    """Denoised counts break a rule: a wrong shape, or an entry that no loss can be taken of; one sentence."""


@attrs.frozen
class Losses:
    """Losses of one matrix of denoised counts on one split; smaller is better.

    :param mse: mean over cells and genes of the squared difference between denoised and test counts, after
        each cell is scaled to a library size of 10,000 and log1p taken.
    :param poisson: mean of ``test - p log(test + 1e-6)``, p the denoised counts times sum(test) / sum(train).
        So OpenProblems computes it, with the two arguments of the Poisson log-likelihood swapped.
    :param poisson_textbook: mean of ``p - test log(p + 1e-6)``, the usual way round; for information only.
    """

    mse: float
    poisson: float
    poisson_textbook: float


@attrs.frozen
class ControlLosses:
    """Losses of OpenProblems' two control methods, between which the losses of all others are normalised.

    :param no_denoising: of the train counts as they are (the negative control), normalised 0.
    :param perfect_denoising: of the test counts themselves (the positive control), normalised 1.
    """

    no_denoising: Losses
    perfect_denoising: Losses

    @property
    def apart(self) -> bool:
        """Whether both losses differ between the two, so that others can be normalised between them."""
        worst, best = self.no_denoising, self.perfect_denoising
        return worst.mse > best.mse and worst.poisson != best.poisson

    def normalised(self, name: str, loss: float) -> float:
        """A loss on the scale from 0 (no denoising) to 1 (perfect denoising); it may lie outside.

        :param name: ``mse`` or ``poisson``.
        """
        worst, best = getattr(self.no_denoising, name), getattr(self.perfect_denoising, name)
        return float((worst - loss) / (worst - best))

    def score(self, losses: Losses) -> float:
        """OpenProblems' score: the mean of the normalised MSE and the normalised Poisson loss."""
        return (self.normalised("mse", losses.mse) + self.normalised("poisson", losses.poisson)) / 2


def losses(denoised: Any, train: Any, test: Any) -> Losses:
    """Both losses, in float64.

    :param denoised: dense [cells, genes] or sparse of the same shape, counts at the depth of train.
    :param train: CSR [cells, genes]; its total sets the scale of the Poisson loss.
    :param test: CSR [cells, genes].
    :raises InvalidResult: for a wrong shape, for an entry that is negative, not finite or above train's
        total, and for a loss that is not finite.
    """
    check_shape(denoised, test)
    train_total = float(train.sum())
    test_logs = _log_normalised(test)
    squared_error = 0.0
    denoised_total = 0.0
    denoised_at_test = np.empty(test.nnz)
    for cells, block in _blocks(denoised):
        library_sizes = _checked_library_sizes(block, cells.start, train_total)
        denoised_total += float(library_sizes.sum())
        entries = slice(test.indptr[cells.start], test.indptr[cells.stop])
        cell_of = np.repeat(np.arange(len(block)), np.diff(test.indptr[cells.start : cells.stop + 1]))
        denoised_at_test[entries] = block[cell_of, test.indices[entries]]
        library_sizes = _lifted(block, library_sizes)
        # A cell that is denoised to nothing stays empty.
        scale = TARGET_SUM / np.where(library_sizes > 0, library_sizes, 1.0)
        logs = np.log1p(np.multiply(block, scale[:, None], out=block), out=block)
        # (a - b)^2 = a^2 + b (b - 2 a), and the second term is 0 where test has no molecule.
        held_out = test_logs[entries]
        at_test = logs[cell_of, test.indices[entries]]
        squared_error += float(
            np.einsum("ij,ij->", logs, logs) + (held_out * (held_out - 2.0 * at_test)).sum()
        )
    size = test.shape[0] * test.shape[1]
    poisson = _poisson(denoised_at_test, denoised_total, test, train_total, size)
    # Of NaN, max would make 0: a perfect loss.
    if not all(map(math.isfinite, (squared_error, *poisson))):
        raise InvalidResult("no finite loss can be taken of the result")
    # Equal matrices leave a rounding error of either sign.
    return Losses(max(0.0, squared_error) / size, *poisson)


def control_losses(train: Any, test: Any) -> ControlLosses:
    """The losses of the train counts and of the test counts, each taken as denoised counts.

    :param train: CSR [cells, genes].
    :param test: CSR [cells, genes].
    """
    return ControlLosses(losses(train, train, test), losses(test, train, test))


def _poisson(
    denoised_at_test: npt.NDArray[np.float64],
    denoised_total: float,
    test: Any,
    train_total: float,
    size: int,
) -> tuple[float, float]:
    """OpenProblems' form of the loss and the textbook's, means over ``size`` entries.

    :param denoised_at_test: denoised counts where test has molecules, in test's order.
    """
    scale = float(test.sum()) / train_total
    p = denoised_at_test * scale
    p_total = denoised_total * scale
    counts = test.data.astype(np.float64)
    p_elsewhere = p_total - float(p.sum())
    swapped = counts.sum() - np.log(EPSILON) * p_elsewhere - float((p * np.log(counts + EPSILON)).sum())
    textbook = p_total - float((counts * np.log(p + EPSILON)).sum())
    return float(swapped) / size, textbook / size


def _log_normalised(test: Any) -> npt.NDArray[np.float64]:
    """Normalised log1p counts of the entries where test has molecules, in its order."""
    library_sizes = np.asarray(test.sum(axis=1), np.float64).ravel()
    scale = TARGET_SUM / np.where(library_sizes > 0, library_sizes, 1.0)
    logs: npt.NDArray[np.float64] = np.log1p(test.data * np.repeat(scale, np.diff(test.indptr)))
    return logs


def check_shape(denoised: Any, test: Any) -> None:
    """Refuse denoised counts of another shape than the data's.

    :param denoised: an array or a sparse matrix.
    :param test: sparse [cells, genes].
    :raises InvalidResult: when the shapes differ.
    """
    if denoised.shape == test.shape:
        return
    transposed = len(denoised.shape) == 2 and denoised.shape == test.shape[::-1]
    hint = ": it is transposed" if transposed else ""
    raise InvalidResult(f"the result has shape {tuple(denoised.shape)}, not {tuple(test.shape)}{hint}")


def _lifted(
    block: npt.NDArray[np.float64], library_sizes: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The cells' sums, after those so small that dividing by them overflows were lifted by a power of two.

    :param block: [cells, genes]; changed in place, which no share of a cell's sum notices.
    """
    small = (library_sizes > 0) & (library_sizes < _SMALL_SUM)
    if not small.any():
        return library_sizes
    block[small] *= _LIFT
    return np.where(small, block.sum(axis=1), library_sizes)


def _blocks(denoised: Any) -> Iterator[tuple[slice, npt.NDArray[np.float64]]]:
    """Blocks of cells: which, and a float64 copy of their denoised counts."""
    cells, genes = denoised.shape
    step = max(1, _BLOCK_ENTRIES // max(1, genes))
    for start in range(0, cells, step):
        stop = min(cells, start + step)
        part = denoised[start:stop]
        dense = part if isinstance(part, np.ndarray) else part.toarray()
        # What is too large for float64 becomes infinite, and is refused as that.
        with np.errstate(over="ignore"):
            block = np.array(dense, np.float64, order="C")
        yield slice(start, stop), block


def _checked_library_sizes(
    block: npt.NDArray[np.float64], first: int, train_total: float
) -> npt.NDArray[np.float64]:
    """The sums of the block's cells, once every entry is known to be allowed.

    :param first: number of the block's first cell, for the message.
    :raises InvalidResult: naming the first entry that is not.
    """
    # Comparisons with NaN are false, so that NaN fails both tests.
    if not (block.min() >= 0 and block.max() <= train_total):
        cell, gene = np.argwhere(~((block >= 0) & (block <= train_total)))[0].tolist()
        value = float(block[cell, gene])
        why = "not finite" if not np.isfinite(value) else "negative" if value < 0 else ""
        why = why or f"above the sum of all train counts, {train_total:.0f}"
        raise InvalidResult(f"the entry at [{first + cell}, {gene}] is {value!r}: {why}")
    sums: npt.NDArray[np.float64] = block.sum(axis=1)
    return sums
