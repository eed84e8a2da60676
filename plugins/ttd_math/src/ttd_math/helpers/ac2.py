import numpy as _np
from scipy.signal import fftconvolve as _convolve


def evaluate_sequence(f):
    """C2 of the heights f, or 0 when they break a rule. The judge recomputes it elsewhere."""
    f = _np.asarray(f, dtype=float)
    if f.ndim != 1 or not LEAST <= f.size <= MOST or not _np.isfinite(f).all() or f.min() < 0:
        return 0.0
    f = _np.minimum(f, 1000.0)
    if f.sum() < 0.01:
        return 0.0
    y = _convolve(f, f)
    return float((2 * (y @ y) + y[1:] @ y[:-1]) / (3 * y.sum() * y.max()))


LEAST, MOST = 1000, 100000
