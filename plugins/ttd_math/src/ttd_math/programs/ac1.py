"""First autocorrelation inequality by an interior point method, and hops between its local optima.

Minimise t over heights f and t, with every value of f*f at most t, f >= 0 and a fixed sum. A Newton step on the
logarithmic barrier leaves out the curvature of f*f, so it costs one matrix product and one Cholesky factorisation;
the same factors then give the second-order term that bends the step along f*f, without which it stops short at
the first values that curve. Some twenty steps reach a local optimum. A hop shakes, splices or resamples the best
functions so far and optimises again, and gives up as soon as the barrier's gap cannot make up for what is missing.
A hop costs as the cube of the number of heights, so most are made while there are few; the best go on with twice
as many, twice. Which optimum a lineage of hops ends in is decided early, so one that no longer gets better makes
room for another from random starts.
"""

import time
import warnings
import zlib

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.linalg import LinAlgError
from scipy.linalg.blas import dsyrk
from scipy.linalg.lapack import dpotrf, dpotrs

SEED = 0
HOPS = 1000000
POOL = 20
STARTS = 30
PATIENCE = 150
RAISED = 6
STAGES = ((0.45, 180), (0.72, 360), (1.0, 720))
MOST = 2160
STEPS = 80
SPREAD = 4.0
APART = 2e-5
SOFTNESS = (-3.5, -1.3)
TIGHT = 1e-6


def spectrum(values, n):
    return rfft(values, next_fast_len(2 * n - 1, True))


def product(left, right, n):
    """The convolution of two functions of n values, from their spectra."""
    return irfft(left * right, next_fast_len(2 * n - 1, True))[: 2 * n - 1]


def peaks(f):
    """Values of f*f scaled so that their maximum is the bound, for mean 1."""
    waves = spectrum(f, len(f))
    return product(waves, waves, len(f)) * (2 / len(f))


def newton(f, t, p, mu, weight, below):
    """What solves for a Newton step, or None: (gradient in f, excess in t) -> (change of f, change of t)."""
    n, scale = len(f), weight / (t - p)
    tight = np.flatnonzero(scale > TIGHT * scale.max())
    padded = np.pad(f[::-1] * (4 / n), n - 1)
    slope = np.lib.stride_tricks.sliding_window_view(padded, n)[::-1][tight]
    some = scale[tight]
    slope -= some @ slope / some.sum()
    slope *= np.sqrt(some)[:, None]
    system = dsyrk(1.0, slope.T, lower=True)
    system[np.diag_indices(n)] += below / f
    size = 1 / np.sqrt(system.diagonal())
    system *= size[:, None]
    system *= size
    system[np.diag_indices(n)] += 1e-13
    factor, failed = dpotrf(system, lower=True, overwrite_a=True)
    if failed:
        return None
    column, total = pushed(f, scale), scale.sum()

    def solve(right):
        return size * dpotrs(factor, size * right, lower=True)[0]

    level = solve(np.ones(n))

    def step(right, excess):
        change = solve(right + column * (excess / total))
        change -= level * (change.sum() / level.sum())
        return change, (excess + column @ change) / total

    return step


def pushed(f, weights):
    """The gradient of a weighted sum of the values of f*f."""
    n = len(f)
    size = next_fast_len(2 * n - 1, True)
    return (4 / n) * irfft(rfft(weights, size) * rfft(f, size).conj(), size)[:n]


def reach(values, change):
    """The longest step at most 1 that keeps values positive."""
    down = change < 0
    return min(1.0, 0.995 * np.min(-values[down] / change[down])) if down.any() else 1.0


def along(f, t, p, mu, first, second, slope):
    """The farthest point on an arc that is inside and better: its length (0: none), f, t and values."""
    now = t - mu * (np.log(t - p).sum() + np.log(f).sum())
    length = 1.0 if slope < 0 else 0.0
    while length > 1e-6:
        new = f + length * (first[0] + length * second[0])
        top = t + length * (first[1] + length * second[1])
        if new.min() > 0:
            values = peaks(new)
            if values.max() < top:
                merit = top - mu * (np.log(top - values).sum() + np.log(new).sum())
                if merit <= now + 1e-4 * length * slope + 1e-13:
                    return length, new, top, values
        length *= 0.7
    return 0.0, f, t, p


