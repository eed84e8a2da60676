import time
import numpy as np
from scipy.optimize import linprog

POINTS = 30
RADIUS = 0.1
SHRINK = 0.5
NOISE = 0.1


def project(h):
    for _ in range(60):
        h = np.clip(h + 0.5 - h.mean(), 0, 1)
    return h


def step(h, radius):
    n = len(h)
    lag, i = np.arange(1 - n, n)[:, None], np.arange(n, 2 * n)
    slope = np.pad(1 - h, n)[i - lag] - np.pad(h, n)[i + lag]
    rows = np.c_[slope, -np.ones(2 * n - 1)]
    overlap = np.correlate(h, 1 - h, "full")
    bounds = [(max(-radius, -x), min(radius, 1 - x)) for x in h] + [(0, n)]
    cost = np.r_[np.zeros(n), 1]
    result = linprog(cost, rows, -overlap, [1 - cost], [0], bounds)
    return project(h + result.x[:n]) if result.success else h


def run(seed, budget_s, **kwargs):
    start, radius = time.time(), RADIUS
    rng = np.random.default_rng(seed)
    old = np.linspace(0, 1, len(initial_h_values))
    h = np.interp(np.linspace(0, 1, POINTS), old, initial_h_values)
    h = project(h + NOISE * rng.normal(size=POINTS))
    while radius > 1e-5 and time.time() - start < 0.7 * budget_s:
        new = step(h, radius)
        if evaluate_erdos_solution(new) < evaluate_erdos_solution(h):
            h = new
        else:
            radius *= SHRINK
    return h, evaluate_erdos_solution(h), POINTS
