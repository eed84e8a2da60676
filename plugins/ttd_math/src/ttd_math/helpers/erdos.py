import numpy as _np

LEAST, MOST = 2, 1000


def evaluate_erdos_solution(h, c5=None, n=None):
    """C5 of the step function h, or infinity when it breaks a rule. The judge recomputes it elsewhere."""
    h = _np.asarray(h, dtype=float)
    if h.ndim != 1 or not LEAST <= h.size <= MOST or not _np.isfinite(h).all():
        return float("inf")
    if h.min() < 0 or h.max() > 1 or abs(float(h.sum()) - h.size / 2) > 1e-9:
        return float("inf")
    return float(_np.correlate(h, 1 - h, "full").max() * 2 / h.size)
