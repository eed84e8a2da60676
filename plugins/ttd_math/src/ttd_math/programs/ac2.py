"""Second autocorrelation inequality: random combs, annealed, and the best of them lengthened.

Good functions have a block at the left, a gap, then a comb of many narrow teeth: the block with itself, the
block with the comb and the comb with itself fill stretches of one height side by side. Combs are drawn at
random and each is annealed: L-BFGS on f = w^2 with a norm of f*f in place of its maximum, whose power rises.
Combs of one kind end far apart, so many are tried, at a coarse length that the budget allows; what falls
behind the others under a low power is given up. The best few are doubled, which changes no bound, and
annealed again, until the limit of length or of time. LEAST and MOST, the limits of length, come with
`evaluate_sequence`.
"""

import contextlib
import time
import warnings
import zlib

import numpy as np
import scipy.fft
from scipy.optimize import minimize

SEED = 0
# Of annealings; a comb that is given up counts.
HOPS = 1000000
# Shares of the time: for combs of the coarse length, and for a given function that cannot become longer.
RACING, SETTLING = 0.55, 0.3
# Heights of a comb by seconds of the budget, their fewest, and the doublings that are left for the best
# combs.
HEIGHTS, FEWEST, DOUBLINGS = 300, 390, 2
# Steps of each rung of a comb, its rungs, and the shares that go on after the first two.
STEPS, RUNGS, SHARES = 200, 5, (0.5, 0.2)
# Powers between which a comb's first is drawn; its last; and the first and last of a function that was
# doubled.
COMB_POWERS, COMB_LAST, FIRST, LAST = (20.0, 90.0), 3000.0, 100.0, 1e5
# Steps with a power, at most; those that a longer function must have time for; combs that are lengthened.
MOST_STEPS, ENOUGH, POOL = 5000, 400, 3
# Least and most of: the block's width and share of the integral, where the comb begins, heights from tooth
# to tooth by the root of the length, a tooth's share of that, how far it stands aside, the power with which
# teeth fall.
LEAST_COMB = np.array([0.03, 0.2, 0.22, 0.3, 0.25, 0.05, 0.0])
MOST_COMB = np.array([0.115, 0.45, 0.42, 0.9, 0.55, 0.5, 1.0])


class Late(Exception):
    """There is no time left."""


class Best:
    """What a descent came by until its deadline: the best function, and where the loss was least."""

    def __init__(self, w, deadline):
        self.score, self.f, self.least, self.w, self.deadline = 0.0, None, np.inf, w, deadline


def bound(f):
    """C2."""
    size = scipy.fft.next_fast_len(2 * len(f) - 1, real=True)
    y = scipy.fft.irfft(scipy.fft.rfft(f, size) ** 2, size)[: 2 * len(f) - 1]
    return (2 * (y @ y) + y[1:] @ y[:-1]) / (3 * f.sum() ** 2 * y.max())


def loss(w, power, best):
    """-log C2 of f = w^2 with a norm of f*f in place of its maximum, and its gradient."""
    if time.time() > best.deadline:
        raise Late
    f, n = w * w, len(w)
    size = scipy.fft.next_fast_len(2 * n - 1, real=True)
    spectrum = scipy.fft.rfft(f, size)
    y = scipy.fft.irfft(spectrum * spectrum, size)[: 2 * n - 1]
    total, top = f.sum(), y.max()
    beside = np.r_[y[1:], 0.0]
    beside[1:] += y[:-1]
    energy = 2 * (y @ y) + y[1:] @ y[:-1]
    score = energy / (3 * total * total * top)
    if score > best.score:
        best.score, best.f = score, f
    y = np.maximum(y, 1e-30 * top)
    shares = np.exp(power * np.log(y / top))
    norm = shares.sum()
    push = shares / (norm * y) - (4 * y + beside) / energy
    slope = scipy.fft.irfft(scipy.fft.rfft(push, size) * spectrum.conj(), size)[:n]
    value = np.log(norm) / power - np.log(score)
    if value < best.least:
        best.least, best.w = value, w.copy()
    return value, 4 * w * (slope + 1 / total)


def rising(first, last, rungs):
    return first * (last / first) ** (np.arange(rungs) / (rungs - 1))


def descend(w, power, steps, deadline):
    """Where L-BFGS ends, and what it came by."""
    best = Best(w, deadline)
    options = {"maxiter": steps, "maxfun": 2 * steps, "maxcor": 16, "ftol": 0.0, "gtol": 0.0}
    with contextlib.suppress(Late):
        minimize(loss, w, (power, best), "L-BFGS-B", True, options=options)
    return best


def anneal(f, last, until):
    """The best that comes of a function under rising powers, and its bound; each power has the same time."""
    # Heights at 0 would stay there.
    found, w = (bound(f), f), np.sqrt(f / f.mean() + 1e-5)
    for rung, power in enumerate(rising(FIRST, last, RUNGS)):
        now = time.time()
        best = descend(w, power, MOST_STEPS, now + (until - now) / (RUNGS - rung))
        w = best.w
        if best.score > found[0]:
            found = best.score, best.f
    return found


