"""Circle packing by many starts of SLSQP with analytic gradients, then hops from the best packing.

Variables are x, y and r of every circle. A hop moves a few circles to random places, or swaps two of different
size, and optimises again; the best packing so far is kept. The result is shrunk until it is strictly valid.
"""

import time
import zlib

import numpy as np
from scipy.optimize import minimize

N = 26
SEED = 0
SECONDS = 60.0
HOPS = 1000000
STEPS = 200
HEAT = 0.001
RESTART = 60
TWIN, OTHER = np.triu_indices(N, 1)
ROW = np.arange(len(TWIN))


def slack(z):
    """Distances between circles and to the four walls; all must be >= 0."""
    x, y, r = z.reshape(3, N)
    apart = np.hypot(x[TWIN] - x[OTHER], y[TWIN] - y[OTHER]) - r[TWIN] - r[OTHER]
    return np.concatenate([apart, x - r, 1 - x - r, y - r, 1 - y - r])


def walls():
    """Constant rows of the Jacobian: the walls."""
    eye, none = np.eye(N), np.zeros((N, N))
    return np.block([[eye, none, -eye], [-eye, none, -eye], [none, eye, -eye], [none, -eye, -eye]])


WALLS = walls()


def slope(z):
    """Jacobian of `slack`."""
    x, y, r = z.reshape(3, N)
    dx, dy = x[TWIN] - x[OTHER], y[TWIN] - y[OTHER]
    apart = np.maximum(np.hypot(dx, dy), 1e-12)
    pairs = np.zeros((len(TWIN), 3 * N))
    pairs[ROW, TWIN], pairs[ROW, OTHER] = dx / apart, -dx / apart
    pairs[ROW, N + TWIN], pairs[ROW, N + OTHER] = dy / apart, -dy / apart
    pairs[ROW, 2 * N + TWIN] = pairs[ROW, 2 * N + OTHER] = -1
    return np.vstack([pairs, WALLS])


WEIGHTS = np.r_[np.zeros(2 * N), -np.ones(N)]
RULES = {"type": "ineq", "fun": slack, "jac": slope}


def solve(z, precision):
    """SLSQP from a start; the start itself where it fails."""
    found = minimize(
        lambda v: WEIGHTS @ v,
        z,
        jac=lambda v: WEIGHTS,
        method="SLSQP",
        constraints=RULES,
        options={"maxiter": STEPS, "ftol": precision},
    )
    return found.x if np.isfinite(found.x).all() else z


def optimise(points, radii, wanted):
    """A local optimum near a start, shrunk to be valid, and its sum; polished where it may reach `wanted`."""
    z = solve(np.r_[points[:, 0], points[:, 1], radii], 1e-7)
    if z[2 * N :].sum() > wanted - 1e-3:
        for _ in range(3):
            z = solve(z, 1e-15)
    z[2 * N :] += min(0.0, slack(z).min())
    z[2 * N :] = np.maximum(z[2 * N :] - 1e-16, 0)
    valid = np.isfinite(z).all() and slack(z).min() > -1e-14
    return z, z[2 * N :].sum() if valid else 0.0


def start(rng):
    """Points of a random start: scattered, or a perturbed grid with rows of varying length."""
    if rng.random() < 0.3:
        return rng.uniform(0.05, 0.95, (N, 2))
    rows = int(rng.integers(4, 8))
    counts = np.full(rows, N // rows)
    counts[rng.permutation(rows)[: N - counts.sum()]] += 1
    points = [((i + 0.5) / c, (row + 0.5) / rows) for row, c in enumerate(counts) for i in range(c)]
    return np.clip(np.array(points) + rng.normal(scale=0.05, size=(N, 2)), 0.03, 0.97)


def hop(z, rng):
    """A start near a packing: some circles elsewhere, two exchanged, or all shaken."""
    points, radii = z[: 2 * N].reshape(2, N).T.copy(), z[2 * N :].copy()
    kind = rng.random()
    if kind < 0.4:
        chosen = rng.permutation(N)[: rng.integers(1, 4)]
        points[chosen] = rng.uniform(0.05, 0.95, (len(chosen), 2))
    elif kind < 0.7:
        first, second = rng.permutation(N)[:2]
        points[[first, second]] = points[[second, first]]
    else:
        points += rng.normal(scale=rng.choice([0.01, 0.03, 0.08]), size=(N, 2))
    return np.clip(points, 0.02, 0.98), 0.5 * radii


def run_packing():
    began = time.time()
    given = initial_centers
    # Another start for every packing given, yet the same for the same one.
    rng = np.random.default_rng([SEED, 0 if given is None else zlib.crc32(np.array(given).tobytes())])
    best, total = None, -1.0
    if given is not None:
        best, total = optimise(np.asarray(given), np.asarray(initial_radii), 0.0)
        kept = np.r_[np.asarray(given)[:, 0], np.asarray(given)[:, 1], np.asarray(initial_radii)]
        if kept[2 * N :].sum() > total:
            best, total = kept, kept[2 * N :].sum()
    walk, height = best, total
    for number in range(HOPS):
        if time.time() - began > SECONDS:
            break
        if number % RESTART == RESTART - 1:
            walk, height = best, total
        if walk is None or number % 10 == 0:
            points, radii = start(rng), np.full(N, 0.03)
        else:
            points, radii = hop(walk, rng)
        z, value = optimise(points, radii, total)
        if value > height - rng.exponential(HEAT):
            walk, height = z, value
        if value > total + 1e-13:
            best, total = z, value
            print(f"{number} hops, {time.time() - began:.1f} s: {total:.12f}")
    return best[: 2 * N].reshape(2, N).T, best[2 * N :], total
