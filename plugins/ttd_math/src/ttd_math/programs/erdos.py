"""Erdős' minimum overlap by an interior point method, and hops between its local optima.

Minimise t over heights h and t, with every overlap c_k(h) <= t, 0 <= h <= 1 and a fixed sum. A Newton step on the
logarithmic barrier leaves out the curvature of c, so it costs one matrix product and one Cholesky factorisation,
and its system is always positive definite; the same factors then give the second-order term that bends the step
along c, without which it stops short at the first overlaps that curve. Many random starts with about a hundred
heights come first, symmetric ones among them; then a hop shakes, splices, warps or resamples the best functions so
far and optimises again, and gives up as soon as the barrier's gap cannot make up for what is missing. A lineage of
hops that no longer gets better makes room for another; the best of all go on with more heights.
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
PATIENCE = 100
RAISED = 6
STAGES = ((0.55, 140), (0.75, 320), (1.0, 640))
MOST = 1000
STEPS = 80
SPREAD = 4.0
APART = 3e-7
SOFTNESS = (-5.5, -3.0)
TIGHT = 1e-8


def spectrum(values, n):
    return rfft(values, next_fast_len(2 * n - 1, True))


def correlated(left, right):
    """The full correlation of two functions of as many values."""
    n = len(left)
    size = next_fast_len(2 * n - 1, True)
    lags = irfft(spectrum(left, n) * spectrum(right, n).conj(), size)
    return np.concatenate([lags[size - n + 1 :], lags[:n]])


def overlaps(h):
    """All overlaps c_k, as the bound counts them."""
    return correlated(h, 1 - h) * (2 / len(h))


def slopes(h, rows):
    """Gradients of some of the overlaps."""
    n = len(h)
    windows = np.lib.stride_tricks.sliding_window_view
    return (windows(np.pad(1 - h, n - 1), n)[::-1][rows] - windows(np.pad(h, n - 1), n)[rows]) * (2 / n)


def pushed(h, weights):
    """The gradient of a weighted sum of all overlaps."""
    n = len(h)
    size = next_fast_len(2 * n - 1, True)
    waves = spectrum(weights, n)
    forth = irfft(waves * spectrum(1 - h, n), size)[n - 1 : 2 * n - 1]
    back = irfft(waves.conj() * spectrum(h, n), size)
    return (forth - np.concatenate([back[size - n + 1 :], back[:1]])) * (2 / n)


def balanced(h, edge):
    """Heights in [edge, 1 - edge] with mean 1/2."""
    low, high = -1.0, 1.0
    for _ in range(50):
        shift = 0.5 * (low + high)
        low, high = (shift, high) if np.clip(h + shift, edge, 1 - edge).mean() < 0.5 else (low, shift)
    return np.clip(h + high, edge, 1 - edge)


def newton(h, room, weight, below, above):
    """What solves for a Newton step, or None: (gradient in h, excess in t) -> (change of h, change of t)."""
    n, scale = len(h), weight / room
    tight = np.flatnonzero(scale > TIGHT * scale.max())
    some, slope = scale[tight], slopes(h, tight)
    slope -= some @ slope / some.sum()
    slope *= np.sqrt(some)[:, None]
    system = dsyrk(1.0, slope.T, lower=True)
    system[np.diag_indices(n)] += below / h + above / (1 - h)
    size = 1 / np.sqrt(system.diagonal())
    system *= size[:, None]
    system *= size
    system[np.diag_indices(n)] += 1e-13
    factor, failed = dpotrf(system, lower=True, overwrite_a=True)
    if failed:
        return None
    column, total = pushed(h, scale), scale.sum()

    def solve(right):
        return size * dpotrs(factor, size * right, lower=True)[0]

    level = solve(np.ones(n))

    def step(right, excess):
        change = solve(right + column * (excess / total))
        change -= level * (change.sum() / level.sum())
        return change, (excess + column @ change) / total

    return step


def reach(values, change):
    """The longest step at most 1 that keeps values positive."""
    down = change < 0
    return min(1.0, 0.995 * np.min(-values[down] / change[down])) if down.any() else 1.0


def barrier(h, room, t, mu):
    return t - mu * (np.log(room).sum() + np.log(h).sum() + np.log1p(-h).sum())


def along(h, t, c, mu, first, second, slope):
    """The farthest point on an arc that is inside and better: its length (0: none), h, t and overlaps."""
    now = barrier(h, t - c, t, mu)
    length = 1.0 if slope < 0 else 0.0
    while length > 1e-6:
        new = h + length * (first[0] + length * second[0])
        top = t + length * (first[1] + length * second[1])
        if new.min() > 0 and new.max() < 1:
            values = overlaps(new)
            if values.max() < top and barrier(new, top - values, top, mu) <= now + 1e-4 * length * slope + 1e-14:
                return length, new, top, values
        length *= 0.7
    return 0.0, h, t, c


def optimise(h, soft, end, steps, bar=np.inf):
    """A local optimum near h, and its score.

    The barrier begins `soft` above the bound of h; its gap (number of overlaps times mu) falls to `end`. The search
    ends early, with an infinite score, when the bound less the gap stays above `bar`.
    """
    count = 2 * len(h) - 1
    h = balanced(h, 5e-4)
    c = overlaps(h)
    t = c.max() + soft
    mu = 1 / (1 / (t - c)).sum()
    weight, below, above = mu / (t - c), mu / h, mu / (1 - h)
    for _ in range(steps):
        room = t - c
        solve = newton(h, room, weight, below, above)
        if solve is None:
            break
        scale, pull = weight / room, mu / room
        right, excess = mu / h - mu / (1 - h) - pushed(h, pull), pull.sum() - 1
        first = solve(right, excess)
        slope = -right @ first[0] - excess * first[1]
        bend = correlated(first[0], first[0]) * (-2 / len(h))
        bent = solve(right - pushed(h, scale * bend), excess + scale @ bend)
        second = bent[0] - first[0], bent[1] - first[1]
        length, new, top, values = along(h, t, c, mu, first, second, slope)
        if length:
            mean, rise = first[0] + length * second[0], first[1] + length * second[1]
            linear = (correlated(mean, 1 - h) - correlated(h, mean)) * (2 / len(h))
            changes = (
                pull - weight - scale * (rise - linear - length * bend),
                mu / h - below - below / h * mean,
                mu / (1 - h) - above + above / (1 - h) * mean,
            )
            h, t, c = new, top, values
            weight, below, above = moved((weight, below, above), changes, (mu / (t - c), mu / h, mu / (1 - h)))
        if not length or -slope < mu * count:
            if mu * count < end:
                break
            if t - mu * count > bar:
                return h, np.inf
            mu *= 0.25
    h = balanced(h, 0.0)
    return h, overlaps(h).max()


def moved(multipliers, changes, central):
    """The multipliers after a step of one length, not too far from where the barrier has them."""
    share = min(reach(value, change) for value, change in zip(multipliers, changes))
    return (
        np.clip(value + share * change, 1e-4 * middle, 1e4 * middle)
        for value, change, middle in zip(multipliers, changes, central)
    )


def fresh_start(rng):
    """Random heights, symmetric or not."""
    h = rng.uniform(0, 1, int(rng.integers(80, 140)))
    return h if rng.random() < 0.4 else np.clip(0.5 + 0.7 * (h + h[::-1] - 1), 0, 1)


def resampled(h, n):
    """h as n heights: the means over n equal parts."""
    whole = np.r_[0, np.cumsum(h)] / len(h)
    return np.diff(np.interp(np.arange(n + 1) / n, np.arange(len(h) + 1) / len(h), whole)) * n


def hop(h, other, rng, most):
    """Another start near h: shaken, warped, resampled or spliced with another; a symmetric h mostly stays so."""
    n = len(h)
    x = (np.arange(n) + 0.5) / n
    kind = rng.choice(["noise", "smooth", "local", "warp", "resample", "means", "splice", "splice"])
    size = rng.choice([0.003, 0.01, 0.03, 0.06, 0.1])
    width = int(rng.integers(2, max(3, n // 15)))
    smooth = np.convolve(rng.normal(size=n), np.ones(width) / np.sqrt(width), "same")
    if kind == "noise":
        new = h + size * rng.normal(size=n)
    elif kind == "smooth":
        new = h + size * smooth
    elif kind == "local":
        new, first = h.copy(), int(rng.integers(n))
        piece = new[first : first + int(rng.integers(2, n // 3))]
        piece += 3 * size * rng.normal(size=len(piece))
    elif kind == "warp":
        new = np.interp(np.sort(x + size / 20 * smooth), x, h)
    elif kind == "splice":
        new, (first, last) = h.copy(), np.sort(rng.integers(0, n + 1, 2))
        new[first:last] = resampled(other, n)[first:last]
    else:
        m = int(np.clip(n * rng.uniform(0.85, 1.2), 60, most))
        new = resampled(h, m) if kind == "means" else np.interp((np.arange(m) + 0.5) / m, x, h)
        new = new + size / 5 * rng.normal(size=m)
    is_symmetric = abs(h - h[::-1]).max() < 1e-3
    return (new + new[::-1]) / 2 if is_symmetric and rng.random() < 0.8 else new


def kept(pool, h, score):
    """The pool with h, of all but equal scores the best, best first."""
    if not np.isfinite(score) or any(abs(score - old) < APART and old <= score for old, _ in pool):
        return pool
    pool = [entry for entry in pool if abs(entry[0] - score) >= APART] + [(score, h)]
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
        new, score = optimise(queue.pop(0), 1e-4, 3e-7, STEPS)
    elif number < STARTS:
        new, score = optimise(fresh_start(rng), 10 ** rng.uniform(-3, -1), 3e-6, 60)
    else:
        parent = pool[min(int(rng.exponential(SPREAD)), len(pool) - 1)][1]
        other = pool[rng.integers(len(pool))][1]
        bar = pool[-1][0] if len(pool) == POOL else pool[0][0] + 5e-5
        new, score = optimise(hop(parent, other, rng, most), 10 ** rng.uniform(*SOFTNESS), 3e-7, STEPS, bar)
    if not pool or score < pool[0][0] + 1e-7:
        new, score = optimise(new, 1e-7, 1e-8, STEPS // 2)
    return new, score


def run(seed, budget_s, **kwargs):
    warnings.simplefilter("ignore")
    began = time.time()
    h = np.array(initial_h_values, dtype=float)
    # Another sequence of hops for every start, yet the same for the same one.
    rng = np.random.default_rng([SEED, seed, zlib.crc32(h.tobytes())])
    best = overlaps(h).max(), h
    fresh = best[0] > 0.3815
    stages = STAGES if fresh else again(len(h))
    pool, lineages, queue = [], [], []
    if not fresh:
        # Fewer heights again: what they miss comes back later, and a better shape is found sooner.
        queue = [resampled(h, stages[0][1] - 2 * number) for number in range(RAISED)]
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
        idle = 0 if not pool or score < pool[0][0] - 3e-7 else idle + 1
        pool = kept(pool, new, score)
        if score < best[0]:
            best = score, new
            print(f"hop {number}, {time.time() - began:.0f} s: {score:.10f} with {len(new)} heights")
    h = best[1]
    return h, evaluate_erdos_solution(h), len(h)
