"""Expected log counts: smooth the rates over similar cells, then predict what the score asks for.

A held-out count is taken as Poisson around the smoothed rate. What minimises the mean squared error of
log1p counts is then the expectation of that logarithm, not the logarithm of the expectation. The score scales
each cell to one total; as the expected logarithms fill only a part of it, the rest goes to each cell's most
expressed gene, where a logarithm changes least.

Two numbers are chosen on molecules that are held out of the counts once more, as the test molecules were: how
much of a cell's rates are its own, by the squared error, and how many molecules the result holds, which the
squared error does not see, so that the Poisson loss is good and stays in the range that the rule allows.
"""

import numpy as np
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

COMPONENTS = 30
NEIGHBOURS = 15
PRIOR = 0.02
TEST_FRACTION = 0.1
TARGET_SUM = 1e4
# Shares of a cell's own counts among its rates that are tried.
OWN = np.linspace(0.0, 1.0, 11)
# A train matrix falls into this many parts that are each as large as the test counts.
PARTS = round(1 / TEST_FRACTION) - 1
# Parts held out in turn: two at least, more where the cells are few, as long as all parts have so many cells.
LEAST_PARTS = 2
FITTED = 5000
# Cells predicted in each part, the same in all; and cells that choose OWN, of all parts together.
CHECKED = 2000
CHOOSING = 300
# The rule: normalised Poisson in this range, kept with a tenth of its width and three standard errors.
LOW, HIGH = 0.97, 1.0
MARGIN = 0.1 * (HIGH - LOW)
ERRORS = 3.0
# What the score adds inside the Poisson loss' logarithm.
EPSILON = 1e-6
# Depths of the result that are tried, in units of the held-out counts' depth.
DEPTHS = 10.0 ** np.linspace(-2, 2, 801)
# Expected logarithms are tabulated over the fourth root of Poisson means, up to a mean from which they are
# those of the mean.
LARGE = 60.0
ROOTS = np.linspace(0.0, LARGE**0.25, 1001)
COUNTS = np.arange(1, 151)
CHANCES = np.exp(
    COUNTS * 4 * np.log(np.maximum(ROOTS, 1e-75))[:, None] - ROOTS[:, None] ** 4 - np.cumsum(np.log(COUNTS))
).astype(np.float32)
BLOCK = 256


def components(counts, sizes):
    """Cells in the space of the leading components of square-rooted, normalised counts."""
    rank = min(COMPONENTS, min(counts.shape) - 1)
    if rank < 1:
        return np.zeros((counts.shape[0], 1))
    scaled = sparse.diags(np.median(sizes) / sizes) @ counts
    scaled.data = np.sqrt(scaled.data)
    left, weights, _ = randomized_svd(scaled, rank, random_state=0)
    return left * weights


def similarity(points):
    """Row-stochastic weights between cells, float32, by distance over the reach of each cell's neighbours."""
    squares = (points**2).sum(axis=1)
    apart = np.maximum(squares[:, None] + squares[None, :] - 2 * points @ points.T, 0)
    near = min(NEIGHBOURS, len(points) - 1)
    reach = np.partition(apart, near, axis=1)[:, near]
    apart /= -np.maximum(reach, 1e-12)[:, None]
    kernel = np.exp(apart, out=apart)
    kernel[kernel < 1e-3] = 0
    kernel = kernel + kernel.T
    kernel /= kernel.sum(axis=1, keepdims=True)
    return kernel.astype(np.float32)


class Rates:
    """Each cell's expected share of every gene: those of similar cells, its own and a little of all cells'."""

    def __init__(self, counts):
        self.counts = counts
        self.sizes = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1.0)
        self.weights = similarity(components(counts, self.sizes))
        self.by_gene = counts.T.tocsr().astype(np.float32)
        self.overall = (np.asarray(counts.sum(axis=0)).ravel() / counts.sum()).astype(np.float32)

    def of(self, cells):
        """For some cells: a function from the share of their own counts to rates, float32 [cells, genes]."""
        steps = self.weights[cells] @ self.weights
        pooled = np.ascontiguousarray((self.by_gene @ np.ascontiguousarray(steps.T)).T)
        sizes = steps @ self.sizes
        own = self.counts[cells].toarray().astype(np.float32)

        def mixed(share, some=slice(None)):
            total = (1 - share) * sizes[some] + share * self.sizes[cells][some]
            mixture = np.float32(1 - share) * pooled[some] + np.float32(share) * own[some]
            mixture *= ((1 - PRIOR) / total).astype(np.float32)[:, None]
            return mixture + np.float32(PRIOR) * self.overall

        return mixed


