"""Diffusion over a graph of similar cells, in the manner of MAGIC (van Dijk et al., 2018)."""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

KNN = 5
KNN_MAX = 15
DECAY = 1
T = 3
COMPONENTS = 100
SQRT_FIRST = True
APPROXIMATE = True
THRESHOLD = 1e-4


def normalise(X):
    """Square root and division by library size, in either order; also the library sizes used."""
    if SQRT_FIRST:
        X = np.sqrt(X)
    size = X.sum(axis=1, keepdims=True)
    size[size == 0] = 1.0
    X = X / size
    return (X if SQRT_FIRST else np.sqrt(X)), size


def diffusion(points):
    """Row-stochastic matrix of one diffusion step."""
    near = NearestNeighbors(n_neighbors=min(KNN + 1, len(points))).fit(points)
    reach = np.maximum(near.kneighbors(points)[0][:, -1], 1e-12)
    apart = near.kneighbors_graph(n_neighbors=min(KNN_MAX + 1, len(points)), X=points, mode="distance")
    apart.data = np.exp(-((apart.data / np.repeat(reach, np.diff(apart.indptr))) ** DECAY))
    apart.data[apart.data < THRESHOLD] = 0
    kernel = apart.toarray()
    np.fill_diagonal(kernel, 1.0)
    kernel = (kernel + kernel.T) / 2
    return kernel / kernel.sum(axis=1, keepdims=True)


def magic_denoise(X, **kwargs):
    """Denoised counts, float64 [cells, genes]."""
    Y, size = normalise(np.asarray(X, dtype=np.float64))
    pca = PCA(min(COMPONENTS, min(Y.shape)), svd_solver="randomized", random_state=0)
    points = pca.fit_transform(Y)
    step = diffusion(points)
    Y = points if APPROXIMATE else Y
    for _ in range(T):
        Y = step @ Y
    if APPROXIMATE:
        Y = np.maximum(pca.inverse_transform(Y), 0.0)
    return Y**2 * size