def optimise(f, soft, end, steps, bar=np.inf):
    """A local optimum near f, and its score.

    The barrier begins `soft` above the peak of f; its gap (number of values times mu) falls to `end`. The search
    ends early, with an infinite score, when the bound less the gap stays above `bar`.
    """
    n = len(f)
    count = 2 * n - 1
    f = np.maximum(f / f.mean(), 1e-3)
    f /= f.mean()
    p = peaks(f)
    t = p.max() + soft
    mu = 1 / (1 / (t - p)).sum()
    weight, below = mu / (t - p), mu / f
    for _ in range(steps):
        solve = newton(f, t, p, mu, weight, below)
        if solve is None:
            break
        scale, pull = weight / (t - p), mu / (t - p)
        right, excess = mu / f - pushed(f, pull), pull.sum() - 1
        first = solve(right, excess)
        slope = -right @ first[0] - excess * first[1]
        bend = peaks(first[0])
        bent = solve(right - pushed(f, scale * bend), excess + scale @ bend)
        second = bent[0] - first[0], bent[1] - first[1]
        length, new, top, values = along(f, t, p, mu, first, second, slope)
        if length:
            mean = first[0] + length * second[0]
            linear = (4 / n) * product(spectrum(f, n), spectrum(mean, n), n)
            rise = first[1] + length * second[1]
            changes = pull - weight - scale * (rise - linear - length * bend), mu / f - below - below / f * mean
            share = min(reach(weight, changes[0]), reach(below, changes[1]))
            f, t, p = new, top, values
            near, edge = mu / (t - p), mu / f
            weight = np.clip(weight + share * changes[0], 1e-4 * near, 1e4 * near)
            below = np.clip(below + share * changes[1], 1e-4 * edge, 1e4 * edge)
        if not length or -slope < mu * count:
            if mu * count < end:
                break
            if t - mu * count > bar:
                return f, np.inf
            mu *= 0.25
    f /= f.mean()
    return f, peaks(f).max()


def resampled(f, n):
    """f as n heights: the means over n equal parts."""
    whole = np.r_[0, np.cumsum(f)] / len(f)
    return np.diff(np.interp(np.arange(n + 1) / n, np.arange(len(f) + 1) / len(f), whole)) * n


