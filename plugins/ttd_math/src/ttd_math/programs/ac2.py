"""Second autocorrelation inequality by an interior point method, and hops between its local optima.

With y = f*f and E its energy, minimise log t - log E over heights f and t, with every value of y at most t,
f >= 0 and a fixed sum. Newton steps on the logarithmic barrier leave out the curvature of f*f and of E (as in
sequential linear programming) and the values that are far from tight, so each costs one matrix product and one
Cholesky factorisation. A hop shakes, warps or refines one of the best functions so far and optimises again.

With many heights a step of that kind costs too much; from LONG heights on, the function is refined, shaken, and
climbed by gradient steps on a maximum that is smoothed less and less, each four fast Fourier transforms.
"""

import time
import warnings
import zlib

import numpy as np
import scipy.fft
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.linalg.blas import dsyrk
from scipy.signal import fftconvolve

SEED = 0
HOPS = 1000000
POOL = 8
STARTS = 0.4
MOST = 1000
LONG = 700
LONGEST = 60000
STEPS = 120
SPREAD = 2.0
APART = 1e-4
GAPS = (-3.5, -1.0)
SOFT = (1e2, 1e5)


def product(f):
    """Values of f*f, scaled by their number of steps."""
    return (np.convolve(f, f) if len(f) < 500 else fftconvolve(f, f)) / len(f)


def energy(y):
    return 2 * (y @ y) + y[1:] @ y[:-1]


def bound(f):
    """C2."""
    y = product(f)
    return energy(y) / (3 * y.sum() * y.max())


def pull_up(y):
    """Gradient of log E by y."""
    change = 4 * y
    change[1:] += y[:-1]
    change[:-1] += y[1:]
    return change / energy(y)


def slopes(f, rows):
    """Gradients of some of the values."""
    n = len(f)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(f[::-1], n - 1), n)
    return windows[::-1][rows] * (2 / n)


def barrier(f, t, mu):
    y = product(f)
    room = t - y
    if min(room.min(), f.min()) <= 0:
        return np.inf
    return np.log(t) - np.log(energy(y)) - mu * (np.log(room).sum() + np.log(f).sum())


def direction(f, t, mu, weight, below):
    """Primal-dual Newton step: changes of f and t, and of both kinds of multipliers."""
    y = product(f)
    room = t - y
    scale, pull = weight / room, mu / room
    tight = scale > 1e-9 * scale.max()
    slope, loose = slopes(f, tight), pull * ~tight - pull_up(y)
    scaled = np.sqrt(scale[tight])[:, None] * slope
    column, total = scale[tight] @ slope, scale[tight].sum()
    system = dsyrk(1.0, scaled.T, lower=True)
    system -= np.outer(column, column) / total
    diagonal = np.diag_indices(len(f))
    system[diagonal] += below / f
    system[diagonal] += 1e-13 * system[diagonal].mean()
    # The loose values push a little and the energy pulls; both are a correlation, without the matrix.
    push = pull[tight] @ slope + (2 / len(f)) * fftconvolve(loose, f[::-1])[len(f) - 1 : 2 * len(f) - 1]
    right = mu / f - push
    excess = pull.sum() - 1 / t
    factor = cho_factor(system, lower=True, overwrite_a=True, check_finite=False)
    both = cho_solve(factor, np.c_[right + column * (excess / total), np.ones(len(f))], check_finite=False)
    step = both[:, 0] - both[:, 1] * (both[:, 0].sum() / both[:, 1].sum())
    rise = (excess + column @ step) / total
    change = pull - weight
    change[tight] -= scale[tight] * (rise - slope @ step)
    return step, rise, (change, mu / f - below - below / f * step), -right @ step - rise * excess


def reach(values, change):
    """The longest step at most 1 that keeps values positive."""
    down = change < 0
    return min(1.0, 0.995 * np.min(-values[down] / change[down])) if down.any() else 1.0


def optimise(f, gap, end, steps):
    """A local optimum near f. The barrier's gap (number of values times mu) falls from `gap` to `end`."""
    count = 2 * len(f) - 1
    f = np.maximum(f / f.mean(), 1e-3)
    f /= f.mean()
    mu = gap / count
    t = product(f).max() * (1 + 30 * mu)
    weight = mu / (t - product(f))
    weight, below = weight / (t * weight.sum()), mu / f
    for _ in range(steps):
        step, rise, duals, slope = direction(f, t, mu, weight, below)
        length = reach(f, step)
        now, taken = barrier(f, t, mu), False
        for _ in range(30):
            if barrier(f + length * step, t + length * rise, mu) <= now + 1e-4 * length * slope + 1e-13:
                taken = True
                break
            length *= 0.5
        if taken:
            f, t = f + length * step, t + length * rise
            along = min(reach(weight, duals[0]), reach(below, duals[1]))
            near, edge = mu / (t - product(f)), mu / f
            weight = np.clip(weight + along * duals[0], 1e-4 * near, 1e4 * near)
            below = np.clip(below + along * duals[1], 1e-4 * edge, 1e4 * edge)
        if not taken or -slope < 0.03 * mu * count:
            if mu * count < end:
                break
            mu *= 0.25
    f /= f.mean()
    return f, bound(f)


