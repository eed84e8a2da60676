import numpy as _np
from scipy.signal import fftconvolve as _convolve


def evaluate_sequence(f):
    """C1 of the heights f, or infinity when they break a rule. The judge recomputes it elsewhere."""
    f = _np.asarray(f, dtype=float)
    if f.ndim != 1 or not LEAST <= f.size <= MOST or not _np.isfinite(f).all() or f.min() < 0:
        return float("inf")
    f = _np.minimum(f, 1000.0)
    if f.sum() < 0.01:
        return float("inf")
    return float(2 * f.size * _convolve(f, f).max() / f.sum() ** 2)


LEAST, MOST = 1000, 100000
