"""A low-rank approximation with a threshold, in the manner of ALRA (Linderman et al., 2022).

The rank is where the gaps between singular values sink into noise. An entry counts as absent unless it
exceeds the most negative entry of its gene, for the truth is not negative; what is left is scaled back to the
mean and spread of the gene's observed entries.
"""

import numpy as np
from sklearn.utils.extmath import randomized_svd

MOST = 100
NOISE_FROM = 80
DEVIATIONS = 6.0


def rank(values):
    """Number of singular values above the noise."""
    gaps = values[:-1] - values[1:]
    noise = gaps[min(NOISE_FROM, len(gaps) // 2) :]
    large = np.flatnonzero(gaps > noise.mean() + DEVIATIONS * noise.std())
    return int(large[-1]) + 1 if len(large) else 1


def magic_denoise(X, **kwargs):
    """Denoised counts, float64 [cells, genes]."""
    size = np.maximum(X.sum(axis=1, keepdims=True), 1.0)
    A = np.sqrt(X / size)
    left, values, right = randomized_svd(A, min(MOST, min(A.shape) - 1), random_state=0)
    k = rank(values)
    low = (left[:, :k] * values[:k]) @ right[:k]
    low[low <= np.maximum(-low.min(axis=0), 0.0)] = 0.0
    seen, kept = (A > 0).sum(axis=0), (low > 0).sum(axis=0)
    for gene in np.flatnonzero((seen > 1) & (kept > 1)):
        there, observed = low[:, gene] > 0, A[A[:, gene] > 0, gene]
        column = low[there, gene]
        spread = column.std()
        if spread > 0 and observed.std() > 0:
            low[there, gene] = (column - column.mean()) / spread * observed.std() + observed.mean()
    lost = (low <= 0) & (A > 0)
    low[lost] = A[lost]
    return np.maximum(low, 0.0) ** 2 * size