def kind_of_comb(known, rng):
    """Parameters on scales from 0 to 1: at random, or between those of good combs and a little beyond."""
    kind = rng.random(len(LEAST_COMB))
    if len(known) >= 8 and rng.random() < 0.5:
        one, other = (known[int(rng.integers(len(known) // 2))][1] for _ in range(2))
        kind = one + rng.uniform(-0.3, 1) * (other - one) + 0.05 * rng.normal(size=len(kind))
    return kind.clip(0, 1)


def comb(kind, n, rng):
    """A function of some kind, positive everywhere; teeth are drawn anew."""
    block, mass, begins, apart, width, aside, falls = LEAST_COMB + kind * (MOST_COMB - LEAST_COMB)
    f, apart = np.zeros(n), max(2.0, apart * np.sqrt(n))
    for middle in np.arange(begins * n, n, apart) + apart / 2:
        wide = max(1, round(apart * width * rng.uniform(0.5, 1.5)))
        first = round(middle + aside * apart * rng.uniform(-1, 1) - wide / 2)
        f[min(max(0, first), n - 1) :][:wide] = rng.uniform(0.5, 1.5)
    f *= (1 - (np.arange(n) + 0.5) / n) ** falls
    left = rng.random(max(1, round(block * n))) + 0.1
    f[: len(left)] += mass / (1 - mass) * f.sum() * left / left.sum()
    return f + 1e-3 * f.mean() * (rng.random(n) + 0.01)


def race(n, rng, hops, until):
    """The best annealed combs of n heights, [(bound, f)]."""
    pool, known, passed = [], [], [[] for _ in SHARES]
    for hop in hops:
        kind = kind_of_comb(known, rng)
        f = comb(kind, n, rng)
        w = np.sqrt(f / f.mean())
        for rung, power in enumerate(rising(np.exp(rng.uniform(*np.log(COMB_POWERS))), COMB_LAST, RUNGS)):
            best = descend(w, power, STEPS, until)
            w = best.w
            if rung < len(SHARES):
                passed[rung].append(best.score)
                if best.score < np.quantile(passed[rung], 1 - SHARES[rung]):
                    break
        if best.f is not None:
            known = sorted([*known, (best.score, kind)], key=lambda entry: -entry[0])[:32]
            if not pool or best.score > pool[0][0]:
                print(f"comb {hop}: {best.score:.8f} with {n} heights")
            pool = sorted([*pool, (best.score, best.f)], key=lambda entry: -entry[0])[:POOL]
        if time.time() > until:
            break
    return pool


def step_seconds(f):
    """Seconds of a step of L-BFGS for a function and each of its heights."""
    began = time.time()
    for _ in range(3):
        loss(np.sqrt(f), FIRST, Best(f, np.inf))
    return (time.time() - began) / 2 / len(f)


def lengthened(pool, hops, until):
    """The best function of a pool: doubled and annealed as often as length and time allow, [(bound, f)]."""
    n, left = len(pool[0][1]), until - time.time()
    longer = [1]
    while 2 * longer[-1] * n <= MOST and left > ENOUGH * step_seconds(pool[0][1]) * n * 2 * sum(longer):
        longer.append(2 * longer[-1])
    longer = longer[1:] or longer
    for place, times in enumerate(longer):
        # As many steps at each length: what one costs grows with it.
        now = time.time()
        seconds, found = (until - now) * times / sum(longer[place:]), []
        last = LAST if times == longer[-1] else COMB_LAST
        for rank, (_, f) in enumerate(pool):
            if next(hops, None) is None:
                return pool
            f = np.repeat(f, times * n // len(f))
            found.append(anneal(f, last, now + seconds * (rank + 1) / len(pool)))
        pool = sorted(found, key=lambda entry: -entry[0])[:1]
        print(f"{pool[0][0]:.8f} with {times * n} heights")
    return pool


def collapsed(f):
    """The fewest heights that f repeats."""
    for times in range(len(f) // 2, 1, -1):
        if len(f) % times == 0 and (f.reshape(-1, times) == f[::times, None]).all():
            return f[::times]
    return f


def construct_function(seed, budget_s, **kwargs):
    warnings.simplefilter("ignore")
    began = time.time()
    f = collapsed(np.array(height_sequence_1, dtype=float))
    # Other combs for every start, yet the same for the same one.
    rng = np.random.default_rng([SEED, seed, zlib.crc32(f.tobytes())])
    hops, end, best = iter(range(HOPS)), began + 0.9 * budget_s, (bound(f), f)
    if best[0] > 0.9:
        # What cannot become longer gains little, and another comb may be better.
        share = 1.0 if 2 * len(f) <= MOST else SETTLING
        (best,) = lengthened([best], hops, began + share * (end - began))
    if best[0] <= 0.9 or 2 * len(f) > MOST:
        n = max(1, MOST >> DOUBLINGS)
        while n > max(FEWEST, HEIGHTS * (end - time.time())):
            n //= 2
        pool = race(n, rng, hops, time.time() + RACING * (end - time.time()))
        if pool:
            best = max(best, *lengthened(pool, hops, end), key=lambda entry: entry[0])
    # Heights above 1000 would count as 1000.
    f = best[1] * (100 / best[1].max())
    times = -(-LEAST // len(f))
    return np.repeat(f, times) if times * len(f) <= MOST else f[np.arange(LEAST) * len(f) // LEAST]