def tables(depths):
    """Expected logarithms over ROOTS of cells of so many held-out counts, float32 [cells, roots]."""
    logs = np.log1p(COUNTS * (TARGET_SUM / depths[:, None]))
    return logs.astype(np.float32) @ CHANCES.T


def expected(share, depth, table):
    """A cell's denoised counts at the target sum, and their logarithms, from its rates.

    The logarithms are the expectations of log1p of held-out counts scaled to the target; only that of the most
    expressed gene is the logarithm of what the others leave.

    :param share: rates, float32 [genes].
    :param depth: number of held-out counts.
    :param table: the cell's row of :func:`tables`.
    """
    mean = share * np.float32(depth)
    place = np.sqrt(np.sqrt(np.minimum(mean, np.float32(LARGE)))) * np.float32((len(ROOTS) - 1) / ROOTS[-1])
    below = np.minimum(place.astype(np.int32), len(ROOTS) - 2)
    place -= below
    logs = table[below]
    logs += place * np.diff(table)[below]
    if mean.max() > LARGE:
        logs = np.where(mean > LARGE, np.log1p(share * np.float32(TARGET_SUM)), logs)
    wanted = np.expm1(logs)
    top = int(np.argmax(logs))
    wanted[top] += max(0.0, TARGET_SUM - float(wanted.sum(dtype=np.float64)))
    logs[top] = np.log1p(wanted[top])
    return wanted, logs


