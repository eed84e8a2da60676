"""Expected log counts: smooth the rates over similar cells, then predict what the score asks for.

A held-out count is taken as Poisson around the smoothed rate. What minimises the mean squared error of
log1p counts is then the expectation of that logarithm, not the logarithm of the expectation. The score scales
each cell to one total; as the expected logarithms fill only a part of it, the rest goes to each cell's most
expressed gene, where a logarithm changes least. The result is at the held-out counts' depth, for the Poisson loss.
"""

import numpy as np
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

COMPONENTS = 30
NEIGHBOURS = 15
STEPS = 2
OWN = 0.45
PRIOR = 0.02
TEST_FRACTION = 0.1
TARGET_SUM = 1e4
# The result is at the depth of the held-out counts.
SCALE = TEST_FRACTION / (1 - TEST_FRACTION)


def components(counts, sizes):
    """Cells in the space of the leading components of square-rooted, normalised counts."""
    scaled = sparse.diags(np.median(sizes) / sizes) @ counts
    scaled.data = np.sqrt(scaled.data)
    left, weights, _ = randomized_svd(scaled, min(COMPONENTS, min(counts.shape) - 1), random_state=0)
    return left * weights


def similarity(points):
    """Row-stochastic weights between cells, by distance over the reach of each cell's neighbours."""
    squares = (points**2).sum(axis=1)
    apart = np.maximum(squares[:, None] + squares[None, :] - 2 * points @ points.T, 0)
    near = min(NEIGHBOURS, len(points) - 1)
    reach = np.partition(apart, near, axis=1)[:, near]
    kernel = np.exp(-apart / np.maximum(reach, 1e-12)[:, None])
    kernel[kernel < 1e-3] = 0
    kernel = kernel + kernel.T
    weights = kernel / kernel.sum(axis=1, keepdims=True)
    return (1 - OWN) * np.linalg.matrix_power(weights, STEPS) + OWN * np.eye(len(points))


def rates(counts, sizes, weights):
    """Each cell's expected share of every gene, float32 [cells, genes]."""
    pooled = (counts.T @ weights.T).T
    overall = np.asarray(counts.sum(axis=0)).ravel() / counts.sum()
    smooth = pooled / (weights @ sizes)[:, None]
    return ((1 - PRIOR) * smooth + PRIOR * overall).astype(np.float32)


def expected_log(share, size):
    """Expectation of log1p of a cell's held-out counts scaled to the target, by a table over Poisson means."""
    held_out = size * TEST_FRACTION / (1 - TEST_FRACTION)
    mean = share * held_out
    table = np.concatenate([[0.0], np.geomspace(1e-5, 60.0, 300)])
    count = np.arange(1, 151)
    factorials = np.cumsum(np.log(count))
    chance = np.exp(count * np.log(np.maximum(table, 1e-300))[:, None] - table[:, None] - factorials)
    values = chance @ np.log1p(count * TARGET_SUM / held_out)
    return np.where(mean < 60, np.interp(mean, table, values), np.log1p(share * TARGET_SUM))


def magic_denoise(X, **kwargs):
    """Denoised counts, float64 [cells, genes]."""
    counts = sparse.csr_matrix(X, dtype=np.float64)
    sizes = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1.0)
    share = rates(counts, sizes, similarity(components(counts, sizes)))
    result = np.empty(counts.shape)
    for cell in range(len(share)):
        wanted = np.expm1(expected_log(share[cell], sizes[cell]))
        wanted[np.argmax(wanted)] += max(0.0, TARGET_SUM - wanted.sum())
        result[cell] = wanted * (SCALE * sizes[cell] / TARGET_SUM)
    return result
