"""Whether cells and genes stand the other way round, as far as their names tell."""

from __future__ import annotations

import re
from collections.abc import Sequence

#: Names that only a gene has: Ensembl's, those of mitochondrial and ribosomal genes, and plain numbered ones.
_GENE = re.compile(
    r"ENS[A-Z]*G\d{6,}(\.\d+)?|MT-[A-Z0-9]+|RP[LS]\d+[A-Z]?\d*|GENE[-_ ]?\d+|G[-_ ]?\d+", re.IGNORECASE
)
#: Genes that nearly every table of man or mouse has.
_COMMON = {
    "ACTB",
    "GAPDH",
    "B2M",
    "MALAT1",
    "TMSB4X",
    "EEF1A1",
    "UBC",
    "HSP90AB1",
    "FTL",
    "FTL1",
    "VIM",
    "XIST",
}
#: Names that only a cell has: a barcode, perhaps with a sample before or a number after it; numbered ones.
_CELL = re.compile(r"(.*[-_:.#])?[ACGTN]{8,}([-_.:].*)?|CELL[-_ ]?\d+|C[-_ ]?\d+", re.IGNORECASE)
_LOOKED_AT = 4000
#: Genes known by name among the others that make a list one of genes.
_ENOUGH_GENES = 4


def look_turned(genes: Sequence[str] | None, cells: Sequence[str] | None) -> bool:
    """Whether the names of genes are those of cells, or the other way round.

    :param genes: what is taken for the names of genes; ``None`` when unknown.
    :param cells: the same of cells.
    """
    if not genes or not cells:
        return False
    return (_are_genes(cells) and not _are_genes(genes)) or (_are_cells(genes) and not _are_cells(cells))


def _are_genes(names: Sequence[str]) -> bool:
    known = sum(bool(_GENE.fullmatch(name)) for name in names[:_LOOKED_AT])
    common = len(_COMMON.intersection(name.upper() for name in names))
    return common >= _ENOUGH_GENES or 2 * known > min(len(names), _LOOKED_AT)


def _are_cells(names: Sequence[str]) -> bool:
    known = sum(len(name) < 200 and bool(_CELL.fullmatch(name)) for name in names[:_LOOKED_AT])
    return 2 * known > min(len(names), _LOOKED_AT)
