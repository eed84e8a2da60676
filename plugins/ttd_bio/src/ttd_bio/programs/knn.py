"""A kNN smoother: each cell becomes the mean of its nearest cells, at its own depth."""

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.neighbors import NearestNeighbors

NEIGHBOURS = 15
COMPONENTS = 20


def magic_denoise(X, **kwargs):
    """Denoised counts, float64 [cells, genes]."""
    size = np.maximum(X.sum(axis=1, keepdims=True), 1.0)
    share = X / size
    svd = TruncatedSVD(min(COMPONENTS, min(X.shape) - 1), random_state=0)
    points = svd.fit_transform(np.sqrt(share))
    graph = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(points) - 1)).fit(points)
    weights = graph.kneighbors_graph(points)
    weights = weights.multiply(1.0 / weights.sum(axis=1)).tocsr()
    return (weights @ share) * size
