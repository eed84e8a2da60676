"""Pictures of denoised counts, as SVG: two genes before and after; a UMAP before and after on request."""

from __future__ import annotations

import html
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from ttd_bio.split import Split

#: Side of a scatter plot and space around it, in pixels.
SIDE, MARGIN = 260, 36
#: About how many cells a plot shows.
CELLS_DRAWN = 1200
_STYLE = 'font-family="sans-serif" font-size="11" fill="#333"'
Floats = npt.NDArray[np.floating[Any]]


def chosen_genes(train: Any) -> tuple[int, int]:
    """Two genes worth a scatter: the most variable one, and of the next 49 the one most correlated with it.

    Both by log1p counts after normalisation to a library size of 10,000.

    :param train: CSR [cells, genes].
    :return: their columns.
    """
    library_sizes = np.asarray(train.sum(axis=1), np.float64).ravel()
    scale = 1e4 / np.where(library_sizes > 0, library_sizes, 1)
    logs = train.astype(np.float64)
    logs.data = np.log1p(logs.data * np.repeat(scale, np.diff(train.indptr)))
    mean = np.asarray(logs.mean(axis=0)).ravel()
    variance = np.asarray(logs.power(2).mean(axis=0)).ravel() - mean**2
    variable = np.argsort(variance)[::-1][: min(50, len(variance))]
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = np.nan_to_num(np.corrcoef(logs[:, variable].toarray().T)[0])
    correlation[0] = -2  # of the gene with itself
    return int(variable[0]), int(variable[int(np.argmax(correlation))])


def gene_pair(matrix: Any, train: Any) -> npt.NDArray[np.float32]:
    """Normalised log1p counts of the two :func:`chosen_genes`; float32 [cells, 2].

    :param matrix: dense [cells, genes], the counts to show.
    :param train: CSR [cells, genes], which the genes are chosen by.
    """
    genes = chosen_genes(train)
    # Sums in half precision would overflow; a share of a sum is finite, however small the sum is.
    library_sizes = np.asarray(matrix.sum(axis=1, dtype=np.float64), np.float64).ravel()
    columns = np.asarray(matrix[:, list(genes)], np.float64)
    shares = columns / np.where(library_sizes > 0, library_sizes, 1)[:, None]
    return np.log1p(1e4 * shares).astype(np.float32)


def gene_pair_violation(pair: Any, cells: int) -> str:
    """Why a state's value is none that :func:`gene_pair` gives, in one sentence; empty when it may be one.

    :param pair: anything.
    :param cells: how many the data set has.
    """
    if type(pair) is not np.ndarray or pair.dtype != np.float32 or pair.shape != (cells, 2):
        return "the state's sample of two genes is missing"
    if not (pair.min() >= 0 and pair.max() <= 10):
        return "the state's sample of two genes is out of range"
    return ""


def before_and_after(split: Split, pair: Floats) -> str:
    """Scatter plots of two genes side by side: train counts and denoised counts; one ``<svg>``.

    :param pair: float32 [cells, 2], as :func:`gene_pair` gives it of the denoised counts.
    """
    first, second = (split.genes[gene] for gene in chosen_genes(split.train))
    before = gene_pair(split.train.toarray(), split.train)
    label = f"{second} against {first}, log1p counts a cell"
    return _panels([("train counts", before), ("denoised", pair)], label)


def umaps(split: Split, denoised: Floats, seed: int = 0) -> str:
    """UMAP of the cells from train counts and from denoised counts, by scanpy's usual steps; one ``<svg>``.

    :param denoised: dense [cells, genes].
    """
    import anndata  # noqa: PLC0415 - heavy, and only pictures need it
    import scanpy  # noqa: PLC0415 - heavy, and only pictures need it

    panels = []
    for title, matrix in (("train counts", split.train.astype(np.float32)), ("denoised", denoised)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = anndata.AnnData(matrix.copy())
            scanpy.pp.normalize_total(data, target_sum=1e4)
            scanpy.pp.log1p(data)
            scanpy.pp.pca(data, n_comps=min(30, min(data.shape) - 1), random_state=seed)
            scanpy.pp.neighbors(data, random_state=seed)
            scanpy.tl.umap(data, random_state=seed)
        panels.append((title, np.asarray(data.obsm["X_umap"])))
    return _panels(panels, "UMAP of the cells")


def _panels(panels: list[tuple[str, Any]], label: str) -> str:
    parts = []
    for index, (title, points) in enumerate(panels):
        left = index * (SIDE + MARGIN) + MARGIN
        shown = points[:: max(1, len(points) // CELLS_DRAWN)]
        low, high = shown.min(axis=0), shown.max(axis=0)
        pixels = (shown - low) / np.where(high > low, high - low, 1.0) * SIDE
        dots = "".join(f"M{left + x:.1f},{MARGIN + SIDE - y:.1f}h0" for x, y in pixels.tolist())
        parts.append(
            f'<text x="{left}" y="{MARGIN - 8}" {_STYLE}>{html.escape(title)}</text>'
            f'<path d="M{left},{MARGIN}v{SIDE}h{SIDE}" fill="none" stroke="#999"/>'
            f'<path d="{dots}" stroke="#1f5f99" stroke-opacity="0.4" stroke-width="3" '
            'stroke-linecap="round"/>'
        )
    width, height = len(panels) * (SIDE + MARGIN) + MARGIN, SIDE + 2 * MARGIN
    parts.append(f'<text x="{MARGIN}" y="{height - 12}" {_STYLE}>{html.escape(label)}</text>')
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img">\n<title>{html.escape(label)}</title>\n{body}\n</svg>\n'
    )
