import numpy as np
from scipy.optimize import minimize

N = 26
ROUNDS = 3
STEPS = 30
NOISE = 0.05
SEED = 0
I, J = np.triu_indices(N, 1)


def slack(z):
    x, y, r = z.reshape(3, N)
    apart = np.hypot(x[I] - x[J], y[I] - y[J]) - r[I] - r[J]
    return np.concatenate([apart, x - r, 1 - x - r, y - r, 1 - y - r])


def loss(z):
    return -z[2 * N :].sum()


def run_packing():
    rng = np.random.default_rng(SEED)
    side = (np.arange(6) + 0.5) / 6
    grid = np.array([(x, y) for x in side for y in side])[:N]
    start = grid if initial_centers is None else initial_centers
    best, rules = None, {"type": "ineq", "fun": slack}
    for _ in range(ROUNDS):
        p = np.clip(start + NOISE * rng.normal(size=(N, 2)), 0.05, 0.95)
        z = np.r_[p[:, 0], p[:, 1], np.full(N, 0.05)]
        z = minimize(loss, z, method="SLSQP", constraints=rules, options={"maxiter": STEPS}).x
        z[2 * N :] += min(0, slack(z).min())
        if z[2 * N :].min() >= 0 and (best is None or loss(z) < loss(best)):
            best = z
    return best[: 2 * N].reshape(2, N).T, best[2 * N :], -loss(best)