def hop(f, other, rng, most):
    """Another start near f: shaken, scaled, sharpened, warped, thinned, resampled, or spliced with another."""
    n = len(f)
    kinds = "noise smooth local factors louder power warp thin resample resample swap splice splice".split()
    kind = rng.choice(kinds)
    size = rng.choice([0.01, 0.03, 0.1, 0.3])
    if kind == "noise":
        return f + size * rng.normal(size=n)
    if kind == "factors":
        return f * np.exp(5 * size * rng.normal(size=n))
    if kind == "power":
        return f ** (1 + size * rng.normal())
    if kind == "thin":
        return f * (rng.random(n) > size / 3)
    if kind == "resample":
        m = int(np.clip(n * rng.uniform(0.85, 1.2), 60, most))
        smooth = np.interp((np.arange(m) + 0.5) * n / m - 0.5, np.arange(n), f)
        return (resampled(f, m) if rng.random() < 0.5 else smooth) + size / 5 * rng.normal(size=m)
    if kind in ("smooth", "warp"):
        width = int(rng.integers(2, max(3, n // 15)))
        smooth = np.convolve(rng.normal(size=n), np.ones(width) / np.sqrt(width), "same")
        if kind == "smooth":
            return f + size * smooth
        x = (np.arange(n) + 0.5) / n
        return np.interp(np.sort(x + size / 20 * smooth), x, f)
    new, first, length = f.copy(), int(rng.integers(n)), int(rng.integers(2, n // 4))
    piece = new[first : first + length]
    if kind == "local":
        piece += 3 * size * rng.normal(size=len(piece))
    elif kind == "louder":
        piece *= np.exp(10 * size * rng.normal())
    elif kind == "splice":
        first, last = np.sort(rng.integers(0, n + 1, 2))
        new[first:last] = resampled(other, n)[first:last]
    else:
        length = int(rng.integers(1, n // 6))
        first = int(rng.integers(n - length))
        second = int(np.clip(first + rng.integers(-8, 9), 0, n - length))
        moved = new[first : first + length].copy()
        new[first : first + length] = new[second : second + length]
        new[second : second + length] = moved
    return new


def scattered(rng):
    """A random start: uniform, or smoothed noise, exponentiated."""
    n = int(rng.integers(80, 200))
    if rng.random() < 0.6:
        return rng.uniform(0, 1, n)
    noise = np.convolve(rng.normal(size=n + 9), np.ones(10) / np.sqrt(10), "valid")
    return np.exp(rng.uniform(0.3, 3) * noise)


def collapsed(f):
    """The fewest heights that f repeats."""
    for times in range(len(f) // 2, 1, -1):
        if len(f) % times == 0 and (f.reshape(-1, times) == f[::times, None]).all():
            return f[::times]
    return f


def kept(pool, f, score):
    """The pool with f, of all but equal scores the best, best first."""
    if not np.isfinite(score) or any(abs(score - old) < APART and old <= score for old, _ in pool):
        return pool
    pool = [entry for entry in pool if abs(entry[0] - score) >= APART] + [(score, f)]
    return sorted(pool, key=lambda entry: entry[0])[:POOL]


def again(n):
    """Stages for a function of n heights that hops have made: a quarter or so of them, and more again."""
    few = round(n / 2 ** max(0, round(np.log2(n / 200))))
    return (0.3, few), (0.6, 2 * few), (1.0, 6 * few if 6 * few <= MOST else 4 * few)


def fitting(wanted, most, longest, left):
    """How many heights hops go on with, at best `wanted`: what costs as their cube must end in the time left."""
    return wanted if longest * (wanted / most) ** 3 <= left else int(most * (left / longest) ** (1 / 3))


def attempt(number, pool, most, queue, rng):
    """A new function and its score: a random start, one of the queue, or a hop from the pool."""
    if queue:
        new, score = optimise(queue.pop(0), 3e-3, 3e-5, STEPS)
    elif number < STARTS:
        new, score = optimise(scattered(rng), 10 ** rng.uniform(-2, -0.3), 3e-4, 60)
    else:
        parent = pool[min(int(rng.exponential(SPREAD)), len(pool) - 1)][1]
        other = pool[rng.integers(len(pool))][1]
        bar = pool[-1][0] if len(pool) == POOL else pool[0][0] + 2e-3
        new, score = optimise(hop(parent, other, rng, most), 10 ** rng.uniform(*SOFTNESS), 3e-5, STEPS, bar)
    if not pool or score < pool[0][0] + 1e-5:
        new, score = optimise(new, 1e-5, 1e-6, STEPS // 2)
    return new, score


def propose_candidate(seed, budget_s, **kwargs):
    warnings.simplefilter("ignore")
    began = time.time()
    f = collapsed(np.array(height_sequence_1, dtype=float))
    # Another sequence of hops for every start, yet the same for the same one.
    rng = np.random.default_rng([SEED, seed, zlib.crc32(f.tobytes())])
    f = f / f.mean()
    best = peaks(f).max(), f
    fresh = len(f) < 40
    stages = STAGES if fresh else again(len(f))
    pool, lineages, queue = [], [], []
    if not fresh:
        # Fewer heights again: what they miss comes back later, and a better shape is found sooner.
        queue = [resampled(f, stages[0][1] - 2 * number) for number in range(RAISED)]
    longest, most, age, idle = 0.0, stages[0][1], 0 if fresh else STARTS, 0
    reached = most
    for number in range(HOPS):
        before = time.time()
        spent = (before - began) / budget_s
        # A hop of many heights takes seconds, and the next may have more of them.
        if spent + 1.5 * longest / budget_s > 0.9:
            break
        now, stage = most, next(length for until, length in stages if spent <= until)
        if stage > reached:
            reached, now = stage, fitting(stage, most, longest, (0.9 - spent) * budget_s)
        if now > most:
            # More heights: the best of the fewer go on, and are no longer compared with what they become.
            chosen = sorted([*lineages, *pool[:RAISED]], key=lambda entry: entry[0])[:RAISED]
            chosen = chosen if fresh else [best, *chosen]
            most, queue = now, [resampled(entry[1], now) for entry in chosen]
            pool, lineages = [], []
        elif fresh and most == stages[0][1] and idle > PATIENCE:
            # A lineage that no longer gets better makes room for another, from random starts of its own.
            lineages, pool, age, idle = lineages + pool[:3], [], 0, 0
        try:
            new, score = attempt(age, pool, most, queue, rng)
        except (LinAlgError, ValueError):
            continue
        age, longest = age + 1, max(longest, time.time() - before)
        idle = 0 if not pool or score < pool[0][0] - 1e-5 else idle + 1
        pool = kept(pool, new, score)
        if score < best[0]:
            best = score, new
            print(f"hop {number}, {time.time() - began:.0f} s: {score:.8f} with {len(new)} heights")
    f = best[1]
    return np.repeat(f, -(-1000 // len(f)))
