"""MSE and Poisson loss of a denoised matrix against held-out counts, as OpenProblems defines them.

Both are sums over all entries that fall apart into a part over the prediction alone and a part over the few
entries where test has molecules. So test stays sparse, and the prediction is read once, in blocks of rows
that stay in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

#: Counts that each cell is normalised to before the logarithm.
TARGET_SUM = 10_000.0
#: Added inside the Poisson loss' logarithm.
EPSILON = 1e-6
_BLOCK_ENTRIES = 1 << 18

Floats = npt.NDArray[np.floating[Any]]


class RefusedError(ValueError):
    """A prediction that breaks a rule, in one sentence."""


@attrs.frozen
class Losses:
    """Losses of one prediction on one split; smaller is better.

    :param mse: mean squared difference of log1p counts after scaling each cell to 10,000.
    :param poisson: mean of ``test - p log(test + 1e-6)``, p the prediction scaled by sum(test)/sum(train).
    :param poisson_textbook: mean of ``p - test log(p + 1e-6)``, for information.
    """

    mse: float
    poisson: float
    poisson_textbook: float


@attrs.frozen
class Ends:
    """The losses between which scores are normalised.

    :param none: prediction = train ("no denoising"), normalised 0.
    :param perfect: prediction = test, normalised 1.
    """

    none: Losses
    perfect: Losses

    def normalised(self, name: str, loss: float) -> float:
        """A loss as 0 (no denoising) to 1 (perfect); may lie outside.

        :param name: ``mse`` or ``poisson``.
        """
        low, high = getattr(self.none, name), getattr(self.perfect, name)
        return float((low - loss) / (low - high))

    def score(self, losses: Losses) -> float:
        """OpenProblems' score: the mean of both normalised losses."""
        return (self.normalised("mse", losses.mse) + self.normalised("poisson", losses.poisson)) / 2


def losses(prediction: Any, train: Any, test: Any) -> Losses:
    """Both losses, in float64.

    :param prediction: dense [cells, genes] or sparse of the same shape, counts at train's depth.
    :param train: CSR [cells, genes]; its total sets the scale of the Poisson loss.
    :param test: CSR [cells, genes].
    :raises RefusedError: for a wrong shape, an entry that is negative, not finite, or above train's total.
    """
    _refuse_shape(prediction, test)
    total = float(train.sum())
    targets = _log_normalised(test)
    squares = 0.0
    volume = 0.0
    at_test = np.empty(test.nnz)
    for rows, block in _blocks(prediction):
        sums = _checked_sums(block, rows.start, total)
        volume += float(sums.sum())
        part = slice(test.indptr[rows.start], test.indptr[rows.stop])
        row_of = np.repeat(np.arange(len(block)), np.diff(test.indptr[rows.start : rows.stop + 1]))
        at_test[part] = block[row_of, test.indices[part]]
        # A cell that is predicted empty stays empty.
        scale = TARGET_SUM / np.where(sums > 0, sums, 1.0)
        logs = np.log1p(np.multiply(block, scale[:, None], out=block), out=block)
        goal = targets[part]
        there = logs[row_of, test.indices[part]]
        squares += float(np.einsum("ij,ij->", logs, logs) + (goal * (goal - 2.0 * there)).sum())
    entries = test.shape[0] * test.shape[1]
    # Equal matrices leave a rounding error of either sign.
    return Losses(max(0.0, squares) / entries, *_poisson(at_test, volume, test, total, entries))


def ends(train: Any, test: Any) -> Ends:
    """The losses of train and of test taken as predictions."""
    return Ends(losses(train, train, test), losses(test, train, test))


def _poisson(
    at_test: npt.NDArray[np.float64], volume: float, test: Any, total: float, entries: int
) -> tuple[float, float]:
    """Both forms of the loss from the prediction's volume and its entries where test has molecules."""
    scale = float(test.sum()) / total
    p = at_test * scale
    volume *= scale
    counts = test.data.astype(np.float64)
    nothing = volume - float(p.sum())
    swapped = counts.sum() - np.log(EPSILON) * nothing - float((p * np.log(counts + EPSILON)).sum())
    textbook = volume - float((counts * np.log(p + EPSILON)).sum())
    return float(swapped) / entries, textbook / entries


def _log_normalised(test: Any) -> npt.NDArray[np.float64]:
    sums = np.asarray(test.sum(axis=1), np.float64).ravel()
    scale = TARGET_SUM / np.where(sums > 0, sums, 1.0)
    logs: npt.NDArray[np.float64] = np.log1p(test.data * np.repeat(scale, np.diff(test.indptr)))
    return logs


def _refuse_shape(prediction: Any, test: Any) -> None:
    if prediction.shape == test.shape:
        return
    turned = len(prediction.shape) == 2 and prediction.shape == test.shape[::-1]
    hint = ": it is transposed" if turned else ""
    raise RefusedError(f"the result has shape {tuple(prediction.shape)}, not {tuple(test.shape)}{hint}")


def _blocks(prediction: Any) -> Iterator[tuple[slice, npt.NDArray[np.float64]]]:
    """Blocks of rows as float64 copies."""
    rows, columns = prediction.shape
    step = max(1, _BLOCK_ENTRIES // max(1, columns))
    for start in range(0, rows, step):
        stop = min(rows, start + step)
        part = prediction[start:stop]
        dense = part if isinstance(part, np.ndarray) else part.toarray()
        yield slice(start, stop), np.array(dense, np.float64, order="C")


def _checked_sums(block: npt.NDArray[np.float64], first: int, total: float) -> npt.NDArray[np.float64]:
    """The sums of the block's rows, once every entry is known to be allowed."""
    # Comparisons with NaN are false, so that NaN fails both tests.
    if not (block.min() >= 0 and block.max() <= total):
        row, column = np.argwhere(~((block >= 0) & (block <= total)))[0].tolist()
        value = float(block[row, column])
        why = "not finite" if not np.isfinite(value) else "negative" if value < 0 else ""
        why = why or f"above the sum of all train counts, {total:.0f}"
        raise RefusedError(f"the entry at [{first + row}, {column}] is {value!r}: {why}")
    sums: npt.NDArray[np.float64] = block.sum(axis=1)
    return sums