def held_out(counts):
    """Pairs of counts, sparse [cells, genes]: what is left and what is held out, each part in its turn."""
    rng = np.random.default_rng(0)
    left = counts.data.astype(np.int64)
    parts = min(PARTS, max(LEAST_PARTS, FITTED // counts.shape[0]))
    for part in range(parts):
        drawn = rng.binomial(left, 1 / (PARTS - part))
        left = left - drawn
        pair = [with_data(counts, data) for data in (counts.data - drawn, drawn)]
        if all(each.nnz for each in pair):
            yield pair


def with_data(counts, data):
    """A matrix of the same places with other counts."""
    matrix = sparse.csr_matrix((data.astype(float), counts.indices, counts.indptr), counts.shape, copy=True)
    matrix.eliminate_zeros()
    return matrix


class Part:
    """What one held-out part says of predictions from the rest."""

    def __init__(self, rest, part, cells):
        self.cells = cells
        rates = Rates(rest)
        self.mixed = rates.of(self.cells)
        # The part is as deep as the test counts.
        self.depths = rates.sizes[self.cells] / (PARTS - 1)
        self.tables = tables(self.depths)
        self.rest, self.part = rest[self.cells], part[self.cells]

    def squared_errors(self, share, cells):
        """Squared error of log1p counts of some of the cells, up to a constant.

        :param share: of the cells' own counts.
        :param cells: how many of the cells, at most.
        """
        total = 0.0
        for cell, rates in enumerate(self.mixed(share, slice(cells))):
            genes, counts = entries(self.part, cell)
            logs = expected(rates, self.depths[cell], self.tables[cell])[1]
            seen = np.log1p(counts * (TARGET_SUM / max(counts.sum(), 1.0)))
            total += float(np.square(logs).sum()) - 2 * float((seen * logs[genes]).sum())
        return total

    def losses(self, share):
        """Poisson losses of the cells beside that of a result of nothing, [cells, 3].

        Of the prediction, of perfect denoising with its sign turned, and of no denoising.
        """
        result = np.empty((len(self.cells), 3))
        for cell, rates in enumerate(self.mixed(share)):
            genes, counts = entries(self.part, cell)
            wanted = expected(rates, self.depths[cell], self.tables[cell])[0].astype(np.float64)
            wanted *= self.depths[cell] / (PARTS * TARGET_SUM)
            left, rest = entries(self.rest, cell)
            before = np.zeros(len(wanted))
            before[left] = rest / (PARTS - 1)
            logs = np.log(counts + EPSILON)
            for column, counted in ((0, wanted), (2, before)):
                elsewhere = counted.sum() - counted[genes].sum()
                result[cell, column] = -np.log(EPSILON) * elsewhere - (counted[genes] * logs).sum()
            result[cell, 1] = (counts * logs).sum() / PARTS
        return result


def entries(matrix, row):
    """Columns and values of one row of a CSR matrix."""
    here = slice(matrix.indptr[row], matrix.indptr[row + 1])
    return matrix.indices[here], matrix.data[here]


def depth_within_rule(losses, cells):
    """The depth of the result whose Poisson loss is best within the rule's range, less the margin.

    The loss is linear in the depth. Where no depth keeps the margin, it is the one that comes nearest to it: so
    few molecules may be held out that chance moves the loss by more than the range is wide.

    :param losses: of each held-out part and cell, [parts, cells, 3].
    :param cells: number of all cells.
    :return: the depth, and what is left of the range beyond the margin, negative where it is not kept.
    """
    parts, checked, _ = losses.shape
    predicted, perfect, none = np.moveaxis(losses, 2, 0)
    gap = none + perfect
    above = DEPTHS[:, None, None] * predicted + perfect
    poisson = 1 - above.sum(axis=(1, 2)) / gap.sum()
    # What the parts say apart: their test molecules differ, and what is predicted from the rest.
    apart = np.std(above.sum(axis=2) / gap.sum(axis=1), axis=1) * np.sqrt((parts + 1) / max(parts - 1, 1))
    # What the cells say apart: the same cell in other parts, and other cells where not all were checked.
    above -= (1 - poisson)[:, None, None] * gap
    between = above.mean(axis=1)
    within = ((above - between[:, None]) ** 2).sum(axis=(1, 2)) / (max(parts - 1, 1) * checked)
    if parts == 1:
        within = (above**2).mean(axis=(1, 2))
    spread = within * (1 / (parts * checked) + 1 / cells) + (between**2).mean(axis=1) * (1 / checked - 1 / cells)
    error = np.maximum(apart, np.sqrt(spread) / abs(gap.mean()))
    inside = np.minimum(poisson - LOW, HIGH - poisson) - MARGIN - ERRORS * error
    taken = np.argmax(np.where(inside >= 0, poisson, inside))
    return DEPTHS[taken], inside[taken]


def chosen(counts):
    """The share of a cell's own counts, and what :func:`depth_within_rule` returns."""
    rng = np.random.default_rng(1)
    cells = rng.permutation(counts.shape[0])[:CHECKED]
    parts = [Part(*pair, cells) for pair in held_out(counts)]
    if not parts:
        # So few molecules that a part holds none: of a result of nearly nothing the loss is perfect denoising's.
        return OWN[len(OWN) // 2], DEPTHS[0], -1.0
    some = -(-CHOOSING // len(parts))
    own = min(OWN, key=lambda share: sum(part.squared_errors(share, some) for part in parts))
    return own, *depth_within_rule(np.array([part.losses(own) for part in parts]), counts.shape[0])


def magic_denoise(X, **kwargs):
    """Denoised counts, float32 [cells, genes]."""
    counts = sparse.csr_matrix(X, dtype=np.float64)
    own, depth, room = chosen(counts)
    if room < 0:
        print(f"the Poisson loss may leave its range: held-out molecules ask for {-room:.4f} more room than it has")
    rates = Rates(counts)
    result = np.empty(counts.shape, np.float32)
    for start in range(0, len(result), BLOCK):
        cells = np.arange(start, min(start + BLOCK, len(result)))
        depths = rates.sizes[cells] / PARTS
        for cell, share, held, table in zip(cells, rates.of(cells)(own), depths, tables(depths)):
            result[cell] = expected(share, held, table)[0] * (depth * held / TARGET_SUM)
    # No entry may exceed the sum of all train counts.
    return np.minimum(result, np.float32(0.999 * counts.sum()), out=result)
