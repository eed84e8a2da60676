import numpy as _np
from scipy import sparse as _sparse


def call_magic_denoise(shape, data, indices, indptr):
    """Call the program with the train counts as a dense array."""
    counts = _sparse.csr_matrix((data, indices, indptr), shape=tuple(shape))
    return globals()["magic_denoise"](counts.toarray().astype(_np.float64))
