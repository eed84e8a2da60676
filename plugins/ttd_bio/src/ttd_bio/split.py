"""Molecular cross-validation: each molecule goes to train or to test, by itself (Batson et al., 2019).

A program that knew the generator's state could turn train counts back into test counts, one uniform number
an entry. So the seed is mixed with the digest of the counts themselves: the split is repeatable for whoever
holds the data, and its seed is unknown to a program that sees the train counts alone.
"""

from __future__ import annotations

import hashlib
from typing import Any

import attrs
import numpy as np
from scipy import sparse

from ttd_bio.counts import Counts, matrix_digest
from ttd_core.errors import UsageError


@attrs.frozen(eq=False)
class Split:
    """One data set in two parts, on the genes that have train counts.

    :param train: CSR int32 [cells, genes].
    :param test: CSR int32 [cells, genes].
    :param genes: names, one a column.
    :param cells: names, one a row.
    """

    train: Any
    test: Any
    genes: tuple[str, ...]
    cells: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes."""
        return int(self.train.shape[0]), int(self.train.shape[1])

    @property
    def digest(self) -> str:
        """SHA-256 over both parts: which split a score belongs to."""
        both = matrix_digest(self.train) + matrix_digest(self.test)
        return hashlib.sha256(both.encode()).hexdigest()


def split_molecules(counts: Counts, test_fraction: float = 0.1, seed: int = 42) -> Split:
    """Send each molecule to test with probability ``test_fraction``, as OpenProblems does.

    Entry by entry ``train ~ binomial(count, 1 - test_fraction)`` and ``test = count - train``. Genes left
    without train counts are dropped from both.

    :param test_fraction: in (0, 1).
    :param seed: not negative.
    :raises UsageError: when a part would be empty.
    """
    if not 0 < test_fraction < 1:
        raise UsageError(f"test_fraction must lie between 0 and 1, not {test_fraction:g}")
    if seed < 0:
        raise UsageError(f"split_seed must not be negative, not {seed}")
    whole = counts.matrix
    words = np.frombuffer(bytes.fromhex(counts.digest), np.uint32).tolist()
    rng = np.random.default_rng(np.random.SeedSequence([seed, *words]))
    kept = rng.binomial(whole.data, 1 - test_fraction).astype(np.int32)
    train = _part(kept, whole)
    test = _part(whole.data - kept, whole)
    genes = np.flatnonzero(np.bincount(train.indices, minlength=whole.shape[1]))
    train, test = train[:, genes].tocsr(), test[:, genes].tocsr()
    if not train.nnz or not test.nnz:
        raise UsageError(
            f"test_fraction {test_fraction:g} leaves no molecule in {'test' if train.nnz else 'train'}; "
            "choose another, or take more data"
        )
    for part in (train, test):
        part.sort_indices()
    return Split(train, test, tuple(counts.genes[gene] for gene in genes), counts.cells)


def _part(data: Any, whole: Any) -> Any:
    # Dropping zeros compacts the arrays in place, and both parts begin with the same ones.
    part = sparse.csr_matrix((data, whole.indices, whole.indptr), shape=whole.shape, copy=True)
    part.eliminate_zeros()
    return part