def hop(f, rng, most):
    """Another start near f: shaken, warped, thinned, resampled or refined."""
    n = len(f)
    x = (np.arange(n) + 0.5) / n
    kinds = ["noise", "smooth", "local", "warp", "thin", "resample", "double"]
    kind = rng.choice(kinds, p=[0.25, 0.2, 0.17, 0.08, 0.04, 0.2, 0.06])
    if kind == "noise":
        return f + rng.choice([0.03, 0.1, 0.3, 0.6]) * rng.normal(size=n)
    if kind == "thin":
        return f * (rng.random(n) > rng.choice([0.05, 0.2]))
    if kind == "local":
        first, length = int(rng.integers(n)), int(rng.integers(2, n // 4))
        piece = f[first : first + length]
        change = rng.choice([0.2, 0.5, 1.0]) * rng.normal(size=len(piece))
        return np.r_[f[:first], piece + change, f[first + length :]]
    width = int(rng.integers(2, max(3, n // 15)))
    smooth = np.convolve(rng.normal(size=n), np.ones(width) / np.sqrt(width), "same")
    if kind == "smooth":
        return f + rng.choice([0.05, 0.1, 0.3, 0.6]) * smooth
    if kind == "warp":
        return np.interp(np.sort(x + rng.choice([0.002, 0.01]) * smooth), x, f)
    if kind == "double" and 2 * n <= most:
        return np.repeat(f, 2) + 0.05 * rng.normal(size=2 * n)
    other = int(np.clip(n * rng.uniform(0.85, 1.3), 40, most))
    return np.interp((np.arange(other) + 0.5) / other, x, f) + 0.02 * rng.normal(size=other)


def scattered(rng):
    """A random start: smoothed noise, exponentiated."""
    n = int(rng.integers(150, 260))
    width = int(rng.integers(1, n // 5))
    noise = np.convolve(rng.normal(size=n + width - 1), np.ones(width) / np.sqrt(width), "valid")
    return np.exp(10 ** rng.uniform(-0.7, 0.5) * noise)


def collapsed(f):
    """The fewest heights that f repeats."""
    for times in range(len(f) // 2, 1, -1):
        if len(f) % times == 0 and (f.reshape(-1, times) == f[::times, None]).all():
            return f[::times]
    return f


def climb(f, rng, seconds, rate, noise):
    """Adam on log C2 with the maximum replaced by a soft one; the best function met, and its bound."""
    began, n = time.time(), len(f)
    size = scipy.fft.next_fast_len(2 * n, real=True)
    best, top = f, 0.0
    f = np.maximum(f * (1 + noise * rng.normal(size=n)), 0)
    first, second, number = np.zeros(n), np.zeros(n), 0
    while (spent := (time.time() - began) / seconds) < 1:
        number += 1
        f /= f.mean()
        spectrum = scipy.fft.rfft(f, size)
        y = scipy.fft.irfft(spectrum * spectrum, size)[: 2 * n - 1]
        peak = y.max()
        score = energy(y) / (3 * y.sum() * peak)
        if score > top:
            best, top = f.copy(), score
        share = np.exp(SOFT[0] * (SOFT[1] / SOFT[0]) ** spent * (y / peak - 1))
        pull = scipy.fft.rfft(pull_up(y) - share / (share.sum() * peak), size)
        slope = n * (2 * scipy.fft.irfft(pull * np.conj(spectrum), size)[:n] - 2 / n)
        first += 0.1 * (slope - first)
        second += 0.001 * (slope * slope - second)
        scaled = first / (1 - 0.9**number) / (np.sqrt(second / (1 - 0.999**number)) + 1e-9)
        f = np.maximum(f + rate * (1 - spent) * scaled, 0)
    return best, top


def ascend(f, rng, began, budget_s):
    """Refine a long function and climb, then climb once more from what that gave."""
    top = bound(f)
    times = max(1, int(min(rng.choice([1, 2, 4, 8]), LONGEST // len(f))))
    for share, rate, noise in ((0.55, 0.03, rng.choice([0.0, 0.1, 0.3])), (0.3, 0.003, 0.0)):
        new, score = climb(np.repeat(f, times), rng, share * budget_s, rate, noise)
        print(f"climb, {time.time() - began:.0f} s: {score:.8f} with {len(new)} heights, {top:.8f} before")
        if score > top:
            f, top, times = new, score, 1
    return f


def construct_function(seed, budget_s, **kwargs):
    warnings.simplefilter("ignore")
    began = time.time()
    f = collapsed(np.array(height_sequence_1, dtype=float))
    # Another sequence of hops for every start, yet the same for the same one.
    rng = np.random.default_rng([SEED, seed, zlib.crc32(f.tobytes())])
    f = f / f.mean()
    if len(f) >= LONG:
        return np.repeat(ascend(f, rng, began, budget_s), 1 + 1000 // len(f))
    pool = [(bound(f), f)]
    fresh = len(f) < 40
    most = int(np.clip(1.5 * len(f), 300, MOST))
    for number in range(HOPS):
        spent = (time.time() - began) / budget_s
        if spent > 0.9:
            break
        _, parent = pool[min(int(rng.exponential(SPREAD)), len(pool) - 1)]
        try:
            if fresh and (number < 20 or spent < STARTS):
                start, gap = scattered(rng), 10 ** rng.uniform(-3, -0.5)
            else:
                start, gap = hop(parent, rng, most), 10 ** rng.uniform(*GAPS)
            new, score = optimise(start, gap, 1e-4, STEPS)
        except (LinAlgError, ValueError):
            continue
        if not np.isfinite(score) or any(abs(score - old) < APART and old >= score for old, _ in pool):
            continue
        if score > pool[0][0] + 1e-5:
            print(f"hop {number}, {time.time() - began:.0f} s: {score:.8f} with {len(new)} heights")
        pool = [entry for entry in pool if abs(entry[0] - score) >= APART] + [(score, new)]
        pool = sorted(pool, key=lambda entry: -entry[0])[:POOL]
    f = pool[0][1]
    return np.repeat(f, -(-1000 // len(f)))
