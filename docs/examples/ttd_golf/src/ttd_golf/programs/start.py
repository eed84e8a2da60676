import numpy as np

ORDERS = range(2, 8)
BUCKETS = 1 << 11
MIN_COUNT = 2
FACTOR = 0x9E3779B1


def bucket(context):
    key = np.full(len(context), context.shape[1], np.uint64)
    for column in context.T:
        key = (key * FACTOR + column + 1) & 0xFFFFFFFF
    return ((key * FACTOR & 0xFFFFFFFF) >> 16) % BUCKETS


def learn(counts, seen):
    for row, order in enumerate(ORDERS):
        if seen.shape[1] >= order:
            np.add.at(counts[row], (bucket(seen[:, -order:-1]), seen[:, -1]), 1)


def cached(counts, seen, base):
    """Of the highest order whose context was seen often enough; the base's where there is none."""
    found = base.copy()
    hit = np.zeros(len(base), bool)
    for row, order in enumerate(ORDERS):
        if seen.shape[1] >= order - 1:
            counted = counts[row][bucket(seen[:, 1 - order :])].astype(float)
            total = counted.sum(axis=1)
            use = total >= MIN_COUNT
            found[use] = counted[use] / total[use, None]
            hit |= use
    return found, hit


def predict(memory, seen, base):
    counts = memory if memory is not None else np.zeros((len(ORDERS), BUCKETS, 256), np.uint16)
    learn(counts, seen)
    found, hit = cached(counts, seen, base)
    entropy = -(base * np.log2(base)).sum(axis=1)
    weight = np.where(hit, 0.05 + 0.55 / (1 + np.exp(-2 * (entropy - 4))), 0.0)[:, None]
    return (1 - weight) * base + weight * found, counts
